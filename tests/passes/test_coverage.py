"""Each pass and each key of a rule table has a text, and a reason to be there."""

from __future__ import annotations

import functools
import gzip
import itertools
from pathlib import Path
from typing import Any, Callable, Dict, List, Set, Tuple

import cases
import pytest

from hub_compat._tf import saved_model_pb2
from hub_compat.converters.ir.rewriter import Producers
from hub_compat.converters.lowering import attributes, rules
from hub_compat.converters.lowering.rules import gradients, random
from hub_compat.converters.opdata.op_defs import builtin_ops, homes
from hub_compat.converters.opdata.targets import TARGETS, ops_of
from hub_compat.converters.passes.dropped_ops import REWRITES
from hub_compat.converters.pipeline import PASSES

pytestmark = [pytest.mark.tensorflow, pytest.mark.passes]

_KINDS: Dict[str, Dict[str, Set[str]]] = {}
for _case in cases.find():
    # Of "Conv2D-depthwise", the key is "Conv2D".
    _key = _case.name.rpartition("/")[2].split("-")[0]
    _KINDS.setdefault(_case.folder, {}).setdefault(_key, set()).add(_case.expects())

# Passes that refuse nothing: what they cannot rewrite, they leave. These do.
_REFUSE = {"initial values", "variables"}
# Ops that both lists have, and are rewritten all the same.
_SAME_IN_BOTH = {
    "BoostedTreesBucketize": "TensorFlow 2 has the op, and no kernel for it",
    "FusedBatchNorm": "its gradient by contrib.quantize is gone, not the op",
    "FusedBatchNormV2": "its gradient by contrib.quantize is gone, not the op",
    "FusedBatchNormV3": "its gradient by contrib.quantize is gone, not the op",
    "GRUBlockCell": "its gradient was in contrib.rnn, and is gone",
    "LSTMBlockCell": "its gradient was in contrib.rnn, and is gone",
}
_OLD, _NEW = ops_of("tf1.15"), ops_of("tf2.21")


def _attributes(op: Any) -> Set[str]:
    return {attr.name for attr in op.attr}


@pytest.mark.parametrize("step", PASSES, ids=[step.name for step in PASSES])
def test_each_pass(step: Any) -> None:
    """It has a text that it rewrites, one that it skips, and what it refuses."""
    kinds = set().union(*_KINDS.get(cases.folder_of(step.name), {}).values())
    refused = {"refused"} if step.name in _REFUSE else set()
    assert kinds == {"rewritten", "skipped"} | refused


def test_no_folder_is_left_over() -> None:
    """Each folder is a pass, or one of the three of lowering rules."""
    known = {cases.folder_of(step.name) for step in PASSES}
    known |= {"lowering/" + kind for kind in ("ops", "attributes", "tf1_15")}
    assert set(_KINDS) == known


@pytest.mark.parametrize(
    "folder, keys",
    [
        ("dropped_ops", list(REWRITES)),
        ("lowering/ops", list(rules.OPS)),
        ("lowering/attributes", [".".join(key) for key in rules.ATTRIBUTES]),
        ("lowering/tf1_15", list(gradients.RULES)),
        ("lowering/tf1_15", sorted(random.STATEFUL.keys() & _OLD.keys())),
    ],
)
def test_each_rule(folder: str, keys: Any) -> None:
    """Each key of a table has a text that is rewritten."""
    texts = _KINDS[folder]
    assert [key for key in keys if "rewritten" not in texts.get(key, ())] == []


_TESTDATA = Path(__file__).resolve().parent.parent.parent / "testdata"
# Keys that no recorded model has, and why.
_NOT_RECORDED: Dict[Any, str] = {
    "MatrixDiagPartV2": "TensorFlow 2.21 writes V3, whose rule is the same",
    "MatrixDiagV2": "TensorFlow 2.21 writes V3, whose rule is the same",
    "MatrixSetDiagV2": "TensorFlow 2.21 writes V3, whose rule is the same",
}


