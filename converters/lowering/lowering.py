"""The pass: every node of every function, in the terms of an older TensorFlow."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from typing import Any, Dict, List, Optional, Set, Tuple

from hub_compat.errors import UnknownOpError

from ..ir.calls import called_by
from ..ir.rewriter import Producers, Rewrite, Scope, Unlowerable
from ..opdata.op_defs import builtin_ops
from ..opdata.targets import NEWEST, Registry, ops_of
from . import attributes, objects, rules
from .custom_gradients import keep_gradients
from .explanations import explain
from .handle_shapes import STATES_HANDLES, forget_shapes, misleading
from .mutable_tables import empty_tables, fill_tables
from .rules import random
from .rules.table_files import say_dtypes

__all__ = ["Lowered", "is_unknown", "lower", "needs_lowering", "unknown_ops"]


@dataclasses.dataclass
class Lowered:
    """The changes that lowering made to a model.

    Attributes:
      done: how often each thing was done, by what it was:
        ``"DisableCopyOnRead is replaced"``.
      left_out: names of signatures, and why each is not there any more.
      nodes: how many nodes its functions have now.
    """

    done: Dict[str, int]
    left_out: List[Tuple[str, str]]
    nodes: int = 0

    def lines(self) -> Tuple[str, ...]:
        """The changes, as text for people."""
        return tuple(
            "{} ({} times)".format(what, count) if count > 1 else what
            for what, count in sorted(self.done.items())
        )

    def warnings(self) -> Tuple[str, ...]:
        """The skipped signatures, as text for people."""
        return tuple(
            "signature {!r} is skipped: {}".format(name, why)
            for name, why in self.left_out
        )


def needs_lowering(saved_model: Any, registry: Registry) -> bool:
    """Whether a model has something that a runtime does not know, or do as its writer.

    That is an op, an attribute, a dtype or an object; or, in TF 1.15, the gradient of
    an op that it has.
    """
    old = registry.version < rules.SETTLED
    for meta_graph in saved_model.meta_graphs:
        library = meta_graph.graph_def.library.function
        own = {function.signature.name for function in library}
        known: Dict[str, attributes.Limits] = {}
        bodies = [function.node_def for function in library]
        for nodes in bodies + [meta_graph.graph_def.node]:
            producer = Producers(nodes)
            for node in nodes:
                if node.op in own:
                    continue
                limits = known.get(node.op)
                if limits is None:
                    op = registry.get(node.op)
                    if op is None or _fails(node.op, registry):
                        return True
                    limits = known[node.op] = attributes.limits_of(op)
                if not limits.allow(node):
                    return True
                if old and rules.unsettled(node, registry.version, producer):
                    return True
        if objects.needs_lowering(meta_graph, registry):
            return True
        if empty_tables(meta_graph, registry):
            return True
        if registry.version < STATES_HANDLES and misleading(meta_graph):
            return True
    return False


def is_unknown(saved_model: Any, registry: Registry) -> bool:
    """Whether a model has an op or an attribute that a runtime's loader refuses."""
    known: Dict[str, attributes.Limits] = {}
    for meta_graph in saved_model.meta_graphs:
        library = meta_graph.graph_def.library.function
        own = {function.signature.name for function in library}
        bodies = [function.node_def for function in library]
        for node in itertools.chain(meta_graph.graph_def.node, *bodies):
            if node.op in own:
                continue
            op = registry.get(node.op)
            if op is None:
                return True
            if node.op not in known:
                known[node.op] = attributes.limits_of(op)
            if not known[node.op].allow(node):
                return True
    return False


def _fails(op: str, registry: Registry) -> bool:
    """Whether a TensorFlow has an op that does not work there."""
    # "Index out of bound", of counts that fit: TF 2.4 to 2.12, and not 2.14.
    return op == "SparseBincount" and registry.version < (2, 14)


def unknown_ops(saved_model: Any, registry: Registry) -> List[str]:
    """The ops that a model has and a TensorFlow does not know, sorted.

    A program may load a library that has some of them; then the result is another.
    """
    found: Set[str] = set()
    for meta_graph in saved_model.meta_graphs:
        library = meta_graph.graph_def.library.function
        found.update(node.op for function in library for node in function.node_def)
        found.update(node.op for node in meta_graph.graph_def.node)
        found.difference_update([function.signature.name for function in library])
    return sorted(op for op in found if registry.get(op) is None)


# The order: tables are filled while their files can be read; dtypes and shapes that an
# old loader misreads are corrected; nodes are rewritten; objects come after nodes, as
# they go by the functions that are left; the op list is last, of all ops then used.
def lower(saved_model: Any, registry: Registry, source: str) -> Lowered:
    """Rewrites a SavedModel, in place, for a TensorFlow that is older than its writer.

    Args:
      saved_model: the SavedModel proto, with an object graph.
      registry: what that TensorFlow knows.
      source: the model's directory, for what a table holds.

    Returns:
      What was done.

    Raises:
      UnknownOpError: what the model is for needs ops that no older ones can stand for.
    """
    done: Dict[str, int] = collections.Counter()
    left_out: List[Tuple[str, str]] = []
    nodes = 0
    for meta_graph in saved_model.meta_graphs:
        fill_tables(meta_graph, source, registry, done)
        if registry.version < (2, 0):
            say_dtypes(meta_graph)
        if registry.version < STATES_HANDLES:
            forget_shapes(meta_graph, done)
        one = _Lowering(meta_graph, registry, done)
        one.run()
        left_out.extend(one.left_out)
        nodes += sum(len(f.node_def) for f in meta_graph.graph_def.library.function)
    return Lowered(dict(done), left_out, nodes)


