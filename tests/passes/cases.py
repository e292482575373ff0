"""Cases of passes and of lowering rules: files of text, see README.md.

python tests/passes/cases.py            # writes all expected texts anew
python tests/passes/cases.py variables  # of one folder
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import graph_text
from attr_text import dtype_name, split

from hub_compat._tf import (
    control_flow_pb2,
    meta_graph_pb2,
    saved_model_pb2,
)
from hub_compat.converters.frontend import metagraph
from hub_compat.converters.ir.context import Context, Source
from hub_compat.converters.ir.graph import Graph, normal
from hub_compat.converters.ir.model import Model
from hub_compat.converters.lowering import lowering
from hub_compat.converters.opdata.op_defs import builtin_ops
from hub_compat.converters.opdata.targets import NEWEST, of_target, ops_of
from hub_compat.converters.pipeline import PASSES
from hub_compat.converters.request import NOTHING
from hub_compat.errors import HubCompatError

__all__ = ["Case", "expected_of", "find", "folder_of", "outcome", "problem"]

HERE = Path(__file__).resolve().parent
LOWERING = "lowering"
_PASSES = {step.name: step for step in PASSES}
# Fields of the context that a case may begin with, by the type of their values.
_SETS = ("custom", "looping", "lost")
# What is shown of the graph and of the context, beside the nodes.
_OF_GRAPH = ("aliases", "fetched", "last_reads", "stopped")
_OF_CONTEXT = (
    "custom", "fetches", "initializers", "left", "looping", "losses", "lost", "moved",
    "started", "update_ops",
)  # fmt: skip


def folder_of(name: str) -> str:
    """The folder of a pass: ``"inlined calls"`` -> ``"inlined_calls"``."""
    return name.replace(".", "_").replace(" ", "_").lower()


class Case:
    """One file.

    Attributes:
      path: the file.
      name: ``"variables/assign"``.
      folder: ``"variables"``; of a lowering rule ``"lowering/ops"``.
      header: the lines before the graph: words, and what follows the colon.
      nodes, functions: of the graph.
      ops: OpDefs that the model declares.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(HERE).with_suffix("").as_posix()
        self.folder = self.name.rpartition("/")[0]
        self.header: List[Tuple[str, str]] = []
        self.nodes: List[Any] = []
        self.functions: List[Any] = []
        self.ops: List[Any] = []
        block: List[str] = []
        for line in path.read_text(encoding="utf-8").splitlines() + [""]:
            if block and not line.startswith("  "):
                self.functions.append(graph_text.parse_function(block))
                block = []
            if not line.strip() or line.startswith("#"):
                continue
            if block or line.startswith("function "):
                block.append(line)
            elif line.startswith("op "):
                self.ops.append(graph_text.parse_op(line))
            elif " = " in line.split(":")[0]:
                self.nodes.append(graph_text.parse_node(line))
            else:
                key, _, value = line.partition(":")
                self.header.append((key.strip(), value.strip()))

    def expects(self) -> str:
        """What is to come of it: ``"rewritten"``, ``"skipped"`` or ``"refused"``."""
        for ending in ("skipped", "refused"):
            if self.path.stem.endswith("-" + ending):
                return ending
        return "rewritten"

    def value(self, key: str, otherwise: str = "") -> str:
        """A line of the header."""
        return dict(self.header).get(key, otherwise)

    @property
    def expected(self) -> Path:
        """The file with what is expected."""
        return self.path.with_name(self.path.stem + ".expected.txt")

    def op_def(self, *tables: Dict[str, Any]) -> Callable[[str], Any]:
        """Finds OpDefs: the case's own, then in these tables, in order."""
        own = {op.name: op for op in self.ops}
        own.update((f.signature.name, f.signature) for f in self.functions)

        def find_op(name: str) -> Any:
            for table in (own,) + tables:
                if name in table:
                    return table[name]
            raise KeyError("{}: there is no op {!r}".format(self.name, name))

        return find_op

    def meta_graph(self, op_def: Callable[[str], Any]) -> Any:
        """The MetaGraphDef, with all attributes that can be derived."""
        library = {f.signature.name: f for f in self.functions}
        for function in self.functions:
            known = graph_text.arguments(function)
            graph_text.types_of(function.node_def, op_def, library, known, True)
        types = graph_text.types_of(self.nodes, op_def, library, None, True)
        found = meta_graph_pb2.MetaGraphDef()
        found.graph_def.node.extend(self.nodes)
        found.graph_def.library.function.extend(self.functions)
        found.graph_def.versions.producer = int(self.value("producer", "134"))
        declared = found.meta_info_def.stripped_op_list.op
        declared.extend(self.ops)
        # As a writer does; what TF 1.15 has need not be said.
        bodies = [self.nodes] + [f.node_def for f in self.functions]
        used = {node.op for body in bodies for node in body}
        newer = used - builtin_ops().keys() - library.keys()
        declared.extend(op_def(op) for op in sorted(newer - {o.name for o in self.ops}))
        for key, value in self.header:
            _add(found, key, value, types)
        return found


