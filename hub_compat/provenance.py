"""Where a converted module came from: ``assets.extra/hub_compat.json``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Callable, Dict, Optional, Tuple

from hub_compat._io import files
from hub_compat.errors import CorruptModuleError, HandleError
from hub_compat.formats import Format, Omission

__all__ = ["CONVERTER_VERSION", "Provenance", "read"]

# Changes whenever a conversion of the same source may give another result, so
# that caches hold nothing stale.
CONVERTER_VERSION = "21"

_FOLDER, _FILE = "assets.extra", "hub_compat.json"

Slice = Tuple[Tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """The facts about its source that a converted module keeps.

    Attributes:
      source_format: value of a ``Format``: ``"tf1_hub_module"``.
      source_fingerprint: as the cache computes it.
      source_tensorflow_version: ``"1.15.5"``.
      callable: the signature behind ``__call__``; None where there is none.
      root_tags: tags of the variant that the root object is.
      variants: tags and signature names of each variant.
      variables: for each of the root's ``variables``, in their order, its name, its
        key in the source's checkpoint and, for a part of a partitioned one, (offset,
        length) per dimension of the whole. The key is empty where the source's init
        op has the value.
      weights_elsewhere: whether the values are still in the source only.
      warnings: what had to be left out, and why.
      left_out: the signatures that were left out.
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
    left_out: Tuple[Omission, ...] = ()
    excluded: bool = False
    converter_version: str = CONVERTER_VERSION
    lowered_for: str = ""
    lowered: Tuple[str, ...] = ()

    def write(self, directory: str) -> None:
        """Writes it into the directory of a converted module."""
        data = json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"
        files.make_dirs(files.join(directory, _FOLDER))
        files.write_bytes(files.join(directory, _FOLDER, _FILE), data.encode())


# No conversion writes one as large.
_MOST_BYTES = 1 << 28


def read(directory: str) -> Optional[Provenance]:
    """Reads it; None for a module that was not converted.

    What a later version writes beside the known fields is passed over.

    Raises:
      HandleError: the file is there, but cannot be read.
      CorruptModuleError: it is not as it was written.
    """
    path = files.join(directory, _FOLDER, _FILE)
    if not files.exists(path):
        return None
    try:
        data = files.read_bytes(path, _MOST_BYTES)
    except OSError as error:
        raise HandleError(
            "The file that says where the converted module came from cannot be read: "
            "{}. Check that this user may read it, or convert the module again. "
            "Received: {!r}".format(error, path)
        ) from error
    try:
        facts = json.loads(data.decode())
        known = {name: _tuples(facts[name]) for name in _FORMS if name in facts}
        for name, value in known.items():
            if not _FORMS[name](value):
                raise ValueError("{} is {!r}".format(name, facts[name]))
        if "left_out" in known:
            known["left_out"] = tuple(Omission(*row) for row in known["left_out"])
        return Provenance(**known)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise CorruptModuleError(
            "The file does not state where the converted module came from. It was "
            "edited or damaged, or another version of hub_compat wrote it. Convert "
            "the module again ({:.200}). Received: {!r}".format(str(error), path)
        ) from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


Form = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _format(value: Any) -> bool:
    return value in [known.value for known in Format]


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _or_none(form: Form) -> Form:
    return lambda value: value is None or form(value)


def _rows(form: Form) -> Form:
    return lambda value: isinstance(value, tuple) and all(map(form, value))


def _row(*forms: Form) -> Form:
    return lambda value: (
        isinstance(value, tuple)
        and len(value) == len(forms)
        and all(form(item) for form, item in zip(forms, value))
    )


# What each field holds, lists as tuples.
_FORMS: Dict[str, Form] = {
    "source_format": _format,
    "source_fingerprint": _text,
    "source_tensorflow_version": _text,
    "callable": _or_none(_text),
    "root_tags": _rows(_text),
    "variants": _rows(_row(_rows(_text), _rows(_text))),
    "variables": _rows(_row(_text, _text, _or_none(_rows(_row(_number, _number))))),
    "weights_elsewhere": _flag,
    "warnings": _rows(_text),
    "left_out": _rows(_row(_rows(_text), _text, _text)),
    "excluded": _flag,
    "converter_version": _text,
    "lowered_for": _text,
    "lowered": _rows(_text),
}
