"""Any part of a TF1 graph as a function: what ``prune()`` returns, as a SavedModel.

The part is a signature more, converted as the others are. The function takes the
handles of variables and tables as arguments, after its inputs: they are those of an
object that is loaded already.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from hub_compat._io import files
from hub_compat._parsing.known_names import OBJECT_GRAPH
from hub_compat._tf import saved_model_pb2
from hub_compat.errors import ConversionError
from hub_compat.formats import Detection

from .backend import canonical
from .backend.bodies import Bodies, all_outputs
from .backend.function_library import FunctionSet, merge_libraries
from .backend.object_graph import ObjectGraph
from .checkpoint import relabel
from .ir.dtypes import REF_OFFSET
from .ir.functions import Body
from .ir.graph import Graph
from .ir.model import Model
from .ir.signatures import Component, make_shape
from .ir.structured import dict_value, tensor_spec, tuple_value
from .opdata import op_defs
from .tf1_model import read_with_signature

__all__ = ["Pruned", "write_pruned"]

_NAME = "hub_compat_pruned"


class Pruned(NamedTuple):
    """The inputs and outputs of the function of a part.

    Attributes:
      captures: keys of the objects whose handles follow the inputs.
      results: for each tensor that is fetched, which of the results it is.
      keys: of all objects of the model, in the order of the loaded one's lists:
        variables, local variables, tables, assets.
    """

    captures: Tuple[str, ...]
    results: Tuple[int, ...]
    keys: Dict[str, List[str]]


def write_pruned(
    detection: Detection,
    tags: Optional[Tuple[str, ...]],
    feeds: Sequence[Any],
    fetches: Sequence[str],
    directory: str,
) -> Pruned:
    """Writes a SavedModel with one function, ``call``, into an empty directory.

    Args:
      detection: the module.
      tags: the variant; None for the one that ``load()`` gives by default.
      feeds: a TensorInfo for each input.
      fetches: names of tensors, or of nodes with a "^" before.
      directory: where it goes.

    Raises:
      ConversionError: it cannot be a function; says why.
    """

    def edit(meta_graph: Any) -> None:
        _add_signature(meta_graph, feeds, fetches)

    model, meta_graph = read_with_signature(detection, tags, edit, op_defs.available())
    own = tuple(sorted(meta_graph.meta_info_def.tags))
    variant = next(v for v in model.variants if v.tags == own)
    functions = FunctionSet(set(merge_libraries(model)))
    bodies = Bodies(functions)
    signature = variant.signatures.get(_NAME)
    reason = bodies.check(variant, signature) if signature is not None else None
    if signature is None or reason:
        said = [text for _, name, text in model.left_out if name == _NAME]
        raise ConversionError(
            "This part of the graph of {!r} cannot be a function: {}. Received: feeds "
            "{} and fetches {}".format(
                detection.path,
                reason or "; ".join(said),
                [info.name for info in feeds],
                list(fetches),
            )
        )
    variant.update_ops = []
    _, values = all_outputs(signature)
    made = bodies.body(variant, _NAME, values)
    order = {c.name: i for i, c in enumerate(made.form.results)}
    results = tuple(order[_name(i)] for i in range(len(fetches)))
    _write(model, meta_graph, functions, made.form.arguments, made.body, directory)
    return Pruned(tuple(c.key for c in made.body.captures), results, _keys(model))


def _name(number: int) -> str:
    # In this order under any way of sorting.
    return "t{:05}".format(number)


def _keys(model: Model) -> Dict[str, List[str]]:
    variables = model.variables.items()
    return {
        "variables": [key for key, v in variables if v.initial is None],
        "_local_variables": [key for key, v in variables if v.initial is not None],
        "_tables": list(model.tables),
        "_assets": list(model.assets),
    }


def _add_signature(
    meta_graph: Any, feeds: Sequence[Any], fetches: Sequence[str]
) -> None:
    graph = Graph(meta_graph)
    definition = meta_graph.signature_def[_NAME]
    for i, info in enumerate(feeds):
        definition.inputs[_name(i)].CopyFrom(info)
    for i, fetch in enumerate(fetches):
        info = definition.outputs[_name(i)]
        info.name = fetch
        if fetch.startswith("^"):
            # What waits for the node is there when it has run.
            node = meta_graph.graph_def.node.add(op="Const", input=[fetch])
            node.name = "{}_{}".format(_NAME, i)
            node.attr["dtype"].type = 1
            value = node.attr["value"].tensor
            value.dtype = 1
            value.float_val.append(0.0)
            value.tensor_shape.SetInParent()
            info.name, info.dtype = node.name + ":0", 1
        else:
            info.dtype = graph.output(fetch).dtype % REF_OFFSET
        info.tensor_shape.unknown_rank = True


def _write(
    model: Model,
    meta_graph: Any,
    functions: FunctionSet,
    arguments: Sequence[Component],
    body: Body,
    directory: str,
) -> None:
    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    written = saved_model.meta_graphs.add()
    written.meta_info_def.tags.append("serve")
    written.graph_def.versions.CopyFrom(meta_graph.graph_def.versions)
    library = written.graph_def.library
    for function in list(merge_libraries(model).values()):
        library.function.add().CopyFrom(function)
    for function in functions.functions.values():
        library.function.add().CopyFrom(function)
    for variant in model.variants:
        for gradient in variant.gradients:
            if gradient not in library.gradient:
                library.gradient.add().CopyFrom(gradient)
    handles = [
        Component("capture_{:05}".format(i), "", capture.dtype, make_shape([]))
        for i, capture in enumerate(body.captures)
    ]
    taken = list(arguments) + handles
    specs = [tensor_spec(c.name, c.dtype, c.shape) for c in taken]
    results = [
        tensor_spec(r.name, r.dtype, r.shape or make_shape(None)) for r in body.results
    ]
    objects = ObjectGraph()
    objects.concrete_function(
        dataclasses.replace(body, captures=[]),
        tuple_value([tuple_value(specs), dict_value({})]),
        tuple_value(results),
        [],
    )
    number = objects.bare_function(body.name, [c.name for c in taken])
    objects.add_child(0, "call", number)
    written.object_graph_def.CopyFrom(objects.proto)
    variables = files.join(directory, "variables")
    files.make_dirs(variables)
    relabel.relabel(
        None,
        files.join(variables, "variables"),
        {},
        {OBJECT_GRAPH: objects.checkpoint_graph(set())},
    )
    files.write_bytes(
        files.join(directory, "saved_model.pb"), canonical.serialize(saved_model)
    )
