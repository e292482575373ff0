"""Cuts a model's graphs into functions: signatures, calls, losses.

Each signature of each variant becomes one *body* function, shared by all that
call it. Around it come thin callers: the traces of ``__call__``, one for each
value of ``training`` and each set of inputs that may be given, and the entry
of ``signatures`` where the body's own form does not fit.
"""

from __future__ import annotations

import dataclasses
import itertools
import keyword
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from .control_flow import control_levels
from .functions import Body, FunctionWriter, argument_name, emit, set_output_shapes
from .graph import Graph, node_of
from .model import (
    Component,
    Signature,
    Value,
    VariantGraph,
    flatten,
    make_shape,
)
from .object_graph import (
    dict_value,
    none_value,
    python_value,
    tensor_spec,
    tuple_value,
)

__all__ = ["FunctionSet", "Trace"]

# With more optional inputs than this, __call__ takes all of them or none, or
# any one; 2 ** 4 traces and more would be paid by every load.
_MAX_OPTIONAL = 3
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")


@dataclasses.dataclass(frozen=True)
class Trace:
    """A function and the Python structures it is called with.

    Attributes:
      body: the function.
      inputs, output: StructuredValues: ((args), {kwargs}) and the result.
      keywords: for a signature, the names of the arguments in order.
    """

    body: Body
    inputs: Any
    output: Any
    keywords: Tuple[str, ...] = ()


class _Form(NamedTuple):
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


class _SignatureBody(NamedTuple):
    """A signature's graph as a function.

    Attributes:
      form: what it takes and returns.
      body: the function.
      update_nodes: nodes that only the update ops need, in order.
      training_body: the function with updates, where they cannot be apart.
    """

    form: _Form
    body: Body
    update_nodes: List[str]
    training_body: Optional[Body]


