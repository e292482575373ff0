"""Modules as feature columns, for ``input_layer``, ``DenseFeatures`` and Estimators.

The classes of columns have base classes that TensorFlow keeps to itself, so they are
made when the first column is. Each column follows the protocol of TF1 (methods with an
underscore) and that of TF2.
"""

from __future__ import annotations

import collections
import functools
import os
import types
from typing import Any, Dict, List, Optional, Sequence

from hub_compat import image_util
from hub_compat._tf import tf
from hub_compat._tf.feature_columns import (
    check_state_manager,
    column_bases,
    is_trainable,
)
from hub_compat._tf.keras import keras_generation
from hub_compat._tf.runtime import in_tf1_graph
from hub_compat.errors import FormatError, InputError, OptionsError
from hub_compat.module import Module, as_module_spec

__all__ = [
    "image_embedding_column",
    "sparse_text_embedding_column",
    "text_embedding_column",
    "text_embedding_column_v2",
]

_RESOURCE = "module"
_COMBINERS = ("mean", "sqrtn", "sum")


def text_embedding_column(key: Any, module_spec: Any, trainable: bool = False) -> Any:
    """Makes a feature column of a module that embeds text.

    In a TF1 graph, the column makes a ``Module`` for each ``input_layer``, and one for
    all calls of a ``DenseFeatures``. In eager programs ``DenseFeatures`` of Keras 2
    gets a ``KerasLayer``::

        comment = hub.text_embedding_column("comment", "text_module_dir")
        estimator = tf.estimator.DNNClassifier([32], [comment])

    Args:
      key: the name of the feature, a string tensor of shape [batch] or [batch, 1]; or
        another column.
      module_spec: a ``ModuleSpec``, or the directory or handle of a model. Its default
        signature maps string [None] to ``"default"``, float32 [None, K].
      trainable: whether training changes the module.

    Returns:
      A column of shape [K].

    Raises:
      FormatError: the module is of another kind.
      OptionsError: this TensorFlow has no feature columns.
    """
    return _made(_TextEmbeddingColumn)(key, module_spec, trainable)


def sparse_text_embedding_column(
    key: Any,
    module_spec: Any,
    combiner: str,
    default_value: Optional[str],
    trainable: bool = False,
) -> Any:
    """Makes a feature column of a module that embeds each of several tokens.

    Args:
      key: the name of the feature, a string ``tf.SparseTensor`` of shape
        [batch, tokens]; or another column.
      module_spec: as for ``text_embedding_column()``.
      combiner: how the embeddings of an example become one: ``"mean"``, ``"sqrtn"``
        or ``"sum"``.
      default_value: the token of examples without any; None where all have some.
      trainable: whether training changes the module.

    Returns:
      A column of shape [K].

    Raises:
      FormatError: the module is of another kind.
      InputError: there is no such combiner.
      OptionsError: this TensorFlow has no feature columns.
    """
    if combiner not in _COMBINERS:
        raise InputError(
            "combiner must be 'mean', 'sqrtn' or 'sum'. Received: combiner={!r}".format(
                combiner
            )
        )
    return _made(_SparseTextEmbeddingColumn)(
        key, combiner, module_spec, default_value, trainable
    )


def image_embedding_column(
    key: Any, module_spec: Any, image_size: Optional[Sequence[int]] = None
) -> Any:
    """Makes a feature column of a module that embeds images.

    Args:
      key: the name of the feature, float32 [batch, height, width, 3] with values from
        0 to 1; or another column.
      module_spec: a ``ModuleSpec``, or the directory or handle of a model. Its default
        signature maps ``"images"`` to ``"default"``, float32 [None, K].
      image_size: height and width, where the module takes others than its default.

    Returns:
      A column of shape [K], which is never trained.

    Raises:
      FormatError: the module is of another kind.
      OptionsError: this TensorFlow has no feature columns.
    """
    # Columns are keys of dicts.
    size = tuple(image_size) if image_size is not None else None
    return _made(_ImageEmbeddingColumn)(key, module_spec, size)


