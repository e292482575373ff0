"""What runs the passes: its errors say where to look."""

from __future__ import annotations

from typing import Any

import pytest

from hub_compat import errors

pytestmark = pytest.mark.tensorflow


def run(*passes: Any) -> None:
    """Runs passes over an empty graph, of the variant "train"."""
    from hub_compat._tf import meta_graph_pb2
    from hub_compat.converters import pipeline
    from hub_compat.converters.ir.context import Context, Source
    from hub_compat.converters.ir.graph import Graph
    from hub_compat.converters.ir.model import Model

    meta_graph = meta_graph_pb2.MetaGraphDef()
    model = Model([], {}, {}, {}, [])
    context = Context(model, meta_graph, Source(), ("train",), [], [], [], [], [])
    steps = tuple(pipeline.Pass(*each) for each in passes)
    pipeline.run(steps, Graph(meta_graph), context)


def nothing(graph: Any, context: Any) -> None:
    """A pass that changes nothing."""


def test_an_error_names_the_pass_the_variant_and_those_before() -> None:
    """What no pass should raise; its cause is chained."""

    def fails(graph: Any, context: Any) -> None:
        raise KeyError("node")

    with pytest.raises(
        errors.ConversionError,
        match=r"'third', over the variant \['train'\], after 'one', 'two'.*KeyError",
    ) as raised:
        run(("one", nothing), ("two", nothing), ("third", fails), ("last", nothing))
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_error_of_ours_stays_as_it_is() -> None:
    """It says what it is about."""
    error = errors.UnknownOpError("The op is unknown.")

    def refuses(graph: Any, context: Any) -> None:
        raise error

    with pytest.raises(errors.UnknownOpError) as raised:
        run(("one", nothing), ("two", refuses))
    assert raised.value is error


def test_what_a_pass_ensures_is_checked_on_demand(monkeypatch: Any) -> None:
    """With the variable that tests set; without it, nothing is looked for."""
    broken = ("one", nothing, lambda graph, context: "a reference is left")
    monkeypatch.setenv("HUB_COMPAT_CHECK_PASSES", "1")
    with pytest.raises(
        errors.ConversionError, match="pass 'one'.*after no other.*a reference is left"
    ):
        run(broken)
    monkeypatch.delenv("HUB_COMPAT_CHECK_PASSES")
    run(broken)
