"""What is taken from the text of an exception of TensorFlow."""

from __future__ import annotations

from typing import Any

import pytest

from hub_compat._causes import cause

GRAPH = """Graph execution error:

Detected at node 'a/Reshape' defined at (most recent call last):
    File "/home/me/train.py", line 36, in <module>
      x = load(y)
          ^^^^^^^
    File "/home/me/train.py", line 4, in show
Node: 'a/Reshape'
Input to reshape is a tensor with 2 values, but the requested shape has 7
\t [[{{node a/Reshape}}]]
\t [[StatefulPartitionedCall]] [Op:__inference_f_12]

Original stack trace for 'a/Reshape':
  File "/home/me/train.py", line 36, in <module>
"""
RESHAPE = "Input to reshape is a tensor with 2 values, but the requested shape has 7"
NO_KERNEL = """Graph execution error:

No OpKernel was registered to support Op 'Boosted' used by {{node Boosted}}
Registered devices: [CPU]
Registered kernels:
  <no registered kernels>

\t [[Boosted]]"""
SEVERAL = """2 root error(s) found.
  (0) INVALID_ARGUMENT:  indices[0] = 100 is not in [0, 2)
\t [[{{node GatherV2}}]]
  (1) INVALID_ARGUMENT:  indices[0] = 100 is not in [0, 2)
\t [[{{node GatherV2}}]]
0 successful operations.
0 derived errors ignored."""
PYTHON = """RuntimeError: python says no
Traceback (most recent call last):

  File "/site/script_ops.py", line 235, in __call__
    ret = func(*args)

  File "/home/me/a.py", line 28, in f
    def f(x): raise RuntimeError("python says no")

RuntimeError: python says no


\t [[node PyFunc (defined at /home/me/a.py:1748) ]]

Original stack trace for 'PyFunc':
  File "a.py", line 36, in <module>
"""
TRACED = """in user code:

    File "/home/me/a.py", line 10, in outer  *
        return inner(x) + tf.gather(x, [100])
    File "/home/me/a.py", line 7, in inner  *
        return tf.reshape(x, [7])

    ValueError: Cannot reshape a tensor with 2 elements
"""
EAGER = (
    "{{function_node __wrapped__Reshape_device_/job:localhost/task:0/device:CPU:0}} "
    + RESHAPE
    + " [Op:Reshape]"
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (GRAPH, RESHAPE),
        (
            NO_KERNEL,
            "No OpKernel was registered to support Op 'Boosted' used by "
            "{{node Boosted}}",
        ),
        (SEVERAL, "indices[0] = 100 is not in [0, 2)"),
        (PYTHON, "RuntimeError: python says no"),
        (TRACED, "ValueError: Cannot reshape a tensor with 2 elements"),
        (EAGER, RESHAPE + " [Op:Reshape]"),
        ("[_Derived_]  too late\n\t [[x]]", "too late"),
        ("one\n  two\n\nthree", "one two three"),
        ("x" * 600, "x" * 496 + " ..."),
    ],
)
def test_cause_of_tensorflow(text: str, wanted: str) -> None:
    """Headings, places in programs and lists of what exists are not the cause."""
    assert cause(RuntimeError(text)) == wanted


def chained() -> Exception:
    """An error without a text, raised from one with a text."""
    try:
        try:
            raise OSError("the disk is full")
        except OSError as error:
            raise RuntimeError from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (AttributeError("no such thing"), "AttributeError: no such thing"),
        (AssertionError(), "AssertionError"),
        (RuntimeError(), "RuntimeError"),
        (chained(), "the disk is full"),
        (RuntimeError("Graph execution error:"), "Graph execution error:"),
    ],
)
def test_cause_of_laconic_errors(error: Any, wanted: str) -> None:
    """Where the text says little, or nothing, the class or the cause says more."""
    assert cause(error) == wanted
