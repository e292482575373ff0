"""Ops with which a model reaches beyond itself: files, the network, code.

A model is a program. What is listed here was found by going through the op lists of
TensorFlow 1.15 with contrib and of 2.21, by what inputs and attributes are called.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, Set

from .calls import called_by
from .dtypes import DT_STRING

__all__ = ["OutsideOps", "warnings_of_model", "warnings_of_saved_model"]

_READS = (
    r"ReadFile|MatchingFiles|(Experimental)?MatchingFilesDataset|Restore(Slice|V2)?|"
    r"DTensorRestoreV2|(TextLine|FixedLengthRecord|TFRecord|WholeFile|LMDB)Reader(V2)?|"
    r"RecordInput|ImmutableConst|LoadAndRemapMatrix|GenerateVocabRemapping|Skipgram|"
    r"(TextLine|FixedLengthRecord|TFRecord|CSV|LMDB|ExperimentalCSV|ExperimentalLMDB)"
    r"Dataset(V2)?|(Experimental)?SqlDataset|LoadDataset|SnapshotDataset\w*|"
    r"(List)?SnapshotChunk\w*Dataset|SnapshotNestedDatasetReader|"
    r"InitializeTableFromTextFile(V2)?|InitializeTRTResource|GetCalibrationDataOp"
)
_WRITES = (
    r"WriteFile|Save|SaveSlices|SaveV2|SaveDataset(V2)?|MergeV2Checkpoints|"
    r"(Experimental)?DatasetToTFRecord|CacheDataset(V2)?|DistributedSave|DumpTensor|"
    r"CreateSummary(File|Db)Writer|CalibrationStatisticsSaver|SerializeTRTResource"
)
_NETWORK = (
    r"(Try)?Rpc|Rpc(Call|Client|Server\w*|GetValue)|RemoteCall|DataServiceDataset(V\d)?|"
    r"RegisterDataset(V2)?|(Kafka|Kinesis|Ignite|PubSub|Bigtable)\w*|BigQueryReader|"
    r"Gcs\w+|FileSystemSetConfiguration"
)
_CODE = (
    r"PyFunc|PyFuncStateless|EagerPyFunc|XlaCustomCall(V2)?|RemoteFusedGraphExecute|"
    r"TRTEngineOp|(Decode|Encode)(Audio|Video)(V2)?|Abort"
)
_KINDS = {
    "reads files": re.compile("({})$".format(_READS)),
    "writes files": re.compile("({})$".format(_WRITES)),
    "uses the network": re.compile("({})$".format(_NETWORK)),
    "runs code that is not in the graph": re.compile("({})$".format(_CODE)),
    # tensorflow_io has readers and writers of every kind.
    "reads or writes by tensorflow_io": re.compile("IO>"),
}
# What else these do depends on an attribute.
_BY_ATTRIBUTE = {
    "PrintV2": "output_stream",
    "FixedUnigramCandidateSampler": "vocab_file",
}
_VOCABULARY = re.compile(r"InitializeTableFromTextFile(V2)?$")
_FILENAME = 1


def warnings_of_model(model: Any) -> List[str]:
    """The warnings about the signatures of a TF1 model.

    Args:
      model: the ``Model``, with what has been left out of it gone.
    """
    found = []
    for variant in model.variants:
        graph = variant.graph
        assets = [n for n, c in variant.captures.items() if c.dtype == DT_STRING]
        ops = OutsideOps(graph.library, assets)
        named: Dict[str, List[str]] = {}
        for name, signature in sorted(variant.signatures.items()):
            outputs = [c.tensor for c in signature.flat_outputs()]
            fed = {c.tensor for c in signature.flat_inputs()}
            text = _describe(ops.of_nodes(graph.nodes, graph.slice(outputs, fed)))
            named.setdefault(text, []).append("signature {!r}".format(name))
        others = ["^" + op for op in variant.update_ops + variant.initializers]
        reached = graph.slice(list(variant.losses) + others)
        text = _describe(ops.of_nodes(graph.nodes, reached))
        named.setdefault(text, []).append("its initializers or updates")
        for text, whose in named.items():
            if text:
                found.append(
                    "variant {}: {}: {}{}".format(
                        list(variant.tags), ", ".join(whose), text, _TRUST
                    )
                )
    return found


def warnings_of_saved_model(saved_model: Any) -> List[str]:
    """The warnings about the functions of a TF2 SavedModel's objects."""
    found: Set[str] = set()
    for meta_graph in saved_model.meta_graphs:
        library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
        ops = OutsideOps(library)
        # Saving and restoring, which each model has, are no functions of objects.
        for name in meta_graph.object_graph_def.concrete_functions:
            found |= ops.of_function(name)
    text = _describe(found)
    return ["the model {}{}".format(text, _TRUST)] if text else []


