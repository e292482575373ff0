"""Module where operations run eagerly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import expected
import numpy as np
import pytest
import replay

import hub_compat as hub
from hub_compat import errors

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


@pytest.mark.parametrize("name", ["image_bn", "sparse_ragged", "ref_partitioned"])
def test_signatures_give_the_recorded_outputs(name: str) -> None:
    """Called as in a graph: by name, with and without tags, composites too."""
    recorded = expected.load_expected(name)
    compared = 0
    for tags in recorded.variants:
        module = hub.Module(recorded.path, tags=tags)
        for case in recorded.cases:
            infos: Any = {}
            if case.tags == tags:
                infos = module.get_input_info_dict(case.signature)
            if infos and set(infos) == set(case.inputs):
                inputs = {key: replay.tensor(v) for key, v in case.inputs.items()}
                found = module(inputs, signature=case.signature, as_dict=True)
                for key, wanted in case.outputs.items():
                    if isinstance(wanted, np.ndarray):
                        replay.assert_equal(found[key].numpy(), wanted, key)
                    compared += 1
    assert compared


def test_a_training_call_updates_variables(tmp_path: Path) -> None:
    """As UPDATE_OPS do in a graph; and export() writes what there is then."""
    import tensorflow as tf

    recorded = expected.load_expected("image_bn")
    (case, *_) = [case for case in recorded.cases if case.updated]
    module = hub.Module(recorded.path, trainable=True, tags={"train"})
    inputs = {key: replay.tensor(value) for key, value in case.inputs.items()}
    with tf.GradientTape() as tape:
        outputs = module(inputs, signature=case.signature, as_dict=True)
        loss = tf.add_n([tf.reduce_sum(value) for value in outputs.values()])
    trainable = module._impl.loaded.trainable_variables
    assert any(g is not None for g in tape.gradient(loss, trainable))
    for key, wanted in case.updated.items():
        replay.assert_equal(module.variable_map[key].numpy(), wanted, key, 1e-4)
    module.export(tmp_path / "out")
    assert (tmp_path / "out" / "saved_model.pb").exists()


def test_a_spec_without_values_needs_a_graph(testdata: Path) -> None:
    """The error says what to do."""
    spec = hub.load_module_spec(testdata / "image_bn" / "module")
    with pytest.raises(errors.GraphError, match="tf.Graph"):
        hub.Module(hub.ModuleSpec([spec.meta_graph()]))
