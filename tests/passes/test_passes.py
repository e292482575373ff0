"""Each pass and each lowering rule, on small graphs: texts before and after."""

from __future__ import annotations

from typing import Any

import cases
import graph_text
import pytest

from hub_compat.converters.opdata.op_defs import builtin_ops

pytestmark = [pytest.mark.tensorflow, pytest.mark.passes]

_CASES = cases.find()


@pytest.mark.parametrize("case", _CASES, ids=[case.name for case in _CASES])
def test_the_text_afterwards(case: Any) -> None:
    """A case comes out as its expected text says, or unchanged, or is refused."""
    difference = cases.problem(case)
    assert not difference, "\n" + difference + "\n(make passes-update writes it anew)"


def test_no_expected_text_is_left_over() -> None:
    """Each expected text has a case; what must be skipped has none."""
    wanted = {case.expected for case in _CASES if case.expects() != "skipped"}
    assert set(cases.HERE.rglob("*.expected.txt")) == wanted


def test_no_node_lacks_an_attribute() -> None:
    """No pass leaves a node that TensorFlow refuses, or breaks what it ensures."""
    for path in cases.HERE.rglob("*.expected.txt"):
        text = path.read_text(encoding="utf-8")
        assert ": none" not in text, path
        assert ": unset" not in text, path
        assert "broken: " not in text, path


def test_a_difference_is_shown_as_lines() -> None:
    """A wrong pass is reported as the lines that differ, and no others."""
    (case,) = [case for case in _CASES if case.name == "variables/read"]
    case = cases.Case(case.path)
    case.nodes[1].attr["dtype"].type = 2
    case.nodes[0].attr["dtype"].type = 2
    lines = cases.problem(case).splitlines()
    assert any(line.startswith("-weights = VarHandleOp") for line in lines)
    assert any(line.startswith("+weights = VarHandleOp") for line in lines)
    assert not any(line[1:].startswith("y = Mul") for line in lines if line[0] in "+-")


@pytest.mark.parametrize(
    "line",
    [
        "x = Placeholder {dtype: float32, shape: <2, ?>}",
        'y = Add(x, x:0, ^z) {_class: ["loc:@x"], _flag: true, _scale: -0.5}',
        "c = Const {dtype: string, value: string([b'a, b', b'}'])}",
        "f = PartitionedCall {Tout: [int32], f: @function}",
        'w = VarHandleOp {dtype: bfloat16, shape: <*>, shared_name: "a \\\\ {b"}',
    ],
)
def test_text_and_back(line: str) -> None:
    """A line that is read and written again is the same."""
    node = graph_text.parse_node(line)
    types = {"x:0": 1, "x": 1}
    graph_text.types_of([node], builtin_ops().__getitem__, {}, None, complete=True)
    for name, value in graph_text.derive(
        node, builtin_ops()[node.op], types, {}
    ).items():
        node.attr[name].CopyFrom(value)
    assert graph_text.print_node(node, builtin_ops()[node.op], types, {}) == line
