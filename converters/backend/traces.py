"""Writes the functions that Python calls: ``__call__``, signatures, losses.

Around the bodies (``bodies.py``) come thin callers: the traces of ``__call__``,
one for each value of ``training`` and each set of inputs that may be given,
and the entry of ``signatures`` where the body's own form does not fit.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ..ir import same_inputs
from ..ir.functions import Body, FunctionWriter, emit
from ..ir.graph import node_of
from ..ir.model import VariantGraph
from ..ir.names import are_parameters
from ..ir.signatures import Component, Signature, Value, make_shape
from ..ir.structured import (
    dict_value,
    none_value,
    python_value,
    tensor_spec,
    tuple_value,
)
from .bodies import Bodies, Form, SignatureBody, all_outputs, base_name, call_output

__all__ = ["Callables", "Trace"]

# With more optional inputs than this, __call__ takes all of them or none, or
# any one; 2 ** 4 traces and more would be paid by every load.
_MAX_OPTIONAL = 3


@dataclasses.dataclass(frozen=True)
class Trace:
    """A function and the Python structures it is called with.

    Attributes:
      body: the function.
      inputs, output: StructuredValues: ((args), {kwargs}) and the result.
      keywords: for a signature, the names of the arguments in order.
      results: for a signature, the flattened names of the results in order.
      same: for a signature, the first name of each keyword that is another name of
        the same tensor.
    """

    body: Body
    inputs: Any
    output: Any
    keywords: Tuple[str, ...] = ()
    results: Tuple[str, ...] = ()
    same: Mapping[str, str] = dataclasses.field(default_factory=dict)


# The functions around a body, and who calls them:
#
#     loaded(x)                  -> call_default           training=False
#     loaded(x, training=True)   -> call_default_training: the body, then the updates
#     loaded.signatures["..."]   -> the body itself, or signature_... around it
#     loaded.regularization_losses[i]() -> regularization_loss
#
#     _updates: (tags, nodes, tensors, update ops) -> the function of the updates
#     _served:  body -> the structure that it already has as an entry of signatures;
#               a concrete function has one structure only
#     _losses:  (tags, tensor) -> the trace, or None if it depends on inputs
class Callables:
    """Makes what a loaded object offers for calling."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._functions = bodies.functions
        self._updates: Dict[Tuple[Any, ...], Body] = {}
        self._served: Dict[str, Tuple[Any, Any]] = {}
        self._losses: Dict[Tuple[Any, ...], Optional[Trace]] = {}

    # ---- signatures[name]

    def signature(self, variant: VariantGraph, name: str) -> Trace:
        """A signature as ``signatures[name]`` offers it.

        As TensorFlow's own loader has those of TF1: it takes tensors by their
        flattened names, and returns a dict of what TF1 returned, sparse and ragged
        tensors as such.
        """
        output_spec, values = all_outputs(variant.signatures[name])
        made = self._bodies.body(variant, name, values)
        body = made.body
        arguments = variant.signatures[name].flat_inputs()
        specs = _flat_specs(arguments)
        inputs_spec = tuple_value([tuple_value([]), dict_value(specs)])
        if not are_parameters(list(specs)):
            # By its flat names, which follow below, the function is still called.
            flat = [specs[c.name] for c in arguments]
            inputs_spec = tuple_value([tuple_value(flat), dict_value({})])
        # As tf.nest expands it.
        results = [c for value in values for c in value.components]
        # The body itself serves, unless it returns more or in another order, or
        # serves already under other names that make the same argument names.
        structure = (inputs_spec, output_spec)
        if (
            made.form.boundary
            or made.form.arguments != arguments
            or made.form.results != results
            or structure != self._served.setdefault(body.name, structure)
        ):
            writer = FunctionWriter(
                self._functions.name("signature_" + base_name(variant, name))
            )
            bound = same_inputs.bind(writer, arguments)
            inputs = [bound[c.tensor] for c in made.form.arguments]
            node = self._functions.call_node(writer, body, inputs)
            for c in results:
                tensor = "{}:output:{}".format(node, made.form.results.index(c))
                writer.result(c.name, c.dtype, tensor, c.shape)
            body = self._functions.add(writer, *structure)
        return Trace(
            body,
            *structure,
            keywords=tuple(c.name for c in arguments),
            results=tuple(c.name for c in results),
            same=same_inputs.same(arguments),
        )

    # ---- __call__

    def traces(
        self,
        name: str,
        variant: VariantGraph,
        training: Optional[VariantGraph],
        output: Callable[[Signature], Tuple[Any, List[Value]]] = call_output,
    ) -> Tuple[List[Trace], Sequence[str], Sequence[Any]]:
        """The traces of a callable.

        Args:
          name: the signature behind it.
          variant: whose graph runs with ``training=False``.
          training: whose graph and updates run with ``training=True``.
          output: what it returns: ``call_output`` or ``all_outputs``.

        Returns:
          The traces, the names of the arguments and their defaults.
        """
        signature = variant.signatures[name]
        optional = self._optional(variant, signature)
        modes = _modes(sorted(signature.inputs), optional)
        traces = []
        for is_training, graph in ((False, variant), (True, training or variant)):
            for mode, bare in modes:
                returned = output(graph.signatures[name])
                traces.append(
                    self._trace(name, graph, is_training, mode, bare, returned)
                )
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
                if not self._bodies.unfed(variant, names, fed):
                    found.add(name)
        return found

    # Order within a trace: defaults of inputs that are not given, the body, the
    # updates.
    def _trace(
        self,
        name: str,
        variant: VariantGraph,
        is_training: bool,
        mode: Tuple[str, ...],
        bare: bool,
        result: Tuple[Any, List[Value]],
    ) -> Trace:
        signature = variant.signatures[name]
        output, values = result
        made = self._bodies.body(variant, name, values)
        updates = made.update_nodes if is_training else []
        graph = variant.graph
        given = [c for key in mode for c in signature.inputs[key].components]
        stop = {c.tensor for c in given}
        defaults = [c for c in made.form.arguments if c.tensor not in stop]
        default_nodes = graph.slice([c.tensor for c in defaults], stop)
        writer = FunctionWriter(
            self._functions.name(
                "call_{}{}".format(
                    base_name(variant, name), "_training" if is_training else ""
                )
            ),
            default_nodes,
        )
        bound = same_inputs.bind(writer, given)
        resolve = emit(graph, writer, default_nodes, bound, variant.captures)
        for component in defaults:
            bound[component.tensor] = resolve(component.tensor)
        self._bodies.run_before_return(variant, writer, default_nodes)
        body = made.body
        if is_training and made.training_body is not None:
            body = made.training_body
        node = self._functions.call_node(
            writer, body, [bound[c.tensor] for c in made.form.arguments]
        )
        results = ["{}:output:{}".format(node, i) for i in range(len(body.results))]
        by_name = dict(zip((c.name for c in made.form.results), results))
        if updates:
            self._call_updates(variant, writer, made, bound, results, node)
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
        return Trace(self._functions.add(writer, inputs, output), inputs, output)

    def _call_updates(
        self,
        variant: VariantGraph,
        writer: FunctionWriter,
        made: SignatureBody,
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
        self._functions.call_node(writer, body, [given[t] for t in tensors], [call])

    def _write_updates(
        self,
        variant: VariantGraph,
        names: Sequence[str],
        tensors: Sequence[str],
        form: Form,
    ) -> Body:
        graph = variant.graph
        writer = FunctionWriter(
            self._functions.name("updates_" + "_".join(variant.tags)), names
        )
        bound = {
            tensor: writer.argument("value", graph.output(tensor).dtype)
            for tensor in tensors
        }
        emit(graph, writer, names, bound, variant.captures)
        for op in graph.in_order(set(form.updates).intersection(names)):
            writer.control_result(op)
        return self._functions.add(writer)

    # ---- regularization_losses

    def loss(self, variant: VariantGraph, tensor: str) -> Optional[Trace]:
        """A regularization loss as a function without arguments.

        Returns:
          None where the loss depends on the module's inputs.
        """
        # Sub-objects list the losses of their variant again.
        key = (variant.tags, tensor)
        if key not in self._losses:
            self._losses[key] = self._make_loss(variant, tensor)
        return self._losses[key]

    def _make_loss(self, variant: VariantGraph, tensor: str) -> Optional[Trace]:
        names = variant.graph.slice([tensor])
        if self._bodies.unfed(variant, names, set()):
            return None
        writer = FunctionWriter(self._functions.name("regularization_loss"), names)
        resolve = emit(variant.graph, writer, names, {}, variant.captures)
        output = variant.graph.output(tensor)
        self._bodies.run_before_return(variant, writer, names)
        found = resolve(tensor)
        component = Component("loss", tensor, output.dtype, make_shape([]))
        writer.result("loss", output.dtype, found, component.shape)
        inputs = tuple_value([tuple_value([]), dict_value({})])
        spec = Value("loss", (component,)).structured()
        return Trace(self._functions.add(writer, inputs, spec), inputs, spec)


def _flat_specs(components: Sequence[Component]) -> Dict[str, Any]:
    return {c.name: tensor_spec(c.name, c.dtype, c.shape) for c in components}


# Given: inputs a (required), b and c (with defaults)
# Result:
#     {a}, bare a, {a, b}, {a, c}, {a, b, c}
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
