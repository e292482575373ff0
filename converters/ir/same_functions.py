"""Functions that are the same but for names.

A Keras model is traced several times, and each trace has loops with bodies of their
own. Two loops are equal nodes if their bodies are the same.
"""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Mapping

__all__ = ["SameFunctions"]


class SameFunctions:
    """The functions of a library, by what they do.

    Args:
      functions: the FunctionDefs by name; they must not change any more.
    """

    def __init__(self, functions: Mapping[str, Any]) -> None:
        self._functions = functions
        self._digests: Dict[str, bytes] = {}

    def _digest(self, name: str) -> bytes:
        if name not in self._digests:
            # For one that calls itself, which is like no other.
            self._digests[name] = name.encode()
            self._digests[name] = self._of(self._functions[name])
        return self._digests[name]

    def _of(self, function: Any) -> bytes:
        """A hash of a function in which nodes and arguments have numbers."""
        signature = function.signature
        args = enumerate(signature.input_arg)
        numbers = {arg.name: "a{}".format(i) for i, arg in args}
        for i, node in enumerate(function.node_def):
            numbers[node.name] = "n{}".format(i)

        def numbered(tensor: str) -> str:
            node, colon, rest = tensor.partition(":")
            if node.startswith("^"):
                return "^" + numbers.get(node[1:], node)
            return numbers.get(node, node) + colon + rest

        text: List[bytes] = []
        for arg in list(signature.input_arg) + list(signature.output_arg):
            text.append(b"%d" % arg.type)
        for node in function.node_def:
            text += [node.op.encode(), b"("]
            text += [numbered(tensor).encode() for tensor in node.input]
            for key in sorted(node.attr):
                if key not in ("_output_shapes", "_class"):
                    text += [key.encode(), self.attribute(node.attr[key])]
            if node.op in self._functions:
                text.append(self._digest(node.op))
        for arg in signature.output_arg:
            text.append(numbered(function.ret[arg.name]).encode())
        text += sorted(numbered(n).encode() for n in function.control_ret.values())
        return hashlib.sha256(b"\0".join(text)).digest()

    def attribute(self, attr: Any) -> bytes:
        """Equal for attributes that are equal, or name functions that are the same."""
        if attr.HasField("func") and attr.func.name in self._functions:
            return self._digest(attr.func.name)
        data: bytes = attr.SerializeToString(deterministic=True)
        return data
