"""What a test module is, and how it becomes a TF1 Hub module or SavedModel on disk.

Needs TensorFlow 1.15 and tensorflow_hub 0.12.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
import tensorflow_hub as hub

Tags = Tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a signature, to be recorded.

    Attributes:
      inputs: by name; an optional input may be missing.
      signature: its name.
      tags: the variant.
      gradient_of: the output to differentiate; None for none.
      deterministic: False where random ops decide about the outputs.
    """

    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    signature: str = "default"
    tags: Tags = ()
    gradient_of: Optional[str] = "default"
    deterministic: bool = True


@dataclasses.dataclass(frozen=True)
class Definition:
    """One test module.

    Attributes:
      name: its directory.
      why: what it exercises, in a sentence.
      calls: what to record.
      build: the module_fn of a TF1 Hub module; None for a TF1 SavedModel.
      write: writes a TF1 SavedModel, given its directory; None for a TF1 Hub module.
      left_out: signatures of a TF1 SavedModel that cannot be run from a function.
      variants: tags and the arguments of ``build`` for each; None for the default
        variant alone.
      files: contents of files that ``build`` finds, by path relative to the working
        directory. Absolute paths would end up in the names of tables, and make
        the module depend on the machine.
      modules: other definitions that ``build`` finds as ``modules/NAME``.
      drop_collections: what tensorflow_hub refuses to export.
      keep_values: whether variables keep their initial values; otherwise those
        with floats get random ones, so that a bias or a moving average that gets
        lost does not go unnoticed.
    """

    name: str
    why: str
    calls: Tuple[Call, ...]
    build: Optional[Callable[..., None]] = None
    write: Optional[Callable[[Path], None]] = None
    left_out: Tuple[str, ...] = ()
    variants: Optional[Tuple[Tuple[Tags, Dict[str, Any]], ...]] = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    modules: Tuple[str, ...] = ()
    drop_collections: Tuple[str, ...] = ()
    keep_values: bool = False


def array(shape: Tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Random numbers around zero, the same in every run."""
    return np.random.RandomState(seed).normal(size=shape).astype(dtype)


def texts(*rows: str) -> np.ndarray:
    """A string tensor's value."""
    return np.array([row.encode("utf-8") for row in rows], dtype=object)


def session_config() -> tf.ConfigProto:
    """One thread, so that sums are added up in the same order in every run."""
    return tf.ConfigProto(
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=1,
        allow_soft_placement=True,
        device_count={"GPU": 0},
    )


def variable_parts(variable_map: Mapping[str, Any]) -> Iterator[Tuple[str, List[Any]]]:
    """The variables of a ``hub.Module``, sorted, each as a list of its parts."""
    for name, value in sorted(variable_map.items()):
        yield name, value if isinstance(value, list) else [value]


def write_module(definition: Definition, root: Path, scratch: Path) -> None:
    """Writes ``root/NAME/module``.

    Args:
      definition: what to write.
      root: the directory of all test modules.
      scratch: an empty directory that becomes the working directory.
    """
    target = root / definition.name
    shutil.rmtree(str(target), ignore_errors=True)
    target.mkdir(parents=True)
    for name, contents in definition.files.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(contents.encode("utf-8"))
    for name in definition.modules:
        inner = scratch / "modules" / name
        shutil.copytree(str(root / name / "module"), str(inner))
    os.chdir(str(scratch))

    if definition.write is not None:
        with tf.Graph().as_default():
            tf.set_random_seed(20190401)
            definition.write(target / "module")
        return

    def build(**arguments: Any) -> None:
        tf.set_random_seed(20190401)
        assert definition.build is not None
        definition.build(**arguments)

    variants = None
    if definition.variants is not None:
        variants = [(set(tags), kwargs) for tags, kwargs in definition.variants]
    spec = hub.create_module_spec(
        build,
        tags_and_args=variants,
        drop_collections=list(definition.drop_collections),
    )
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        module = hub.Module(spec)
        session.run(tf.global_variables_initializer())
        session.run(tf.tables_initializer())
        if not definition.keep_values:
            _randomize(module.variable_map, session)
        module.export(str(target / "module"), session)


def _randomize(variable_map: Mapping[str, Any], session: tf.Session) -> None:
    for name, parts in variable_parts(variable_map):
        for index, variable in enumerate(parts):
            if not variable.dtype.is_floating:
                continue
            # Not hash(), which differs from process to process.
            seed = zlib.crc32("{}/{}".format(name, index).encode("utf-8"))
            value = array(variable.shape.as_list(), seed) * 0.5
            if any(word in name for word in ("variance", "gamma")):
                value = 0.5 + np.abs(value)
            variable.load(value.astype(variable.dtype.as_numpy_dtype), session)
