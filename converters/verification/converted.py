"""A converted model as its users load it: by objects, and into a session."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from hub_compat._tf import tf
from hub_compat._tf.functions import call_by_tensors, keyword_names
from hub_compat._tf.loading import load_saved_model
from hub_compat.formats import Format
from hub_compat.provenance import Provenance

from ..backend.reusable import RESERVED
from ..ir.dtypes import DT_RESOURCE, DT_VARIANT
from ..ir.names import are_parameters
from ..ir.signatures import Signature, Value, flatten, read_values
from .sessions import Sessions

__all__ = ["Calls", "EagerObjects", "GraphObjects", "SessionGraph", "forms"]

Tags = Tuple[str, ...]
Arrays = Mapping[str, np.ndarray]


def forms(directory: str, facts: Provenance, tags: Tags) -> List[Any]:
    """The ways in which a converted model is loaded here.

    Args:
      directory: the converted model.
      facts: what it remembers of its source.
      tags: of the MetaGraph that it has.
    """
    kind: Any = EagerObjects if tf.executing_eagerly() else GraphObjects
    objects = kind(directory, facts)
    found = [objects, SessionGraph(directory, facts, tags)]
    if not Format(facts.source_format).is_tf2:
        found.insert(1, Calls(objects, facts))
    return found


def _variant(root: Any, tags: Tags, facts: Provenance) -> Any:
    return root if tags == facts.root_tags else root.graph_variants[",".join(tags)]


def _flat(results: Mapping[str, Any], signature: Signature) -> Dict[str, Any]:
    """The outputs of a loaded signature, by flattened names."""
    outputs: Dict[str, Any] = {}
    for name, result in results.items():
        if name in signature.outputs:
            tensors = tf.nest.flatten(result, expand_composites=True)
            components = signature.outputs[name].components
            outputs.update((c.name, t) for c, t in zip(components, tensors))
        else:
            outputs[name] = result
    return outputs


def _called(function: Any, inputs: Mapping[str, Any]) -> Any:
    """Calls a loaded signature by the names of its inputs.

    TensorFlow 2.12 and newer takes no two that it makes one of; what ``load()``
    returns passes tensors by their order, as this does then.
    """
    names = keyword_names(function)
    if names is None or (are_parameters(names) and "self" not in names):
        return function(**inputs)
    return call_by_tensors(function, [inputs[name] for name in names])


def _by_signature(model: Any, signature: Signature, inputs: Mapping[str, Any]) -> Any:
    return _called(model.signatures[signature.name], inputs)


# Four ways into a converted model, all compared with the original's session:
#
#     EagerObjects   tf.saved_model.load, eager      signatures[name](...)
#     GraphObjects   the same loader in a graph      signatures[name](...)
#     Calls          over one of these two           model(x), model.name(x)
#     SessionGraph   tf.compat.v1.saved_model.load   feeds and fetches
#
# has() says which signatures each should offer, so that a missing one is a difference
# and no gap in the comparison.
class EagerObjects:
    """In TensorFlow's object loader, where operations run at once.

    Attributes:
      stage: its name, where a process died.
      how: for a person.
    """

    stage = "objects"
    how = "tf.saved_model.load"

    def __init__(self, directory: str, facts: Provenance) -> None:
        self._directory = directory
        self._facts = facts
        self._root: Any = None

    def start(self) -> None:
        """Loads it, which restores variables and fills tables."""
        if self._root is None:
            self._root = load_saved_model(self._directory)

    def restart(self) -> None:
        """Has the next call begin with the values of the checkpoint."""
        self._root = None

    def has(self, tags: Tags, signature: Signature) -> bool:
        """Whether it should have a signature: it has all."""
        del tags, signature
        return True

    def call(self, tags: Tags, signature: Signature, feeds: Arrays) -> Dict[str, Any]:
        """The outputs of ``signatures[signature.name]``, by flattened names.

        Args:
          tags: the variant.
          signature: the signature.
          feeds: a value for each input, by flattened name.
        """
        return self.result(_by_signature, tags, signature, feeds)

    def result(
        self, how: Any, tags: Tags, signature: Signature, feeds: Arrays
    ) -> Dict[str, Any]:
        """What a function of a variant's object, the signature and tensors returns."""
        self.start()
        model = _variant(self._root, tags, self._facts)
        inputs = {
            c.name: tf.constant(feeds[c.name], tf.as_dtype(c.dtype))
            for c in signature.flat_inputs()
        }
        found = _flat(how(model, signature, inputs), signature)
        return {
            name: tensor.numpy()
            for name, tensor in found.items()
            if tensor.dtype not in (tf.resource, tf.variant)
        }


