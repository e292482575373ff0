"""Cuts a model's graphs into functions: one *body* for each signature.

It is shared by all that call it (``callables.py``).
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from .control_flow import control_levels
from .functions import Body, FunctionWriter, argument_name, emit, set_output_shapes
from .graph import Graph, node_of
from .libraries import FunctionSet
from .model import Component, Signature, Value, VariantGraph, flatten
from .object_graph import dict_value

__all__ = ["Bodies", "Form", "SignatureBody", "base_name", "call_output"]

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")


class Form(NamedTuple):
    """What the function of a signature takes and returns.

    Attributes:
      arguments: the flattened inputs, in order.
      results: the flattened outputs, in order.
      boundary: tensors that the update ops need, which follow the results.
      updates: the update ops that belong to this signature.
    """

    arguments: List[Component]
    results: List[Component]
    boundary: List[str]
    updates: List[str]


class SignatureBody(NamedTuple):
    """A signature's graph as a function.

    Attributes:
      form: what it takes and returns.
      body: the function.
      update_nodes: nodes that only the update ops need, in order.
      training_body: the function with updates, where they cannot be apart.
    """

    form: Form
    body: Body
    update_nodes: List[str]
    training_body: Optional[Body]


class Bodies:
    """The bodies of a model's signatures.

    Attributes:
      functions: where they go.
    """

    def __init__(self, functions: FunctionSet) -> None:
        self.functions = functions
        self._bodies: Dict[Tuple[Any, ...], SignatureBody] = {}
        self._known_levels: Dict[Graph, Mapping[str, int]] = {}

    def check(self, variant: VariantGraph, signature: Signature) -> Optional[str]:
        """Why a signature cannot be a function, or None."""
        fed = {c.tensor for c in signature.flat_inputs()}
        if len(fed) < len(signature.flat_inputs()):
            return "it lists one tensor under two input names"
        names = variant.graph.slice([c.tensor for c in signature.flat_outputs()], fed)
        missing = self.unfed(variant, names, fed)
        if missing:
            return "its outputs need {}, which it does not list as inputs".format(
                ", ".join(repr(name) for name in missing)
            )
        return None

    def unfed(
        self, variant: VariantGraph, names: Sequence[str], fed: Set[str]
    ) -> List[str]:
        """Placeholders among some nodes that nothing is fed to."""
        nodes = variant.graph.nodes
        return [
            name
            for name in names
            if nodes[name].op in _PLACEHOLDERS and name + ":0" not in fed
        ]

    def body(
        self, variant: VariantGraph, name: str, returned: Sequence[Value]
    ) -> SignatureBody:
        """The function of one signature of one variant.

        Args:
          variant: the variant.
          name: the signature.
          returned: those of its outputs that the function returns. A call gets
            its own function where it returns fewer than the signature has: the
            gradient of a function passes through all of its results.
        """
        key = (variant.tags, name, tuple(value.name for value in returned))
        if key not in self._bodies:
            signature = variant.signatures[name]
            self._bodies[key] = self._make_body(variant, signature, returned)
        return self._bodies[key]

    def _make_body(
        self, variant: VariantGraph, signature: Signature, returned: Sequence[Value]
    ) -> SignatureBody:
        graph = variant.graph
        arguments = signature.flat_inputs()
        results = flatten({value.name: value for value in returned})
        fed = {c.tensor for c in arguments}
        names = graph.slice([c.tensor for c in results], fed)
        base = base_name(variant, signature.name)
        if {v.name for v in returned} != {v.name for v in call_output(signature)[1]}:
            form = Form(arguments, results, [], [])
            body = self._write_body(variant, base + "_outputs", form, names)
            return SignatureBody(form, body, [], None)
        updates = self._own_updates(variant, fed)
        with_updates = graph.slice(
            [c.tensor for c in results] + ["^" + op for op in updates], fed
        )
        inside = set(names)
        update_nodes = [n for n in with_updates if n not in inside]
        form = Form(arguments, results, [], updates)
        training_body = None
        if any(
            edge.node in inside and self._levels(graph)[edge.node]
            for n in update_nodes
            for edge in graph.inputs(n)
        ):
            # A tensor inside a branch may be dead, and a dead tensor cannot
            # leave a function: the updates stay in one graph with the rest.
            training_body = self._write_body(
                variant, base + "_with_updates", form, with_updates
            )
            update_nodes = []
        elif update_nodes:
            boundary, update_nodes = self._boundary(variant, inside, update_nodes, fed)
            form = form._replace(boundary=boundary)
        body = self._write_body(variant, base, form, names)
        return SignatureBody(form, body, update_nodes, training_body)

    def _own_updates(self, variant: VariantGraph, fed: Set[str]) -> List[str]:
        """The update ops that need no placeholder of another signature."""
        graph, updates = variant.graph, variant.update_ops
        needed = graph.slice(["^" + op for op in updates], fed)
        if not self.unfed(variant, needed, fed):
            return updates
        return [
            op
            for op in updates
            if not self.unfed(variant, graph.slice(["^" + op], fed), fed)
        ]

    def _boundary(
        self,
        variant: VariantGraph,
        inside: Set[str],
        update_nodes: List[str],
        fed: Set[str],
    ) -> Tuple[List[str], List[str]]:
        """The tensors that updates take from the body; nodes, with constants."""
        graph = variant.graph
        boundary: Dict[str, None] = {}
        copied: Set[str] = set()
        for name in update_nodes:
            for tensor in graph.nodes[name].input:
                node = node_of(tensor)
                if node not in inside or node in variant.captures:
                    continue
                full = tensor if ":" in tensor else tensor + ":0"
                if full in fed:
                    continue
                if graph.nodes[node].op == "Const":
                    # A constant needs no passing on.
                    copied.add(node)
                elif not tensor.startswith("^"):
                    boundary[full] = None
        wanted = copied.union(update_nodes)
        return list(boundary), [name for name in graph.nodes if name in wanted]

    def _write_body(
        self,
        variant: VariantGraph,
        base: str,
        form: Form,
        names: List[str],
    ) -> Body:
        graph = variant.graph
        writer = FunctionWriter(self.functions.name(base), names)
        bound = {
            c.tensor: writer.argument(c.name, c.dtype, c.shape) for c in form.arguments
        }
        kept = [n for n in names if n + ":0" not in bound or not _is_input(graph, n)]
        resolve = emit(graph, writer, kept, bound, variant.captures)
        taken = set(bound.values())
        shapes: Dict[str, Any] = {}
        for component in form.results:
            tensor = resolve(component.tensor)
            if tensor in taken or node_of(component.tensor) in variant.captures:
                # A function that returns its own argument confuses the
                # gradient code of TF 1.15.
                name = writer.node(
                    "Identity",
                    "result_" + argument_name(component.name),
                    [tensor],
                    T=("type", component.dtype),
                )
                tensor = name + ":output:0"
            writer.result(component.name, component.dtype, tensor, component.shape)
            name = tensor.split(":")[0]
            if name not in graph.nodes or len(graph.outputs(name)) == 1:
                shapes.setdefault(name, component.shape)
        self._say_shapes(writer, shapes)
        for tensor in form.boundary:
            output = graph.output(tensor)
            writer.result("update_input", output.dtype, resolve(tensor))
        if form.updates:
            # What a call waits for are its control results: an update after the
            # call is an update after these reads.
            levels = self._levels(graph)
            for name in names:
                if name in variant.captures or levels[name]:
                    continue
                if graph.op_def(graph.nodes[name].op).is_stateful:
                    writer.control_result(name)
        for op in form.updates:
            if op in names:
                writer.control_result(op)
        return self.functions.add(writer)

    def _levels(self, graph: Graph) -> Mapping[str, int]:
        """How many loops and conditionals each node of a graph is inside of."""
        if graph not in self._known_levels:
            self._known_levels[graph] = control_levels(graph)
        return self._known_levels[graph]

    @staticmethod
    def _say_shapes(writer: FunctionWriter, shapes: Mapping[str, Any]) -> None:
        """Says the shapes of results that inference may not find.

        TF 1.15 builds gradients for the static shapes that it knows.
        """
        for node in writer.fdef.node_def:
            if node.name in shapes and "_output_shapes" not in node.attr:
                set_output_shapes(node, [shapes[node.name]])


def base_name(variant: VariantGraph, signature: str) -> str:
    """A readable name for what comes of a signature of a variant."""
    return "_".join((signature,) + variant.tags)


def call_output(signature: Signature) -> Tuple[Any, List[Value]]:
    """What ``__call__`` returns: its structure, and the values in order."""
    outputs = signature.outputs
    single = "default" if "default" in outputs else None
    if len(outputs) == 1:
        (single,) = outputs
    if single is not None:
        return outputs[single].structured(), [outputs[single]]
    structured = dict_value({key: outputs[key].structured() for key in sorted(outputs)})
    return structured, [outputs[key] for key in sorted(outputs)]


def _is_input(graph: Graph, name: str) -> bool:
    return graph.nodes[name].op in _PLACEHOLDERS + ("PlaceholderWithDefault",)