@functools.lru_cache(maxsize=None)
def _recorded() -> Dict[str, List[Tuple[Any, Any]]]:
    """Nodes of recorded models by op, each with what finds its producers.

    The models are those of TensorFlow 2.21: a test runs every one in TF 1.15.
    """
    found: Dict[str, List[Tuple[Any, Any]]] = {}
    ops = {op for op, _ in rules.ATTRIBUTES} | rules.OPS.keys()
    ops |= gradients.RULES.keys() | random.STATEFUL.keys()
    for path in sorted(_TESTDATA.glob("tf221*/**/saved_model.pb*")):
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        for meta_graph in saved_model_pb2.SavedModel.FromString(data).meta_graphs:
            functions = meta_graph.graph_def.library.function
            bodies = [function.node_def for function in functions]
            for nodes in bodies + [meta_graph.graph_def.node]:
                producer = Producers(nodes)
                for node in nodes:
                    if node.op in ops:
                        found.setdefault(node.op, []).append((node, producer))
    return found


def _has_attribute(key: Tuple[str, str]) -> bool:
    """Whether some node has another value of an attribute than the default."""
    op, name = key
    (default,) = [a.default_value for a in _NEW[op].attr if a.name == name]
    return any(
        name in node.attr and node.attr[name] != default
        for node, _ in _recorded().get(op, [])
    )


def _has_lost_gradient(op: str) -> bool:
    """Whether some node is one that TF 1.15 differentiates otherwise."""
    return any(
        # Whether it is one in groups, its shapes say.
        op == "Conv2D" or gradients.unsettled(node, producer)
        for node, producer in _recorded().get(op, [])
    )


@pytest.mark.parametrize(
    "keys, is_recorded",
    [
        (rules.OPS, lambda op: op in _recorded()),
        (rules.ATTRIBUTES, _has_attribute),
        (gradients.RULES, _has_lost_gradient),
        (random.STATEFUL, lambda op: op in _recorded()),
    ],
    ids=["ops", "attributes", "gradients", "stateful"],
)
def test_each_rule_runs(keys: Any, is_recorded: Callable[[Any], bool]) -> None:
    """Each key of a table is in a model that is run in TF 1.15, or says why not."""
    missing = {key for key in keys if not is_recorded(key)}
    assert missing == _NOT_RECORDED.keys() & set(keys)


def test_dropped_ops_are_gone() -> None:
    """The keys of REWRITES are not what TensorFlow 2 has; with reasons, what it has."""
    gone = homes()
    same = {
        op for op in REWRITES if op not in gone and op in builtin_ops() and op in _NEW
    }
    assert same == set(_SAME_IN_BOTH)
    assert same | gone.keys() >= REWRITES.keys()


def test_rules_are_of_newer_ops() -> None:
    """An op with a rule is in the newest list, and some target lacks it."""
    targets = [ops_of(name) for name in TARGETS]
    for op in rules.OPS:
        assert op in _NEW, op
        assert any(op not in ops for ops in targets), op


def test_rules_are_of_newer_attributes() -> None:
    """An attribute with a rule is one that TF 1.15 lacks, of an op that it has."""
    for op, name in rules.ATTRIBUTES:
        assert name in _attributes(_NEW[op]), (op, name)
        assert op in _OLD, (op, name)
        assert name not in _attributes(_OLD[op]), (op, name)


def test_what_tf1_needs_is_of_ops_that_it_has() -> None:
    """Of an op that TF 1.15 lacks there is a rule in OPS instead."""
    assert [op for op in gradients.RULES if op not in _OLD] == []


def test_meaningless_attributes_are_newer() -> None:
    """What is dropped without a rule is an attribute that an older target lacks."""
    lists = [ops_of(name) for name in TARGETS]
    for op, name in attributes.MEANINGLESS:
        assert any(
            name in _attributes(new[each]) and name not in _attributes(old[each])
            for old, new in itertools.combinations(lists, 2)
            for each in ([op] if op != "*" else new)
            if each in old and each in new
        ), (op, name)
