"""A TF2 SavedModel, in the ops of TensorFlow 1.15, to the MetaGraphDefs of TF1."""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from hub_compat._parsing.known_names import ATTACHMENTS
from hub_compat._tf import saved_model_pb2
from hub_compat.errors import ConversionError, CorruptModuleError
from hub_compat.formats import Format
from hub_compat.provenance import Provenance

from ..ir.flat_graph import FlatGraph
from ..ir.graph import CONTROL_FLOW_OPS
from ..ir.inlining import Inliner
from .collections import write_meta_graph
from .gradients import call_by_name
from .objects import Objects
from .offers import Offer
from .served import add_session_ops
from .signatures import Entry
from .state import State, Variable, find_variables
from .variants import VariantBuilder

__all__ = ["Module", "build"]

_TRAIN = ("train",)
Tags = Tuple[str, ...]


class Module(NamedTuple):
    """The result, ready to be written.

    Attributes:
      saved_model: the SavedModel proto.
      variables: its variables.
      assets: names of the files under ``assets/`` that it needs.
      tables: how many tables it has.
      nodes: how many nodes its graphs have.
      functions: how many functions.
      warnings: what was left out, and what else to know.
    """

    saved_model: Any
    variables: List[Variable]
    assets: Tuple[str, ...]
    tables: int
    nodes: int
    functions: int
    warnings: Tuple[str, ...]


def build(
    meta_graph: Any,
    keys: Mapping[int, str],
    op_def: Callable[[str], Any],
    served: bool = False,
    facts: Optional[Provenance] = None,
) -> Module:
    """Builds the module.

    Args:
      meta_graph: the model, in the ops of the target.
      keys: by variable's object, its key in the checkpoint.
      op_def: from the name of an op to its OpDef.
      served: whether the result is for loaders that open a session.
      facts: where the model is from, if it was a TF1 model.

    Raises:
      ConversionError: the model offers nothing that can be called.
    """
    return _Builder(meta_graph, keys, op_def, served, facts).build()


