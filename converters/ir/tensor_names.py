"""Names of tensors within functions, each spelled out.

``node:arg`` is all that a node gives under that name. TensorFlow's sessions read it;
its loaders, and the passes here, know ``node:arg:0`` only (function.proto).
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

__all__ = ["node_of", "spell_out"]


def spell_out(
    function: Any, op_def: Callable[[str], Any], types: Callable[..., Sequence[int]]
) -> None:
    """Spells out the inputs and results of a FunctionDef.

    Args:
      function: the FunctionDef.
      op_def: the definition of an op, by its name.
      types: the dtypes that an output stands for: of a node, its op, and the output.
    """
    short = [tensor for node in function.node_def for tensor in node.input]
    short += function.ret.values()
    if not any(map(_is_short, short)):
        return
    nodes = {node.name: node for node in function.node_def}
    known: Dict[str, List[str]] = {}

    def full(tensor: str) -> List[str]:
        name, _, arg = tensor.partition(":")
        # An argument that is a list has its items under numbers.
        if not _is_short(tensor) or name not in nodes:
            return [tensor]
        if tensor not in known:
            node, op = nodes[name], op_def(nodes[name].op)
            found = [each for each in op.output_arg if each.name == arg]
            count = len(types(node, op, found[0])) if found else 1
            known[tensor] = ["{}:{}".format(tensor, i) for i in range(count)]
        return known[tensor]

    for node in function.node_def:
        inputs = [each for tensor in node.input for each in full(tensor)]
        del node.input[:]
        node.input.extend(inputs)
    for result, tensor in list(function.ret.items()):
        (function.ret[result],) = full(tensor)[:1]


def _is_short(tensor: str) -> bool:
    return tensor.count(":") == 1 and not tensor.startswith("^")


def node_of(name: str) -> str:
    """The node behind ``"a"``, ``"a:1"`` or ``"^a"``."""
    if name.startswith("^"):
        return name[1:]
    tail = name.rfind(":")
    return name if tail < 0 else name[:tail]
