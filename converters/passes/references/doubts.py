"""Where the graph does not say what a session gives, or functions cannot give it.

A signature that depends on one of these is refused: it could give another value.
"""

from __future__ import annotations

from typing import (
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

from ...ir.graph import Graph

__all__ = ["WAY_OUT", "Doubt", "Signature", "User", "UnsureReads", "refused"]

WAY_OUT = (
    "Export the model with the variable as a resource variable (use_resource=True), "
    "or with a copy in that place, such as variable + 0."
)
# Outputs and inputs.
Signature = Tuple[Sequence[str], Set[str]]
# A node, or the number of a signature that returns the tensor.
User = Union[str, int]


class Doubt(NamedTuple):
    """A value that could be another one than a session's.

    Attributes:
      reason: what is in doubt, and what to do about it.
      nodes: the signatures that need one of these nodes depend on it.
      signatures: and so do these, by number.
    """

    reason: str
    nodes: FrozenSet[str] = frozenset()
    signatures: FrozenSet[int] = frozenset()


class UnsureReads:
    """Reads of what may be a variable's memory or a copy: only a run decides."""

    def __init__(self) -> None:
        self._users: Dict[Tuple[str, str], Dict[User, None]] = {}

    def add(self, node: str, variables: Iterable[str], user: User) -> None:
        """Notes who takes what a node passes on of some variables."""
        for variable in variables:
            self._users.setdefault((node, variable), {})[user] = None

    def doubts(self) -> List[Doubt]:
        """What is in doubt, for each node and variable."""
        return [
            Doubt(
                "node {!r} passes on the memory of the variable {!r}, or a copy; only "
                "a run decides which, and so whether {} shows later writes. {}".format(
                    node, variable, _named(next(iter(users))), WAY_OUT
                ),
                frozenset(user for user in users if isinstance(user, str)),
                frozenset(user for user in users if isinstance(user, int)),
            )
            for (node, variable), users in self._users.items()
        ]


def _named(user: User) -> str:
    if isinstance(user, int):
        return "what the signature returns"
    return "node {!r}".format(user)


# Given:
#     Doubt(reason, nodes={y}),  signatures: 0 returns y, 1 returns z
# Result:
#     {0: reason}
#
# Afterwards, the pass on variables leaves signature 0 out and begins again: without
# its nodes, what was in doubt elsewhere may be certain.
def refused(
    graph: Graph,
    doubts: Sequence[Doubt],
    signatures: Sequence[Signature],
    others: Sequence[str],
) -> Mapping[int, str]:
    """Which signatures depend on what is in doubt, by number, and why.

    Args:
      graph: the graph.
      doubts: what is in doubt.
      signatures: outputs and inputs of each.
      others: what all of them compute beside their outputs, such as update ops.
    """
    beside = set(graph.slice(others)) if doubts else set()
    found: Dict[int, str] = {}
    for number, (outputs, fed) in enumerate(signatures if doubts else ()):
        needed = beside.union(graph.slice(outputs, fed))
        reason = _first(doubts, number, needed)
        if reason is not None:
            found[number] = reason
    return found


def _first(doubts: Sequence[Doubt], number: int, needed: Set[str]) -> Optional[str]:
    for doubt in doubts:
        if number in doubt.signatures or not needed.isdisjoint(doubt.nodes):
            return doubt.reason
    return None
