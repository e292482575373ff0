"""Which ops of a session hand on the memory of an input in place of a copy.

Found by trial in TensorFlow 1.15.5. None of these depends on the optimizer of graphs,
on threads or on a run. What only the optimizer makes of other ops, such as a reversal
of nothing, is not here.
"""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
)

import numpy as np

from hub_compat._tf import tf

from ...ir.constants import array_of
from ...ir.dtypes import DT_COMPLEX64, DT_COMPLEX128
from ...ir.graph import Graph, attr_or_default, data_inputs, node_of, split_tensor

__all__ = ["SAME", "CHOOSES", "Handed", "handed", "static_shape", "static_size"]

# Outputs are inputs: the same tensor.
SAME = frozenset(
    [
        "AddN",
        "CheckNumerics",
        "Identity",
        "IdentityN",
        "MatrixBandPart",
        "PlaceholderWithDefault",
        "PreventGradient",
        "Print",
        "RefIdentity",
        "StopGradient",
    ]
)
_IN_FUNCTIONS = SAME - {"AddN", "MatrixBandPart"}
# The same with another shape or type.
_VIEWS = frozenset(["Bitcast", "EnsureShape", "ExpandDims", "Reshape", "Squeeze"])
# By a scalar, one of two inputs.
CHOOSES = "Select"
_REDUCTIONS = frozenset(
    ["All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum"]
)
# Bytes: a part of a tensor begins at a multiple of it, or is a copy
# (EIGEN_MAX_ALIGN_BYTES in TensorFlow's build).
_ALIGNMENT = 64
# GraphDef.versions of TensorFlow 2.4, where SplitV copies the parts of a vector, and of
# 2.6, where those that are aligned share its memory. Found by trial.
_COPIES_PARTS = 561
_SHARES_PARTS = 808

Shape = Optional[List[Optional[int]]]


class Handed(NamedTuple):
    """An input whose memory an output is.

    Attributes:
      place: which input.
      view: whether the node gives it another shape, or is a part of it.
      sure: whether the graph says so; what decides may be known to a run only.
    """

    place: int
    view: bool = True
    sure: bool = True


# Given: value = Identity(v), the memory of a variable
# Result:
#     Reshape(value, shape)                        Handed(0)
#     Slice(value, [0, 0], [2, -1]) of [4, 16]     Handed(0): rows of 64 bytes
#     Slice(value, [0, 0], [2, -1]) of [4, 3]      None: rows of 12 bytes are copied
#     Slice(value, a placeholder, [2, -1])         Handed(0, sure=False)
#     Add(value, 1)                                None
#
# The order of the tests counts: graph.copies overrides all, as passes put nodes there
# that a session had no counterpart of.
def handed(graph: Graph, name: str, output: int) -> Optional[Handed]:
    """The input of a node whose memory one of its outputs is; None of most."""
    node = graph.nodes[name]
    op = node.op
    if name in graph.copies:
        return None
    if op in ("AddN", "MatrixBandPart"):
        return _if(_RULES[op](graph, name), Handed(0, view=False))
    if op == "IdentityN":
        return Handed(output, view=False)
    if op in SAME:
        return Handed(0, view=False) if output == 0 else None
    if op == "Cast":
        same = node.attr["SrcT"].type == node.attr["DstT"].type
        return Handed(0, view=False) if same else None
    if op in _VIEWS:
        return Handed(0)
    if op in ("StackPush", "StackPushV2"):
        return Handed(1, view=False)
    if op in _REDUCTIONS:
        return _if(_reduces_nothing(graph, name), Handed(0))
    if op in graph.library:
        return _of_function(graph.library[op], output)
    if op in _RULES:
        return _if(_RULES[op](graph, name), Handed(1 if op == "Split" else 0))
    return None