class FunctionSet:
    """The functions of a converted model.

    Attributes:
      functions: FunctionDefs by name, in order of creation.
    """

    def __init__(self, reserved: Set[str]) -> None:
        self.functions: Dict[str, Any] = {}
        self._reserved = reserved
        self._contents: Dict[Tuple[Any, ...], Body] = {}
        self._bodies: Dict[Tuple[Any, ...], _SignatureBody] = {}
        self._known_levels: Dict[Graph, Mapping[str, int]] = {}
        self._updates: Dict[Tuple[Any, ...], Body] = {}
        self._numbers: Dict[str, int] = {}
        self._served: Dict[str, Tuple[Any, Any]] = {}

    def name(self, wanted: str) -> str:
        """A function name that is not taken."""
        name, count = argument_name(wanted), 0
        base = name
        while name in self.functions or name in self._reserved:
            count += 1
            name = "{}_{}".format(base, count)
        return name

    def add(self, writer: FunctionWriter, *structure: Any) -> Body:
        """Adds a function, or finds the one that is the same but for its name.

        Args:
          writer: the function.
          *structure: the StructuredValues it is called with, if it is called
            from Python; such functions are the same only if these are, too.
        """
        body = writer.finish()
        name = writer.fdef.signature.name
        writer.fdef.signature.name = ""
        key = (
            writer.fdef.SerializeToString(deterministic=True),
            tuple(body.captures),
            tuple(s.SerializeToString(deterministic=True) for s in structure),
        )
        known = self._contents.get(key)
        if known is not None:
            return known
        writer.fdef.signature.name = name
        self.functions[name] = writer.fdef
        self._contents[key] = body
        return body

    def call_node(
        self,
        writer: FunctionWriter,
        body: Body,
        inputs: Sequence[str],
        control: Sequence[str] = (),
    ) -> str:
        """Calls a body from another function; returns the node."""
        # The number is the body's, so that two callers that do the same are the
        # same function.
        number = self._numbers.setdefault(body.name, len(self._numbers) + 1)
        return writer.call(body, inputs, number, control)

    # ---- bodies

    def check(self, variant: VariantGraph, signature: Signature) -> Optional[str]:
        """Why a signature cannot be a function, or None."""
        fed = {c.tensor for c in signature.flat_inputs()}
        if len(fed) < len(signature.flat_inputs()):
            return "it lists one tensor under two input names"
        names = variant.graph.slice([c.tensor for c in signature.flat_outputs()], fed)
        missing = self._unfed(variant, names, fed)
        if missing:
            return "its outputs need {}, which it does not list as inputs".format(
                ", ".join(repr(name) for name in missing)
            )
        return None

    def _unfed(
        self, variant: VariantGraph, names: Sequence[str], fed: Set[str]
    ) -> List[str]:
        nodes = variant.graph.nodes
        return [
            name
            for name in names
            if nodes[name].op in _PLACEHOLDERS and name + ":0" not in fed
        ]

    def body(
        self, variant: VariantGraph, name: str, returned: Sequence[Value]
    ) -> _SignatureBody:
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
    ) -> _SignatureBody:
        graph = variant.graph
        arguments = signature.flat_inputs()
        results = flatten({value.name: value for value in returned})
        fed = {c.tensor for c in arguments}
        names = graph.slice([c.tensor for c in results], fed)
        base = base_name(variant, signature.name)
        if {v.name for v in returned} != {v.name for v in _call_output(signature)[1]}:
            form = _Form(arguments, results, [], [])
            body = self._write_body(variant, base + "_outputs", form, names)
            return _SignatureBody(form, body, [], None)
        updates = self._own_updates(variant, fed)
        with_updates = graph.slice(
            [c.tensor for c in results] + ["^" + op for op in updates], fed
        )
        inside = set(names)
        update_nodes = [n for n in with_updates if n not in inside]
        form = _Form(arguments, results, [], updates)
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
        return _SignatureBody(form, body, update_nodes, training_body)

    def _own_updates(self, variant: VariantGraph, fed: Set[str]) -> List[str]:
        """The update ops that need no placeholder of another signature."""
        graph, updates = variant.graph, variant.update_ops
        needed = graph.slice(["^" + op for op in updates], fed)
        if not self._unfed(variant, needed, fed):
            return updates
        return [
            op
            for op in updates
            if not self._unfed(variant, graph.slice(["^" + op], fed), fed)
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
        form: _Form,
        names: List[str],
    ) -> Body:
        graph = variant.graph
        writer = FunctionWriter(self.name(base), names)
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
        return self.add(writer)

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

    # ---- signatures[name]

    def signature(self, variant: VariantGraph, name: str) -> Trace:
        """A signature as ``signatures[name]`` offers it: flat names, a dict."""
        made = self.body(variant, name, list(variant.signatures[name].outputs.values()))
        body = made.body
        specs = _flat_specs(made.form.arguments)
        inputs_spec = tuple_value([tuple_value([]), dict_value(specs)])
        if any(keyword.iskeyword(name) for name in specs):
            # TF >= 2.12 makes a Python parameter of each keyword. By its flat
            # names, which follow below, the function is still called.
            values = [specs[c.name] for c in made.form.arguments]
            inputs_spec = tuple_value([tuple_value(values), dict_value({})])
        output_spec = dict_value(_flat_specs(made.form.results))
        # The body itself serves, unless it returns more, or serves already under
        # other names that make the same argument names.
        structure = (inputs_spec, output_spec)
        if made.form.boundary or structure != self._served.setdefault(
            body.name, structure
        ):
            writer = FunctionWriter(self.name("signature_" + base_name(variant, name)))
            inputs = [
                writer.argument(c.name, c.dtype, c.shape) for c in made.form.arguments
            ]
            node = self.call_node(writer, body, inputs)
            for i, c in enumerate(made.form.results):
                tensor = "{}:output:{}".format(node, i)
                writer.result(c.name, c.dtype, tensor, c.shape)
            body = self.add(writer, *structure)
        keywords = tuple(c.name for c in made.form.arguments)
        return Trace(body, inputs_spec, output_spec, keywords)

    # ---- __call__

    def traces(
        self, name: str, variant: VariantGraph, training: Optional[VariantGraph]
    ) -> Tuple[List[Trace], Sequence[str], Sequence[Any]]:
        """The traces of a callable.

        Args:
          name: the signature behind it.
          variant: whose graph runs with ``training=False``.
          training: whose graph and updates run with ``training=True``.

        Returns:
          The traces, the names of the arguments and their defaults.
        """
        signature = variant.signatures[name]
        optional = self._optional(variant, signature)
        modes = _modes(sorted(signature.inputs), optional)
        traces = []
        for is_training, graph in ((False, variant), (True, training or variant)):
            for mode, bare in modes:
                traces.append(self._trace(name, graph, is_training, mode, bare))
        args = ["inputs", "training"] if signature.inputs else ["training"]
        defaults = [python_value(False)]
        if signature.inputs and set(signature.inputs) <= optional:
            defaults.insert(0, none_value)
        return traces, args, defaults

    def _optional(self, variant: VariantGraph, signature: Signature) -> Set[str]:
        """Inputs that have a default, which needs no other placeholder."""
        fed = {c.tensor for c in signature.flat_inputs()}
        found = set()
        for name, value in signature.inputs.items():
            tensor = value.components[0].tensor
            node = variant.graph.nodes[node_of(tensor)]
            if len(value.components) == 1 and node.op == "PlaceholderWithDefault":
                names = variant.graph.slice([node.input[0]], fed)
                if not self._unfed(variant, names, fed):
                    found.add(name)
        return found

    def _trace(
        self,
        name: str,
        variant: VariantGraph,
        is_training: bool,
        mode: Tuple[str, ...],
        bare: bool,
    ) -> Trace:
        signature = variant.signatures[name]
        made = self.body(variant, name, _call_output(signature)[1])
        updates = made.update_nodes if is_training else []
        graph = variant.graph
        given = [c for key in mode for c in signature.inputs[key].components]
        defaults = [c for c in made.form.arguments if c not in given]
        stop = {c.tensor for c in given}
        default_nodes = graph.slice([c.tensor for c in defaults], stop)
        writer = FunctionWriter(
            self.name(
                "call_{}{}".format(
                    base_name(variant, name), "_training" if is_training else ""
                )
            ),
            default_nodes,
        )
        bound = {c.tensor: writer.argument(c.name, c.dtype, c.shape) for c in given}
        resolve = emit(graph, writer, default_nodes, bound, variant.captures)
        for component in defaults:
            bound[component.tensor] = resolve(component.tensor)
        body = made.body
        if is_training and made.training_body is not None:
            body = made.training_body
        node = self.call_node(
            writer, body, [bound[c.tensor] for c in made.form.arguments]
        )
        results = ["{}:output:{}".format(node, i) for i in range(len(body.results))]
        if is_training and made.form.updates:
            # A call that is inlined runs only what its results need, and what
            # the caller's own control results name.
            writer.control_result(node)
        by_name = dict(zip((c.name for c in made.form.results), results))
        if updates:
            self._call_updates(variant, writer, made, bound, results, node)
        output, values = _call_output(signature)
        for value in values:
            for c in value.components:
                writer.result(c.name, c.dtype, by_name[c.name], c.shape)
        if not signature.inputs:
            positional = []
        elif bare:
            positional = [signature.inputs[mode[0]].structured()]
        elif not mode:
            positional = [none_value]
        else:
            positional = [
                dict_value({key: signature.inputs[key].structured() for key in mode})
            ]
        inputs = tuple_value(
            [tuple_value(positional + [python_value(is_training)]), dict_value({})]
        )
        return Trace(self.add(writer, inputs, output), inputs, output)

    def _call_updates(
        self,
        variant: VariantGraph,
        writer: FunctionWriter,
        made: _SignatureBody,
        bound: Mapping[str, str],
        results: Sequence[str],
        call: str,
    ) -> None:
        """Runs the update ops after the body, as a function of their own.

        Signatures that share their graph share this function too.
        """
        graph, form = variant.graph, made.form
        given = dict(bound)
        given.update(zip(form.boundary, results[len(form.results) :]))
        names = made.update_nodes
        used = {e.tensor for n in names for e in graph.inputs(n) if e.tensor in given}
        tensors = [tensor for tensor in given if tensor in used]
        key = (variant.tags, tuple(names), tuple(tensors), tuple(form.updates))
        if key not in self._updates:
            self._updates[key] = self._write_updates(variant, names, tensors, form)
        body = self._updates[key]
        # The outputs are those of the state before the update.
        node = self.call_node(writer, body, [given[t] for t in tensors], [call])
        writer.control_result(node)

    def _write_updates(
        self,
        variant: VariantGraph,
        names: Sequence[str],
        tensors: Sequence[str],
        form: _Form,
    ) -> Body:
        graph = variant.graph
        writer = FunctionWriter(self.name("updates_" + "_".join(variant.tags)), names)
        bound = {
            tensor: writer.argument("value", graph.output(tensor).dtype)
            for tensor in tensors
        }
        emit(graph, writer, names, bound, variant.captures)
        for op in graph.in_order(set(form.updates).intersection(names)):
            writer.control_result(op)
        return self.add(writer)

    # ---- regularization_losses

    def loss(self, variant: VariantGraph, tensor: str) -> Optional[Trace]:
        """A regularization loss as a function without arguments.

        Returns:
          None where the loss depends on the module's inputs.
        """
        names = variant.graph.slice([tensor])
        if self._unfed(variant, names, set()):
            return None
        writer = FunctionWriter(self.name("regularization_loss"), names)
        resolve = emit(variant.graph, writer, names, {}, variant.captures)
        output = variant.graph.output(tensor)
        found = resolve(tensor)
        component = Component("loss", tensor, output.dtype, make_shape([]))
        writer.result("loss", output.dtype, found, component.shape)
        inputs = tuple_value([tuple_value([]), dict_value({})])
        spec = Value("loss", (component,)).structured()
        return Trace(self.add(writer, inputs, spec), inputs, spec)


