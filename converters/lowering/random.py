"""Random numbers: stateless ops and generators, by the stateless ops of TF 1.15.

Newer ops take a key and a counter for Philox, which StatelessRandomGetKeyCounter
scrambles from a seed; the older take that seed and scramble it themselves. So the
seed itself travels as key and counter, ``key = seed[0]`` and
``counter = (seed[1], 0)``, and the older op gets ``(key, counter[0] + counter[1])``:
with a given seed, as dropout in Keras 3 has, the numbers are those of TensorFlow 2.21
on a CPU. The state of a generator, as in Keras 2, enters as key and counter and is
scrambled once more: other numbers than in 2.21, as random as those, and never the
same twice, since every use moves the counter on.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np

from ..graph import DT_INT32, DT_INT64
from .arithmetic import binary, cast, concat, reshape, vector_slice
from .scope import Rewrite

__all__ = ["OPS"]

DT_UINT64 = 23
_PHILOX = 1  # random_ops_util.Algorithm, rng_alg.h


def _bits(rewrite: Rewrite, tensor: str, source: int, target: int) -> str:
    return rewrite.add("Bitcast", [tensor], T=("type", source), type=("type", target))


def _seed(rewrite: Rewrite) -> str:
    """The seed, int64 [2], as what seeds are stored as."""
    return cast(rewrite, rewrite.inputs[0], rewrite.type("Tseed"), DT_INT64)


def _key(rewrite: Rewrite, seed: str) -> str:
    return _bits(
        rewrite, vector_slice(rewrite, seed, 0, 1, DT_INT64), DT_INT64, DT_UINT64
    )


def _counter(rewrite: Rewrite, seed: str) -> str:
    second = vector_slice(rewrite, seed, 1, 2, DT_INT64)
    both = concat(rewrite, [second, rewrite.constant([0], DT_INT64)], DT_INT64)
    return _bits(rewrite, both, DT_INT64, DT_UINT64)


def _key_counter(rewrite: Rewrite) -> None:
    seed = _seed(rewrite)
    rewrite.done([_key(rewrite, seed), _counter(rewrite, seed)])


def _key_counter_algorithm(rewrite: Rewrite) -> None:
    seed = _seed(rewrite)
    rewrite.done(
        [
            _key(rewrite, seed),
            _counter(rewrite, seed),
            rewrite.constant(_PHILOX),
        ]
    )


def _algorithm(rewrite: Rewrite) -> None:
    """What a device would choose; on a CPU it is always Philox."""
    rewrite.done([rewrite.constant(_PHILOX)])


def _seed_of(rewrite: Rewrite, key: str, counter: str) -> str:
    """The seed of an older op for a key and a counter, int64 [2]."""
    key = _bits(rewrite, key, DT_UINT64, DT_INT64)
    counter = _bits(rewrite, counter, DT_UINT64, DT_INT64)
    count = binary(
        rewrite,
        "AddV2",
        vector_slice(rewrite, counter, 0, 1, DT_INT64),
        vector_slice(rewrite, counter, 1, 2, DT_INT64),
        DT_INT64,
    )
    return concat(rewrite, [key, count], DT_INT64)


def _full_integers(rewrite: Rewrite) -> None:
    """Any integer of a dtype, from 32 bits at a time.

    TF 1.15 has integers below a bound only, so 64-bit ones below 2**32, of which the
    low half is kept. The numbers are not those of TensorFlow 2.21.
    """
    shape, key, counter = rewrite.inputs[:3]
    dtype, shape_type = rewrite.type("dtype"), rewrite.type("Tshape")
    shape = cast(rewrite, shape, shape_type, DT_INT32)
    words = 2 if dtype in (DT_INT64, DT_UINT64) else 1
    longer = concat(rewrite, [shape, rewrite.constant([words])], DT_INT32)
    numbers = rewrite.add(
        "StatelessRandomUniformInt",
        [
            longer,
            _seed_of(rewrite, key, counter),
            rewrite.constant(0, DT_INT64),
            rewrite.constant(2**32, DT_INT64),
        ],
        dtype=("type", DT_INT64),
        T=("type", DT_INT32),
        Tseed=("type", DT_INT64),
    )
    halves = _bits(rewrite, numbers, DT_INT64, DT_INT32)
    low = rewrite.add(
        "GatherV2",
        [halves, rewrite.constant(0), rewrite.constant(-1)],
        Tparams=("type", DT_INT32),
        Tindices=("type", DT_INT32),
        Taxis=("type", DT_INT32),
        batch_dims=0,
    )
    if words == 1:
        low = reshape(rewrite, low, shape, DT_INT32)
    rewrite.done([_bits(rewrite, low, DT_INT32, dtype)])


def _stateless(older: str, bounds: int = 0) -> Callable[[Rewrite], None]:
    """The op of the same distribution that takes a seed.

    Args:
      older: its name.
      bounds: how many inputs follow shape, key, counter and algorithm.
    """

    def rule(rewrite: Rewrite) -> None:
        shape, key, counter = rewrite.inputs[:3]
        seed = _seed_of(rewrite, key, counter)
        more = rewrite.inputs[4 : 4 + bounds]
        rewrite.done(
            rewrite.emit(
                older,
                [shape, seed] + more,
                dtype=rewrite.attr("dtype"),
                T=("type", rewrite.type("Tshape")),
                Tseed=("type", DT_INT64),
            )
        )

    return rule


def _gamma(rewrite: Rewrite) -> None:
    """Gamma-distributed numbers, for each element its own shape parameter.

    TF 1.15 has no op of this distribution that takes a seed: the numbers are other
    ones in each run, also where the seed is the same.
    """
    shape, _, _, _, alpha = rewrite.inputs
    dtype = rewrite.type("dtype")
    everywhere = rewrite.add(
        "BroadcastTo",
        [alpha, shape],
        T=("type", dtype),
        Tidx=("type", rewrite.type("shape_dtype")),
    )
    one_each = rewrite.constant(np.zeros([0], np.int32))
    rewrite.done(
        rewrite.emit(
            "RandomGamma",
            [one_each, everywhere],
            S=("type", DT_INT32),
            T=("type", dtype),
            seed=0,
            seed2=0,
        )
    )


def _read_and_skip(rewrite: Rewrite) -> None:
    """Read, then RngSkip, which moves the counter on by as much.

    The algorithm is Philox, or to be chosen, which is Philox on a CPU.
    """
    resource, _, delta = rewrite.inputs
    value = rewrite.add("ReadVariableOp", [resource], dtype=("type", DT_INT64))
    skipped = rewrite.control(
        "RngSkip",
        [
            resource,
            rewrite.constant(_PHILOX, DT_INT64),
            cast(rewrite, delta, DT_UINT64, DT_INT64),
        ],
        wait=[value],
    )
    # Whoever has the value has it after the skip, as with the one op.
    rewrite.done(
        rewrite.emit("Identity", [value], wait=[skipped], T=("type", DT_INT64))
    )


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "RngReadAndSkip": _read_and_skip,
    "StatelessRandomGetAlg": _algorithm,
    "StatelessRandomGetKeyCounter": _key_counter,
    "StatelessRandomGetKeyCounterAlg": _key_counter_algorithm,
    "StatelessRandomGammaV3": _gamma,
    "StatelessRandomNormalV2": _stateless("StatelessRandomNormal"),
    "StatelessRandomUniformFullIntV2": _full_integers,
    "StatelessRandomUniformIntV2": _stateless("StatelessRandomUniformInt", 2),
    "StatelessRandomUniformV2": _stateless("StatelessRandomUniform"),
    "StatelessTruncatedNormalV2": _stateless("StatelessTruncatedNormal"),
}
