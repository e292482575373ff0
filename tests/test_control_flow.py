"""What has no gradient: TF1 loops, conditionals, custom gradients; clear refusal."""

from __future__ import annotations

import dataclasses
from typing import Any

import expected
import numpy as np
import pytest
import replay

import hub_compat as hub

pytestmark = pytest.mark.tensorflow


def gradient(loaded: Any, case: Any) -> Any:
    """Asks for the gradient of a signature with respect to all variables."""
    inputs = {}
    for name, value in case.inputs.items():
        inputs.update(replay.flat(name, value))

    def output() -> Any:
        import tensorflow as tf

        results = loaded.signatures[case.signature](**inputs)
        return tf.reduce_sum(results[case.gradient_of])

    return output


@pytest.mark.parametrize("name", ["while_loop", "cond_bn"])
def test_gradient_through_control_flow_raises_our_error(name: str) -> None:
    """Not TensorFlow's 'outer_context', but what is the matter and what to do."""
    recorded = expected.load_expected(name)
    refused = 0
    for case in recorded.cases:
        if not case.gradient_of or not replay.complete(recorded, case):
            continue
        with replay.Runtime(
            lambda tags=case.tags: hub.load(recorded.path, tags)
        ) as run:
            variables = list(run.loaded.trainable_variables)
            try:
                run.gradients(gradient(run.loaded, case), variables)
            except LookupError as error:
                assert "hub_compat: node" in str(error)
                assert "tf.while_loop" in str(error) or "tf.cond" in str(error)
                refused += 1
    assert refused


def test_signature_without_control_flow_keeps_its_gradient() -> None:
    """One loop in a module does not cost the other signatures their gradient."""
    recorded = expected.load_expected("while_loop")
    kept = 0
    for case in recorded.cases:
        if not case.gradient_of or not case.deterministic:
            continue
        with replay.Runtime(
            lambda tags=case.tags: hub.load(recorded.path, tags)
        ) as run:
            try:
                replay._check_gradients(run, recorded, case)
            except LookupError:
                continue
            kept += 1
            assert any(g is not None and np.any(g) for g in case.gradients.values())
    assert kept


def test_swish_has_the_gradient_of_what_it_computes() -> None:
    """Exported, tf.nn.swish of TF 1.15 has none; as a Defun, of 1.13, it had."""
    recorded = expected.load_expected("function_library")
    (case,) = [c for c in recorded.cases if c.signature == "old_swish"]
    assert any(g is not None and np.any(g) for g in case.gradients.values())
    with replay.Runtime(lambda: hub.load(recorded.path)) as run:
        replay._check_gradients(
            run, recorded, dataclasses.replace(case, signature="swish")
        )


def test_lost_gradient_raises_our_error() -> None:
    """A tf.custom_gradient is not in the module, and nothing takes its place."""
    recorded = expected.load_expected("function_library")
    (case,) = [c for c in recorded.cases if c.signature == "custom_gradient"]
    with replay.Runtime(lambda: hub.load(recorded.path)) as run:
        variables = list(run.loaded.trainable_variables)
        with pytest.raises(LookupError, match="hub_compat: node.*tf.custom_gradient"):
            run.gradients(
                gradient(run.loaded, dataclasses.replace(case, gradient_of="default")),
                variables,
            )


def test_report_names_what_runs_forward_only(tmp_path: Any) -> None:
    """The report says which nodes stop gradients."""
    report = hub.convert(expected.load_expected("while_loop").path, tmp_path / "out")
    assert any("forward only" in warning for warning in report.warnings)