def base_name(variant: VariantGraph, signature: str) -> str:
    """A readable name for what comes of a signature of a variant."""
    return "_".join((signature,) + variant.tags)


def _is_input(graph: Graph, name: str) -> bool:
    return graph.nodes[name].op in _PLACEHOLDERS + ("PlaceholderWithDefault",)


def _flat_specs(components: Sequence[Component]) -> Dict[str, Any]:
    return {c.name: tensor_spec(c.name, c.dtype, c.shape) for c in components}


def _call_output(signature: Signature) -> Tuple[Any, List[Value]]:
    """What ``__call__`` returns: its structure, and the values in order."""
    outputs = signature.outputs
    single = "default" if "default" in outputs else None
    if len(outputs) == 1:
        (single,) = outputs
    if single is not None:
        return outputs[single].structured(), [outputs[single]]
    structured = dict_value({key: outputs[key].structured() for key in sorted(outputs)})
    return structured, [outputs[key] for key in sorted(outputs)]


def _modes(
    names: Sequence[str], optional: Set[str]
) -> List[Tuple[Tuple[str, ...], bool]]:
    """The sets of inputs that a call may give, and whether as a bare tensor."""
    required = [name for name in names if name not in optional]
    free = sorted(optional)
    sizes = range(len(free) + 1)
    if len(free) > _MAX_OPTIONAL:
        sizes = (0, 1, len(free))  # type: ignore[assignment]
    modes = []
    for size in sizes:
        for given in itertools.combinations(free, size):
            mode = tuple(sorted(required + list(given)))
            if len(names) == 1 or not mode:
                modes.append((mode, bool(mode)))
                continue
            modes.append((mode, False))
            if len(mode) == 1 and len(required) == 1:
                modes.append((mode, True))
    return modes
