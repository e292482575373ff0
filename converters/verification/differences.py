"""How far an output of a converted model is from the original's."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from hub_compat._io import files

__all__ = ["Difference", "difference", "portable"]

# Below this a difference is rounding, whatever it is a part of.
_ROUNDING = 1e-7
# What a narrow dtype can tell apart.
_LEAST = {"float16": 2e-3, "bfloat16": 2e-2}


class Difference(NamedTuple):
    """How far two arrays are apart.

    Attributes:
      problem: what makes them incomparable, or different where they must be equal.
      absolute: the largest difference of two elements.
      relative: that, in parts of the largest magnitude among the original's.
      least: the least tolerance that the dtype allows.
    """

    problem: str
    absolute: float = 0.0
    relative: float = 0.0
    least: float = 0.0

    def within(self, tolerance: float) -> bool:
        """Whether it can be tolerated."""
        if self.problem:
            return False
        near = self.relative <= max(tolerance, self.least)
        return near or self.absolute <= _ROUNDING

    def worse(self, other: Optional[Difference]) -> Difference:
        """The larger differences of two calls."""
        if other is None:
            return self
        return self._replace(
            problem=self.problem or other.problem,
            absolute=max(self.absolute, other.absolute),
            relative=max(self.relative, other.relative),
        )

    def text(self) -> str:
        """For a person."""
        if self.problem:
            return self.problem
        return "largest difference {:.3g}, relative {:.3g}".format(
            self.absolute, self.relative
        )


def difference(wanted: np.ndarray, found: np.ndarray) -> Difference:
    """Compares an output; a tolerance is for floating-point numbers alone."""
    if wanted.shape != found.shape:
        return Difference(
            "the shape is {} and must be {}".format(found.shape, wanted.shape)
        )
    if wanted.dtype != found.dtype:
        return Difference(
            "the dtype is {} and must be {}".format(found.dtype, wanted.dtype)
        )
    least = _LEAST.get(wanted.dtype.name, 0.0)
    if wanted.dtype.name == "bfloat16":
        wanted, found = wanted.astype(np.float32), found.astype(np.float32)
    if wanted.dtype.kind not in "fc":
        wrong = np.not_equal(_plain(wanted), _plain(found))
        count = int(np.count_nonzero(wrong))
        if not count:
            return Difference("")
        farthest = 0.0
        if wanted.dtype.kind in "iu":
            apart = wanted.astype(np.float64) - found.astype(np.float64)
            farthest = float(np.max(np.abs(apart)))
        first = tuple(places[0] for places in np.nonzero(np.atleast_1d(wrong)))
        return Difference(
            "{} of {} elements are not equal, such as {:.60} in place of {:.60}".format(
                count,
                wanted.size,
                repr(np.atleast_1d(found)[first]),
                repr(np.atleast_1d(wanted)[first]),
            ),
            absolute=farthest,
        )
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    one, other = wanted.astype(wide), found.astype(wide)
    finite = np.isfinite(one) & np.isfinite(other)
    # Where one is not finite, both must be the same.
    odd = ~finite & ~((one == other) | (np.isnan(one) & np.isnan(other)))
    if odd.any():
        return Difference(
            "{} of {} elements are NaN or infinite in one only".format(
                int(np.count_nonzero(odd)), one.size
            ),
            absolute=float("inf"),
            relative=float("inf"),
        )
    if not finite.any():
        return Difference("")
    absolute = float(np.max(np.abs(one[finite] - other[finite])))
    scale = float(np.max(np.abs(one[finite])))
    relative = absolute / scale if scale else float("inf") if absolute else 0.0
    return Difference("", absolute, relative, least)


def _plain(array: np.ndarray) -> np.ndarray:
    """An array that NumPy compares: a quantized dtype is a record of one number."""
    return array[array.dtype.names[0]] if array.dtype.names else array


def portable(array: np.ndarray, assets: str, contents_in: str = "") -> np.ndarray:
    """An array in which paths of assets are what they are in any place.

    Args:
      array: the array.
      assets: the directory whose files' paths may be in it.
      contents_in: the directory whose files must have the same contents.
    """
    if array.dtype.kind not in "OSU":
        return array
    prefix = assets.rstrip("/").encode() + b"/"
    made = np.empty(array.shape, object)
    for place, value in np.ndenumerate(array):
        text = value if isinstance(value, bytes) else str(value).encode()
        if text.startswith(prefix):
            name = text[len(prefix) :]
            same = not contents_in or _same_file(assets, contents_in, name.decode())
            text = b"assets/" + name if same else text
        made[place] = text
    return made


def _same_file(one: str, other: str, name: str) -> bool:
    paths = [files.join(folder, name) for folder in (one, other)]
    if not all(files.exists(path) for path in paths):
        return False
    return files.read_bytes(paths[0]) == files.read_bytes(paths[1])
