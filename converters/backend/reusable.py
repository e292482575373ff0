"""Writes a model as a Reusable TF2 SavedModel: objects, functions, protos.

The interface of the objects is TensorFlow Hub's Reusable SavedModel:
``__call__``, ``variables``, ``trainable_variables``, ``regularization_losses``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from hub_compat._parsing.known_names import ATTACHMENTS
from hub_compat._tf import saved_model_pb2
from hub_compat.errors import ConversionError

from ..ir.functions import Body
from ..ir.graph import Graph
from ..ir.model import (
    _SERVING_DEFAULT,
    Model,
    VariantGraph,
    choose_callable,
    root_tags,
)
from ..ir.signatures import make_shape
from ..ir.structured import dict_value, tensor_spec, tuple_value
from ..opdata.op_defs import builtin_ops
from . import session_graph, table_functions
from .bodies import Bodies, all_outputs, call_output
from .function_library import FunctionSet, merge_libraries
from .object_graph import ObjectGraph, variable_key
from .traces import Callables, Trace

__all__ = ["RESERVED", "Reusable", "build"]

# Attributes of a loaded object that a sub-object must not replace.
RESERVED = frozenset(
    [
        "as_dict",
        "asset_paths",
        "function_aliases",
        "graph",
        "graph_debug_info",
        "graph_variants",
        "initializer",
        "prune",
        "regularization_losses",
        "signatures",
        "tensorflow_git_version",
        "tensorflow_version",
        "trainable_variables",
        "training",
        "variables",
    ]
)


@dataclasses.dataclass
class Reusable:
    """A converted model, ready to be written.

    Attributes:
      saved_model: the SavedModel proto.
      objects: its object graph, for the checkpoint to repeat.
      variables: keys of the variables, in the order of their checkpoint keys
        (``object_graph.variable_key``).
      callable: the signature behind ``__call__``; None where there is none.
      tags: of the variant that is the root.
      trainable: how many variables are trainable.
    """

    saved_model: Any
    objects: ObjectGraph
    variables: List[str]
    callable: Optional[str]
    tags: Tuple[str, ...]
    trainable: int


def build(model: Model, sources: Sequence[Any], whole: bool = True) -> Reusable:
    """Builds the SavedModel of a model.

    Args:
      model: what to write.
      sources: the MetaGraphDef of each variant, for versions and producer.
      whole: whether the other variants come along as ``graph_variants``.
    """
    tags = root_tags(variant.tags for variant in model.variants)
    root = next(variant for variant in model.variants if variant.tags == tags)
    source = sources[model.variants.index(root)]
    return _Builder(model, root, source).build(whole)


# What is built, and from what:
#
#     signature of a variant -> body -> traces of __call__, entry of signatures
#     variable, table, asset -> object (a node of the SavedObjectGraph)
#     a body's captures      -> bound inputs: the numbers of these objects
#
# Keys tie the three together: "variable:w", "table:words" and "asset:vocab.txt" are
# the same in Model, in Capture and here.
#
#     nodes:           key -> number of the object; losses have keys, too
#     declared:        functions whose inputs and outputs the object graph states
#     table_functions: key -> what session_graph needs to make and fill the table
class _Builder:
    def __init__(self, model: Model, root: VariantGraph, source: Any) -> None:
        self.model = model
        self.root = root
        self.source = source
        self.library = merge_libraries(model)
        self.functions = FunctionSet(set(self.library))
        self.bodies = Bodies(self.functions)
        self.callables = Callables(self.bodies)
        self.objects = ObjectGraph()
        self.nodes: Dict[str, int] = {}
        self.declared: Set[str] = set()
        self.table_functions: Dict[str, Tuple[Any, Body]] = {}

    # The order is that of numbers: variables first, so that checkpoint keys follow the
    # order of the model; tables before functions that capture them; the root before the
    # variants. A change of it changes the bytes of every conversion.
    def build(self, whole: bool) -> Reusable:
        root_variant = self.root
        self._drop_bad_signatures()
        variables = list(self.model.variables)
        for i, key in enumerate(variables):
            self.nodes[key] = self.objects.variable(
                self.model.variables[key], variable_key(i)
            )
        for i, key in enumerate(self.model.assets):
            self.nodes[key] = self.objects.asset(i)
        for key in self.model.tables:
            self.nodes[key] = self.objects.resource()
        for key in self.model.tables:
            self._fill_resource(key)
        training = self._training_variant(root_variant)
        callable_name = self._fill_callables(0, root_variant, training)
        others = {}
        for variant in self.model.variants:
            if whole and variant is not root_variant:
                number = self.objects.user_object()
                self._fill_callables(number, variant, variant)
                others[",".join(variant.tags)] = number
        if others:
            self.objects.add_child(0, "graph_variants", self.objects.dict(others))
        trainable = sum(self.model.variables[key].trainable for key in variables)
        saved_model = self._saved_model(root_variant, variables)
        return Reusable(
            saved_model,
            self.objects,
            variables,
            callable_name,
            root_variant.tags,
            trainable,
        )

    def _drop_bad_signatures(self) -> None:
        """Leaves out what cannot be a function, and says so."""
        for variant in self.model.variants:
            for name in sorted(variant.signatures):
                reason = self.bodies.check(variant, variant.signatures[name])
                if reason:
                    del variant.signatures[name]
                    self.model.leave_out_signature(variant.tags, name, reason)
        gone = [name for tags, name, _ in self.model.left_out if tags == self.root.tags]
        if gone and not self.root.signatures:
            raise ConversionError(
                "No signature of the module can be converted. Received: {}".format(
                    "; ".join(self.model.warnings) or "a module without signatures"
                )
            )

    # TF1 modules have a graph for each mode, tagged {} and {"train"}; SavedModels tag
    # theirs {"serve"} and {"serve", "train"} or {"train"}.
    def _training_variant(self, root: VariantGraph) -> VariantGraph:
        """The variant behind ``training=True`` of the root."""
        wanted = set(root.tags) | {"train"}
        for variant in self.model.variants:
            if set(variant.tags) in (wanted, {"train"}):
                return variant
        return root

    # ---- objects

    def _fill_callables(
        self, number: int, variant: VariantGraph, training: VariantGraph
    ) -> Optional[str]:
        """Gives an object a variant's interface; returns what it calls."""
        name = choose_callable(self.model, variant)
        if name is not None:
            self._fill_callable(number, variant, training, name)
        self._fill_lists(number, [variant, training], None)
        for other in variant.signatures:
            if other == name or other in RESERVED or other.startswith("_"):
                continue
            child = self.objects.user_object()
            keys = self._fill_callable(child, variant, training, other)
            self._fill_lists(child, [variant, training], keys)
            self.objects.add_child(number, other, child)
        bare = {}
        for other in variant.signatures:
            trace = self.callables.signature(variant, other)
            self._declare(trace)
            bare[other] = self.objects.bare_function(trace.body.name, trace.keywords)
        if name is not None and _SERVING_DEFAULT not in bare:
            bare[_SERVING_DEFAULT] = bare[name]
        signatures = self.objects.signature_map(bare)
        self.objects.add_child(number, "signatures", signatures)
        return name

    def _fill_callable(
        self, number: int, variant: VariantGraph, training: VariantGraph, name: str
    ) -> Set[str]:
        """Gives an object what is called; returns the keys of its captures.

        That is ``__call__``, and ``as_dict`` where it returns one output of several.
        """
        graph: Optional[VariantGraph] = training
        if training is not variant:
            graph = self._same_form(variant, training, name)
        signature = variant.signatures[name]
        offered = [("__call__", call_output)]
        if len(call_output(signature)[1]) < len(signature.outputs):
            offered.append(("as_dict", all_outputs))
        keys: Set[str] = set()
        for attribute, output in offered:
            traces, args, defaults = self.callables.traces(name, variant, graph, output)
            for trace in traces:
                self._declare(trace)
                keys.update(capture.key for capture in trace.body.captures)
            function = self.objects.function(
                [trace.body.name for trace in traces], args, defaults
            )
            self.objects.add_child(number, attribute, function)
        return keys

    def _same_form(
        self, variant: VariantGraph, training: VariantGraph, name: str
    ) -> Optional[VariantGraph]:
        """The training variant, if its signature takes the same inputs."""
        here, there = variant.signatures[name], training.signatures.get(name)
        if there is not None:
            mine = [(c.name, c.dtype) for c in here.flat_inputs()]
            if mine == [(c.name, c.dtype) for c in there.flat_inputs()]:
                return training
        self.model.warnings.append(
            "signature {!r} has no counterpart with the same inputs in the variant {}: "
            "training=True runs the graph of {}".format(
                name, list(training.tags), list(variant.tags)
            )
        )
        return None

    def _fill_lists(
        self, number: int, variants: Sequence[VariantGraph], only: Optional[Set[str]]
    ) -> None:
        """Gives an object its variables, losses, tables and assets.

        Args:
          number: the object.
          variants: whose variables and losses.
          only: keys of captures to keep to; None for all.
        """
        own = {key for v in variants for key in v.variables}
        if number == 0:
            # Everything that the checkpoint holds hangs on the root.
            own = set(self.model.variables)
        trainable = {key for v in variants for key in v.trainable}
        keys = [
            key
            for key, variable in self.model.variables.items()
            if key in own
            and (only is None or key in only)
            # What counts for a metric is no weight.
            and not variable.local
        ]
        lists = {
            "variables": [self.nodes[key] for key in keys],
            "trainable_variables": [self.nodes[k] for k in keys if k in trainable],
            "regularization_losses": self._losses(variants[-1], set(keys)),
        }
        for name, items in lists.items():
            self.objects.add_child(number, name, self.objects.list(items))
        # Who keeps the object alive keeps what its functions use alive.
        holders: Dict[str, Mapping[str, Any]] = {
            "_tables": self.model.tables,
            "_assets": self.model.assets,
            "_local_variables": {
                key: variable
                for key, variable in self.model.variables.items()
                if variable.local
            },
        }
        for name, held in holders.items():
            items = [self.nodes[k] for k in held if only is None or k in only]
            if items:
                self.objects.add_child(number, name, self.objects.list(items))

    def _losses(self, variant: VariantGraph, variables: Set[str]) -> List[int]:
        found = []
        for tensor in variant.losses:
            key = "loss:{}:{}".format(",".join(variant.tags), tensor)
            trace = self.callables.loss(variant, tensor)
            if trace is None:
                message = (
                    "variant {}: regularization loss {!r} depends on the inputs and "
                    "is skipped".format(list(variant.tags), tensor)
                )
                if message not in self.model.warnings:
                    self.model.warnings.append(message)
                continue
            captured = {
                c.key for c in trace.body.captures if c.key in self.model.variables
            }
            if not captured <= variables:
                continue
            if key not in self.nodes:
                self._declare(trace)
                self.nodes[key] = self.objects.function([trace.body.name])
            found.append(self.nodes[key])
        return found

    def _fill_resource(self, key: str) -> None:
        table = self.model.tables[key]
        create = self.functions.add(
            table_functions.create_function(table, self.functions.name("create_" + key))
        )
        initialize = self.functions.add(
            table_functions.initialize_function(
                table, self.functions.name("initialize_" + key)
            )
        )
        destroy = self.functions.add(
            table_functions.destroy_function(self.functions.name("destroy_" + key))
        )
        create_def = self.functions.functions[create.name]
        self.table_functions[key] = (create_def, initialize)
        for name, body in (
            ("_create_resource", create),
            ("_initialize", initialize),
            ("_destroy_resource", destroy),
        ):
            result = body.results[0]
            spec = tensor_spec(result.name, result.dtype, make_shape([]))
            self._declare(Trace(body, _NO_INPUTS, spec))
            function = self.objects.function([body.name])
            self.objects.add_child(self.nodes[key], name, function)

    def _declare(self, trace: Trace) -> None:
        if trace.body.name not in self.declared:
            self.declared.add(trace.body.name)
            captures = [self.nodes[c.key] for c in trace.body.captures]
            self.objects.concrete_function(
                trace.body, trace.inputs, trace.output, captures
            )

    # ---- protos

    def _saved_model(self, root: VariantGraph, variables: Sequence[str]) -> Any:
        saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        meta_graph = saved_model.meta_graphs.add()
        info, source = meta_graph.meta_info_def, self.source.meta_info_def
        info.tags.append("serve")
        info.tensorflow_version = source.tensorflow_version
        info.tensorflow_git_version = source.tensorflow_git_version
        info.stripped_default_attrs = source.stripped_default_attrs
        meta_graph.graph_def.versions.CopyFrom(self.source.graph_def.versions)
        signatures = {
            name: self.callables.signature(root, name) for name in root.signatures
        }
        name = choose_callable(self.model, root)
        if name is not None:
            signatures.setdefault(_SERVING_DEFAULT, signatures[name])
        session_graph.write(
            meta_graph, self.model, signatures, variables, self.table_functions
        )
        library = meta_graph.graph_def.library
        for name in self.library:
            library.function.add().CopyFrom(self.library[name])
        for function in self.functions.functions.values():
            library.function.add().CopyFrom(function)
        gradients = set()
        for variant in self.model.variants:
            for gradient in variant.gradients:
                data = gradient.SerializeToString(deterministic=True)
                if data not in gradients:
                    gradients.add(data)
                    library.gradient.add().CopyFrom(gradient)
        for variant in self.model.variants:
            if variant.attachments:
                # The root's under the name that TensorFlow Hub gave them.
                key = ATTACHMENTS
                if variant is not root:
                    key = "{}/{}".format(ATTACHMENTS, ",".join(variant.tags))
                values = meta_graph.collection_def[key].bytes_list
                values.value.extend(variant.attachments)
        self._list_ops(meta_graph, [v.graph for v in self.model.variants])
        meta_graph.object_graph_def.CopyFrom(self.objects.proto)
        return saved_model

    # The model's own definitions come first. An op of a custom library is in no other
    # list, and an op whose attributes have changed since is read with those of its
    # time.
    def _list_ops(self, meta_graph: Any, graphs: Iterable[Graph]) -> None:
        """Writes the op list: what the graphs declare, of the ops still used."""
        used = {node.op for node in meta_graph.graph_def.node}
        for function in meta_graph.graph_def.library.function:
            used.update(node.op for node in function.node_def)
            used.discard(function.signature.name)
        functions = {f.signature.name for f in meta_graph.graph_def.library.function}
        known: Dict[str, Any] = {}
        for graph in graphs:
            for op in graph.declared_ops:
                known.setdefault(op.name, op)
        for name in sorted(used - functions):
            op = known.get(name) or builtin_ops().get(name)
            if op is not None:
                meta_graph.meta_info_def.stripped_op_list.op.add().CopyFrom(op)


_NO_INPUTS = tuple_value([tuple_value([]), dict_value({})])
