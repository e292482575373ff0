"""The request for a conversion, and its result."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Optional, Tuple

from hub_compat._io import links
from hub_compat.formats import Detection, Omission, VerificationReport

from .checkpoint.shards import AUTO
from .opdata.targets import Registry

__all__ = [
    "FORMS",
    "HUB",
    "NOTHING",
    "SERVED",
    "ConversionRequest",
    "ConversionResult",
    "Exclusions",
    "Tags",
]

# The targets that are no TensorFlow, but a format of TF1.
HUB, SERVED = "tf1-hub", "tf1-saved-model"
FORMS = (HUB, SERVED)

Tags = Tuple[str, ...]


class Exclusions(NamedTuple):
    """What of a source to leave out, for TensorFlow to load the rest.

    Attributes:
      left_out: the signatures that go.
      unshaped: tags and name of each signature of whose outputs the declared shapes
        go.
    """

    left_out: Tuple[Omission, ...] = ()
    unshaped: Tuple[Tuple[Tags, str], ...] = ()

    def reason(self, tags: Tags, name: str) -> Optional[str]:
        """Why a signature is skipped; None if it is not."""
        for omission in self.left_out:
            if (omission.tags, omission.signature) == (tags, name):
                return omission.reason
        return None


NOTHING = Exclusions()


@dataclasses.dataclass(frozen=True)
class ConversionRequest:
    """One conversion.

    Attributes:
      detection: the source.
      directory: where the result goes, empty.
      link: how checkpoint shards get there, see ``converters.convert``.
      links: what becomes of symbolic links out of the source, see ``_io/links.py``.
      registry: what the TensorFlow knows that is to load the result; None where it
        need not be older than the one that wrote the source.
      available_ops: ops that newer TensorFlows lack, and the one at hand has.
      weights: False for a checkpoint without any value, for a loader that restores
        the variables from the source.
      tags: the only variant to convert; None for all.
      whole: whether the other variants come along.
      exclusions: what to leave out; None where TensorFlow was not asked.
      form: of ``FORMS``, for a result that is of TF1; None for a TF2 SavedModel.
      slim: whether to leave out what only Keras' own loader needs.
    """

    detection: Detection
    directory: str
    link: str = AUTO
    links: str = links.INSIDE
    registry: Optional[Registry] = None
    available_ops: Tuple[str, ...] = ()
    weights: bool = True
    tags: Optional[Tags] = None
    whole: bool = True
    exclusions: Optional[Exclusions] = None
    form: Optional[str] = None
    slim: bool = False


@dataclasses.dataclass(frozen=True)
class ConversionResult:
    """What a conversion did; the attributes are those of ``ConversionReport``."""

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
    lowered: Tuple[str, ...] = ()
    verification: Optional[VerificationReport] = None