_TRUST = ". A model is a program: use it only if you trust its source"


def _describe(ops: Iterable[str]) -> str:
    """The outside effects of ops: ``"reads files (ReadFile)"``; "" for none."""
    listed = sorted(set(ops))
    parts = []
    for what, pattern in _KINDS.items():
        names = [op for op in listed if pattern.match(op)]
        if names:
            parts.append("{} ({})".format(what, ", ".join(names)))
    attributed = [op for op in listed if op in _BY_ATTRIBUTE or op.startswith("Debug")]
    if attributed:
        parts.append("reads or writes files ({})".format(", ".join(attributed)))
    return "; ".join(parts)


class OutsideOps:
    """Finds such ops among nodes and the functions that they call.

    Args:
      library: the functions, by name.
      assets: nodes that hold the path of an asset: to read one is no reason to warn.
    """

    def __init__(self, library: Mapping[str, Any], assets: Iterable[str] = ()) -> None:
        self._library = library
        self._assets = set(assets)
        self._functions: Dict[str, Set[str]] = {}

    def of_nodes(self, nodes: Mapping[str, Any], names: Iterable[str]) -> Set[str]:
        """The ops of some nodes of a graph.

        Args:
          nodes: all of the graph, by name.
          names: which.
        """
        found: Set[str] = set()
        for name in names:
            node = nodes[name]
            if not self._reads_asset(node, nodes):
                found |= self._of_node(node)
        return found

    def of_function(self, name: str) -> Set[str]:
        """The ops of a function."""
        if name not in self._functions:
            self._functions[name] = set()  # for a function that calls itself
            function = self._library.get(name)
            found: Set[str] = set()
            nodes = function.node_def if function is not None else ()
            own = {node.name for node in nodes}
            for node in nodes:
                # A vocabulary that a function is given is nearly always an asset.
                given = _VOCABULARY.match(node.op) and _source(node) not in own
                if not given:
                    found |= self._of_node(node)
            self._functions[name] = found
        return self._functions[name]

    def _of_node(self, node: Any) -> Set[str]:
        found = {node.op} if _is_outside(node) else set()
        for name in called_by(node):
            found |= self.of_function(name)
        return found

    def _reads_asset(self, node: Any, nodes: Mapping[str, Any]) -> bool:
        if not _KINDS["reads files"].match(node.op):
            return False
        index = _FILENAME if _VOCABULARY.match(node.op) else 0
        inputs: List[str] = list(node.input)
        seen: Set[str] = set()
        while index < len(inputs):
            name = inputs[index].split(":")[0].lstrip("^")
            if name in self._assets:
                return True
            source = nodes.get(name)
            if source is None or source.op != "Identity" or name in seen:
                return False
            seen.add(name)
            inputs, index = list(source.input), 0
        return False


def _source(node: Any) -> str:
    names = [str(tensor) for tensor in node.input]
    return names[_FILENAME].split(":")[0] if len(names) > _FILENAME else ""


def _is_outside(node: Any) -> bool:
    if node.op in _BY_ATTRIBUTE:
        value: bytes = node.attr[_BY_ATTRIBUTE[node.op]].s
        return value.startswith(b"file:") if node.op == "PrintV2" else bool(value)
    if node.op.startswith("Debug"):
        return bool(node.attr["debug_urls"].list.s)
    return any(pattern.match(node.op) for pattern in _KINDS.values())