# Given: the objects of a TF2 SavedModel
#     __call__(x, training=False | True),  signatures["serving_default"](x)
# Result: a TF1 Hub module of two variants
#     {}         default, serving_default:  the traces with training=False, inlined
#     {"train"}  the same names:            those with training=True; updates
#
# Functions are inlined, as a TF1 Hub module is a graph: programs fetch its tensors.
class _Builder:
    def __init__(
        self,
        meta_graph: Any,
        keys: Mapping[int, str],
        op_def: Callable[[str], Any],
        served: bool,
        facts: Optional[Provenance],
    ) -> None:
        self._meta_graph = meta_graph
        self._served = served
        self._op_def = op_def
        self._functions = {
            f.signature.name: f for f in meta_graph.graph_def.library.function
        }
        self._objects = Objects(meta_graph)
        self._gradients = call_by_name(self._functions, self._objects)
        self._offers = {
            tags: Offer(
                self._objects,
                meta_graph,
                self._functions,
                number,
                None if facts is None else facts.callable,
                served,
                facts is not None,
            )
            for tags, number in self._variant_objects().items()
        }
        captured = [n for offer in self._offers.values() for n in offer.captured()]
        self._variables = find_variables(self._objects, captured, keys)
        self._facts = facts
        self._warnings: List[str] = []

    def build(self) -> Module:
        """Builds all variants."""
        root = self._offers[()]
        if not root.entries:
            raise ConversionError(
                "The model has neither signatures nor functions that can be called. "
                "Received: {}".format(sorted(self._objects.children(0)))
            )
        plain = self._variant(root, root.entries, training=False)
        variants: Dict[Tags, VariantBuilder] = {(): plain}
        if self._had_no_training():
            # What its only variant had of update ops, training has.
            variants[()] = self._variant(root, root.trained(plain), training=True)
        elif root.has_calls and _TRAIN not in self._offers:
            variants[_TRAIN] = self._variant(root, root.trained(plain), training=True)
        for tags, offer in self._offers.items():
            if tags:
                # Its own graph, and the updates that belong to it.
                own = self._variant(offer, offer.entries, training=False)
                trained = offer.trained(own)
                variants[tags] = self._variant(offer, trained, training=True)
        saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        nodes = 0
        for tags, variant in variants.items():
            nodes += write_meta_graph(
                saved_model.meta_graphs.add(),
                tags or self._plain_tags(),
                self._meta_graph,
                variant,
                self._attachments(tags),
                self._definition,
                self._gradients,
            )
        self._warn_of_loops(saved_model)
        return self._module(saved_model, variants, nodes)

    def _module(
        self, saved_model: Any, variants: Mapping[Tags, VariantBuilder], nodes: int
    ) -> Module:
        warnings = list(self._warnings)
        for offer in self._offers.values():
            warnings += offer.warnings
        for variant in variants.values():
            warnings += variant.warnings
        states = [variant.state for variant in variants.values()]
        assets = [name for state in states for name in state.asset_nodes.values()]
        written = saved_model.meta_graphs[0]
        return Module(
            saved_model,
            self._variables,
            tuple(dict.fromkeys(assets)),
            max(len(state.table_initializers) for state in states),
            nodes,
            len(written.graph_def.library.function),
            tuple(dict.fromkeys(warnings)),
        )

    def _had_no_training(self) -> bool:
        """Whether it was a TF1 model without a variant for training."""
        facts = self._facts
        if facts is None or Format(facts.source_format).is_tf2:
            return False
        return not any("train" in tags for tags, _ in facts.variants)

    def _variant_objects(self) -> Dict[Tags, int]:
        """The root, and the other variants of a converted TF1 model, by tags."""
        found: Dict[Tags, int] = {(): 0}
        holder = self._objects.children(0).get("graph_variants")
        if holder is not None:
            for tags, number in sorted(self._objects.children(holder).items()):
                if self._objects.kind(number) == "user_object" and tags:
                    found[tuple(sorted(tags.split(",")))] = number
        return found

    def _definition(self, op: str) -> Any:
        found = self._op_def(op)
        if found is None:
            raise CorruptModuleError(
                "The model has an op that neither it nor the target defines. "
                "Received: {!r}".format(op)
            )
        return found

    # ---- graphs

    def _variant(
        self, offer: Offer, entries: Sequence[Entry], training: bool
    ) -> VariantBuilder:
        graph = FlatGraph()
        kept = [gradient.forward for gradient in self._gradients]
        kept += [
            name
            for name, function in self._functions.items()
            # Loops of TF1 have no gradient in a function, and no contexts outside.
            if any(node.op in CONTROL_FLOW_OPS for node in function.node_def)
        ]
        inliner = Inliner(self._functions, self._definition, kept)
        trained = self._objects.items(offer.number, "trainable_variables")
        variables = self._variables
        if trained is not None:
            variables = [v._replace(trainable=v.number in trained) for v in variables]
        state = State(
            graph, self._meta_graph, self._objects, inliner, variables, self._served
        )
        variant = VariantBuilder(graph, state, self._objects, inliner, training)
        for entry in entries:
            variant.add(entry)
        variant.add_losses(offer.losses)
        if self._served:
            variant.served = add_session_ops(graph, state, self._variables)
        return variant

    def _plain_tags(self) -> Tags:
        return ("serve",) if self._served else ()

    def _attachments(self, tags: Tags) -> List[bytes]:
        collections = self._meta_graph.collection_def
        keys = [ATTACHMENTS]
        if tags:
            keys.insert(0, "{}/{}".format(ATTACHMENTS, ",".join(tags)))
        for key in keys:
            if key in collections:
                return list(collections[key].bytes_list.value)
        return []

    def _warn_of_loops(self, saved_model: Any) -> None:
        ops = {
            node.op
            for meta_graph in saved_model.meta_graphs
            for node in meta_graph.graph_def.node
        }
        if ops & {"While", "StatelessWhile", "If", "StatelessIf"}:
            self._warnings.append(
                "the model has loops or conditionals. They run in any program; for "
                "their gradients, a program in TensorFlow 1.15 says once: from "
                "tensorflow.python.ops import cond_v2, while_v2"
            )
