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

from typing import Any, Callable, Dict, Tuple

import numpy as np

from ...ir.builder import Tensor
from ...ir.constants import array_of
from ...ir.dtypes import DT_FLOAT, DT_INT32, DT_INT64, DT_UINT32, DT_UINT64
from ...ir.rewriter import Rewrite, Unlowerable
from .arithmetic import cast, concat, gather, shape_of, vector_slice

__all__ = ["CHOOSES", "OPS", "STATEFUL", "key_and_counter", "settle", "unsettled"]

_PHILOX, _ANY = 1, 3  # random_ops_util.Algorithm, rng_alg.h
# Of a seed, TensorFlow's Python code makes key and counter with this key, where the
# program names Philox; it is what StatelessRandomGetKeyCounter does.
_SCRAMBLES = 0x02461E293EC8F720
_WITH_KEYS = "StatelessRandomGetKeyCounterAlg"
# Which input is the algorithm, and up to which TensorFlow an op does not choose it.
_STATELESS = dict.fromkeys(
    [
        "StatelessRandom{}V2".format(n)
        for n in ("Normal", "Uniform", "UniformFullInt", "UniformInt")
    ]
    + ["StatelessTruncatedNormalV2"],
    (3, (2, 8)),
)
STATEFUL = dict.fromkeys(
    ["RngReadAndSkip", "RngSkip", "StatefulRandomBinomial", "StatefulStandardNormalV2",
     "StatefulTruncatedNormal", "StatefulUniform", "StatefulUniformFullInt",
     "StatefulUniformInt"],
    (1, (2, 12)),
)  # fmt: skip
_ALGORITHM: Dict[str, Tuple[int, Tuple[int, int]]] = dict(_STATELESS, **STATEFUL)
# From here on every op chooses.
CHOOSES = max(version for _, version in _ALGORITHM.values())


def unsettled(
    node: Any, version: Tuple[int, int], producer: Callable[[str], Any]
) -> bool:
    """Whether a node leaves the choice to a TensorFlow that makes none, or may do so.

    It may where the algorithm is an argument. It does not where it names one, or where
    the TensorFlow chooses.
    """
    index, chooses = _ALGORITHM.get(node.op, (0, (0, 0)))
    if version >= chooses:
        return False
    chosen = producer(node.input[index])
    if chosen is None or chosen.op in ("Identity", "Placeholder"):
        return True
    return chosen.op == "Const" and bool(array_of(chosen.attr["value"].tensor) == _ANY)


def settle(rewrite: Rewrite, version: Tuple[int, int], done: Dict[str, int]) -> None:
    """Names the algorithm in a node; on a CPU it is always Philox."""
    node = rewrite.node
    producer = rewrite.scope.producer
    if not unsettled(node, version, producer):
        return
    index = _ALGORITHM[node.op][0]
    dtype = rewrite.scope.source_op(node.op).input_arg[index].type
    algorithm = rewrite.constant(_PHILOX, dtype)
    chosen = producer(node.input[index])
    if chosen is None or chosen.op != "Const":
        # It is an error where it is another one.
        given = rewrite.inputs[index]
        free = rewrite.op("Equal", given, rewrite.constant(_ANY, dtype))
        algorithm = rewrite.op("Select", free, algorithm, given)
    node.input[index] = algorithm
    done[node.op + " names its algorithm"] += 1
    rewrite.scope.changed = True


def key_and_counter(rewrite: Rewrite) -> None:
    """TF 2.4 has only the op that gives the algorithm as well."""
    rewrite.done(rewrite.ops(_WITH_KEYS, *rewrite.inputs)[:2])


def _bits(rewrite: Rewrite, tensor: Tensor, target: int) -> Tensor:
    """The bits of a tensor as another dtype."""
    return rewrite.op("Bitcast", tensor, type=target)


def _seed(rewrite: Rewrite) -> Tensor:
    """The seed, int64 [2], as what seeds are stored as."""
    return cast(rewrite, rewrite.inputs[0], DT_INT64)


def _key(rewrite: Rewrite, seed: Tensor) -> Tensor:
    return _bits(rewrite, vector_slice(rewrite, seed, 0, 1), DT_UINT64)


def _counter(rewrite: Rewrite, seed: Tensor) -> Tensor:
    second = vector_slice(rewrite, seed, 1, 2)
    both = concat(rewrite, [second, rewrite.constant([0], DT_INT64)])
    return _bits(rewrite, both, DT_UINT64)


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
    """The algorithm that a device would choose; on a CPU it is always Philox."""
    rewrite.done([rewrite.constant(_PHILOX)])


def _seed_of(rewrite: Rewrite, key: Tensor, counter: Tensor) -> Tensor:
    """The seed of an older op for a key and a counter, int64 [2]."""
    key = _bits(rewrite, key, DT_INT64)
    counter = _bits(rewrite, counter, DT_INT64)
    low, high = (vector_slice(rewrite, counter, i, i + 1) for i in (0, 1))
    return concat(rewrite, [key, rewrite.op("AddV2", low, high)])


