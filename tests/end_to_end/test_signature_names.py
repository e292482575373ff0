"""Signatures with names of every sort against what TF 1.15's session returned.

``testdata/scripts/random_signatures.py`` made them, a hundred in each of three
SavedModels.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import expected
import numpy as np
import pytest

import hub_compat as hub

tf = pytest.importorskip("tensorflow")
runtimes = pytest.importorskip("runtimes")

pytestmark = pytest.mark.tensorflow

NUMBERS = ["0", "1", "2"]
BIAS, NEW_BIAS = 0.5, 1.5
Case = Dict[str, Any]


@functools.lru_cache(maxsize=None)
def cases(number: str) -> Dict[str, Case]:
    """By signature, its inputs and what a session returned."""
    text = (expected.HERE / "signatures" / number / "cases.json").read_text()
    found: Dict[str, Case] = json.loads(text)
    return found


class Forms:
    """The forms of each module that the tests need, made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def source(self, number: str) -> Path:
        """The module, unpacked."""
        path = self._folder / number / "source"
        if not path.exists():
            expected.unpack(expected.HERE / "signatures" / number / "module", path)
        return path

    def converted(self, number: str) -> Path:
        """What ``convert()`` writes of it."""
        path = self._folder / number / "converted"
        if not path.exists():
            hub.convert(self.source(number), path)
        return path


@pytest.fixture(scope="session")
def forms(tmp_path_factory: Any) -> Forms:
    """The forms of all modules."""
    return Forms(Path(tmp_path_factory.mktemp("signatures")))


def parts(given: Dict[str, Any]) -> List[Any]:
    """The tensors of an input."""
    if given["kind"] == "sparse":
        indices, values, dense_shape = given["value"]
        return [
            tf.constant(indices, tf.int64),
            tf.constant(values, tf.float32),
            tf.constant(dense_shape, tf.int64),
        ]
    if given["kind"] == "ragged":
        values, splits = given["value"]
        return [tf.constant(values, tf.int64), tf.constant(splits, tf.int64)]
    return [tf.constant(given["value"], given["dtype"])]


def flat_names(case: Case) -> Dict[str, Tuple[Dict[str, Any], int]]:
    """By flat name, the input and which of its tensors that is."""
    named = {i["name"]: i for i in case["inputs"]}
    found = {n: (i, 0) for n, i in named.items() if i["kind"] == "dense"}
    for name in sorted(named):
        ends = {
            "sparse": ["indices", "values", "dense_shape"],
            "ragged": ["component_0", "component_1"],
        }.get(named[name]["kind"], [])
        for part, end in enumerate(ends):
            # What is called so already keeps its name.
            full, count = name + "_" + end, 0
            while full in found:
                count += 1
                full = "{}_{}_{}".format(name, end, count)
            found[full] = (named[name], part)
    return found


def flat(case: Case) -> Dict[str, Any]:
    """The inputs of a case by flat names."""
    return {n: parts(given)[i] for n, (given, i) in flat_names(case).items()}


def structured(case: Case) -> Any:
    """The inputs of a case as ``__call__`` takes them."""
    found = {}
    for given in case["inputs"]:
        tensors = parts(given)
        if given["kind"] == "sparse":
            found[given["name"]] = tf.SparseTensor(*tensors)
        elif given["kind"] == "ragged":
            found[given["name"]] = tf.RaggedTensor.from_row_splits(*tensors)
        else:
            (found[given["name"]],) = tensors
    return next(iter(found.values())) if len(found) == 1 else found


def plain(value: Any) -> Any:
    """A value of a run as numbers and text."""
    if isinstance(value, tf.compat.v1.SparseTensorValue):
        return {"sparse": [np.asarray(part).tolist() for part in value]}
    if isinstance(value, expected.Ragged):
        return {"ragged": [value.values.tolist(), value.row_splits[0].tolist()]}
    if isinstance(value, tf.compat.v1.ragged.RaggedTensorValue):
        return {"ragged": [value.values.tolist(), value.row_splits.tolist()]}
    value = np.asarray(value)
    if value.dtype.kind == "c":
        return {"complex": [[v.real, v.imag] for v in value.reshape(-1).tolist()]}
    if value.dtype.kind in "OS":
        return {"text": [v.decode() for v in value.reshape(-1).tolist()]}
    return value.tolist()


def wrong(name: str, case: Case, found: Dict[str, Any]) -> Optional[str]:
    """What is wrong with the outputs of a case."""
    if sorted(found) != sorted(case["outputs"]):
        return "{!r}: outputs {}".format(name, sorted(found))
    for key, value in found.items():
        if plain(value) != case["outputs"][key]:
            return "{!r}: output {!r} is {}, not {}".format(
                name, key, plain(value), case["outputs"][key]
            )
    return None


def check(
    run: Any, number: str, call: Callable[[str, Case], Any], some: bool = False
) -> None:
    """Compares signatures; ``call`` returns None for one that it cannot call.

    Args:
      run: the runtime.
      number: of the module.
      call: what is returned for a signature and its case.
      some: whether those will do whose names are odd.
    """
    known = {n: c for n, c in cases(number).items() if not some or is_odd(c)}
    found = {name: call(name, case) for name, case in known.items()}
    there = {name: value for name, value in found.items() if value is not None}
    assert len(there) > len(known) // 2
    # Lists, as some names are no keys for a session.
    lists = [list(v.values()) if isinstance(v, dict) else [v] for v in there.values()]
    problems = []
    for (name, tensors), values in zip(there.items(), run.run(lists)):
        keys = tensors if isinstance(tensors, dict) else known[name]["outputs"]
        problems.append(wrong(name, known[name], dict(zip(keys, values))))
    assert not any(problems), "\n".join(p for p in problems if p)