class GraphObjects(Sessions):
    """In TensorFlow's object loader, in a graph with a session.

    Attributes:
      stage: its name, where a process died.
      how: for a person.
    """

    stage = "objects"
    how = "tf.saved_model.load"

    def __init__(self, directory: str, facts: Provenance) -> None:
        super().__init__()
        self._directory = directory
        self._facts = facts
        self._root: Any = None
        self._initializers: List[Any] = []
        self._calls: Dict[Any, Tuple[Dict[str, Any], Dict[str, Any]]] = {}

    def has(self, tags: Tags, signature: Signature) -> bool:
        """Whether it should have a signature: it has all."""
        del tags, signature
        return True

    def call(self, tags: Tags, signature: Signature, feeds: Arrays) -> Dict[str, Any]:
        """As ``EagerObjects.call``."""
        return self.result(_by_signature, tags, signature, feeds)

    def result(
        self, how: Any, tags: Tags, signature: Signature, feeds: Arrays
    ) -> Dict[str, Any]:
        """As ``EagerObjects.result``."""
        self.start()
        key = (how, tags, signature.name)
        if key not in self._calls:
            self._calls[key] = self._build(*key[:2], signature)
        inputs, outputs = self._calls[key]
        return dict(self.run(outputs, {inputs[name]: feeds[name] for name in feeds}))

    def _build(self, how: Any, tags: Tags, signature: Signature) -> Any:
        with self.graph.as_default():
            model = _variant(self._root, tags, self._facts)
            inputs = {
                c.name: tf.compat.v1.placeholder(
                    tf.as_dtype(c.dtype), tf.TensorShape(c.shape)
                )
                for c in signature.flat_inputs()
            }
            results = how(model, signature, inputs)
        return inputs, _flat(results, signature)

    def _prepare(self, session: Any) -> None:
        if self._root is None:
            # Kept, as functions do not keep the variables that they read.
            self._root = load_saved_model(self._directory)
            self._initializers = [
                tf.compat.v1.global_variables_initializer(),
                tf.compat.v1.tables_initializer(),
            ]
        # What else an init op does may read variables.
        for initializer in self._initializers:
            session.run(initializer)


class Calls:
    """The calls of the objects, ``model(x)`` and ``model.logits(x)``.

    Args:
      objects: loaded in TensorFlow's object loader.
      facts: what the converted model remembers of its source.

    Attributes:
      stage: its name, where a process died.
      how: for a person.
    """

    stage = "calls"
    how = "calling the object"

    def __init__(self, objects: Any, facts: Provenance) -> None:
        self._objects = objects
        self._facts = facts
        self._callables = {
            tags: _callable(tags, names, facts) for tags, names in facts.variants
        }

    def start(self) -> None:
        """Loads the objects, unless that has been done."""
        self._objects.start()

    def restart(self) -> None:
        """Has the next call begin with the values of the checkpoint."""
        self._objects.restart()

    def has(self, tags: Tags, signature: Signature) -> bool:
        """Whether the signature should be behind a call."""
        values = list(signature.inputs.values())
        # TF 1.15 may take the trace for training where composite inputs come first.
        composite = any(value.spec is not None for value in values)
        if composite and (
            tf.__version__.startswith("1.") or not all(map(_whole, values))
        ):
            return False
        name = signature.name
        return name == self._callables.get(tags) or not (
            tags not in self._callables or name in RESERVED or name.startswith("_")
        )

    def outputs(self, signature: Signature) -> Dict[str, Value]:
        """The outputs that a call returns."""
        if "default" in signature.outputs:
            return {"default": signature.outputs["default"]}
        return signature.outputs

    def call(self, tags: Tags, signature: Signature, feeds: Arrays) -> Dict[str, Any]:
        """As ``EagerObjects.call``."""
        own = signature.name == self._callables[tags]
        how = self._by_root if own else self._by_attribute
        return dict(self._objects.result(how, tags, signature, feeds))

    def _by_root(self, model: Any, signature: Signature, inputs: Any) -> Any:
        arguments = []
        if signature.inputs:
            given = {n: _put_together(v, inputs) for n, v in signature.inputs.items()}
            arguments = [given if len(given) > 1 else given.popitem()[1]]
        result = model(*arguments)
        names = list(self.outputs(signature))
        return {names[0]: result} if len(names) == 1 else result

    def _by_attribute(self, model: Any, signature: Signature, inputs: Any) -> Any:
        return self._by_root(getattr(model, signature.name), signature, inputs)