def text_embedding_column_v2(
    key: Any,
    module_path: Any,
    output_key: Optional[str] = None,
    trainable: bool = False,
) -> Any:
    """Makes a feature column for TF2 of a model that embeds text, by a ``KerasLayer``.

    Args:
      key: the name of the feature, a string tensor of shape [batch] or [batch, 1]; or
        another column.
      module_path: the directory or handle of the model, of any format. It maps string
        [None] to one float32 tensor [None, K].
      output_key: which output it is, where the model returns a dict.
      trainable: whether training changes the model.

    Returns:
      A column of shape [K].

    Raises:
      OptionsError: this TensorFlow has no feature columns that keep a layer; or the
        program uses Keras 3, which has none.
    """
    check_state_manager()
    if keras_generation() != 2:
        raise OptionsError(
            "Keras 3 has no feature columns: there is no DenseFeatures. Call "
            "hub_compat.KerasLayer(module_path) on the feature; or import tf_keras "
            "first, for a model of Keras 2. Received: module_path={!r}".format(
                module_path
            )
        )
    return _made(_TextEmbeddingColumnV2)(key, module_path, output_key, trainable)


@functools.lru_cache(maxsize=None)
def _made(column: Any) -> Any:
    """The class of columns, with the base classes that TensorFlow looks for."""
    made = types.new_class(column.__name__, (column,) + column_bases())
    made.__module__ = column.__module__
    return made


def _check_text_embedding(spec: Any) -> None:
    """Refuses a module that does not map string [None] to float32 [None, K]."""
    issues = []
    inputs = list(spec.get_input_info_dict().values())
    if len(inputs) != 1:
        issues.append("must require only one input")
    elif inputs[0].dtype != tf.string or _dims(inputs[0]) != [None]:
        issues.append("must have only one input, of shape [None] and dtype string")
    issues += _output_issues(spec, any_batch=False)
    if issues:
        raise _unsuitable("a text embedding", issues, spec)


def _check_image_embedding(spec: Any, check_size: bool) -> None:
    """Refuses a module that does not map ``images`` to float32 [None, K]."""
    issues = []
    inputs = spec.get_input_info_dict()
    if list(inputs) != ["images"] or inputs["images"].dtype != tf.float32:
        issues.append("must require a single input, 'images' of dtype float32")
    elif check_size:
        try:
            image_util.get_expected_image_size(spec)
        except ValueError as error:
            issues.append("must have images of a known size: {}".format(error))
    issues += _output_issues(spec, any_batch=True)
    if issues:
        raise _unsuitable("usable as image embedding", issues, spec)


def _output_issues(spec: Any, any_batch: bool) -> List[str]:
    info = spec.get_output_info_dict().get("default")
    if info is None:
        return ["must have a 'default' output"]
    dims = _dims(info)
    right = info.dtype == tf.float32 and dims is not None and len(dims) == 2
    if dims is None or not right or not dims[1] or (dims[0] and not any_batch):
        return ["must have a 'default' output of shape [None, K] and dtype float32"]
    return []


def _dims(info: Any) -> Optional[List[Optional[int]]]:
    shape = info.get_shape()
    return None if shape.ndims is None else shape.as_list()


def _unsuitable(what: str, issues: List[str], spec: Any) -> FormatError:
    return FormatError(
        "Module is not {}: its default signature {}. Received: inputs {}, outputs "
        "{}".format(
            what,
            ", and ".join(issues),
            spec.get_input_info_dict(),
            spec.get_output_info_dict(),
        )
    )