def _full_integers(rewrite: Rewrite) -> None:
    """Any integer of a dtype, by 64-bit integers between the least and the greatest.

    TF 1.15 has integers below a bound only, and the bound itself is never drawn: one
    integer in 2**64 comes out as another. 32-bit integers are the halves of those.
    """
    _only_philox(rewrite)
    shape, key, counter = rewrite.inputs[:3]
    dtype = rewrite.type("dtype")
    fixed = rewrite.scope.constant(key)
    if fixed is not None and dtype == DT_UINT32 and int(fixed[0]) == _SCRAMBLES:
        # Bits of a key and a counter: the seed travels as those.
        both = _bits(rewrite, counter, DT_UINT32)
        rewrite.done([rewrite.op("Reshape", both, rewrite.constant([-1]))])
        return
    shape = cast(rewrite, shape, DT_INT32)
    wide = dtype in (DT_INT64, DT_UINT64)
    count = rewrite.op("Prod", shape, rewrite.constant([0]), keep_dims=True)
    drawn = count
    if not wide:
        half = rewrite.op("AddV2", count, rewrite.constant(1))
        drawn = rewrite.op("FloorDiv", half, rewrite.constant(2))
    least = rewrite.constant(-(2**63), DT_INT64)
    numbers = rewrite.op(
        "StatelessRandomUniformInt",
        drawn,
        _seed_of(rewrite, key, counter),
        least,
        rewrite.constant(2**63 - 1, DT_INT64),
    )
    # They are counted from the least on.
    numbers = rewrite.op("BitwiseXor", numbers, least)
    if not wide:
        halves = _bits(rewrite, numbers, DT_INT32)
        numbers = rewrite.op("Reshape", halves, rewrite.constant([-1]))
        numbers = rewrite.op("Slice", numbers, rewrite.constant([0]), count)
    numbers = rewrite.op("Reshape", numbers, shape)
    if numbers.dtype != dtype:
        numbers = _bits(rewrite, numbers, dtype)
    rewrite.done([numbers])


def _stateless(older: str, bounds: int = 0) -> Callable[[Rewrite], None]:
    """The op of the same distribution that takes a seed.

    Args:
      older: its name.
      bounds: how many inputs follow shape, key, counter and algorithm.
    """

    def rule(rewrite: Rewrite) -> None:
        _only_philox(rewrite)
        shape, key, counter = rewrite.inputs[:3]
        seed = _seed_of(rewrite, key, counter)
        more = rewrite.inputs[4 : 4 + bounds]
        attrs = rewrite.attrs("dtype")
        rewrite.done(rewrite.ops(older, shape, seed, *more, **attrs))

    return rule


def _only_philox(rewrite: Rewrite) -> None:
    """Refuses another algorithm; TensorFlow 2 has no kernel of it on a CPU either."""
    chosen = rewrite.scope.constant(rewrite.inputs[3])
    if chosen is not None and int(chosen) not in (_PHILOX, _ANY):
        raise Unlowerable("{}, which does not draw by Philox".format(rewrite.node.op))


def _gamma(rewrite: Rewrite) -> None:
    """Gamma-distributed numbers, for each element its own shape parameter.

    TF 1.15 has no op of this distribution that takes a seed: the numbers are other
    ones in each run, also where the seed is the same.
    """
    shape, _, _, _, alpha = rewrite.inputs
    everywhere = rewrite.op("BroadcastTo", alpha, shape)
    one_each = rewrite.constant(np.zeros([0], np.int32))
    rewrite.done(rewrite.ops("RandomGamma", one_each, everywhere, seed=0, seed2=0))


def _poisson(rewrite: Rewrite) -> None:
    """Poisson-distributed numbers; other ones in each run, as those of gamma."""
    shape, _, rates = rewrite.inputs
    everywhere = rewrite.op("BroadcastTo", rates, shape)
    one_each = rewrite.constant(np.zeros([0], np.int32))
    attrs = dict(rewrite.attrs("dtype"), seed=0, seed2=0)
    rewrite.done(rewrite.ops("RandomPoissonV2", one_each, everywhere, **attrs))


def _shuffle(rewrite: Rewrite) -> None:
    """Another order than in 2.21: that of random numbers, the same for a seed."""
    value, key, counter = rewrite.inputs[:3]
    count = vector_slice(rewrite, shape_of(rewrite, value), 0, 1)
    seed = _seed_of(rewrite, key, counter)
    numbers = rewrite.op("StatelessRandomUniform", count, seed, dtype=DT_FLOAT)
    one = rewrite.constant(np.zeros([0], np.int32))
    scalar = rewrite.op("Reshape", count, one)
    order = rewrite.ops("TopKV2", numbers, scalar, sorted=True)[1]
    rewrite.done([gather(rewrite, value, order)])


def _read_and_skip(rewrite: Rewrite) -> None:
    """Read, then RngSkip, which moves the counter on by as much.

    The algorithm is Philox, or to be chosen, which is Philox on a CPU.
    """
    resource, _, delta = rewrite.inputs
    value = rewrite.op("ReadVariableOp", resource, dtype=DT_INT64)
    philox = rewrite.constant(_PHILOX, DT_INT64)
    by = cast(rewrite, delta, DT_INT64)
    skipped = rewrite.run("RngSkip", resource, philox, by, after=[value])
    # Whoever has the value has it after the skip, as with the one op.
    rewrite.done(rewrite.ops("Identity", value, after=[skipped]))


OPS: Dict[str, Callable[[Rewrite], Any]] = {
    "RngReadAndSkip": _read_and_skip,
    "StatelessRandomGetAlg": _algorithm,
    "StatelessRandomGetKeyCounter": _key_counter,
    "StatelessRandomGetKeyCounterAlg": _key_counter_algorithm,
    "StatelessRandomGammaV3": _gamma,
    "StatelessRandomPoisson": _poisson,
    "StatelessShuffle": _shuffle,
    "StatelessRandomNormalV2": _stateless("StatelessRandomNormal"),
    "StatelessRandomUniformFullIntV2": _full_integers,
    "StatelessRandomUniformIntV2": _stateless("StatelessRandomUniformInt", 2),
    "StatelessRandomUniformV2": _stateless("StatelessRandomUniform"),
    "StatelessTruncatedNormalV2": _stateless("StatelessTruncatedNormal"),
}
