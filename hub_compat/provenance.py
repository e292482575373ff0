"""Where a converted module came from: ``assets.extra/hub_compat.json``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, Optional, Tuple

from hub_compat import _files
from hub_compat.errors import CorruptModuleError

__all__ = ["CONVERTER_VERSION", "Provenance", "read"]

# Changes whenever a conversion of the same source may give another result, so
# that caches hold nothing stale.
CONVERTER_VERSION = "20"

_FOLDER, _FILE = "assets.extra", "hub_compat.json"

Slice = Tuple[Tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What a converted module remembers of its source.

    Attributes:
      source_format: value of a ``Format``: ``"tf1_hub_module"``.
      source_fingerprint: as the cache computes it.
      source_tensorflow_version: ``"1.15.5"``.
      callable: the signature behind ``__call__``; None where there is none.
      root_tags: tags of the variant that the root object is.
      variants: tags and signature names of each variant.
      variables: for each variable that the source's checkpoint has, in the order
        of the root's ``variables``, its name, its key there and, for a part of a
        partitioned one, (offset, length) per dimension of the whole.
      weights_elsewhere: whether the values are still in the source only.
      warnings: what had to be left out, and why.
      left_out: tags, name and reason of each signature that was left out.
      excluded: whether TensorFlow refused to load some signature as it is.
      converter_version: of the converter that wrote it.
      lowered_for: the TensorFlow it was lowered for: ``"TensorFlow 1.15"``; empty
        where it was not.
      lowered: what was done for that.
    """

    source_format: str
    source_fingerprint: str
    source_tensorflow_version: str
    callable: Optional[str]
    root_tags: Tuple[str, ...]
    variants: Tuple[Tuple[Tuple[str, ...], Tuple[str, ...]], ...]
    variables: Tuple[Tuple[str, str, Optional[Slice]], ...]
    weights_elsewhere: bool
    warnings: Tuple[str, ...]
    left_out: Tuple[Tuple[Tuple[str, ...], str, str], ...] = ()
    excluded: bool = False
    converter_version: str = CONVERTER_VERSION
    lowered_for: str = ""
    lowered: Tuple[str, ...] = ()

    def write(self, directory: str) -> None:
        """Writes it into the directory of a converted module."""
        data = json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"
        _files.make_dirs(_files.join(directory, _FOLDER))
        _files.write_bytes(_files.join(directory, _FOLDER, _FILE), data.encode())


def read(directory: str) -> Optional[Provenance]:
    """Reads it; None for a module that was not converted.

    Raises:
      CorruptModuleError: the file is there, but not as it was written.
    """
    path = _files.join(directory, _FOLDER, _FILE)
    if not _files.exists(path):
        return None
    try:
        facts: Dict[str, Any] = json.loads(_files.read_bytes(path).decode())
        return Provenance(**{key: _tuples(value) for key, value in facts.items()})
    except (TypeError, ValueError) as error:
        raise CorruptModuleError(
            "The file does not say where the converted module came from; it was "
            "edited, or another version of hub_compat wrote it. Convert the module "
            "again. Received: {!r}".format(path)
        ) from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
