"""Module: a model in a graph, as tensorflow_hub's Module has it."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

from hub_compat._modules import inputs as _inputs
from hub_compat._modules.eager import EagerImpl
from hub_compat._modules.scopes import state_scope
from hub_compat._modules.tensor_info import ParsedTensorInfo
from hub_compat._tf import tf
from hub_compat._tf.graphs import build_state, is_inside, without_autograph
from hub_compat._tf.structures import components_of, from_components
from hub_compat.errors import GraphError, InputError
from hub_compat.module_spec import ModuleSpec, load_module_spec
from hub_compat.saver import save

__all__ = ["Module", "eval_function_for_module"]


@without_autograph
class Module:
    """A model whose state is in the graph, and whose signatures are applied in it.

    Making it adds the model's variables and tables to the graph, under its own scope.
    Each call adds the operations of a signature, with the variables of this object. So
    it does in ``tf.Graph`` of every TensorFlow, and in functions and loops in it. Where
    operations run eagerly, it is the object of ``load()`` with this interface.

    Example::

        >>> module = Module("/models/embedding", trainable=True, tags={"train"})
        >>> embedded = module(["a sentence"])

    Args:
      spec: what ``load_module_spec()`` or ``create_module_spec()`` returns; or the
        directory of a model of any format, or another handle.
      trainable: whether its variables are in TRAINABLE_VARIABLES, its losses in
        REGULARIZATION_LOSSES, and the updates of each call in UPDATE_OPS.
      name: the scope of its variables. Where it is taken, a number is added.
      tags: the variant; by default the one without tags.

    Raises:
      InputError: ``spec`` is neither.
      VariantError: it has no variant with these tags.
      GraphError: the name is taken by operations.
      UnknownOpError: this TensorFlow lacks ops that it needs.
    """

    def __init__(
        self,
        spec: Any,
        trainable: bool = False,
        name: str = "module",
        tags: Optional[Iterable[str]] = None,
    ) -> None:
        self._spec = as_module_spec(spec)
        self._trainable = trainable
        self._tags = self._spec.resolve_tags(tags)
        with build_state() as graph:
            self._graph = graph
            if graph is None:
                self._name = self._scope = name
                self._impl: Any = EagerImpl(
                    self._spec.directory(), self._tags, trainable
                )
                return
            scope = state_scope(name, mark_name_scope_used=False)
            parent, _, self._name = scope.rstrip("/").rpartition("/")
            self._scope = scope.rstrip("/")
            with tf.name_scope(parent + "/" if parent else ""):
                self._impl = self._spec._create_impl(
                    name=self._name, trainable=trainable, tags=self._tags
                )

    def __call__(
        self,
        inputs: Any = None,
        _sentinel: Any = None,
        signature: Optional[str] = None,
        as_dict: Optional[bool] = None,
    ) -> Any:
        """Applies a signature to inputs.

        Args:
          inputs: a dict of the inputs by name, or the value of the only one. Values are
            tensors, sparse or ragged tensors, or what makes tensors.
          signature: its name; by default ``"default"``.
          as_dict: return all outputs, rather than the one called ``"default"``.

        Returns:
          A tensor, sparse or ragged tensor; or a dict of them by name.

        Raises:
          InputError: the inputs are not those of the signature; or no output is called
            ``"default"``.
          SignatureError: there is no such signature.
          GraphError: another graph is built than the one that it was made in.
        """
        if _sentinel is not None:
            raise InputError(
                "Pass signature and as_dict by name. Received: {!r}".format(_sentinel)
            )
        graph = tf.compat.v1.get_default_graph()
        if self._graph is not None and (
            tf.executing_eagerly() or not is_inside(graph, self._graph)
        ):
            raise GraphError(
                "Module must be applied in the graph it was instantiated for, or in a "
                "function that is made in it. Make another Module in this graph. "
                "Received: {}".format(
                    "eager execution" if tf.executing_eagerly() else repr(graph)
                )
            )
        chosen = self._spec.signature_name(signature, self._tags)
        infos = self._spec.get_input_info_dict(chosen, self._tags)
        _inputs.check_types(infos, chosen, "input")
        outputs = self._spec.get_output_info_dict(chosen, self._tags)
        _inputs.check_types(outputs, chosen, "output")
        given = _inputs.convert_all(inputs, infos)
        if isinstance(self._impl, EagerImpl):
            eager = self._impl.apply(chosen, given, outputs)
            return _inputs.choose_outputs(eager, as_dict)
        found = self._impl.create_apply_graph(
            signature=chosen,
            input_tensors=given,
            # Names of functions have a colon in SavedModels of Estimators.
            name="{}_apply_{}".format(self._name, chosen.replace(":", "_")),
        )
        return _inputs.choose_outputs(found, as_dict)

    def get_signature_names(self) -> List[str]:
        """Returns the names of the signatures: ``["default"]``."""
        return list(self._spec.get_signature_names(tags=self._tags))

    def get_input_info_dict(
        self, signature: Optional[str] = None
    ) -> Dict[str, ParsedTensorInfo]:
        """Describes the inputs of a signature, as a ``ModuleSpec`` does.

        Raises:
          SignatureError: there is no such signature.
        """
        return self._spec.get_input_info_dict(signature=signature, tags=self._tags)

    def get_output_info_dict(
        self, signature: Optional[str] = None
    ) -> Dict[str, ParsedTensorInfo]:
        """Describes the outputs of a signature, as a ``ModuleSpec`` does.

        Raises:
          SignatureError: there is no such signature.
        """
        return self._spec.get_output_info_dict(signature=signature, tags=self._tags)

    def get_attached_message(
        self, key: str, message_type: Any, required: bool = False
    ) -> Any:
        """Returns a message that was attached to the module, or None.

        Raises:
          AttachmentError: there is none although it is required.
        """
        return self._spec.get_attached_message(
            key, message_type, tags=self._tags, required=required
        )

    def export(self, path: Any, session: Any = None) -> None:
        """Writes the module, with the values that its variables have in a session.

        Args:
          path: the directory, which is not there yet, or empty.
          session: a session of the module's graph; where operations run eagerly, none
            is needed, and the result is what ``save()`` writes.

        Raises:
          GraphError: the session is one of another graph.
          DestinationError: the directory is not empty, or cannot be written.
        """
        if isinstance(self._impl, EagerImpl):
            save(self._impl.loaded, path)
            return
        if session is None or session.graph is not self._graph:
            raise GraphError(
                "session graph differs from the graph where the module was "
                "instantiated. Pass a session of the module's graph. Received: "
                "{!r}".format(session)
            )
        self._spec.write(path, self._impl.values(session))

    @property
    def variable_map(self) -> Dict[str, Any]:
        """The variables by their names in the module; a partitioned one is a list.

        The keys do not depend on the scope: ``{"dense/kernel": <tf.Variable
        'module/dense/kernel:0' ...>}``.
        """
        found: Dict[str, Any] = self._impl.variable_map
        return found

    @property
    def variables(self) -> List[Any]:
        """The variables, sorted by their names in the module."""
        found: List[Any] = []
        for _, variable in sorted(self.variable_map.items()):
            found.extend(variable if isinstance(variable, list) else [variable])
        return found

    @property
    def variable_scope(self) -> str:
        """The name of the scope that its variables are in: ``"module_1"``."""
        return self._scope


def as_module_spec(spec: Any) -> ModuleSpec:
    """A spec, or that of a handle.

    Raises:
      InputError: it is neither.
    """
    if isinstance(spec, ModuleSpec):
        return spec
    if isinstance(spec, (str, bytes, os.PathLike)):
        return load_module_spec(os.fsdecode(spec))
    raise InputError(
        "Unknown module spec type: expected a ModuleSpec, or the directory or another "
        "handle of a model. Received: {!r}, of type {}".format(spec, type(spec))
    )


@contextlib.contextmanager
def eval_function_for_module(
    spec: Any, tags: Optional[Iterable[str]] = None
) -> Iterator[Callable[..., Any]]:
    """Lets a block of code compute a model's signatures with arrays.

    Example::

        >>> with eval_function_for_module("/models/embedding") as f:
        ...     embedded = f(["a sentence"])

    Args:
      spec: a ``ModuleSpec``, or the directory or another handle of a model.
      tags: the variant.

    Yields:
      A function with the arguments of ``Module.__call__``, which takes and returns
      values in place of tensors: arrays, ``SparseTensorValue``, ``RaggedTensorValue``.

    Raises:
      VariantError: there is no variant with these tags.
      InputError: ``spec`` is neither; or a call has other inputs.
    """
    outside = tf.compat.v1.get_default_graph()
    eager = tf.executing_eagerly()
    with tf.Graph().as_default():
        module = Module(spec, tags=tags)
        fed: Dict[str, Dict[str, Any]] = {}
        fetched: Dict[str, Dict[str, Any]] = {}
        for name in module.get_signature_names():
            with tf.compat.v1.variable_scope(name.replace(":", "_")):
                fed[name] = {
                    key: _placeholder(info.type_spec, key)
                    for key, info in module.get_input_info_dict(name).items()
                }
                fetched[name] = module(fed[name], signature=name, as_dict=True)

        def evaluate(
            inputs: Any = None,
            _sentinel: Any = None,
            signature: Optional[str] = None,
            as_dict: Optional[bool] = None,
        ) -> Any:
            name = module._spec.signature_name(signature, module._tags)
            # The error for a name that is not there is that of the spec.
            module.get_input_info_dict(name)
            given = _inputs.name_inputs(inputs, fed[name])
            feeds = {fed[name][key]: value for key, value in given.items()}
            outputs = _inputs.choose_outputs(fetched[name], as_dict)
            return session.run(outputs, feed_dict=feeds)

        with tf.compat.v1.train.SingularMonitoredSession() as session:
            with contextlib.ExitStack() as stack:
                if eager:
                    stack.enter_context(tf.init_scope())
                else:
                    stack.enter_context(outside.as_default())
                yield evaluate


def _placeholder(spec: Any, name: str) -> Any:
    parts = components_of(spec)
    names = [name]
    if len(parts) > 1:
        names = ["{}.component_{}".format(name, i) for i in range(len(parts))]
    return from_components(
        spec,
        [
            tf.compat.v1.placeholder(part.dtype, part.shape, name)
            for part, name in zip(parts, names)
        ],
    )
