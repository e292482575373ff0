"""Module in graphs against what the original did under TF 1.15.5."""

from __future__ import annotations

from typing import Any, Dict, List

import expected
import numpy as np
import pytest
import replay

import hub_compat as hub

pytestmark = pytest.mark.tensorflow
MODULES = expected.module_names()


# TensorFlow 2.21 has no kernel that assigns a variable of this dtype.
NO_KERNEL = {"all_dtypes": "qint16"}


@pytest.mark.parametrize("name", MODULES)
def test_recorded_runs(name: str) -> None:
    """Outputs, losses, gradients, one step and updates are the recorded ones."""
    import tensorflow as tf

    if name in NO_KERNEL and not tf.__version__.startswith("1."):
        pytest.skip("no kernel of TensorFlow assigns variables of " + NO_KERNEL[name])
    recorded = expected.load_expected(name)
    spec = hub.load_module_spec(recorded.path)
    seen = set()
    for case in recorded.cases:
        infos = spec.get_input_info_dict(case.signature, case.tags)
        if set(infos) == set(case.inputs) and case.id not in seen:
            seen.add(case.id)
            _Run(spec, recorded, case).check()
    assert seen


class _Run:
    """One case, in a graph of its own."""

    def __init__(self, spec: Any, recorded: Any, case: Any) -> None:
        self.recorded = recorded
        self.case = case
        self.spec = spec

    def check(self) -> None:
        """Builds the graph, runs it, and compares."""
        import tensorflow as tf

        case = self.case
        with tf.Graph().as_default() as graph:
            self.module = hub.Module(self.spec, trainable=True, tags=case.tags)
            keys = tf.compat.v1.GraphKeys
            losses = list(graph.get_collection(keys.REGULARIZATION_LOSSES))
            inputs = {name: replay.tensor(v) for name, v in case.inputs.items()}
            outputs = self.module(inputs, signature=case.signature, as_dict=True)
            updates = list(graph.get_collection(keys.UPDATE_OPS))
            self.init = [
                tf.compat.v1.global_variables_initializer(),
                tf.compat.v1.tables_initializer(),
            ]
            if not case.deterministic:
                return
            gradients: List[Any] = []
            if case.gradient_of:
                gradients = self.gradients(inputs, outputs[case.gradient_of])
            values, found_losses, found = self.run(
                [outputs, losses, [g for g in gradients if g is not None]]
            )
            for key, wanted in case.outputs.items():
                what = "{} {}".format(case.id, key)
                replay.assert_equal(values[key], wanted, what)
            for loss, wanted in zip(found_losses, case.regularization_losses):
                wanted = np.asarray(wanted, np.float32)
                replay.assert_equal(np.asarray(loss, np.float32), wanted, case.id)
            assert len(found_losses) == len(case.regularization_losses)
            if case.gradient_of:
                self.check_gradients(gradients, found, outputs[case.gradient_of])
            if case.updated:
                fed = [
                    t
                    for v in inputs.values()
                    for t in tf.nest.flatten(v, expand_composites=True)
                ]
                self.check_updates([op for op in updates if _runs(op, fed)])

    def run(self, fetches: Any, *before: Any) -> Any:
        """Runs ops in a new session, one after the other."""
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto(
            allow_soft_placement=True, intra_op_parallelism_threads=1
        )
        with tf.compat.v1.Session(config=config) as session:
            for op in [self.init, *before]:
                session.run(op)
            return session.run(fetches)

    def gradients(self, inputs: Dict[str, Any], output: Any) -> List[Any]:
        """Gradients of variables and inputs; None where there is none."""
        import tensorflow as tf

        case = self.case
        weights = expected.weights_like(np.asarray(case.outputs[case.gradient_of]))
        value = tf.reduce_sum(output * tf.cast(tf.constant(weights), output.dtype))
        sources = self.trainable()
        sources += [inputs[name] for name in replay._dense_inputs(case)]
        return [
            None if g is None else tf.convert_to_tensor(g)
            for g in (tf.gradients(value, sources) if sources else [])
        ]

    def check_gradients(self, gradients: Any, values: Any, output: Any) -> None:
        """Compares them, and the output after one step."""
        import tensorflow as tf

        case = self.case
        variables = self.trainable()
        left = iter(values)
        found = [None if g is None else next(left) for g in gradients]
        replay._assert_gradients(
            self.recorded, case, [_Renamed(v) for v in variables], found
        )
        pairs = [(g, v) for g, v in zip(gradients, variables) if g is not None]
        if pairs and case.stepped:
            ready = tf.tuple([g for g, _ in pairs])
            step = tf.compat.v1.train.GradientDescentOptimizer(
                expected.STEP
            ).apply_gradients([(g, v) for g, (_, v) in zip(ready, pairs)])
            (wanted,) = case.stepped.values()
            after = self.run(output, step)
            what = case.id + " after a step"
            replay.assert_equal(after, wanted, what, replay.GRADIENT_RELATIVE, 1e-5)

    def trainable(self) -> List[Any]:
        """The variables that a training job changes."""
        import tensorflow as tf

        return list(tf.compat.v1.trainable_variables())

    def check_updates(self, updates: List[Any]) -> None:
        """The values of variables after the update ops have run."""
        read = {
            name: [
                v.read_value() for v in (found if isinstance(found, list) else [found])
            ]
            for name, found in self.module.variable_map.items()
        }
        values = self.run(read, updates)
        for name, wanted in self.case.updated.items():
            parts = values[name]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            replay.assert_equal(whole, wanted, self.case.id + " " + name, 1e-4)


def _runs(update: Any, fed: List[Any]) -> bool:
    """Whether an update op needs no input of another signature."""
    ops = {id(tensor.op) for tensor in fed}
    stack, seen = [getattr(update, "op", update)], set()
    while stack:
        op = stack.pop()
        if id(op) in seen or id(op) in ops:
            continue
        seen.add(id(op))
        if op.type == "Placeholder":
            return False
        stack += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return True


class _Renamed:
    """A variable under its name in the module."""

    def __init__(self, variable: Any) -> None:
        self.name = variable.name[len("module/") :]
        self.shape = variable.shape
        self.dtype = variable.dtype
