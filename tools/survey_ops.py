"""Which ops of TensorFlow 1.15 and its contrib are gone: ``make survey``.

Lists the registered ops and CPU kernels of TensorFlow 1.15.5, with all of
contrib's libraries loaded, and of the newest TensorFlow, each in its environment;
writes what is missing there to ``opdata/dropped_ops.json``, for error messages,
and to ``docs/dropped_ops.md``, for people::

    python tools/survey_ops.py           # runs the two listings, writes the files
    python tools/survey_ops.py --list    # one listing, as JSON, of this TensorFlow
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "converters" / "opdata" / "dropped_ops.json"
PAGE = ROOT / "docs" / "dropped_ops.md"
OLD, NEW = "tf115", "tf221"


def list_ops() -> Dict[str, Any]:
    """The ops and CPU kernels of the TensorFlow that runs this."""
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.framework import kernels

    try:
        from tensorflow.python.client import pywrap_tf_session as c
    except ImportError:
        from tensorflow.python import pywrap_tensorflow as c
    homes: Dict[str, str] = {}
    if tf.__version__.startswith("1."):
        contrib = Path(sys.modules["tensorflow_core"].__file__).parent / "contrib"
        for library in sorted(contrib.rglob("*.so")):
            try:
                ops = tf.load_op_library(str(library)).OP_LIST.op
            except tf.errors.NotFoundError:  # a library of another library
                continue
            package = library.relative_to(contrib).parts[0]
            homes.update((op.name, "tf.contrib." + package) for op in ops)
    registered = op_def_pb2.OpList()
    registered.ParseFromString(c.TF_GetBuffer(c.TF_GetAllOpList()))
    return {
        "tensorflow": tf.__version__,
        "homes": {op.name: homes.get(op.name, "TensorFlow") for op in registered.op},
        "kernels": sorted(
            {
                kernel.op
                for kernel in kernels.get_all_registered_kernels().kernel
                if kernel.device_type == "CPU"
            }
        ),
    }


def listing(environment: str) -> Any:
    """What ``list_ops`` gives in one of the project's environments."""
    command = [sys.executable, str(ROOT / "tools" / "environments.py"), "run"]
    output = subprocess.check_output(
        command + [environment, str(Path(__file__).resolve()), "--list"],
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"),
    )
    return json.loads(output.decode().splitlines()[-1])


def rewritten() -> List[str]:
    """Ops that the converter rewrites, as its source has them."""
    source = (ROOT / "converters" / "passes" / "dropped_ops.py").read_text()
    return re.findall(r'^    "(\w+)": _\w+,$', source, re.MULTILINE)


def page(old: Any, new: Any, gone: Dict[str, str], idle: List[str]) -> str:
    """The Markdown page."""
    rewrites = rewritten()
    packages: Dict[str, List[str]] = {}
    for op in sorted(gone):
        packages.setdefault(gone[op], []).append(op)

    def names(ops: List[str]) -> str:
        return ", ".join(
            "**`{}`**".format(op) if op in rewrites else "`{}`".format(op) for op in ops
        )

    lines = [
        "# Ops that TensorFlow has dropped",
        "",
        "Written by `make survey`, which lists ops and CPU kernels of TensorFlow {} "
        "with all of contrib, and of TensorFlow {}. The converter rewrites those in "
        "**bold** to current ops with equal results "
        "(`converters/passes/dropped_ops.py`). A model with any other loads where the "
        "op exists: in TensorFlow 1.15, once the package is imported.".format(
            old["tensorflow"], new["tensorflow"]
        ),
        "",
        "{} ops are not registered any more:".format(len(gone)),
        "",
        "| came from | ops |",
        "| --- | --- |",
    ]
    for package in sorted(packages):
        lines.append("| `{}` | {} |".format(package, names(packages[package])))
    lines += [
        "",
        "{} ops are registered, but have no kernel for a CPU any more, so that a model "
        "loads and a call of it fails:".format(len(idle)),
        "",
        names(idle) + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    if "--list" in sys.argv:
        print(json.dumps(list_ops()))
        return
    old, new = listing(OLD), listing(NEW)
    gone = {
        op: home
        for op, home in old["homes"].items()
        # A leading underscore: made by an optimizer, never in a saved graph.
        if op not in new["homes"] and not op.startswith("_")
    }
    idle = sorted(
        op
        for op in set(old["kernels"]).intersection(new["homes"]) - set(new["kernels"])
        if not op.startswith("_")
    )
    missing = set(rewritten()) - set(gone) - set(idle)
    assert not missing, "rewritten, but not dropped: {}".format(missing)
    DATA.write_text(json.dumps(gone, indent=0, sort_keys=True) + "\n")
    PAGE.write_text(page(old, new, gone, idle))
    print("{} ops gone, {} without a CPU kernel".format(len(gone), len(idle)))


if __name__ == "__main__":
    main()
