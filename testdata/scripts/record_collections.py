"""What tensorflow_hub's Module puts into a graph, for all modules of testdata.

Writes ``module_collections.json.gz``: for each module and variant, frozen and
trainable, the names in each collection once all signatures are applied, the names of
``variable_map``, and those of the outputs. Needs TensorFlow 1.15 and tensorflow_hub
0.12::

    python testdata/scripts/record_collections.py
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List

import expected
import tensorflow as tf

PATH = expected.HERE / "module_collections.json.gz"
_KEYS = (
    "variables",
    "trainable_variables",
    "model_variables",
    "update_ops",
    "regularization_losses",
    "table_initializer",
    "asset_filepaths",
)


def modules() -> Iterator[Path]:
    """The TF1 Hub modules."""
    for name in expected.module_names():
        path = expected.HERE / name / "module"
        if (path / "tfhub_module.pb").exists():
            yield path


def look(hub: Any, path: Path) -> Dict[str, Any]:
    """All that is recorded of a module, by variant.

    Args:
      hub: ``tensorflow_hub``, or a package like it.
      path: the module.
    """
    spec = hub.load_module_spec(str(path))
    found = {}
    for tags in sorted(spec.get_tags(), key=sorted):
        for trainable in (False, True):
            with tf.Graph().as_default() as graph:
                with tf.compat.v1.variable_scope("outer"):
                    module = hub.Module(spec, trainable=trainable, tags=tags)
                outputs = {
                    name: _outputs(module, name)
                    for name in sorted(module.get_signature_names())
                }
                key = "{} {}".format(sorted(tags), "trainable" if trainable else "")
                found[key] = {
                    "collections": {k: _names(graph.get_collection(k)) for k in _KEYS},
                    "variable_map": {
                        k: _names(v if isinstance(v, list) else [v])
                        for k, v in module.variable_map.items()
                    },
                    "outputs": outputs,
                }
    return found


def _outputs(module: Any, signature: str) -> Dict[str, List[str]]:
    inputs = {}
    for name, info in module.get_input_info_dict(signature).items():
        if info.is_sparse:
            inputs[name] = tf.compat.v1.sparse_placeholder(info.dtype)
        elif getattr(info, "is_composite", False):
            return {}
        else:
            inputs[name] = tf.compat.v1.placeholder(info.dtype, info.get_shape())
    outputs = module(inputs or None, signature=signature, as_dict=True)
    return {
        name: _names(tf.nest.flatten(value, expand_composites=True))
        for name, value in outputs.items()
    }


def _names(values: Any) -> List[str]:
    return [value.name for value in values]


def main() -> None:
    """Writes the file."""
    import tensorflow_hub as hub

    found = {path.parent.name: look(hub, path) for path in modules()}
    text = json.dumps(found, sort_keys=True)
    with open(str(PATH), "wb") as file, gzip.GzipFile(
        "", "wb", 9, file, mtime=0
    ) as out:
        out.write(text.encode())


if __name__ == "__main__":
    main()
