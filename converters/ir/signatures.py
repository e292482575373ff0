"""The signatures of a TF1 model: their inputs and outputs, down to tensors."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple

from hub_compat._tf import tensor_shape_pb2
from hub_compat.errors import CorruptModuleError

from . import structured
from .dtypes import DT_INT64, REF_OFFSET
from .names import Names, parameter_name

__all__ = ["Component", "Signature", "Value", "flatten", "make_shape", "read_values"]


@dataclasses.dataclass(frozen=True)
class Component:
    """One tensor of an input or output.

    Attributes:
      name: as a flattened signature calls it: ``"x"``, ``"x_indices"``.
      tensor: the graph's name for it.
      dtype: a ``DataType``.
      shape: TensorShapeProto.
    """

    name: str
    tensor: str
    dtype: int
    shape: Any


@dataclasses.dataclass(frozen=True)
class Value:
    """One input or output of a signature: dense, sparse or composite.

    Attributes:
      name: the signature's name for it.
      components: its tensors, in the order in which tf.nest expands it.
      spec: StructuredValue of its TypeSpec; None for a dense tensor.
    """

    name: str
    components: Tuple[Component, ...]
    spec: Any = None

    # A TensorInfo has one of three encodings (meta_graph.proto), which become:
    #
    #     name              x: one tensor, "x"
    #     coo_sparse        x: "x_indices", "x_values", "x_dense_shape"
    #     composite_tensor  x: "x_component_0", "x_component_1", ...
    #
    # The names are those of TensorFlow's own loader for TF1 SavedModels.
    @classmethod
    def from_tensor_info(cls, name: str, info: Any) -> Value:
        """Reads a TensorInfo (meta_graph.proto).

        The names of the components of a composite are those that TF's own
        loader gives them in a flattened signature.
        """
        encoding = info.WhichOneof("encoding")
        if encoding == "name" and info.name:
            # A reference's value is what a caller sees of it.
            dtype = info.dtype % REF_OFFSET
            component = Component(name, info.name, dtype, info.tensor_shape)
            return cls(name, (component,))
        if encoding == "coo_sparse":
            sparse = info.coo_sparse
            rank = (
                None if info.tensor_shape.unknown_rank else len(info.tensor_shape.dim)
            )
            return cls(
                name,
                (
                    Component(
                        name + "_indices",
                        sparse.indices_tensor_name,
                        DT_INT64,
                        make_shape([-1, -1 if rank is None else rank]),
                    ),
                    Component(
                        name + "_values",
                        sparse.values_tensor_name,
                        info.dtype,
                        make_shape([-1]),
                    ),
                    Component(
                        name + "_dense_shape",
                        sparse.dense_shape_tensor_name,
                        DT_INT64,
                        make_shape([-1 if rank is None else rank]),
                    ),
                ),
                structured.sparse_spec(info.dtype, info.tensor_shape),
            )
        if encoding == "composite_tensor":
            components = []
            shapes = _ragged_shapes(info.composite_tensor)
            for i, part in enumerate(info.composite_tensor.components):
                shape = part.tensor_shape
                if shape.unknown_rank and i < len(shapes):
                    shape = shapes[i]
                component_name = "{}_component_{}".format(name, i)
                components.append(
                    Component(component_name, part.name, part.dtype, shape)
                )
            spec = structured.composite_spec(info.composite_tensor.type_spec)
            return cls(name, tuple(components), spec)
        raise CorruptModuleError(
            "A signature's input or output must name its tensors. Received: {!r} for "
            "{!r}".format(info.name if encoding == "name" else encoding, name)
        )

    def renamed(self, names: Names) -> Value:
        """This value, its components under names that are not taken."""
        if self.spec is None:
            return self
        components = tuple(
            dataclasses.replace(c, name=names.take(c.name)) for c in self.components
        )
        return dataclasses.replace(self, components=components)

    def structured(self) -> Any:
        """The StructuredValue of this value's spec."""
        if self.spec is not None:
            return self.spec
        (component,) = self.components
        return structured.tensor_spec(self.name, component.dtype, component.shape)


@dataclasses.dataclass(frozen=True)
class Signature:
    """One signature of one variant.

    Attributes:
      name: its name.
      inputs, outputs: by name, sorted.
      method_name: as the SignatureDef has it.
    """

    name: str
    inputs: Dict[str, Value]
    outputs: Dict[str, Value]
    method_name: str

    def flat_inputs(self) -> List[Component]:
        """The input tensors, in the order in which TensorFlow passes them.

        From version 2.12 on it sorts them by names of its own; older ones take the
        order that the model says.
        """
        return sorted(flatten(self.inputs), key=lambda c: parameter_name(c.name))

    def flat_outputs(self) -> List[Component]:
        """The output tensors, sorted by flattened name."""
        return flatten(self.outputs)


def read_values(infos: Any) -> Dict[str, Value]:
    """The inputs or outputs of a SignatureDef, sorted by name.

    No two tensors get the same flattened name: beside an input ``x_indices``, those of
    the sparse input ``x`` are called ``x_indices_1``.
    """
    values = {key: Value.from_tensor_info(key, infos[key]) for key in sorted(infos)}
    names = Names(key for key, value in values.items() if value.spec is None)
    return {key: value.renamed(names) for key, value in values.items()}


def flatten(values: Dict[str, Value]) -> List[Component]:
    """All components, sorted by name."""
    components = [c for value in values.values() for c in value.components]
    return sorted(components, key=lambda component: component.name)


# Given: a ragged tensor of shape [2, None, 3] and ragged_rank 1
# Result:
#     [-1, 3] for the values, [-1] for the row splits
def _ragged_shapes(composite: Any) -> List[Any]:
    """The shapes of a ragged tensor's components, as its spec states them.

    Its serialized state is (shape, dtype, ragged_rank, row_splits_dtype).
    """
    state = composite.type_spec.type_state.tuple_value.values
    kind = composite.type_spec.type_spec_class
    if kind != composite.type_spec.RAGGED_TENSOR_SPEC or len(state) < 3:
        return []
    shape, ragged_rank = state[0].tensor_shape_value, int(state[2].int64_value)
    if shape.unknown_rank:
        return []
    inner = [dim.size for dim in shape.dim][ragged_rank + 1 :]
    return [make_shape([-1] + inner)] + [make_shape([-1])] * ragged_rank


def make_shape(dims: Optional[List[int]]) -> Any:
    """A TensorShapeProto; -1 is an unknown dimension, None an unknown rank."""
    shape = tensor_shape_pb2.TensorShapeProto()
    if dims is None:
        shape.unknown_rank = True
    else:
        for size in dims:
            shape.dim.add().size = size
    return shape