def _add(meta_graph: Any, key: str, value: str, types: Dict[str, int]) -> None:
    """Adds what a line of the header says to a MetaGraphDef."""
    word, _, name = key.partition(" ")
    collections = meta_graph.collection_def
    if word == "signature":
        inputs, outputs = value.split("->")
        definition = meta_graph.signature_def[name]
        for text, infos in ((inputs, definition.inputs), (outputs, definition.outputs)):
            for tensor in split(text):
                info = infos[tensor.replace(":", "_").replace("/", "_")]
                info.name = normal(tensor)
                if normal(tensor) not in types:
                    raise KeyError("of {!r}, no dtype can be derived".format(tensor))
                info.dtype = types[normal(tensor)] % 100
                info.tensor_shape.unknown_rank = True
    elif word in ("update_ops", "table_initializer", "saved_model_main_op"):
        collections[word].node_list.value.extend(split(value))
    elif word == "losses":
        found = collections["regularization_losses"].node_list
        found.value.extend(map(normal, split(value)))
    elif word == "gradient":
        meta_graph.graph_def.library.gradient.add(
            function_name=name, gradient_func=value
        )
    elif word == "asset":
        asset = meta_graph.asset_file_def.add(filename=value)
        asset.tensor_info.name = name + ":0"
    elif word == "while_context":
        context = control_flow_pb2.WhileContextDef(
            context_name=name, back_prop="no gradient" not in value
        )
        exits = value.replace("no gradient", "").strip(" ,")
        context.loop_exit_names.extend(split(exits))
        collections[word].bytes_list.value.append(context.SerializeToString())
    elif word == "restore":
        meta_graph.saver_def.restore_op_name = value
    elif word not in _KEYS:
        raise KeyError("A header has no {!r}".format(key))


_KEYS = ("after", "by_saver", "left", "initializers", "producer", "target") + _SETS


def find(folder: str = "") -> List[Case]:
    """All cases, or those of a folder."""
    return [
        Case(path)
        for path in sorted((HERE / folder).rglob("*.txt"))
        if not path.name.endswith(".expected.txt")
    ]


def outcome(case: Case) -> Tuple[str, str, Any]:
    """The text before and after, and the GraphDef; a message of what is refused."""
    if case.folder.startswith(LOWERING):
        return _lower(case)
    return _run(case)


def problem(case: Case) -> str:
    """How the outcome differs from what is expected; empty if it does not."""
    before, after, _ = outcome(case)
    expected = expected_of(case, before)
    if after == before and case.expects() != "skipped":
        return "{}: nothing was done; a case of that is named -skipped".format(
            case.name
        )
    if after == expected:
        return ""
    lines = difflib.unified_diff(
        expected.splitlines(), after.splitlines(), "expected", "found", lineterm="", n=2
    )
    return "\n".join([case.name] + list(lines))


def expected_of(case: Case, before: str) -> str:
    """The text that is expected."""
    if case.expects() == "skipped":
        return before
    if not case.expected.exists():
        return ""
    return case.expected.read_text(encoding="utf-8")


def _run(case: Case) -> Tuple[str, str, Any]:
    op_def = case.op_def(builtin_ops(), ops_of(NEWEST))
    meta_graph = case.meta_graph(op_def)
    model = Model([], {}, {}, {}, [])
    source = Source(by_saver=bool(case.value("by_saver")), acts=True)
    graph, context = metagraph.read_variant(model, meta_graph, source, NOTHING)
    for key, value in case.header:
        word, _, name = key.partition(" ")
        if word == "left":
            context.left[name] = value
        elif word in _SETS:
            getattr(context, word).update(split(value))
        elif word == "initializers":
            context.initializers += split(value)
    for name in split(case.value("after")):
        _PASSES[name].run(graph, context)
    before, known = _text(graph, context), _said(graph, context)
    (step,) = [s for s in PASSES if folder_of(s.name) == case.folder]
    try:
        step.run(graph, context)
    except HubCompatError as error:
        return before, "{}: {}\n".format(type(error).__name__, error), None
    after, said = _text(graph, context), _said(graph, context)
    lines = ["{}: {}".format(*each) for each in said if each not in known]
    keys = [key for key, _ in said]
    lines += ["{}: nothing".format(key) for key, _ in known if key not in keys]
    broken = step.ensures(graph, context) if step.ensures is not None else None
    lines += ["broken: " + broken] if broken else []
    after += "".join(["\n" * bool(lines)] + [s + "\n" for s in lines])
    graph_def = meta_graph.graph_def
    del graph_def.node[:], graph_def.library.function[:]
    graph_def.node.extend(graph.nodes.values())
    graph_def.library.function.extend(graph.library.values())
    return before, after, graph_def