class _Column:
    """What all columns of this module have in common."""

    key: Any
    module_spec: Any
    module_spec_path: Any
    # From nothing to a tf.io.FixedLenFeature or VarLenFeature.
    _feature: Any

    @property
    def _is_v2_column(self) -> bool:
        return True

    @property
    def dtype(self) -> Any:
        """The dtype of what the column gives."""
        return tf.float32

    @property
    def parents(self) -> List[Any]:
        """The feature, or the column, that it is made of."""
        return [self.key]

    @property
    def name(self) -> str:
        """The name, and that of the scope of its variables."""
        key = self.key if isinstance(self.key, str) else self.key.name
        return "{}_hub_module_embedding".format(key)

    @property
    def parse_example_spec(self) -> Dict[Any, Any]:
        """How the feature is read from a ``tf.train.Example``."""
        return {self.key: self._feature()}

    @property
    def _parse_example_spec(self) -> Dict[Any, Any]:
        return self.parse_example_spec

    @property
    def variable_shape(self) -> Any:
        """The shape of what the column gives, without that of the batch."""
        return self.module_spec.get_output_info_dict()["default"].get_shape()[1:]

    @property
    def _variable_shape(self) -> Any:
        return self.variable_shape

    def _transform_feature(self, inputs: Any) -> Any:
        return inputs.get(self.key)

    def transform_feature(self, transformation_cache: Any, state_manager: Any) -> Any:
        """The feature itself."""
        return transformation_cache.get(self.key, state_manager)

    def get_config(self) -> Dict[str, Any]:
        """What ``from_config`` makes the same column of."""
        column: Any = self
        config = {
            field: os.fspath(value) if isinstance(value, os.PathLike) else value
            for field, value in column._asdict().items()
        }
        given = config.get("module_spec_path", "")
        if not isinstance(given, str):
            raise OptionsError(
                "Only a column of a directory or a handle has a config. Received: "
                "module_spec={!r}".format(given)
            )
        return config

    @classmethod
    def from_config(
        cls,
        config: Dict[str, Any],
        custom_objects: Any = None,
        columns_by_name: Any = None,
    ) -> Any:
        """Makes the column that ``get_config`` was asked of."""
        del custom_objects, columns_by_name
        return cls(**config)

    def _build(self, trainable: bool) -> Any:
        """The module in a TF1 graph; elsewhere a layer of it, which does the same."""
        if in_tf1_graph() or not isinstance(self.module_spec_path, (str, os.PathLike)):
            return Module(self.module_spec, trainable=trainable)
        from hub_compat.keras2 import KerasLayer

        with tf.init_scope():
            return KerasLayer(self.module_spec_path, trainable=trainable)


class _TextEmbeddingColumn(
    _Column,
    collections.namedtuple("_TextFields", ("key", "module_spec_path", "trainable")),
):
    """Returned by ``text_embedding_column()``."""

    def __init__(self, key: Any, module_spec_path: Any, trainable: bool) -> None:
        super().__init__()
        self.module_spec = as_module_spec(module_spec_path)
        _check_text_embedding(self.module_spec)

    def _feature(self) -> Any:
        return tf.io.FixedLenFeature([1], tf.string)

    def create_state(self, state_manager: Any) -> None:
        """Makes the module, for all applications of a layer."""
        trainable = self.trainable and is_trainable(state_manager)
        state_manager.add_resource(self, _RESOURCE, self._build(trainable))

    def get_dense_tensor(self, transformation_cache: Any, state_manager: Any) -> Any:
        """The embeddings, float32 [batch, K]."""
        text = transformation_cache.get(self, state_manager)
        module = state_manager.get_resource(self, _RESOURCE)
        return module(tf.reshape(text, [-1]))

    def _get_dense_tensor(
        self, inputs: Any, weight_collections: Any = None, trainable: Any = None
    ) -> Any:
        del weight_collections
        module = self._build(bool(self.trainable and trainable))
        return module(tf.reshape(inputs.get(self), [-1]))


class _ImageEmbeddingColumn(
    _Column,
    collections.namedtuple("_ImageFields", ("key", "module_spec_path", "image_size")),
):
    """Returned by ``image_embedding_column()``."""

    def __init__(self, key: Any, module_spec_path: Any, image_size: Any) -> None:
        super().__init__()
        self.module_spec = as_module_spec(module_spec_path)
        _check_image_embedding(self.module_spec, check_size=image_size is None)

    def _feature(self) -> Any:
        size = self.image_size or image_util.get_expected_image_size(self.module_spec)
        return tf.io.FixedLenFeature(list(size) + [3], tf.float32)

    def create_state(self, state_manager: Any) -> None:
        """Makes the module, for all applications of a layer."""
        state_manager.add_resource(self, _RESOURCE, self._build(False))

    def get_dense_tensor(self, transformation_cache: Any, state_manager: Any) -> Any:
        """The embeddings, float32 [batch, K]."""
        images = transformation_cache.get(self, state_manager)
        return state_manager.get_resource(self, _RESOURCE)({"images": images})

    def _get_dense_tensor(
        self, inputs: Any, weight_collections: Any = None, trainable: Any = None
    ) -> Any:
        del weight_collections, trainable
        return self._build(False)({"images": inputs.get(self)})