def _of_function(function: Any, output: int) -> Optional[Handed]:
    """The argument that a result of a function is."""
    signature = function.signature
    args = list(signature.input_arg)
    if any(a.number_attr or a.type_list_attr for a in args + [*signature.output_arg]):
        return None
    places = {arg.name: place for place, arg in enumerate(args)}
    nodes = {node.name: node for node in function.node_def}
    tensor = function.ret[signature.output_arg[output].name]
    sure = True
    while tensor not in places:
        node = nodes.get(tensor.partition(":")[0])
        if node is None or not (node.op in SAME or node.op in _VIEWS):
            return None
        # Of the others, a shape within the function may decide.
        sure = sure and node.op in _IN_FUNCTIONS
        data = [each for each in node.input if not each.startswith("^")]
        tensor = data[int(tensor.rpartition(":")[2]) if node.op == "IdentityN" else 0]
    return Handed(places[tensor], view=False, sure=sure)


def _if(known: Optional[bool], found: Handed) -> Optional[Handed]:
    if known is None:
        return found._replace(sure=False)
    return found if known else None


def static_shape(graph: Graph, tensor: str) -> Shape:
    """The shape of a tensor as the graph states it; None if the rank is unknown."""
    name, index = split_tensor(tensor)
    node = graph.nodes[name]
    shape = None
    if "_output_shapes" in node.attr:
        shapes = node.attr["_output_shapes"].list.shape
        shape = shapes[index] if index < len(shapes) else None
    elif node.op == "VariableV2":
        shape = node.attr["shape"].shape
    elif node.op == "Const":
        shape = node.attr["value"].tensor.tensor_shape
    elif node.op in SAME:
        return static_shape(graph, data_inputs(graph, name)[index].tensor)
    if shape is None or shape.unknown_rank:
        return None
    return [dim.size if dim.size >= 0 else None for dim in shape.dim]


def static_size(graph: Graph, tensor: str) -> Optional[int]:
    """The number of a tensor's elements as the graph states it, or None."""
    shape = static_shape(graph, tensor)
    if shape is None or None in shape:
        return None
    return int(np.prod([dim or 0 for dim in shape], dtype=np.int64))


def _constant(graph: Graph, name: str, place: int) -> Optional[np.ndarray]:
    """The value of an input that is a constant."""
    node = graph.nodes[node_of(data_inputs(graph, name)[place].tensor)]
    while node.op == "Identity":
        node = graph.nodes[data_inputs(graph, node.name)[0].node]
    if node.op != "Const":
        return None
    return np.asarray(array_of(node.attr["value"].tensor))


def _input_shape(graph: Graph, name: str, place: int = 0) -> Shape:
    return static_shape(graph, data_inputs(graph, name)[place].tensor)


def _attr(graph: Graph, name: str, attr: str) -> Any:
    node = graph.nodes[name]
    return attr_or_default(node, graph.op_def(node.op), attr)


def _size(graph: Graph, name: str, place: int = 0) -> int:
    """Bytes of an element of an input."""
    dtype = graph.output(data_inputs(graph, name)[place].tensor).dtype % 100
    # A string is a pointer in TensorFlow 1.15's build.
    return int(tf.as_dtype(dtype).size or 8)


def _rows_aligned(shape: Sequence[Optional[int]], size: int) -> Optional[bool]:
    """Whether each row of a tensor begins where memory may."""
    if not shape:
        return False
    if any(dim is None for dim in shape[1:]):
        return None
    return int(np.prod(shape[1:], dtype=np.int64)) * size % _ALIGNMENT == 0


def _part_aligned(
    shape: Sequence[Optional[int]], size: int, start: int, length: int
) -> Optional[bool]:
    """Whether some rows of a tensor are memory of it."""
    if len(shape) == 1:
        return start * size % _ALIGNMENT == 0 and length * size % _ALIGNMENT == 0
    return _rows_aligned(shape, size)


def _rows(
    shape: Shape, begins: Sequence[int], ends: Sequence[int], size: int
) -> Optional[bool]:
    """Whether a slice with a stride of one is the memory of what it is taken from."""
    if shape is None or any(dim is None for dim in shape):
        return None
    whole = [b == 0 and e == dim for b, e, dim in zip(begins, ends, shape)]
    if all(whole):
        return True
    if not all(whole[1:]):
        return False
    return _part_aligned(shape, size, begins[0], ends[0] - begins[0])