def _text(graph: Graph, context: Context) -> str:
    """The graph and its functions."""
    types = graph_text.types_of(graph.nodes.values(), graph.op_def, graph.library)
    blocks = [
        "\n".join(
            graph_text.print_node(node, graph.op_def(node.op), types, graph.library)
            for node in graph.nodes.values()
        )
    ]
    for function in graph.library.values():
        blocks.append(graph_text.print_function(function, graph.op_def, graph.library))
    return "\n\n".join(blocks) + "\n"


def _said(graph: Graph, context: Context) -> List[Tuple[str, str]]:
    """What passes have said of the graph: names of fields, and their values."""
    fields: Dict[str, Any] = {name: getattr(graph, name) for name in _OF_GRAPH}
    fields["references"] = {
        tensor: dtype_name(dtype) for tensor, dtype in graph.references.items()
    }
    fields.update((name, getattr(context, name)) for name in _OF_CONTEXT)
    if context.initial is not None:
        fields["restored"] = context.initial.restored
        fields["initial"] = context.initial.values.initial
        fields["without value"] = context.initial.values.lost
    said = []
    for name, value in fields.items():
        if name == "left":
            for reason in sorted(set(value.values())):
                nodes = sorted(n for n, why in value.items() if why == reason)
                said.append((name, "{} ({})".format(", ".join(nodes), reason)))
        elif isinstance(value, dict):
            said += [(name, "{} -> {}".format(k, value[k])) for k in sorted(value)]
        elif value:
            ordered = sorted(value) if isinstance(value, set) else value
            said.append((name, ", ".join(ordered)))
    return said + [("warning", each) for each in context.model.warnings]


def _lower(case: Case) -> Tuple[str, str, Any]:
    target = of_target(case.value("target", "tf1.15"))
    newest = ops_of(NEWEST)
    as_written = case.op_def(newest, builtin_ops())
    meta_graph = case.meta_graph(as_written)
    saved_model = saved_model_pb2.SavedModel(meta_graphs=[meta_graph])
    (meta_graph,) = saved_model.meta_graphs
    _add_objects(meta_graph.object_graph_def, case.functions[-1].signature.name)

    def op_def(name: str) -> Any:
        return target.get(name) or as_written(name)

    def text(op_def: Callable[[str], Any]) -> str:
        library = {f.signature.name: f for f in meta_graph.graph_def.library.function}

        def own(name: str) -> Any:
            return library[name].signature if name in library else op_def(name)

        found = [graph_text.print_function(f, own, library) for f in library.values()]
        return "\n\n".join(found)

    # Of what is left alone, both texts are of the same definitions.
    before = text(op_def) + "\n"
    try:
        lowered = lowering.lower(saved_model, target, "")
    except HubCompatError as error:
        return before, "{}: {}\n".format(type(error).__name__, error), None
    done = "".join("done: {}\n".format(line) for line in lowered.lines())
    if lowering.needs_lowering(saved_model, target):
        done += "broken: {} does not know all of it\n".format(target.name)
    after = text(op_def) + "\n" + ("\n" + done if done else "")
    return before, after, meta_graph.graph_def


def _add_objects(objects: Any, name: str) -> None:
    """An object with one function, and that is what the model is for."""
    root = objects.nodes.add()
    root.user_object.identifier = "_generic_user_object"
    root.children.add(node_id=1, local_name="__call__")
    objects.nodes.add().function.concrete_functions.append(name)
    concrete = objects.concrete_functions[name]
    concrete.canonicalized_input_signature.tuple_value.values.add()


def update(folder: str = "") -> None:
    """Writes the expected texts anew."""
    for case in find(folder):
        try:
            before, after, _ = outcome(case)
        except Exception as error:
            print("FAILED:", case.name, repr(error))
            continue
        kind = case.expects()
        if kind == "skipped":
            if after != before:
                print("NOT SKIPPED:", problem(case))
            continue
        if after == before:
            print("NOTHING DONE:", case.name)
            continue
        if (kind == "refused") != (" " not in after.split(":")[0]):
            print("REFUSED OR NOT:", case.name, after)
        if expected_of(case, before) != after:
            print("wrote", case.expected.relative_to(HERE))
            case.expected.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    update(*sys.argv[1:2])