class _SparseTextEmbeddingColumn(
    _Column,
    collections.namedtuple(
        "_SparseFields",
        ("key", "combiner", "module_spec_path", "default_value", "trainable"),
    ),
):
    """Returned by ``sparse_text_embedding_column()``."""

    def __init__(
        self,
        key: Any,
        combiner: str,
        module_spec_path: Any,
        default_value: Optional[str],
        trainable: bool,
    ) -> None:
        super().__init__()
        self.module_spec = as_module_spec(module_spec_path)
        _check_text_embedding(self.module_spec)

    def _feature(self) -> Any:
        return tf.io.VarLenFeature(tf.string)

    def create_state(self, state_manager: Any) -> None:
        """Loads the model where layers keep it; each application has its own module."""
        if not in_tf1_graph():
            trainable = self.trainable and is_trainable(state_manager)
            state_manager.add_resource(self, _RESOURCE, self._build(trainable))

    def get_dense_tensor(self, transformation_cache: Any, state_manager: Any) -> Any:
        """The combined embeddings, float32 [batch, K]."""
        text = transformation_cache.get(self, state_manager)
        if in_tf1_graph():
            return self._combine(self._build(self.trainable), text)
        return self._combine(state_manager.get_resource(self, _RESOURCE), text)

    def _get_dense_tensor(
        self, inputs: Any, weight_collections: Any = None, trainable: Any = None
    ) -> Any:
        del weight_collections
        text = inputs.get(self)
        return self._combine(self._build(bool(self.trainable and trainable)), text)

    def _combine(self, module: Any, text: Any) -> Any:
        if self.default_value is not None:
            text = tf.sparse.fill_empty_rows(text, self.default_value)[0]
        tokens = module(text.values)
        rows = tf.SparseTensor(
            indices=text.indices,
            values=tf.range(tf.shape(text.indices)[0], dtype=tf.int32),
            dense_shape=text.dense_shape,
        )
        return tf.nn.embedding_lookup_sparse(tokens, rows, None, combiner=self.combiner)


class _TextEmbeddingColumnV2(
    _Column,
    collections.namedtuple(
        "_TextFieldsV2", ("key", "module_path", "output_key", "trainable")
    ),
):
    """Returned by ``text_embedding_column_v2()``."""

    @property
    def _resource_name(self) -> str:
        return "hub_text_column_{}".format(self.key)

    def _feature(self) -> Any:
        return tf.io.FixedLenFeature([1], tf.string)

    @property
    def variable_shape(self) -> Any:
        """The shape of what the column gives, without that of the batch."""
        return self._shape

    def create_state(self, state_manager: Any) -> None:
        """Loads the model; the layer that it is for keeps it."""
        from hub_compat.keras2 import KerasLayer

        trainable = bool(self.trainable and is_trainable(state_manager))
        layer = KerasLayer(
            self.module_path, output_key=self.output_key, trainable=trainable
        )
        state_manager.add_resource(self, self._resource_name, layer)
        self._shape = _output_shape(layer)

    def get_dense_tensor(self, transformation_cache: Any, state_manager: Any) -> Any:
        """The embeddings, float32 [batch, K]."""
        text = transformation_cache.get(self, state_manager)
        layer = state_manager.get_resource(self, self._resource_name)
        return layer(tf.reshape(text, [-1]))


def _output_shape(layer: Any) -> Any:
    """The shape of a layer's output for a batch of strings, without the batch."""
    spec = tf.TensorSpec([None], tf.string, name="text")
    traced = tf.function(
        lambda text: layer(text), input_signature=[spec], autograph=False
    )
    output = traced.get_concrete_function().structured_outputs
    if not isinstance(output, (tf.Tensor, tf.TensorSpec)):
        raise FormatError(
            "The SavedModel doesn't return a single result on __call__. Give "
            "output_key the name of the right one. Received: {}".format(output)
        )
    return output.shape[1:]
