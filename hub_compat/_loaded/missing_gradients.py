"""Outputs of a loaded function that have no gradient, beside those that have one.

TensorFlow builds the gradient of a whole function when the function is called. One op
without a gradient would keep every output from being trained. Here such an op passes
nothing on, and each output behind it raises the LookupError where a gradient reaches
it: outside of the function, as in the graph of TensorFlow 1.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from hub_compat._loaded.lifetime import objects_of
from hub_compat._tf.functions import guard_results, traces_or_self
from hub_compat._tf.gradients import (
    OWN_GRADIENTS,
    called_graphs,
    can_stop_gradients,
    carries_gradients,
    gradient_kind,
    stop_gradient_at,
    takes_no_gradients,
    tell_handles,
)

__all__ = ["train_other_outputs"]


class _Output(NamedTuple):
    """What is known of a tensor.

    Attributes:
      inputs: numbers of the function's inputs to which a gradient of it may go.
      blocked: why it has no gradient; None if it has one.
    """

    inputs: Set[int]
    blocked: Optional[str]


_NOTHING = _Output(set(), None)


def train_other_outputs(loaded: Any) -> None:
    """Has the outputs of a loaded object's functions train that have a gradient.

    A gradient of the others still ends in a LookupError, when it is asked for.
    """
    functions = [
        found
        for found in objects_of(loaded)
        # A callable object has traces as well; they are those of its function.
        if hasattr(found, "concrete_functions") or hasattr(found, "captured_inputs")
    ]
    tell_handles(
        [trace for function in functions for trace in traces_or_self(function)]
    )
    graphs = _Graphs()
    entries = []
    cut: List[Any] = []
    for function in functions:
        traces = traces_or_self(function)
        if not any(graphs.lack_gradients(trace.graph) for trace in traces):
            continue
        blocked = [graphs.blocked(trace.graph) for trace in traces]
        if any(blocked):
            entries.append((function, blocked))
            cut += [op for trace in traces for op in graphs.cut(trace.graph)]
    if not entries or not can_stop_gradients():
        return
    # No op passes nothing on before all outputs behind it have a guard.
    for function, blocked in entries:
        if not guard_results(function, blocked):
            return
    for op in cut:
        stop_gradient_at(op)


class _Graphs:
    """The graphs of functions, each looked at once."""

    def __init__(self) -> None:
        self._cut: Dict[int, List[Any]] = {}
        self._lacking: Dict[int, bool] = {}
        self._outputs: Dict[int, List[_Output]] = {}
        self._kinds: Dict[str, str] = {}

    def lack_gradients(self, graph: Any) -> bool:
        """Whether an op in a graph, or in what it calls, has no gradient at all."""
        key = id(graph)
        if key not in self._lacking:
            self._lacking[key] = False
            self._lacking[key] = any(self._lacks(op) for op in graph.get_operations())
        return self._lacking[key]

    def _lacks(self, op: Any) -> bool:
        kind = self._kinds.get(op.type)
        # Names of gradients that a program chose are on some; others go by type.
        if kind is None or op.type in OWN_GRADIENTS:
            kind = self._kinds[op.type] = gradient_kind(op)
        if kind == "calls":
            return any(map(self.lack_gradients, called_graphs(op)))
        if kind != "missing" or not any(map(carries_gradients, op.outputs)):
            return False
        return any(map(carries_gradients, op.inputs))

    def blocked(self, graph: Any) -> Dict[int, str]:
        """The reasons for outputs without a gradient, by number."""
        found = enumerate(self._analysed(graph))
        return {i: one.blocked for i, one in found if one.blocked is not None}

    def cut(self, graph: Any) -> List[Any]:
        """The ops that are to pass nothing on, so that other outputs train."""
        if self._all_blocked(graph) and not takes_no_gradients():
            return []
        return self._cut[id(graph)]

    def _all_blocked(self, graph: Any) -> bool:
        """Whether no output has a gradient, and one might have."""
        reasons = [one.blocked for one in self._analysed(graph) if one.inputs]
        return bool(reasons) and None not in reasons

    def _analysed(self, graph: Any) -> List[_Output]:
        key = id(graph)
        if key not in self._outputs:
            known: Dict[str, _Output] = {}
            for i, tensor in enumerate(graph.inputs):
                if carries_gradients(tensor):
                    known[tensor.name] = _Output({i}, None)
            cut = self._cut[key] = []
            for op in graph.get_operations():
                cut += self._pass_on(op, known)
            self._outputs[key] = [known.get(t.name, _NOTHING) for t in graph.outputs]
        return self._outputs[key]

    def _pass_on(self, op: Any, known: Dict[str, _Output]) -> List[Any]:
        """Notes what is known of an op's outputs; returns the ops to be cut for it."""
        given = [known.get(tensor.name, _NOTHING) for tensor in op.inputs]
        if not any(one.inputs for one in given):
            return []
        kind = gradient_kind(op)
        if kind == "none":
            return []
        cut: List[Any] = []
        results: Mapping[int, _Output] = {}
        if kind == "missing":
            every = _joined(given)._replace(blocked=_reason(op))
            results = dict.fromkeys(range(len(op.outputs)), every)
            if any(map(carries_gradients, op.outputs)):
                cut = [op]
        elif kind == "calls":
            results, cut = self._of_call(op, given)
        else:
            results = dict.fromkeys(range(len(op.outputs)), _joined(given))
        for i, tensor in enumerate(op.outputs):
            if carries_gradients(tensor) and results[i].inputs:
                known[tensor.name] = results[i]
        return cut

    def _of_call(
        self, op: Any, given: List[_Output]
    ) -> Tuple[Dict[int, _Output], List[Any]]:
        graphs = called_graphs(op)
        if op.type.endswith("PartitionedCall") and len(graphs) == 1:
            results = {}
            for i, inner in enumerate(self._analysed(graphs[0])):
                one = _joined([given[number] for number in inner.inputs])
                if one.inputs and inner.blocked is not None:
                    one = one._replace(blocked=inner.blocked)
                results[i] = one
            # TensorFlow 1.15 takes no function without any gradient.
            inside = not self._all_blocked(graphs[0])
            return results, self._cut[id(graphs[0])] if inside else [op]
        # A gradient goes through all outputs of a loop or a conditional, or through
        # none: TensorFlow makes new graphs of its functions, and asks these.
        every, cut = _joined(given), []
        if any(map(self.lack_gradients, graphs)):
            apart = _Graphs()
            reasons = [r for graph in graphs for r in apart.blocked(graph).values()]
            if reasons:
                every = every._replace(blocked=reasons[0])
                cut = [op]
        return dict.fromkeys(range(len(op.outputs)), every), cut


def _joined(given: List[_Output]) -> _Output:
    inputs = set().union(*(one.inputs for one in given)) if given else set()
    reasons = [one.blocked for one in given if one.blocked is not None]
    return _Output(inputs, reasons[0] if reasons else None)


def _reason(op: Any) -> str:
    if op.type == "PreventGradient":
        message: bytes = op.get_attr("message")
        return message.decode("utf-8", "replace")
    return "No gradient defined for operation {!r} (op type: {})".format(
        op.name, op.type
    )
