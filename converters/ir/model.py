"""A TF1 model as the compiler sees it, whatever format it was read from."""

from __future__ import annotations

import dataclasses
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from hub_compat.formats import Omission

from .functions import Capture
from .graph import Graph
from .signatures import Signature

if TYPE_CHECKING:
    from .variables import Variable

__all__ = [
    "Model",
    "Table",
    "VariantGraph",
    "choose_callable",
    "root_tags",
]


_SERVING_DEFAULT = "serving_default"


@dataclasses.dataclass(eq=False)
class VariantGraph:
    """One MetaGraphDef, ready to be cut into functions.

    Attributes:
      tags: sorted.
      graph: its nodes.
      signatures: by name, sorted.
      update_ops: nodes of the UPDATE_OPS collection.
      losses: tensors of the REGULARIZATION_LOSSES collection.
      initializers: nodes that fill tables.
      captures: handle and asset nodes, and the objects they stand for.
      attachments: serialized messages of the attachments collection.
      gradients: GradientDefs of the function library.
      variables: keys of the variables that this graph holds.
      trainable: those of them in its TRAINABLE_VARIABLES collection.
      restored: those of them that its saver restores.
    """

    tags: Tuple[str, ...]
    graph: Graph
    signatures: Dict[str, Signature]
    update_ops: List[str]
    losses: List[str]
    initializers: List[str]
    captures: Dict[str, Capture]
    attachments: List[bytes]
    gradients: List[Any] = dataclasses.field(default_factory=list)
    variables: List[str] = dataclasses.field(default_factory=list)
    trainable: Set[str] = dataclasses.field(default_factory=set)
    restored: Set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Table:
    """A lookup table or another resource without inputs.

    Attributes:
      key: its key among the captures: ``"table:vocabulary"``.
      name: its shared name.
      digest: what it is and what fills it, in one hash.
      variant: whose graph holds it.
      node: the node that hands out its handle.
      fillers: the nodes that fill it, in order.
    """

    key: str
    name: str
    digest: bytes
    variant: VariantGraph
    node: str
    fillers: List[str]


# All variants share one Model, so that a weight of two variants is one variable of one
# checkpoint. Keys name objects across variants; nodes name them within one graph:
#
#     Model.variables["variable:w"]                   the object
#     VariantGraph.captures["w"] = Capture("variable:w", DT_RESOURCE)
@dataclasses.dataclass
class Model:
    """Everything that a source directory holds, whatever its format.

    Attributes:
      variants: in the file's order.
      variables: by key, ``"variable:w"``.
      tables: by key, ``"table:vocabulary"``.
      assets: file names under ``assets/``, by key, ``"asset:vocab.txt"``.
      warnings: what had to be left out, and why.
      left_out: the signatures that were left out.
    """

    variants: List[VariantGraph]
    variables: Dict[str, Variable]
    tables: Dict[str, Table]
    assets: Dict[str, str]
    warnings: List[str]
    left_out: List[Omission] = dataclasses.field(default_factory=list)

    def copy(self) -> Model:
        """A model to which more can be added while this one stays as it is."""
        return Model(
            list(self.variants),
            {key: dataclasses.replace(v) for key, v in self.variables.items()},
            dict(self.tables),
            dict(self.assets),
            list(self.warnings),
            list(self.left_out),
        )

    def leave_out_signature(self, tags: Sequence[str], name: str, reason: str) -> None:
        """Notes that a variant has a signature less."""
        self.left_out.append(Omission(tuple(tags), name, reason))
        self.warnings.append(
            "variant {}: signature {!r} is skipped: {}".format(list(tags), name, reason)
        )


# TF1 Hub modules are untagged for inference, SavedModels tagged "serve". Without both,
# the smallest set without "train".
def root_tags(tag_sets: Iterable[Tuple[str, ...]]) -> Tuple[str, ...]:
    """The variant that ``load()`` without tags gives: untagged, or serving."""
    known = list(tag_sets)
    for tags in ((), ("serve",)):
        if tags in known:
            return tags
    return min(known, key=lambda tags: ("train" in tags, len(tags)))


def choose_callable(model: Model, variant: VariantGraph) -> Optional[str]:
    """The signature behind ``__call__``, or None."""
    gone = {name for tags, name, _ in model.left_out if tags == variant.tags}
    for name in (_SERVING_DEFAULT, "default"):
        if name in variant.signatures:
            return name
        if name in gone:
            # Another must not be called in its place.
            return None
    if len(variant.signatures) == 1:
        (name,) = variant.signatures
        return name
    return None
