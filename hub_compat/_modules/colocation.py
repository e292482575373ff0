"""Colocation in an imported graph: with what replaces a node, not with the node."""

from __future__ import annotations

import collections
from typing import Any, Dict, Iterable, List, Mapping, Set, Tuple

from hub_compat._tf import tf
from hub_compat._tf.graphs import set_colocation
from hub_compat.converters.ir.graph import split_tensor
from hub_compat.errors import ConversionError

__all__ = ["follow_inputs"]

_PREFIX = b"loc:@"


class _Rule:
    """What becomes of one constraint.

    Attributes:
      groups: what it is replaced by.
      reasons: why; two of them contradict each other.
    """

    def __init__(self) -> None:
        self.groups: List[List[bytes]] = []
        self.reasons: List[str] = []

    def add(self, groups: List[bytes], reason: str) -> None:
        if groups not in self.groups:
            self.groups.append(groups)
            self.reasons.append(reason)


def follow_inputs(
    scope: str, input_map: Mapping[str, Any], colocated: Iterable[str]
) -> None:
    """Rewrites the constraints of nodes as an import does their inputs.

    An import replaces tensors. What must be on the device of the node of one is to be
    on the device of what replaces it.

    Args:
      scope: where the graph was imported, ``"module_apply_default"``.
      input_map: what replaced tensors, by their names in the module.
      colocated: the names in the module of the nodes that have constraints.

    Raises:
      ConversionError: the outputs of a node were replaced by tensors of different
        devices, or only some were, and something must be on its device.
    """
    colocated = list(colocated)
    if not colocated:
        return
    graph = tf.compat.v1.get_default_graph()
    rules = _rules(graph, scope, input_map)
    for name in colocated:
        op = graph.get_operation_by_name("{}/{}".format(scope, name))
        old = list(op.get_attr("_class"))
        new: List[bytes] = []
        for group in old:
            if group in rules:
                new += _only(op, group, rules[group])
            else:
                new.append(group)
        others = [group for group in new if not group.startswith(_PREFIX)]
        groups = others + sorted({g for g in new if g.startswith(_PREFIX)})
        if groups != old:
            set_colocation(op, groups)


def _rules(graph: Any, scope: str, input_map: Mapping[str, Any]) -> Dict[bytes, _Rule]:
    rules: Dict[bytes, _Rule] = collections.defaultdict(_Rule)
    replaced: Dict[str, Set[int]] = collections.defaultdict(set)
    for tensor, value in input_map.items():
        node, index = split_tensor(tensor)
        name = "{}/{}".format(scope, node)
        replaced[name].add(index)
        rules[_PREFIX + name.encode()].add(
            value.op.colocation_groups(),
            "input '{}:{}' is substituted by '{}'".format(name, index, value.name),
        )
    for name, indices in replaced.items():
        left = set(range(len(graph.get_operation_by_name(name).outputs))) - indices
        if left:
            key = _PREFIX + name.encode()
            rules[key].add(
                [key],
                "tensor '{}:{}' is not substituted by inputs".format(
                    name, ",".join(map(str, sorted(left)))
                ),
            )
    return dict(rules)


def _only(op: Any, group: bytes, rule: _Rule) -> List[bytes]:
    if len(rule.groups) == 1:
        return rule.groups[0]
    one: Tuple[Any, ...] = (rule.groups[0], rule.groups[1], *rule.reasons[:2])
    raise ConversionError(
        "Failed to rewrite colocation constraints while applying the module. The "
        "module graph contains a node {!r} that has a colocation constraint {!r} whose "
        "rewriting is ambiguous: {!r} vs {!r}, because {} and {}. Publish the module "
        "with inputs that are the only outputs of their ops. Received: {!r}".format(
            op.name, group, *one, op.name
        )
    )
