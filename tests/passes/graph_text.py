"""Graphs and functions as text, one node a line, and back.

    x = Placeholder {dtype: float32}
    y = Add(x, w, ^init)

    function double(a: float32) -> (r: float32 = sum:z:0) controls (done = write):
      sum = AddV2(a, a)

What the inputs say is not written: dtypes of attributes such as ``T``, the lengths of
lists, results of the functions that are called. An attribute that an op has no default
for, and that a node lacks all the same, is ``none``. Values are as in ``attr_text``.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from attr_text import (
    dtype_name,
    dtype_number,
    parse_value,
    print_shape,
    print_value,
    split,
)

from hub_compat._tf import (
    attr_value_pb2,
    function_pb2,
    node_def_pb2,
    op_def_pb2,
    tensor_shape_pb2,
)
from hub_compat.converters.ir.graph import arg_types

__all__ = [
    "arguments",
    "derive",
    "outputs",
    "parse_function",
    "parse_node",
    "parse_op",
    "print_function",
    "print_node",
    "types_of",
]

OpDefs = Callable[[str], Any]
Types = Dict[str, int]
_REF = 100


def _parse_attrs(text: str, attrs: Any) -> None:
    for part in split(text):
        name, _, value = part.partition(":")
        parse_value(value.strip(), attrs[name.strip()])


_NODE = re.compile(r"^(\S+) = (\w+)(?:\(([^)]*)\))?(?: \{(.*)\})?$")


def parse_node(line: str) -> Any:
    """A NodeDef, with the attributes that are written."""
    match = _NODE.match(line)
    if match is None:
        raise ValueError("A node must be 'name = Op(inputs) {attrs}': " + line)
    name, op, inputs, attrs = match.groups()
    node = node_def_pb2.NodeDef(name=name, op=op, input=split(inputs or ""))
    _parse_attrs(attrs or "", node.attr)
    return node


def print_node(node: Any, op: Any, types: Types, library: Any) -> str:
    """A NodeDef as ``parse_node`` takes it.

    Args:
      node: the node.
      op: its OpDef.
      types: the dtypes of tensors.
      library: FunctionDefs by name.
    """
    derived = derive(node, op, types, library)
    shown = []
    defaults = {a.name: a.default_value for a in op.attr if a.HasField("default_value")}
    for name in sorted(set(node.attr).union(derived)):
        if name not in node.attr:
            if name not in defaults or defaults[name] != derived[name]:
                shown.append(name + ": none")
        elif derived.get(name) != node.attr[name]:
            shown.append("{}: {}".format(name, print_value(node.attr[name])))
    text = "{} = {}".format(node.name, node.op)
    if node.input:
        text += "({})".format(", ".join(node.input))
    return text + (" {" + ", ".join(shown) + "}" if shown else "")


def derive(node: Any, op: Any, types: Types, library: Any) -> Dict[str, Any]:
    """The attributes that a node's inputs, and the functions it calls, give it."""
    found: Dict[str, Any] = {}

    def put(name: str, field: str, value: Any) -> None:
        if name and name not in found:
            found[name] = attr_value_pb2.AttrValue()
            if field == "types":
                found[name].list.SetInParent()
                found[name].list.type.extend(value)
            else:
                setattr(found[name], field, value)

    data = [t for t in node.input if not t.startswith("^")]
    lists = [a for a in op.input_arg if a.number_attr or a.type_list_attr]
    rest = len(data) - (len(op.input_arg) - len(lists))
    same = {a.number_attr or a.type_list_attr for a in lists}
    start = 0
    for arg in op.input_arg:
        count = 1
        if arg in lists:
            known = _length(node, arg)
            if known is None and len(same) == 1 and rest >= 0:
                known = rest // len(lists)
            if known is None:
                break
            count = known
        given = [types.get(_full(t, types)) for t in data[start : start + count]]
        start += count
        if arg.number_attr:
            put(arg.number_attr, "i", count)
        bare = [t if t < _REF else t - _REF for t in given if t is not None]
        if arg.type_list_attr and len(bare) == count:
            put(arg.type_list_attr, "types", bare)
        elif arg.type_attr and bare:
            # Of a Merge, the other input may be the way back of a loop.
            put(arg.type_attr, "type", bare[0])
    for arg in op.output_arg:
        results = _results(node, library) if arg.type_list_attr == "Tout" else None
        if results is not None:
            put("Tout", "types", results)
    return found


def _length(node: Any, arg: Any) -> Optional[int]:
    if arg.number_attr:
        return node.attr[arg.number_attr].i if arg.number_attr in node.attr else None
    if arg.type_list_attr in node.attr:
        return len(node.attr[arg.type_list_attr].list.type)
    return None


def _results(node: Any, library: Any) -> Optional[List[int]]:
    for name in ("f", "then_branch"):
        if name in node.attr and node.attr[name].func.name in library:
            called = library[node.attr[name].func.name].signature
            return [arg.type for arg in called.output_arg]
    for each in node.attr["branches"].list.func if "branches" in node.attr else ():
        if each.name in library:
            return [arg.type for arg in library[each.name].signature.output_arg]
    return None


def _full(tensor: str, types: Types) -> str:
    return tensor if tensor in types else tensor + ":0"