def _slice(graph: Graph, name: str) -> Optional[bool]:
    shape = _input_shape(graph, name)
    begin, length = _constant(graph, name, 1), _constant(graph, name, 2)
    if shape is None or begin is None or length is None:
        return None
    begins = [int(number) for number in begin]
    ends: List[int] = []
    for start, number, dim in zip(begins, length, shape):
        if number < 0 and dim is None:
            return None
        ends.append((dim or 0) if number < 0 else start + int(number))
    return _rows(shape, begins, ends, _size(graph, name))


def _strided_slice(graph: Graph, name: str) -> Optional[bool]:
    shape = _input_shape(graph, name)
    spec = [_constant(graph, name, place) for place in (1, 2, 3)]
    strides = spec[2]
    if strides is not None and np.any(strides != 1):
        masks = _attr(graph, name, "shrink_axis_mask").i
        if any(s != 1 and not masks >> i & 1 for i, s in enumerate(strides)):
            # The kernel takes a row by its number, whatever the stride.
            return False if shape is None or 1 not in shape else None
    if shape is None or any(each is None for each in spec):
        return None
    bounds = _dense_bounds(graph, name, shape, spec[0], spec[1])
    if bounds is None:
        return None
    begins, ends = zip(*bounds) if bounds else ((), ())
    return _rows(shape, begins, ends, _size(graph, name))