def _callable(tags: Tags, names: Tuple[str, ...], facts: Provenance) -> Optional[str]:
    """The signature behind the call of a variant's object."""
    if tags == facts.root_tags:
        return facts.callable
    known = set(names).union(n for own, n, _ in facts.left_out if own == tags)
    for name in ("serving_default", "default"):
        if name in known:
            return name if name in names else None
    return names[0] if len(names) == 1 else None


def _whole(value: Value) -> bool:
    """Whether a value can be put together of its components."""
    if value.spec is None:
        return True
    spec = value.spec.type_spec_value
    kinds = (spec.SPARSE_TENSOR_SPEC, spec.RAGGED_TENSOR_SPEC)
    return spec.type_spec_class in kinds and len(value.components) > 1


def _put_together(value: Value, inputs: Mapping[str, Any]) -> Any:
    parts = [inputs[c.name] for c in value.components]
    if value.spec is None:
        return parts[0]
    spec = value.spec.type_spec_value
    if spec.type_spec_class == spec.SPARSE_TENSOR_SPEC:
        return tf.SparseTensor(*parts)
    return tf.RaggedTensor.from_nested_row_splits(parts[0], parts[1:], validate=False)


class SessionGraph(Sessions):
    """In the loader for sessions, that of TensorFlow 1 and of TensorFlow Serving.

    Attributes:
      stage: its name, where a process died.
      how: for a person.
    """

    stage = "session"
    how = "tf.compat.v1.saved_model.load"

    def __init__(self, directory: str, facts: Provenance, tags: Tags) -> None:
        super().__init__()
        self._directory = directory
        self._facts = facts
        self._tags = tags
        self._definitions: Optional[Any] = None

    def has(self, tags: Tags, signature: Signature) -> bool:
        """Whether it should have a signature: those of the root alone."""
        del signature
        return tags == self._facts.root_tags

    def restart(self) -> None:
        """Makes a new graph with values of its own for the next call."""
        super().restart()
        self.graph = tf.Graph()

    def call(self, tags: Tags, signature: Signature, feeds: Arrays) -> Dict[str, Any]:
        """As ``EagerObjects.call``."""
        del tags
        self.start()
        assert self._definitions is not None
        definition = self._definitions[signature.name]
        inputs = {c.name: c.tensor for c in _components(definition.inputs)}
        outputs = {
            c.name: c.tensor
            for c in _components(definition.outputs)
            if c.dtype not in (DT_RESOURCE, DT_VARIANT)
        }
        return dict(self.run(outputs, {inputs[name]: feeds[name] for name in feeds}))

    def _prepare(self, session: Any) -> None:
        loaded = tf.compat.v1.saved_model.load(
            session, list(self._tags), self._directory
        )
        self._definitions = loaded.signature_def


def _components(infos: Any) -> Any:
    return flatten(read_values(infos))