def types_of(
    nodes: Iterable[Any],
    op_def: OpDefs,
    library: Any,
    known: Optional[Types] = None,
    complete: bool = False,
) -> Types:
    """The dtypes of all tensors of a graph; of a function if ``known`` has arguments.

    Args:
      nodes: the nodes.
      op_def: from the name of an op or function to its OpDef.
      library: FunctionDefs by name.
      known: the dtypes of arguments; None for a graph.
      complete: whether to give nodes the attributes that can be derived.
    """
    types = dict(known or {})
    nodes = list(nodes)
    before = -1
    while before < len(types):
        before = len(types)
        for node in nodes:
            op = op_def(node.op)
            if complete:
                for name, value in derive(node, op, types, library).items():
                    if name not in node.attr:
                        node.attr[name].CopyFrom(value)
            for tensor, dtype in outputs(node, op, known is not None):
                types[tensor] = dtype
    return types


def outputs(node: Any, op: Any, inside: bool) -> Iterator[Tuple[str, int]]:
    """The tensors of a node and their dtypes, as a function or a graph names them."""
    index = 0
    for arg in op.output_arg:
        try:
            dtypes = arg_types(node, op, arg)
        except Exception:
            return
        if any(dtype in (0, _REF) for dtype in dtypes):
            return
        for i, dtype in enumerate(dtypes):
            if inside:
                yield "{}:{}:{}".format(node.name, arg.name, i), dtype
            else:
                yield "{}:{}".format(node.name, index), dtype
            index += 1


_FUNCTION = re.compile(
    r"^function (\S+)\((.*?)\) -> \((.*?)\)"
    r"(?: controls \((.*?)\))?( stateful)?(?: \{(.*)\})?:$"
)


def parse_function(lines: List[str]) -> Any:
    """A FunctionDef, without attributes that are derived."""
    match = _FUNCTION.match(lines[0])
    if match is None:
        raise ValueError("No head of a function: " + lines[0])
    name, args, results, controls, stateful, attrs = match.groups()
    function = function_pb2.FunctionDef()
    signature = function.signature
    signature.name = name
    signature.is_stateful = bool(stateful)
    for part in split(args):
        arg, _, dtype = part.partition(": ")
        signature.input_arg.add(name=arg, type=dtype_number(dtype))
    for part in split(results):
        arg, dtype, tensor = re.split(r": | = ", part)
        signature.output_arg.add(name=arg, type=dtype_number(dtype))
        function.ret[arg] = tensor
    for part in split(controls or ""):
        key, node = part.split(" = ")
        signature.control_output.append(key)
        function.control_ret[key] = node
    _parse_attrs(attrs or "", function.attr)
    function.node_def.extend(parse_node(line.strip()) for line in lines[1:])
    return function


def print_function(function: Any, op_def: OpDefs, library: Any) -> str:
    """A FunctionDef as ``parse_function`` takes it."""
    signature = function.signature
    args = ", ".join(
        "{}: {}{}".format(arg.name, dtype_name(arg.type), _handle_data(arg))
        for arg in signature.input_arg
    )
    results = ", ".join(
        "{}: {} = {}".format(arg.name, dtype_name(arg.type), function.ret[arg.name])
        for arg in signature.output_arg
    )
    head = "function {}({}) -> ({})".format(signature.name, args, results)
    if function.control_ret:
        head += " controls ({})".format(
            ", ".join(
                "{} = {}".format(key, function.control_ret[key])
                for key in signature.control_output
            )
        )
    head += " stateful" if signature.is_stateful else ""
    attrs = ["{}: {}".format(k, print_value(function.attr[k])) for k in function.attr]
    if attrs:
        head += " {" + ", ".join(sorted(attrs)) + "}"
    types = types_of(function.node_def, op_def, library, arguments(function))
    lines = [head + ":"]
    for node in function.node_def:
        lines.append("  " + print_node(node, op_def(node.op), types, library))
    return "\n".join(lines)


def arguments(function: Any) -> Types:
    """The dtypes of the arguments of a function."""
    return {arg.name: arg.type for arg in function.signature.input_arg}


def _handle_data(arg: Any) -> str:
    """What field 7, which the protos of TF 1.15 do not know, says of a variable."""
    data = arg.SerializeToString(deterministic=True)
    bare = op_def_pb2.OpDef.ArgDef(name=arg.name, type=arg.type)
    rest = data[len(bare.SerializeToString(deterministic=True)) :]
    if not rest:
        return ""
    # 7: {1: dtype, 2: shape}, each shorter than 128 bytes.
    shape = tensor_shape_pb2.TensorShapeProto.FromString(rest[6:])
    return " of {}{}".format(dtype_name(rest[3]), print_shape(shape))


_OP = re.compile(r"^op (\w+)\((.*?)\) -> \((.*?)\)(?: \{(.*)\})?$")


def parse_op(line: str) -> Any:
    """``op Twice(x: T, n: N * int32) -> (y: T) {T: type}`` as an OpDef."""
    match = _OP.match(line)
    if match is None:
        raise ValueError("No definition of an op: " + line)
    name, inputs, outputs, attrs = match.groups()
    op = op_def_pb2.OpDef(name=name)
    for part in split(attrs or ""):
        key, _, kind = part.partition(": ")
        op.attr.add(name=key, type=kind)
    kinds = {attr.name: attr.type for attr in op.attr}
    for args, text in ((op.input_arg, inputs), (op.output_arg, outputs)):
        for part in split(text):
            key, _, kind = part.partition(": ")
            arg = args.add(name=key)
            if " * " in kind:
                arg.number_attr, kind = kind.split(" * ")
            if kinds.get(kind) == "list(type)":
                arg.type_list_attr = kind
            elif kind in kinds:
                arg.type_attr = kind
            else:
                arg.type = dtype_number(kind)
    return op
