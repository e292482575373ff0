"""The state of the passes over one MetaGraphDef, beside its graph."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Set, Tuple

from hub_compat.errors import ConversionError

from .graph import node_of, normal
from .model import Model
from .signatures import Signature

__all__ = ["Context", "Source"]


class Source(NamedTuple):
    """Where a MetaGraphDef is from, and what becomes of the result.

    Attributes:
      directory: the model's directory, for what its saver restores beside variables.
      by_saver: whether the checkpoint's keys are those that its saver restores, and
        not the names of the variables.
      acts: whether loading the result does what else the init op does.
      weights: whether the result has the variables' values.
    """

    directory: str = ""
    by_saver: bool = False
    acts: bool = False
    weights: bool = True


# Who sets and who reads, along the pipeline:
#
#     started   iterators                  -> initial values
#     initial   initial values             -> registration
#     custom    custom gradients           -> inlined calls, gradient guards
#     looping   inlined calls              -> gradient guards
#     lost      custom gradients of nodes  -> gradient guards
#     moved     forward copies             -> registration
#     left      control flow               -> gradient guards
#
# No pass keeps state elsewhere: what a pass tells another is a field, or is in Graph.
@dataclasses.dataclass
class Context:
    """One MetaGraphDef on its way through the pipeline.

    The frontend sets what has no default; each other field says which pass sets it.

    Attributes:
      model: what the variant is added to; it takes the warnings.
      meta_graph: the proto, whose nodes belong to the graph by now.
      source: where it is from.
      tags: its tags, sorted.
      signatures: those that can be converted, sorted by name.
      update_ops: nodes of the UPDATE_OPS collection; the pass on control flow removes
        those of loops.
      losses: tensors of the REGULARIZATION_LOSSES collection.
      assets: the AssetFileDefs.
      fetches: all tensors that must be there in the end.
      started: set by the pass on iterators: the nodes that start them.
      initial: set by "initial values": a ``frontend.initialization.Initialization``.
      initializers: set by "initial values": nodes that fill tables and the like.
      custom: set by "custom gradients": functions with a custom gradient that is lost.
      looping: set by "inlined calls": functions with TF1 control flow in them.
      lost: set by "custom gradients of nodes": nodes whose gradient is missing.
      moved: set by "forward copies": tensors of loops, and what gives them now.
      left: set by "control flow": nodes of it that stay as they are, and why.
    """

    model: Model
    meta_graph: Any
    source: Source
    tags: Tuple[str, ...]
    signatures: List[Signature]
    update_ops: List[str]
    losses: List[str]
    assets: List[Any]
    fetches: List[str]
    started: List[str] = dataclasses.field(default_factory=list)
    initial: Any = None
    initializers: List[str] = dataclasses.field(default_factory=list)
    custom: Set[str] = dataclasses.field(default_factory=set)
    looping: Set[str] = dataclasses.field(default_factory=set)
    lost: Set[str] = dataclasses.field(default_factory=set)
    moved: Dict[str, str] = dataclasses.field(default_factory=dict)
    left: Dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def collections(self) -> Any:
        """The collections of the MetaGraphDef, by name."""
        return self.meta_graph.collection_def

    @property
    def asset_paths(self) -> Set[str]:
        """The constants that are paths of assets; they stay where they are."""
        return {node_of(asset.tensor_info.name) for asset in self.assets}

    def ends(self) -> List[Tuple[List[str], Set[str]]]:
        """The outputs and the inputs of each signature."""
        return [
            (
                [c.tensor for c in signature.flat_outputs()],
                {normal(c.tensor) for c in signature.flat_inputs()},
            )
            for signature in self.signatures
        ]

    def wanted(self) -> List[str]:
        """All that is wanted of the graph: tensors, and control names of nodes."""
        return self.fetches + self.beside()

    def beside(self) -> List[str]:
        """What every signature may have to compute beside its outputs."""
        return self.losses + ["^" + op for op in self.update_ops]

    def needed(self) -> List[str]:
        """All that is wanted of the graph, and what fills tables and the like."""
        return self.wanted() + ["^" + op for op in self.initializers]

    # A tensor that a kept signature shares with a dropped one stays fetched.
    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Drops signatures, by number.

        Raises:
          ConversionError: no signature is left.
        """
        if len(reasons) == len(self.signatures):
            raise ConversionError(_sentence(reasons[0]))
        gone: Set[str] = set()
        kept: Set[str] = set()
        for number, signature in enumerate(self.signatures):
            if number in reasons:
                reason = _sentence(reasons[number])
                self.model.leave_out_signature(self.tags, signature.name, reason)
            parts = signature.flat_inputs() + signature.flat_outputs()
            (gone if number in reasons else kept).update(p.tensor for p in parts)
        self.fetches = [f for f in self.fetches if f not in gone or f in kept]
        self.signatures = [
            s for number, s in enumerate(self.signatures) if number not in reasons
        ]

    def warn(self, message: str, *values: Any) -> None:
        """Adds a warning about this variant to the conversion's report."""
        text = message.format(*values)
        self.model.warnings.append("variant {}: {}".format(list(self.tags), text))

    def warn_all(self, messages: Sequence[str]) -> None:
        """Adds warnings that name no variant."""
        self.model.warnings.extend(messages)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
