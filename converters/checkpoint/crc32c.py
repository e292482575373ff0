"""CRC-32C, the checksum of checkpoints, over numpy instead of byte by byte.

The polynomial is Castagnoli's (RFC 3720, appendix B.4). What TensorFlow stores is
the checksum "masked", as LevelDB does: rotated, plus a constant, so that the
checksum of data that contains checksums stays meaningful.
"""

from __future__ import annotations

import functools
from typing import Any, List, Tuple

import numpy as np

__all__ = ["crc32c", "mask"]

# The polynomial with its bits reversed.
_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8
# Below this, a loop over the bytes is faster than a dozen numpy calls.
_LOOP_BYTES = 1024
# What fits into a processor's cache goes fastest.
_CHUNK_BYTES = 1 << 18


def mask(crc: int) -> int:
    """Returns a checksum in the form in which files hold it."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ONES


def crc32c(data: Any, crc: int = 0) -> int:
    """Returns the checksum of some bytes.

    Args:
      data: bytes, or another contiguous buffer of bytes.
      crc: the checksum of what goes before.
    """
    view = memoryview(data)
    state = crc ^ _ONES
    for start in range(0, len(view), _CHUNK_BYTES):
        state = _advance(state, view[start : start + _CHUNK_BYTES])
    return state ^ _ONES


def _advance(state: int, data: memoryview) -> int:
    """Runs the register over some bytes."""
    if len(data) < _LOOP_BYTES:
        table = _tables()[0]
        for byte in data:
            state = (state >> 8) ^ table[(state ^ byte) & 255]
        return state
    # The register is linear: a value in it before the first byte acts as if it
    # had been added to the first four bytes, and zeros in front of them do nothing.
    odd = len(data) & 1
    padded = np.zeros(odd + len(data), np.uint8)
    padded[odd:] = np.frombuffer(data, np.uint8)
    padded[odd : odd + 4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
    # Being linear, it can also be had of every two bytes apart, then of every four
    # (the left half moved on by the length of the right, plus the right), ...
    parts = _tables()[1][padded.view("<u2")]
    level = 1
    while len(parts) > 1:
        if len(parts) & 1:
            parts = np.concatenate([np.zeros(1, np.uint32), parts])
        parts = _move(_mover(level), parts[0::2]) ^ parts[1::2]
        level += 1
    return int(parts[0])


@functools.lru_cache(maxsize=None)
def _tables() -> Tuple[List[int], Any]:
    """What one byte makes of an empty register, and what two bytes do."""
    table = np.arange(1 << 16, dtype=np.uint32)
    for bit in range(16):
        if bit == 8:
            single = table[:256].tolist()
        table = (table >> 1) ^ (_POLYNOMIAL * (table & 1)).astype(np.uint32)
    return single, table


@functools.lru_cache(maxsize=None)
def _mover(level: int) -> Any:
    """Tables for each byte of a register, that move it on by 2**level zero bytes."""
    if level == 0:
        values = np.arange(256, dtype=np.uint32)
        columns = np.stack([values << np.uint32(8 * i) for i in range(4)])
        table = np.array(_tables()[0], np.uint32)
        return (columns >> np.uint32(8)) ^ table[columns & 255]
    half = _mover(level - 1)
    return _move(half, half)


def _move(mover: Any, parts: Any) -> Any:
    return (
        mover[0][parts & 255]
        ^ mover[1][parts >> 8 & 255]
        ^ mover[2][parts >> 16 & 255]
        ^ mover[3][parts >> 24]
    )
