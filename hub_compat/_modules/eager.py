"""A module where operations run eagerly: the object that ``load()`` gives."""

from __future__ import annotations

import re
from typing import Any, Dict, FrozenSet, List, Mapping

from hub_compat import loader
from hub_compat._tf import tf
from hub_compat._tf.structures import components_of, from_components
from hub_compat.errors import SignatureError

from .tensor_info import ParsedTensorInfo

__all__ = ["EagerImpl"]


class EagerImpl:
    """A loaded module with the interface of one in a graph.

    Args:
      source: its directory.
      tags: the variant.
      trainable: whether a call of a tagged variant runs the updates of its variables.
    """

    def __init__(self, source: str, tags: FrozenSet[str], trainable: bool) -> None:
        self.loaded = loader.load(source, tags=sorted(tags) or None)
        # The untagged variant of a call with training=True would be another one.
        self._updates = trainable and bool(tags)

    def apply(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, ParsedTensorInfo],
    ) -> Dict[str, Any]:
        """Computes a signature.

        Args:
          signature: its name.
          inputs: tensors or composite tensors by name.
          outputs: what is known of its outputs.
        """
        function = self.loaded.signatures.get(signature)
        if function is None:
            raise SignatureError(
                "The conversion of the module has skipped a signature; load() and "
                "convert() say why. Received: {!r}".format(signature)
            )
        if self._updates and callable(self.loaded):
            values = list(inputs.values())
            found = self.loaded(
                values[0] if len(values) == 1 else dict(inputs),
                training=True,
                signature=signature,
                as_dict=True,
            )
            return dict(found)
        flat: Dict[str, Any] = {}
        for key, value in inputs.items():
            flat.update(_flat(key, value))
        results = function(**flat)
        return {key: _joined(key, info, results) for key, info in outputs.items()}

    @property
    def variable_map(self) -> Dict[str, Any]:
        """Variables by their names in the module; the parts of one are a list."""
        found: Dict[str, Any] = {}
        for variable in self.loaded.variables:
            name = variable.name.split(":")[0]
            part = re.match(r"(.+)/part_\d+$", name)
            if part is None:
                found[name] = variable
            else:
                found.setdefault(part.group(1), []).append(variable)
        return found


def _flat(key: str, value: Any) -> Dict[str, Any]:
    """An input under the names that signatures have for its tensors."""
    if isinstance(value, tf.SparseTensor):
        return {
            key + "_indices": value.indices,
            key + "_values": value.values,
            key + "_dense_shape": value.dense_shape,
        }
    if isinstance(value, tf.RaggedTensor):
        parts = components_of(value)
        return {"{}_component_{}".format(key, i): part for i, part in enumerate(parts)}
    return {key: value}


def _joined(key: str, info: ParsedTensorInfo, results: Mapping[str, Any]) -> Any:
    """An output; some TensorFlows give a composite one in its parts."""
    if key in results:
        return results[key]
    if info.is_sparse:
        return tf.SparseTensor(
            *(results[key + part] for part in ("_indices", "_values", "_dense_shape"))
        )
    if info.is_composite:
        count = len(components_of(info.type_spec))
        names: List[str] = ["{}_component_{}".format(key, i) for i in range(count)]
        parts = [results[name] for name in names]
        return from_components(info.type_spec, parts)
    return results[key]