#     _functions: name -> FunctionDef, before and after the rewrite
#     _declared:  the ops as the model itself declares them
#     _missing:   function ("" is the graph) -> op -> why nothing can stand for it
class _Lowering:
    """The lowering of one MetaGraphDef."""

    def __init__(self, meta_graph: Any, registry: Registry, done: Dict[str, int]):
        self._meta_graph = meta_graph
        self._graph = meta_graph.graph_def
        self._registry = registry
        self._done = done
        self._functions = {f.signature.name: f for f in self._graph.library.function}
        self._declared = {
            op.name: op for op in meta_graph.meta_info_def.stripped_op_list.op
        }
        self._attributes = attributes.Attributes(registry, self._source_op)
        # What has no equivalent, by function ("" for the graph) and then by op.
        self._missing: Dict[str, Dict[str, str]] = {}
        self.left_out: List[Tuple[str, str]] = []

    def run(self) -> None:
        """Lowers all functions and objects."""
        if self._registry.version < objects.CAPTURES:
            keep_gradients(self._meta_graph, self._source_op, self._done)
        made = []
        for function in self._graph.library.function:
            made.extend(self._rewrite(function.node_def, function))
        made.extend(self._rewrite(self._graph.node, None))
        self._graph.library.function.extend(made)
        self._functions = {f.signature.name: f for f in self._graph.library.function}
        self._leave_out()
        objects.lower(self._meta_graph, self._registry, self._done, self.left_out)
        self._declare()

    def _source_op(self, op: str) -> Any:
        if op in self._functions:
            return self._functions[op].signature
        for ops in (self._declared, ops_of(NEWEST), builtin_ops()):
            if op in ops:
                return ops[op]
        return self._registry.get(op)

    def _target_op(self, op: str) -> Any:
        return self._registry.get(op) or self._source_op(op)

    def _rewrite(self, nodes: Any, function: Any) -> List[Any]:
        scope = Scope(nodes, self._source_op, self._target_op, function)
        registry, done = self._registry, self._done
        settle = self._attributes.settle

        def visit(rewrite: Rewrite) -> None:
            node = rewrite.node
            op = node.op
            if op in self._functions:
                return
            try:
                known = registry.get(op) is not None and not _fails(op, registry)
                if known and not settle(rewrite, done):
                    known = False
                if not known:
                    rule = self._rule(op)
                    if rule is None:
                        raise Unlowerable(op)
                    rule(rewrite)
                    done[op + " is replaced"] += 1
                elif not rewrite.gone:
                    rules.settle(rewrite, registry.version, done)
            except Unlowerable as error:
                self._missing.setdefault(scope.name, {})[op] = str(error)

        scope.rewrite(visit)
        return scope.made

    def _rule(self, op: str) -> Any:
        if op == "StatelessRandomGetKeyCounter" and self._registry.get(op + "Alg"):
            return random.key_and_counter
        return rules.OPS.get(op)

    def _leave_out(self) -> None:
        """Removes functions that cannot be lowered, and signatures that call them."""
        if not self._missing:
            return
        needs = self._needs()
        kept = [
            f for f in self._graph.library.function if f.signature.name not in needs
        ]
        gone = {
            name: explain(ops, self._registry) for name, ops in needs.items() if name
        }
        essential = objects.essential(self._meta_graph, gone)
        usable = objects.take_away(self._meta_graph, gone, self.left_out)
        if essential or not usable:
            ops: Dict[str, str] = {}
            for missing in self._missing.values():
                ops.update(missing)
            raise UnknownOpError(
                "The model cannot be lowered for {}: {} Functions: {}.".format(
                    self._registry.name,
                    explain(ops, self._registry),
                    ", ".join(sorted(name or "the graph" for name in self._missing)),
                )
            )
        del self._graph.library.function[:]
        self._graph.library.function.extend(kept)
        self._functions = {f.signature.name: f for f in kept}

    # From callee to caller, until nothing is added: functions may call each other in
    # circles.
    def _needs(self) -> Dict[str, Dict[str, str]]:
        """Missing ops of every function that has some, or calls one that has."""
        callers: Dict[str, List[str]] = {}
        for name, function in self._functions.items():
            for node in function.node_def:
                for called in called_by(node):
                    if called in self._functions:
                        callers.setdefault(called, []).append(name)
        needs = {name: dict(ops) for name, ops in self._missing.items()}
        stack = list(self._missing)
        while stack:
            name = stack.pop()
            for caller in callers.get(name, ()):
                known = needs.setdefault(caller, {})
                if not set(needs[name]) <= set(known):
                    known.update(needs[name])
                    stack.append(caller)
        return needs

    def _declare(self) -> None:
        """Lists the ops as the target defines them."""
        used: Set[str] = {node.op for node in self._graph.node}
        for function in self._graph.library.function:
            used.update(node.op for node in function.node_def)
        declared = self._meta_graph.meta_info_def.stripped_op_list
        del declared.op[:]
        for op in sorted(used - set(self._functions)):
            found: Optional[Any] = self._registry.get(op)
            if found is not None:
                declared.op.add().CopyFrom(found)
