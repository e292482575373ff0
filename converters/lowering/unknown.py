"""What to say of an op that a target does not have."""

from __future__ import annotations

import json
import os
import re
from typing import Dict

from .registry import TARGETS, Registry, ops_of

__all__ = ["explain", "home_of"]

_first: Dict[str, str] = {}
# Packages with ops of their own; most prefix the names of them.
_PACKAGES = (
    (r"^Addons>", "tensorflow-addons"),
    (r"^TFText>|^(Wordpiece|FastWordpiece|FastBert|FastSentencepiece|Sentencepiece|"
     r"WhitespaceTokenize|UnicodeScriptTokenize|SplitMergeTokenize|SplitMergeFromLogits|"
     r"CaseFoldUTF8|NormalizeUTF8|RegexSplit|RougeL|NgramsStringJoin|SentenceFragments|"
     r"MstSolve|ConstrainedSequence|ByteSplit|PhraseTokenize|StateBasedSentenceBreak|"
     r"TrimmerRoundRobin|UTF8Binarize|UnicodeNormalize|TextRank|GetWordpiece)",
     "tensorflow-text"),
    (r"^IO>", "tensorflow-io"),
    (r"^TFRA>", "tensorflow-recommenders-addons"),
    (r"^SimpleML", "tensorflow-decision-forests"),
    (r"^(Sentencepiece|SPM)", "tf-sentencepiece"),
    (r"^TRTEngine", "TensorRT, in a TensorFlow built with it"),
    (r"^(TFLite|Tfl)", "a TensorFlow Lite runtime"),
    (r"^Xla", "XLA (jit_compile), which an older TensorFlow cannot run on its own"),
    (r"^Tfq", "tensorflow-quantum"),
)  # fmt: skip


def first_versions() -> Dict[str, str]:
    """The TensorFlow 2 that brought an op: ``{"Name": "2.4"}``."""
    if not _first:
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        path = os.path.join(folder, "first_versions.json")
        with open(path, encoding="utf-8") as file:
            for version, ops in json.load(file).items():
                _first.update((op, version) for op in ops)
    return _first


def home_of(op: str) -> str:
    """Where an op is: ``"from TensorFlow 2.4 on"``, or a package."""
    first = first_versions().get(op)
    if first is not None:
        return "from TensorFlow {} on".format(first)
    for target in sorted(TARGETS, key=lambda name: TARGETS[name].version):
        if op in ops_of(target):
            return "in TensorFlow {}.{} at the latest".format(*TARGETS[target].version)
    for pattern, package in _PACKAGES:
        if re.search(pattern, op):
            return "of the package {}".format(package)
    return "in no TensorFlow up to {}.{}, or of a package that is not known".format(
        *max(target.version for target in TARGETS.values())
    )


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
