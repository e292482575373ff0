"""Cuts a model's graphs into functions: one *body* for each signature.

It is shared by all that call it (``traces.py``).
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..ir import same_inputs
from ..ir.control_levels import control_levels
from ..ir.dtypes import DT_RESOURCE
from ..ir.effects import written_resources
from ..ir.functions import Body, FunctionWriter, emit, set_output_shapes
from ..ir.graph import PLACEHOLDERS, Graph, node_of, resource_behind
from ..ir.model import VariantGraph
from ..ir.names import argument_name
from ..ir.signatures import Component, Signature, Value, flatten
from ..ir.structured import dict_value
from .function_library import FunctionSet

__all__ = ["Bodies", "Form", "SignatureBody", "base_name", "call_output"]

# Nodes of a signature that another calls rather than repeats.
_WORTH_A_CALL = 16
# Signatures of a variant that are compared with each other.
_MOST_COMPARED = 32


class Form(NamedTuple):
    """The inputs and outputs of a signature's function.

    Attributes:
      arguments: the flattened inputs, in order; of those that are one tensor, one.
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
      nodes: the graph's nodes that the function runs, in order.
    """

    form: Form
    body: Body
    update_nodes: List[str]
    training_body: Optional[Body]
    nodes: List[str]


class Part(NamedTuple):
    """A signature within another.

    Attributes:
      made: the signature.
      rest: the other's nodes beside it, in order.
    """

    made: SignatureBody
    rest: List[str]


# Given: two signatures of one graph
#     x -> conv -> features                 "default" returns features
#                  features -> dense -> y   "logits" returns y
# Result:
#     default(x, captures): conv
#     logits(x, captures):  call of default, dense
#
#     _bodies: (tags, signature, names of the returned outputs) -> its body
#
# A body is written once: nodes in two functions would be loaded and kept twice.
class Bodies:
    """The bodies of a model's signatures.

    Attributes:
      functions: where they go.
    """

    def __init__(self, functions: FunctionSet) -> None:
        self.functions = functions
        self._bodies: Dict[Tuple[Any, ...], SignatureBody] = {}
        self._known_levels: Dict[Graph, Mapping[str, int]] = {}
        self._known_last_reads: Dict[Graph, Mapping[str, Sequence[str]]] = {}

    def check(self, variant: VariantGraph, signature: Signature) -> Optional[str]:
        """Why a signature cannot be a function, or None."""
        fed = {c.tensor for c in signature.flat_inputs()}
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
            if nodes[name].op in PLACEHOLDERS and name + ":0" not in fed
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
        arguments = same_inputs.different(signature.flat_inputs())
        results = flatten({value.name: value for value in returned})
        fed = {c.tensor for c in arguments}
        names = graph.slice([c.tensor for c in results], fed)
        base = base_name(variant, signature.name)
        if {v.name for v in returned} != {v.name for v in call_output(signature)[1]}:
            base += "_outputs"
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
        part = self._part(variant, signature, form, names)
        body = self._write_body(variant, base, form, names, part)
        return SignatureBody(form, body, update_nodes, training_body, names)

    # The largest part saves the most. A part must return all that is needed of it: else
    # the larger function would need a node inside of the call.
    def _part(
        self,
        variant: VariantGraph,
        signature: Signature,
        form: Form,
        names: Sequence[str],
    ) -> Optional[Part]:
        """The largest other signature that this one computes on its way.

        The nodes of a classifier hold those of its feature vector: as a call of
        the other's body they are written, loaded and kept once.

        Returns:
          None where there is none, or where more is needed of it than it returns.
        """
        graph = variant.graph
        if len(variant.signatures) > _MOST_COMPARED:
            return None
        inside, fed = set(names), {c.tensor for c in form.arguments}
        contained = []
        for other in variant.signatures.values():
            if other is signature or {c.tensor for c in other.flat_inputs()} != fed:
                continue
            _, values = call_output(other)
            results = [c.tensor for value in values for c in value.components]
            nodes = graph.slice(results, fed)
            if _WORTH_A_CALL <= len(nodes) < len(names) and inside.issuperset(nodes):
                contained.append((len(nodes), other, values))
        found = None
        # The smallest first: the larger ones are made of it.
        for _, other, values in sorted(contained, key=lambda item: item[0]):
            made = self.body(variant, other.name, values)
            rest = self._rest(variant, made, form, names)
            if rest is not None:
                found = Part(made, rest)
        return found

    def _rest(
        self,
        variant: VariantGraph,
        part: SignatureBody,
        form: Form,
        names: Sequence[str],
    ) -> Optional[List[str]]:
        """The nodes of a body beside the call of a part; None if it won't do."""
        graph = variant.graph
        returned = {c.tensor for c in part.form.results}.union(part.form.boundary)
        levels = self._levels(graph)
        if part.training_body or any(levels[node_of(tensor)] for tensor in returned):
            # What is inside a conditional may be dead, and cannot leave.
            return None
        inside = set(part.nodes)
        rest = {name for name in names if name not in inside}
        needed = {c.tensor for c in form.results}.union(form.boundary)
        for name in rest:
            needed.update(edge.tensor for edge in graph.inputs(name))
        has = returned.union(c.tensor for c in form.arguments)
        for tensor in needed:
            node = node_of(tensor)
            if tensor in has or tensor.startswith("^") or node not in inside:
                continue
            if node in variant.captures or graph.nodes[node].op == "Const":
                rest.add(node)
            else:
                return None
        return graph.in_order(rest)

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

    # Update ops run in a function of their own, after the body. What they take of the
    # body must be a result of it; constants are copied, and handles captured, in both.
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
        part: Optional[Part] = None,
    ) -> Body:
        graph = variant.graph
        writer = FunctionWriter(self.functions.name(base), names)
        bound = {
            c.tensor: writer.argument(c.name, c.dtype, c.shape) for c in form.arguments
        }
        taken = set(bound.values())
        call, called = "", {}
        if part is not None:
            call = self._call_part(writer, part.made, bound)
            called = dict.fromkeys(part.made.nodes, call)
            names = part.rest
        kept = [n for n in names if n + ":0" not in bound or not _is_input(graph, n)]
        late = self._last_reads(graph)
        resolve = emit(graph, writer, kept, bound, variant.captures, called, late)
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
            # A call says the shapes of all that it returns.
            if name != call and (
                name not in graph.nodes or len(graph.outputs(name)) == 1
            ):
                shapes.setdefault(name, component.shape)
        self._say_shapes(writer, shapes)
        for tensor in form.boundary:
            output = graph.output(tensor)
            writer.result("update_input", output.dtype, resolve(tensor))
        self.run_before_return(variant, writer, names, bool(form.updates))
        for op in form.updates:
            if op in names:
                writer.control_result(op)
        return self.functions.add(writer)

    def run_before_return(
        self,
        variant: VariantGraph,
        writer: FunctionWriter,
        names: Sequence[str],
        stateful: bool = False,
    ) -> None:
        """Makes nodes control results that take a variable or a table.

        As in the functions that TensorFlow 2 traces: a function is inlined where it is
        called, and what comes after the call waits for its control results only. An
        update in the caller, a step of gradient descent for one, would be free to run
        before a read in the function.

        Args:
          variant: the graph that the nodes are of.
          writer: the function that has copies of them.
          names: the nodes.
          stateful: whether all stateful nodes are meant.
        """
        graph, levels = variant.graph, self._levels(variant.graph)
        for name in names:
            if name in variant.captures or levels[name]:
                continue
            if not graph.op_def(graph.nodes[name].op).is_stateful:
                continue
            if stateful or any(
                graph.output(edge.tensor).dtype == DT_RESOURCE
                and resource_behind(graph, edge.node) in variant.captures
                for edge in graph.inputs(name)
                if not edge.tensor.startswith("^")
            ):
                writer.control_result(name)

    def _call_part(
        self, writer: FunctionWriter, part: SignatureBody, bound: Dict[str, str]
    ) -> str:
        """Calls a part; adds what it returns to the bound tensors."""
        inputs = [bound[c.tensor] for c in part.form.arguments]
        call = self.functions.call_node(writer, part.body, inputs)
        tensors = [c.tensor for c in part.form.results] + part.form.boundary
        for i, tensor in enumerate(tensors):
            bound.setdefault(tensor, "{}:output:{}".format(call, i))
        return call

    def _last_reads(self, graph: Graph) -> Mapping[str, Sequence[str]]:
        """What reads wait for that a session does when all else has run."""
        if graph not in self._known_last_reads:
            written = written_resources(graph) if graph.last_reads else {}
            self._known_last_reads[graph] = {
                read: self._after(graph, read, written.get(variable, ()))
                for read, variable in graph.last_reads.items()
            }
        return self._known_last_reads[graph]

    # A control edge may not come out of a loop or a branch. So the read waits for the
    # first nodes outside, which follow the writer.
    def _after(self, graph: Graph, read: str, writers: Sequence[str]) -> List[str]:
        """What has run once some writers have, if they are to run.

        Of loops and conditionals that are left as they are, what comes after them.
        """
        levels = self._levels(graph)
        found = [name for name in writers if not levels[name]]
        stack = [name for name in writers if levels[name]]
        if not stack:
            return found
        users: Dict[str, List[str]] = {}
        for name in graph.nodes:
            for edge in graph.inputs(name):
                users.setdefault(edge.node, []).append(name)
        seen = set(stack)
        while stack:
            for name in users.get(stack.pop(), ()):
                if name in seen or name == read:
                    continue
                seen.add(name)
                if levels[name]:
                    stack.append(name)
                else:
                    found.append(name)
        return found

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


def all_outputs(signature: Signature) -> Tuple[Any, List[Value]]:
    """The result of ``signatures[name]``: its structure, and the values in order."""
    outputs = signature.outputs
    structured = dict_value({key: outputs[key].structured() for key in sorted(outputs)})
    return structured, [outputs[key] for key in sorted(outputs)]


def call_output(signature: Signature) -> Tuple[Any, List[Value]]:
    """The result of ``__call__``: its structure, and the values in order."""
    outputs = signature.outputs
    single = "default" if "default" in outputs else None
    if len(outputs) == 1:
        (single,) = outputs
    if single is not None:
        return outputs[single].structured(), [outputs[single]]
    return all_outputs(signature)


def _is_input(graph: Graph, name: str) -> bool:
    return graph.nodes[name].op in PLACEHOLDERS + ("PlaceholderWithDefault",)
