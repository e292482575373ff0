"""Reads what the modules in this directory did under TensorFlow 1.15.5.

Each directory ``NAME`` here holds a module (``NAME/module``) and what
``make_testdata.py`` recorded of it under the original runtime
(``NAME/expected.json`` and ``NAME/expected.npz``)::

    recorded = load_expected("text")
    for case in recorded.cases:
        case.tags, case.signature          # ("train",), "default"
        case.inputs["text"], case.outputs["default"]

A value is a NumPy array, or one of ``Bits``, ``Sparse``, ``Ragged`` and
``AssetFile`` below. Needs NumPy, and neither TensorFlow nor hub_compat.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

HERE = Path(__file__).resolve().parents[1]
# The learning rate of the recorded step of gradient descent.
STEP = 0.05


def unpack(packed: Path, path: Path) -> Path:
    """Copies a module whose graph is packed, ``saved_model.pb.gz``; unpacks that.

    Args:
      packed: the module's directory.
      path: where it goes; not there yet.

    Returns:
      ``path``.
    """
    shutil.copytree(str(packed), str(path))
    graph = path / "saved_model.pb.gz"
    (path / "saved_model.pb").write_bytes(gzip.decompress(graph.read_bytes()))
    graph.unlink()
    return path


@dataclasses.dataclass(frozen=True)
class Bits:
    """An array of a dtype that NumPy lacks.

    Attributes:
      array: the elements' bits: uint16 for bfloat16, int8 for qint8.
      dtype: TensorFlow's name of the dtype: ``"bfloat16"``.
    """

    array: np.ndarray
    dtype: str


@dataclasses.dataclass(frozen=True)
class Sparse:
    """A sparse tensor.

    Attributes:
      indices: int64 [entries, rank].
      values: [entries].
      dense_shape: int64 [rank].
    """

    indices: np.ndarray
    values: Any
    dense_shape: np.ndarray


@dataclasses.dataclass(frozen=True)
class Ragged:
    """A ragged tensor.

    Attributes:
      values: the innermost, flat values.
      row_splits: one array per ragged dimension, outermost first.
    """

    values: Any
    row_splits: Tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class AssetFile:
    """The path of an asset, wherever the module lies.

    Attributes:
      basename: the file's name: ``"vocabulary.txt"``.
      contents: what is in the file.
    """

    basename: str
    contents: bytes


Value = Union[np.ndarray, Bits, Sparse, Ragged, AssetFile]


@dataclasses.dataclass(frozen=True)
class RecordedVariant:
    """One tag set of a module.

    Attributes:
      trainable: names of its trainable variables.
      variables: names of all its variables.
      attached: serialized attached messages, by key.
    """

    trainable: Tuple[str, ...]
    variables: Tuple[str, ...]
    attached: Mapping[str, bytes]


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of one signature of one variant.

    Attributes:
      tags: the variant, sorted.
      signature: the signature's name.
      inputs: what it was called with; names left out take their default.
      outputs: what came out, by name.
      gradient_of: the output that was differentiated; None where none was.
      gradients: by variable, those of ``weighted_sum`` of that output; None for
        a variable that it does not depend on.
      input_gradients: the same by input.
      regularization_losses: their values before the call.
      stepped: ``gradient_of``, after one step of gradient descent of rate ``STEP``.
      updated: values of the variables that the update ops changed.
      deterministic: False where only shapes and dtypes can be compared.
    """

    tags: Tuple[str, ...]
    signature: str
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    gradient_of: Optional[str]
    gradients: Mapping[str, Optional[Value]]
    input_gradients: Mapping[str, Optional[Value]]
    regularization_losses: Tuple[Value, ...]
    stepped: Mapping[str, Value]
    updated: Mapping[str, Value]
    deterministic: bool

    @property
    def id(self) -> str:
        """A name for reports: ``"train/default"``."""
        return "{}/{}".format(",".join(self.tags) or "-", self.signature)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Everything recorded of one module.

    Attributes:
      name: the directory's name.
      path: the module's directory.
      producer: who wrote it: ``"TensorFlow 1.15.5"``.
      why: what the module is there to show.
      variables: values of all variables, as in the checkpoint.
      variants: by tag set.
      cases: the calls, in order; each starts from ``variables``.
    """

    name: str
    path: Path
    producer: Any
    why: str
    variables: Mapping[str, Value]
    variants: Mapping[Tuple[str, ...], RecordedVariant]
    cases: Tuple[Case, ...]

    @property
    def root(self) -> Tuple[str, ...]:
        """The variant that a loader gives by default."""
        for tags in ((), ("serve",)):
            if tags in self.variants:
                return tags
        (tags,) = self.variants
        return tags

    def callable(self, tags: Tuple[str, ...]) -> Optional[str]:
        """The signature behind ``__call__`` of a variant."""
        names = {case.signature for case in self.cases if case.tags == tags}
        for name in ("serving_default", "default"):
            if name in names:
                return name
        return names.pop() if len(names) == 1 else None


def weights_like(array: np.ndarray) -> np.ndarray:
    """The weights of the sum whose gradients were recorded: cos(0), cos(1), ...

    Args:
      array: the output that is differentiated, or anything of its shape.

    Returns:
      float64, of the same shape.
    """
    return np.cos(np.arange(array.size, dtype=np.float64)).reshape(array.shape)


@functools.lru_cache(maxsize=None)
def could_fail(name: str, check: str) -> bool:
    """Whether a module has what a check compares, as losses, updates or gradients.

    Without them the check passes, and says nothing.
    """
    record = json.loads((HERE / name / "expected.json").read_text(encoding="utf-8"))
    cases = record["cases"]
    if check == "losses":
        return any(case.get("regularization_losses") for case in cases)
    if check == "training":
        return any(case.get("updated") for case in cases)
    if check == "gradients":
        return any(
            value is not None
            for case in cases
            for key in ("gradients", "input_gradients")
            for value in (case.get(key) or {}).values()
        )
    if check == "variables":
        return bool(record["variables"])
    return True


def module_names() -> List[str]:
    """Names of the recorded modules, sorted."""
    return sorted(file.parent.name for file in HERE.glob("*/expected.json"))


class _Decoder:
    """Turns the JSON form of values into arrays."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def value(self, encoded: Any) -> Any:
        if not isinstance(encoded, dict):
            return None if encoded is None else np.asarray(encoded)
        if "npz" in encoded:
            return self._array(encoded["npz"], encoded["dtype"])
        if "sparse" in encoded:
            parts = encoded["sparse"]
            return Sparse(
                self.value(parts["indices"]),
                self.value(parts["values"]),
                self.value(parts["dense_shape"]),
            )
        if "ragged" in encoded:
            parts = encoded["ragged"]
            splits = tuple(self.value(part) for part in parts["row_splits"])
            return Ragged(self.value(parts["values"]), splits)
        if "asset" in encoded:
            contents = base64.b64decode(encoded["contents"])
            return AssetFile(encoded["asset"], contents)
        raise ValueError("No recorded value looks like this: {!r}".format(encoded))

    def values(self, encoded: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
        return {name: self.value(item) for name, item in (encoded or {}).items()}

    def _array(self, key: str, dtype: str) -> Any:
        array = self._arrays[key]
        if dtype == "string":
            # Object arrays of bytes, as Tensor.numpy() returns them.
            return array.astype(object)
        if array.dtype.name == dtype:
            return array
        return Bits(array, dtype)


@functools.lru_cache(maxsize=None)
def load_expected(name: str, root: Path = HERE) -> Recorded:
    """Reads what was recorded of a module, once.

    Args:
      name: one of ``module_names()``.
      root: the directory that it is in.

    Returns:
      The expectations.

    Raises:
      FileNotFoundError: there is no such module here.
    """
    folder = root / name
    if not (folder / "expected.json").exists():
        raise FileNotFoundError(
            "No recorded module of this name; there are {}. Received: {}".format(
                ", ".join(module_names()), name
            )
        )
    encoded = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    arrays: Dict[str, np.ndarray] = {}
    if (folder / "expected.npz").exists():
        with np.load(str(folder / "expected.npz"), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    for array in arrays.values():
        array.setflags(write=False)
    decoder = _Decoder(arrays)
    variants = {
        tuple(tag for tag in tags.split(",") if tag): RecordedVariant(
            trainable=tuple(variant["trainable"]),
            variables=tuple(variant["variables"]),
            attached={
                key: base64.b64decode(text)
                for key, text in variant.get("attached", {}).items()
            },
        )
        for tags, variant in encoded["variants"].items()
    }
    cases = tuple(
        Case(
            tags=tuple(case["tags"]),
            signature=case["signature"],
            inputs=decoder.values(case.get("inputs")),
            outputs=decoder.values(case.get("outputs")),
            gradient_of=case.get("gradient_of"),
            gradients=decoder.values(case.get("gradients")),
            input_gradients=decoder.values(case.get("input_gradients")),
            regularization_losses=tuple(
                decoder.value(loss) for loss in case.get("regularization_losses", ())
            ),
            stepped=decoder.values(case.get("stepped")),
            updated=decoder.values(case.get("updated")),
            deterministic=case.get("deterministic", True),
        )
        for case in encoded["cases"]
    )
    return Recorded(
        name=name,
        path=folder / "module",
        producer=encoded["producer"],
        why=encoded["why"],
        variables=decoder.values(encoded["variables"]),
        variants=variants,
        cases=cases,
    )