def _dense_bounds(
    graph: Graph, name: str, shape: Sequence[Optional[int]], begin: Any, end: Any
) -> Optional[List[Any]]:
    """Where a slice begins and ends in each dimension."""
    masks = {
        key: _attr(graph, name, key + "_mask").i
        for key in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    count = len(begin)
    taking = sum(1 for i in range(count) if not masks["new_axis"] >> i & 1)
    if masks["ellipsis"]:
        taking -= 1
    bounds: List[Any] = []
    for i in range(count):
        if masks["ellipsis"] >> i & 1:
            for _ in range(len(shape) - taking):
                bounds.append((0, shape[len(bounds)]))
            continue
        if masks["new_axis"] >> i & 1:
            continue
        dim = shape[len(bounds)]
        if dim is None:
            return None
        if masks["shrink_axis"] >> i & 1:
            start = int(begin[i]) % dim if dim else 0
            bounds.append((start, start + 1))
            continue
        start, stop, _ = slice(
            None if masks["begin"] >> i & 1 else int(begin[i]),
            None if masks["end"] >> i & 1 else int(end[i]),
        ).indices(dim)
        bounds.append((start, max(start, stop)))
    return bounds + [(0, dim) for dim in shape[len(bounds) :]]


def _split(graph: Graph, name: str) -> Optional[bool]:
    if _attr(graph, name, "num_split").i == 1:
        return True
    return _along_rows(graph, name, _constant(graph, name, 0), 1)


def _split_v(graph: Graph, name: str) -> Optional[bool]:
    if _attr(graph, name, "num_split").i == 1:
        return True
    shape, lengths = _input_shape(graph, name), _constant(graph, name, 1)
    along = _along_rows(graph, name, _constant(graph, name, 2), 0)
    if shape is None or len(shape) != 1 or graph.producer <= _COPIES_PARTS:
        return along
    if lengths is None or (np.any(lengths < 0) and shape[0] is None):
        return None
    rest = (shape[0] or 0) - int(lengths[lengths >= 0].sum())
    size = _size(graph, name)
    if any((rest if n < 0 else int(n)) * size % _ALIGNMENT for n in lengths):
        return False
    return None if graph.producer < _SHARES_PARTS else True


def _unpack(graph: Graph, name: str) -> Optional[bool]:
    axis = np.asarray(
        attr_or_default(graph.nodes[name], graph.op_def("Unpack"), "axis").i
    )
    return _along_rows(graph, name, axis, 0)


def _along_rows(
    graph: Graph, name: str, axis: Optional[np.ndarray], place: int
) -> Optional[bool]:
    """Whether what is taken apart along an axis stays in its memory."""
    shape = _input_shape(graph, name, place)
    if axis is None or shape is None:
        return None
    if int(axis) % max(len(shape), 1) != 0:
        return False
    return _rows_aligned(shape, _size(graph, name, place))


def _transpose(graph: Graph, name: str) -> Optional[bool]:
    """Whether only dimensions of one element move."""
    order, shape = _constant(graph, name, 1), _input_shape(graph, name)
    if order is not None and list(order) == list(range(len(order))):
        return True
    if order is None or shape is None or None in shape:
        return None
    if 0 in shape:
        return True
    moved = [int(i) for i in order if shape[int(i)] != 1]
    return moved == sorted(moved)


def _reduces_nothing(graph: Graph, name: str) -> Optional[bool]:
    axes, shape = _constant(graph, name, 1), _input_shape(graph, name)
    if axes is not None and not axes.size:
        return True
    if axes is None or shape is None:
        return None
    dims = [shape[int(axis) % len(shape)] for axis in axes.ravel()] if shape else []
    if any(dim is not None and dim != 1 for dim in dims):
        return False
    return None if None in dims else True


def _all_are(value: int, *places: int) -> Callable[[Graph, str], Optional[bool]]:
    def rule(graph: Graph, name: str) -> Optional[bool]:
        known = [_constant(graph, name, place) for place in places]
        if any(each is not None and np.any(each != value) for each in known):
            return False
        return None if any(each is None for each in known) else True

    return rule


def _in_blocks(graph: Graph, name: str) -> Optional[bool]:
    """SpaceToBatchND and its counterpart: blocks of one, and nothing around."""
    block, around = _all_are(1, 1)(graph, name), _all_are(0, 2)(graph, name)
    if block is False or around is False:
        return False
    return block and around


def _broadcast(graph: Graph, name: str) -> Optional[bool]:
    shape, wanted = _input_shape(graph, name), _constant(graph, name, 1)
    if shape is None or wanted is None or None in shape:
        return None
    return [int(dim) for dim in wanted] == shape


def _band(graph: Graph, name: str) -> Optional[bool]:
    shape = _input_shape(graph, name)
    bands = [_constant(graph, name, place) for place in (1, 2)]
    if any(band is None for band in bands):
        return None
    if all(int(band) < 0 for band in bands if band is not None):
        return True
    if shape is None or None in shape[-2:]:
        return None
    return all(
        band is not None and (int(band) < 0 or int(band) >= (dim or 0))
        for band, dim in zip(bands, shape[-2:])
    )


def _single(graph: Graph, name: str) -> bool:
    return bool(_attr(graph, name, "N").i == 1)


def _sum_of_one(graph: Graph, name: str) -> Optional[bool]:
    if not _single(graph, name):
        return False
    # With a control edge, a session's optimizer makes a product with one of it. Its
    # users get that copy, and who fetches it gets the memory.
    waits = any(tensor.startswith("^") for tensor in graph.nodes[name].input)
    return None if waits else True


def _conjugate(graph: Graph, name: str) -> Optional[bool]:
    dtype = graph.outputs(name)[0].dtype
    if dtype in (DT_COMPLEX64, DT_COMPLEX128):
        return False
    return _transpose(graph, name)


# Op -> whether a node of it hands its input on: True, False (a copy), or None, where
# only a run can say.
_RULES: Dict[str, Callable[[Graph, str], Optional[bool]]] = {
    "AddN": _sum_of_one,
    "BatchToSpaceND": _in_blocks,
    "BroadcastTo": _broadcast,
    "ConjugateTranspose": _conjugate,
    "MatrixBandPart": _band,
    "MirrorPad": _all_are(0, 1),
    "Pack": _single,
    "Pad": _all_are(0, 1),
    "PadV2": _all_are(0, 1),
    "Slice": _slice,
    "SpaceToBatchND": _in_blocks,
    "Split": _split,
    "SplitV": _split_v,
    "StridedSlice": _strided_slice,
    "Tile": _all_are(1, 1),
    "Transpose": _transpose,
    "Unpack": _unpack,
}
