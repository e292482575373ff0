"""The formats of directories, and the frozen results of the public functions."""

from __future__ import annotations

import dataclasses
import enum
import re
from typing import NamedTuple, Optional, Tuple

__all__ = [
    "ConversionReport",
    "Detection",
    "Format",
    "Producer",
    "SignatureComparison",
    "Variant",
    "VerificationReport",
]


# What load() does with each:
#
#     TF1_HUB_MODULE, TF1_SAVED_MODEL              converts, into the cache
#     TF2_REUSABLE, TF2_KERAS, TF2_SIGNATURES      loads as it is, or lowers
#
# The values are in provenance files and in --json: they never change.
class Format(enum.Enum):
    """The format of a module directory.

    The three TF2 kinds differ in what the root of the object graph offers: it is
    callable (``TF2_REUSABLE``), it is a Keras 2 object, nearly always callable too
    (``TF2_KERAS``), or only the signatures can be called (``TF2_SIGNATURES``, also
    Keras 3's exports). ``detector.py`` has the evidence behind each.
    """

    TF1_HUB_MODULE = "tf1_hub_module"
    TF1_SAVED_MODEL = "tf1_saved_model"
    TF2_REUSABLE = "tf2_reusable"
    TF2_KERAS = "tf2_keras"
    TF2_SIGNATURES = "tf2_signatures"

    @property
    def is_tf2(self) -> bool:
        """Whether TensorFlow 2's object loader reads it as it is."""
        return self.value.startswith("tf2_")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One MetaGraphDef of a SavedModel.

    Attributes:
      tags: the tag set, sorted: ``("serve",)``; empty for a TF1 Hub module's
        default variant.
      signatures: names of its signatures, sorted: ``("default", "logits")``; those
        that TensorFlow keeps for itself (``__saved_model_init_op``) are not listed.
    """

    tags: Tuple[str, ...]
    signatures: Tuple[str, ...]


# Two clocks: the version that people know, and the GraphDef's, which grows each day. A
# nightly build is ahead of its version, so the second can overrule the first.
@dataclasses.dataclass(frozen=True)
class Producer:
    """The TensorFlow that wrote the model.

    Attributes:
      tensorflow_version: ``"1.15.5"``; empty where the writer left it out.
      graph_def_version: ``GraphDef.versions.producer``, 134 for 1.15.5; 0
        where the writer left it out.
    """

    tensorflow_version: str
    graph_def_version: int

    def is_newer_than(self, version: str, graph_def_version: int) -> bool:
        """Whether it is newer than a TensorFlow, or unknown.

        Patches of one release have the same ops. A build may name a release that it
        was long after (1.15.0, of a nightly with the ops of 2.1): the GraphDef's
        version, which grows with each day, tells.

        Args:
          version: of the other TensorFlow, ``"1.15.5"``.
          graph_def_version: its ``tf.version.GRAPH_DEF_VERSION``.
        """
        own, other = _release(self.tensorflow_version), _release(version)
        return not own or own > other or self.graph_def_version > graph_def_version


def _release(version: str) -> Tuple[int, ...]:
    """``"2.21.0"`` -> ``(2, 21)``; nothing for what is no version."""
    numbers = re.findall(r"^([0-9]+)\.([0-9]+)", version)
    return tuple(map(int, numbers[0])) if numbers else ()


@dataclasses.dataclass(frozen=True)
class Detection:
    """The result of ``detect()``.

    Attributes:
      path: the directory, as it was given.
      format: the module's format.
      file: the file that holds the model: ``"saved_model.pb"``.
      variants: one per MetaGraphDef, in the file's order; none where a chunked
        model (``saved_model.cpb``) cannot be unpacked.
      producer: the TensorFlow that wrote the first MetaGraphDef.
      evidence: sentences, each a fact that led to ``format``.
    """

    path: str
    format: Format
    file: str
    variants: Tuple[Variant, ...]
    producer: Producer
    evidence: Tuple[str, ...]

    @property
    def signatures(self) -> Tuple[str, ...]:
        """Names of the signatures of all variants, sorted, each once."""
        return tuple(sorted({name for v in self.variants for name in v.signatures}))


@dataclasses.dataclass(frozen=True)
class SignatureComparison:
    """One signature of one variant, original against converted.

    Attributes:
      tags: the variant: ``("serve",)``.
      name: the signature: ``"serving_default"``.
      outputs: the outputs that were compared, by their flat names: ``("scores",)``;
        none where the signature could not be compared.
      reason: why it could not: ``"uses RandomUniform"``; empty otherwise.
      skipped: the outputs that were not compared, each with the reason.
      largest_absolute: the largest difference between two elements: ``2.4e-07``.
      largest_relative: the largest difference in parts of the largest magnitude in
        the original's output.
      mismatches: what is not equal, beyond the tolerance; none if all is well.
    """

    tags: Tuple[str, ...]
    name: str
    outputs: Tuple[str, ...]
    reason: str = ""
    skipped: Tuple[str, ...] = ()
    largest_absolute: float = 0.0
    largest_relative: float = 0.0
    mismatches: Tuple[str, ...] = ()

    @property
    def compared(self) -> bool:
        """Whether both ran, or only the converted one failed."""
        return not self.reason


@dataclasses.dataclass(frozen=True)
class VerificationReport:
    """The result of ``verify()``.

    Attributes:
      tolerance: the relative difference that was allowed: ``1e-05``.
      signatures: one per signature of each variant, in the file's order.
      seconds: how long it took.
    """

    tolerance: float
    signatures: Tuple[SignatureComparison, ...]
    seconds: float

    @property
    def compared(self) -> Tuple[SignatureComparison, ...]:
        """The signatures that were compared."""
        return tuple(found for found in self.signatures if found.compared)

    @property
    def not_compared(self) -> Tuple[SignatureComparison, ...]:
        """The signatures that could not be compared."""
        return tuple(found for found in self.signatures if not found.compared)

    @property
    def equal(self) -> bool:
        """Whether all compared outputs agree within the tolerance."""
        return not any(found.mismatches for found in self.signatures)

    @property
    def largest_absolute(self) -> float:
        """The largest difference between two elements, of all outputs."""
        return max([found.largest_absolute for found in self.signatures] or [0.0])

    @property
    def largest_relative(self) -> float:
        """The largest relative difference, of all outputs."""
        return max([found.largest_relative for found in self.signatures] or [0.0])


class Omission(NamedTuple):
    """A signature that a conversion skipped.

    Attributes:
      tags: those of its variant, sorted.
      signature: its name.
      reason: why.
    """

    tags: Tuple[str, ...]
    signature: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """The result of ``convert()``.

    Attributes:
      source: the directory that was converted, as it was given.
      destination: the directory that was written, as it was given.
      format: the format of the source.
      variants: the variants of the source.
      callable: the signature behind ``__call__``; of a TF2 SavedModel that has a
        ``__call__`` of its own, ``"__call__"``; None where there is none.
      variables: how many variables the result has.
      trainable_variables: how many of them are trainable.
      tables: how many lookup tables and other resources.
      assets: how many asset files.
      functions: how many functions its library has.
      nodes: how many graph nodes its functions have.
      files_linked: checkpoint shards that are hard links to the source's.
      bytes_linked: the bytes of weights in them, shared with the source.
      bytes_copied: the bytes of weights that had to be copied.
      weight_bytes_read: the bytes of weights that had to be read to do so.
      unused_keys: keys of the source's checkpoint that no variable of its
        graphs uses; they are kept in the new checkpoint under the same keys.
      warnings: what was skipped, and why; what else to know.
      seconds: how long it took, without verification and TensorFlow's import.
      verification: what ``convert(verify=True)`` compared; None without it.
      lowered: what was done for an older TensorFlow, sorted.
    """

    source: str
    destination: str
    format: Format
    variants: Tuple[Variant, ...]
    callable: Optional[str]
    variables: int
    trainable_variables: int
    tables: int
    assets: int
    functions: int
    nodes: int
    files_linked: int
    bytes_linked: int
    bytes_copied: int
    weight_bytes_read: int
    unused_keys: Tuple[str, ...]
    warnings: Tuple[str, ...]
    seconds: float
    verification: Optional[VerificationReport] = None
    lowered: Tuple[str, ...] = ()