def is_odd(case: Case) -> bool:
    """Whether names of inputs collide, sort in another way, or are one input's."""
    names = list(flat_names(case))
    return (
        sorted(names) != sorted(names, key=sanitized)
        or len(set(map(sanitized, names))) < len(names)
        or aliased(case)
        or not all(n.isidentifier() for n in names)
    )


def by_names(loaded: Any) -> Callable[[str, Case], Any]:
    """Calls signatures by the flat names of their inputs."""
    return lambda name, case: loaded.signatures[name](**flat(case))


def test_there_are_signatures_of_every_sort() -> None:
    """Hundreds, and enough of those whose names sort in another way, or collide."""
    names = [
        [i["name"] for i in c["inputs"]] for n in NUMBERS for c in cases(n).values()
    ]
    assert len(names) == 300
    collide = [n for n in names if len(set(map(sanitized, n))) < len(n)]
    mixed = [n for n in names if sorted(n) != sorted(n, key=sanitized)]
    aliases = [c for n in NUMBERS for c in cases(n).values() if aliased(c)]
    assert len(collide) > 20
    assert len(mixed) > 40
    assert len(aliases) > 20


def sanitized(name: str) -> str:
    """The name of an input as TensorFlow 2.12 to 2.21 calls it."""
    name = "".join(c if c.isalnum() else "_" for c in name)
    return name if name[:1].isalpha() else "arg_" + name


def aliased(case: Case) -> bool:
    """Whether inputs of a case are one tensor."""
    seen = [json.dumps(dict(i, name=""), sort_keys=True) for i in case["inputs"]]
    return len(set(seen)) < len(seen)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_loaded_module(number: str, forms: Forms, tmp_path: Path) -> None:
    """Each input reaches what it is for, whatever it and the others are called.

    Under ``signatures``, in the object of the signature, and after saving.
    """
    with runtimes.Runtime(lambda: hub.load(forms.source(number))) as run:
        assert set(run.loaded.signatures) == set(cases(number)) | {"serving_default"}
        check(run, number, by_names(run.loaded))

        def call(name: str, case: Case) -> Any:
            found = getattr(run.loaded, name, None)
            if type(found).__name__ != "_UserObject":
                return None
            return getattr(found, "as_dict", found)(structured(case))

        check(run, number, call)
        hub.save(run.loaded, tmp_path / "saved", session=run.session)
    # The same functions once more.
    with runtimes.unoptimized():
        with runtimes.Runtime(lambda: hub.load(tmp_path / "saved")) as run:
            check(run, number, by_names(run.loaded), some=True)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_converted_directory_under_the_plain_loader(
    number: str, forms: Forms
) -> None:
    """So does each signature there, but where TensorFlow itself takes no such names."""
    path = str(forms.converted(number))
    new = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 12)

    def call(name: str, case: Case) -> Any:
        inputs = flat(case)
        if "self" in inputs:
            return None
        if new and ("" in inputs or len(set(map(sanitized, inputs))) < len(inputs)):
            return None
        return run.loaded.signatures[name](**inputs)

    # The functions are those of test_a_loaded_module.
    with runtimes.unoptimized():
        with runtimes.Runtime(lambda: tf.compat.v1.saved_model.load_v2(path)) as run:
            check(run, number, call, some=True)


@pytest.mark.modeless
@pytest.mark.parametrize("number", NUMBERS)
def test_a_session_of_a_converted_directory(number: str, forms: Forms) -> None:
    """The loader for sessions, which TensorFlow Serving has, gives the same values."""
    known = cases(number)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(
            session, ["serve"], str(forms.converted(number))
        )
        fetches, feeds = {}, {}
        for name, case in known.items():
            definition = loaded.signature_def[name]
            given = flat(case)
            assert sorted(definition.inputs) == sorted(given)
            for key, value in given.items():
                feeds[definition.inputs[key].name] = value
            fetches[name] = [o.name for _, o in sorted(definition.outputs.items())]
        arrays = dict(zip(feeds, session.run(list(feeds.values()))))
        values = session.run(list(fetches.values()), arrays)
    problems = []
    for (name, case), found in zip(known.items(), values):
        keys = sorted(loaded.signature_def[name].outputs)
        problems.append(wrong(name, case, packed(case, dict(zip(keys, found)))))
    assert not any(problems), "\n".join(p for p in problems if p)


def packed(case: Case, values: Dict[str, Any]) -> Dict[str, Any]:
    """Outputs of a session, by flat names, as those of a call."""
    found = {k: v for k, v in values.items() if k in case["outputs"]}
    for key, value in sorted(case["outputs"].items()):
        ends = []
        if isinstance(value, dict) and "sparse" in value:
            ends = ["indices", "values", "dense_shape"]
        elif isinstance(value, dict) and "ragged" in value:
            ends = ["component_0", "component_1"]
        if not ends:
            continue
        own = []
        for end in ends:
            names = [key + "_" + end] + [
                "{}_{}_{}".format(key, end, i) for i in range(1, 9)
            ]
            taken = [n for n in names if n in values and n not in found]
            own.append(values[taken[0]])
            found[taken[0]] = None
        kind = tf.compat.v1.SparseTensorValue
        if len(own) == 2:
            kind = tf.compat.v1.ragged.RaggedTensorValue
        found[key] = kind(*own)
    return {k: v for k, v in found.items() if k in case["outputs"]}
