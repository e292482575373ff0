"""Finds the cause in an exception of TensorFlow, as one line.

TensorFlow 2 puts the cause behind a heading ("Graph execution error:") and the places
where nodes were made; TensorFlow 1 puts those behind the cause. Python's own errors in
traced functions come with the lines of the program.
"""

from __future__ import annotations

import re
from typing import Iterator, List, Optional

from hub_compat.errors import HubCompatError

__all__ = ["cause"]

_LONGEST = 500
# From here on there is nothing but places in programs, or lists of what exists.
_END = re.compile(
    r"^(Original stack trace for |Registered kernels:|Errors may have originated|"
    r"Input Source operations connected|Function call stack:|\(1\) )"
)
_NOISE = re.compile(
    r"^(Graph execution error:|Detected at node .*|Node: '.*'|in user code:|"
    r"<stack traces unavailable>|Traceback \(most recent call last\):|"
    r"\[\[.*\]\](?: \[Op:.*\])?|\d+ root error\(s\) found\.|"
    r"\d+ successful operations\.|"
    r"\d+ derived errors ignored\.|Registered devices: .*|"
    r"Hint: If you want to see a list of allocated tensors.*)?$"
)
_FILE = re.compile(r'^File ".*", line \d+')
_FIRST_OF_SEVERAL = re.compile(r"^(?:\(0\) )?(?:[A-Z][A-Z_]+: +)?(?:\[_Derived_\] *)?")
# The names that TensorFlow gives to functions mean nothing to a reader.
_WRAPPER = re.compile(r"\{\{function_node \S*?\}\} ?")
# Their text alone, a name or nothing, says little.
_LACONIC = (KeyError, AssertionError, AttributeError, IndexError)


def cause(error: Optional[BaseException]) -> str:
    """Returns the cause that an exception names, in one line of 500 letters at most.

    Args:
      error: the exception; one without a text stands for what it was raised from.
    """
    while error is not None and not str(error).strip():
        if error.__cause__ is None:
            return type(error).__name__
        error = error.__cause__
    text = str(error)
    said = " ".join(dict.fromkeys(_said(text))) or " ".join(text.split())
    if isinstance(error, _LACONIC) and not isinstance(error, HubCompatError):
        said = "{}: {}".format(type(error).__name__, said)
    return said if len(said) <= _LONGEST else said[: _LONGEST - 4].rstrip() + " ..."


def _said(text: str) -> Iterator[str]:
    """The lines of a text that are neither headings nor places in programs."""
    within: Optional[int] = None
    lines: List[str] = _WRAPPER.sub("", text).splitlines()
    for line in lines:
        stripped = line.strip()
        if _END.match(stripped):
            return
        indent = len(line) - len(line.lstrip())
        if _FILE.match(stripped):
            within = indent
        elif within is not None and stripped and indent > within:
            continue
        else:
            within = None if stripped else within
            stripped = _FIRST_OF_SEVERAL.sub("", stripped)
            if not _NOISE.match(stripped):
                yield " ".join(stripped.split())
