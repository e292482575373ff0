"""Comments are there where a newcomer looks for them: a drawing above each pass."""

from __future__ import annotations

import inspect
import os
import re
import tokenize
from pathlib import Path
from typing import Iterator

import pytest

import hub_compat
import hub_compat.converters

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(hub_compat.__file__).resolve().parent
CONVERTERS = Path(hub_compat.converters.__file__).resolve().parent
# Of all lines; what was reached when this was written. It may only grow.
LEAST = 0.047


def _files() -> Iterator[Path]:
    """The files of both trees, each once: converters/ is linked into the package."""
    for tree in {PACKAGE, CONVERTERS}:
        for folder, folders, names in os.walk(str(tree)):
            if tree == PACKAGE and Path(folder) == PACKAGE and "converters" in folders:
                folders.remove("converters")
            for name in names:
                if name.endswith(".py"):
                    yield Path(folder) / name


@pytest.mark.tensorflow
def test_each_pass_has_a_drawing() -> None:
    """Above its function: the graph before it and after it, and what holds then."""
    from hub_compat.converters import pipeline

    assert pipeline.PASSES
    wrong = {}
    for step in pipeline.PASSES:
        comment = re.sub(r"^# ?", "", inspect.getcomments(step.run) or "", flags=re.M)
        drawing = re.search(
            r"^Given:.*\n((?:.*\n)*?)^Result:(.*\n(?: .*\n)*)", comment, re.M
        )
        if drawing is None:
            wrong[step.name] = "no Given and Result"
        elif not drawing.group(1).strip() or not drawing.group(2).strip():
            wrong[step.name] = "an empty drawing"
        elif "\nAfterwards, " not in comment:
            wrong[step.name] = "not what holds afterwards"
    assert wrong == {}


def test_comments_are_not_fewer() -> None:
    """Their share of the lines of both trees is not below what it has been."""
    lines = comments = 0
    for path in _files():
        with tokenize.open(str(path)) as file:
            lines += len(file.readlines())
        with tokenize.open(str(path)) as file:
            comments += sum(
                token.type == tokenize.COMMENT
                for token in tokenize.generate_tokens(file.readline)
            )
    assert lines > 10000
    assert comments / lines >= LEAST
