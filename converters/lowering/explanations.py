"""Explains where an op is available that a target does not have."""

from __future__ import annotations

import re
from typing import Dict

from ..opdata.op_defs import first_versions, packages_by_op
from ..opdata.targets import TARGETS, Registry, ops_of

__all__ = ["explain", "home_of"]

# Beside those that tools/make_package_ops.py found: how names begin, of packages whose
# every version has others.
_PACKAGES = (
    (r"^Addons>", "tensorflow-addons"),
    (r"^TFText>", "tensorflow-text"),
    (r"^IO>", "tensorflow-io"),
    (r"^TFRA>", "tensorflow-recommenders-addons"),
    (r"^SimpleML", "tensorflow-decision-forests"),
    (r"^(Sentencepiece|SPM)", "tf-sentencepiece"),
    (r"^(TRTEngine|\w*TRTResource|GetCalibrationDataOp)",
     "TensorRT, in a TensorFlow built with it"),
    (r"^(TFLite|Tfl)", "a TensorFlow Lite runtime"),
    (r"^Lce", "larq-compute-engine"),
    (r"^Horovod", "horovod"),
    (r"^Xla", "XLA (jit_compile), which an older TensorFlow cannot run on its own"),
    (r"^Tfq", "tensorflow-quantum"),
    (r"TPU", "a TensorFlow that is built for TPUs"),
)  # fmt: skip


def home_of(op: str) -> str:
    """Where an op is: ``"from TensorFlow 2.4 on"``, or a package."""
    first = first_versions().get(op)
    if first is not None:
        return "from TensorFlow {} on".format(first)
    for target in sorted(TARGETS, key=lambda name: TARGETS[name].version):
        if op in ops_of(target):
            return "in TensorFlow {}.{} at the latest".format(*TARGETS[target].version)
    packages = packages_by_op().get(op, [])
    if packages:
        return "of the package {}".format(" or ".join(packages))
    for pattern, package in _PACKAGES:
        if re.search(pattern, op):
            return "of the package {}".format(package)
    return (
        "in no TensorFlow up to {}.{}; perhaps in a package that hub_compat does "
        "not know"
    ).format(*max(target.version for target in TARGETS.values()))


def explain(ops: Dict[str, str], registry: Registry) -> str:
    """A sentence on ops that cannot be lowered.

    Args:
      ops: the op itself, or what of it is missing, by op.
      registry: of the target.
    """
    parts = []
    for op, what in sorted(ops.items()):
        if what == op:
            parts.append("{} ({})".format(op, home_of(op)))
        else:
            parts.append(what)
    return "{} has no equivalent of {}.".format(registry.name, "; ".join(parts))
