"""A converted model as its users load it: by objects, and into a session."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from hub_compat._tf import call_by_tensors, keyword_names, load_saved_model, tf
from hub_compat.provenance import Provenance

from .graph import DT_RESOURCE, DT_VARIANT
from .model import Signature, flatten, read_values
from .names import are_parameters
from .sessions import Sessions

__all__ = ["EagerObjects", "GraphObjects", "SessionGraph", "forms"]

Tags = Tuple[str, ...]
Arrays = Mapping[str, np.ndarray]


def forms(directory: str, facts: Provenance, tags: Tags) -> List[Any]:
    """The ways in which a converted model is loaded here.

    Args:
      directory: the converted model.
      facts: what it remembers of its source.
      tags: of the MetaGraph that it has.
    """
    objects: Any = EagerObjects if tf.executing_eagerly() else GraphObjects
    return [objects(directory, facts), SessionGraph(directory, facts, tags)]


def _variant(root: Any, tags: Tags, facts: Provenance) -> Any:
    return root if tags == facts.root_tags else root.graph_variants[",".join(tags)]


def _flat(results: Mapping[str, Any], signature: Signature) -> Dict[str, Any]:
    """What a loaded signature returned, by flattened names."""
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

    def has(self, tags: Tags, name: str) -> bool:
        """Whether it should have a signature: it has all."""
        del tags, name
        return True

    def call(self, tags: Tags, signature: Signature, feeds: Arrays) -> Dict[str, Any]:
        """What ``signatures[signature.name]`` returns, by flattened names.

        Args:
          tags: the variant.
          signature: the signature.
          feeds: a value for each input, by flattened name.
        """
        self.start()
        model = _variant(self._root, tags, self._facts)
        inputs = {
            c.name: tf.constant(feeds[c.name], tf.as_dtype(c.dtype))
            for c in signature.flat_inputs()
        }
        found = _flat(_called(model.signatures[signature.name], inputs), signature)
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
        self._calls: Dict[Tuple[Tags, str], Tuple[Dict[str, Any], Dict[str, Any]]] = {}

    def has(self, tags: Tags, name: str) -> bool:
        """Whether it should have a signature: it has all."""
        del tags, name
        return True

    def call(self, tags: Tags, signature: Signature, feeds: Arrays) -> Dict[str, Any]:
        """As ``EagerObjects.call``."""
        self.start()
        key = (tags, signature.name)
        if key not in self._calls:
            self._calls[key] = self._build(tags, signature)
        inputs, outputs = self._calls[key]
        return dict(self.run(outputs, {inputs[name]: feeds[name] for name in feeds}))

    def _build(self, tags: Tags, signature: Signature) -> Any:
        with self.graph.as_default():
            model = _variant(self._root, tags, self._facts)
            inputs = {
                c.name: tf.compat.v1.placeholder(
                    tf.as_dtype(c.dtype), tf.TensorShape(c.shape)
                )
                for c in signature.flat_inputs()
            }
            results = _called(model.signatures[signature.name], inputs)
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

    def has(self, tags: Tags, name: str) -> bool:
        """Whether it should have a signature: those of the root alone."""
        del name
        return tags == self._facts.root_tags

    def restart(self) -> None:
        """Has the next call begin with a graph and values of its own."""
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
