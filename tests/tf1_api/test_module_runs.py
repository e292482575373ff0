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


@pytest.mark.parametrize("name", MODULES)
def test_recorded_runs(name: str) -> None:
    """Outputs, losses, gradients, one step and updates are the recorded ones."""
    recorded = expected.load_expected(name)
    spec = hub.load_module_spec(recorded.path)
    for case in recorded.cases:
        if set(spec.get_input_info_dict(case.signature, case.tags)) == set(case.inputs):
            _Run(spec, recorded, case).check()


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
            if case.deterministic:
                values, found_losses = self.run([outputs, losses])
                for key, wanted in case.outputs.items():
                    what = "{} {}".format(case.id, key)
                    replay.assert_equal(values[key], wanted, what)
                for found, wanted in zip(found_losses, case.regularization_losses):
                    wanted = np.asarray(wanted, np.float32)
                    replay.assert_equal(np.asarray(found, np.float32), wanted, case.id)
                assert len(found_losses) == len(case.regularization_losses)
            if case.gradient_of and case.deterministic:
                self.check_gradients(inputs, outputs[case.gradient_of])
            if case.updated and case.deterministic:
                self.check_updates(updates)

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

    def check_gradients(self, inputs: Dict[str, Any], output: Any) -> None:
        """Gradients of variables and inputs, and the output after one step."""
        import tensorflow as tf

        case = self.case
        weights = expected.weights_like(np.asarray(case.outputs[case.gradient_of]))
        value = tf.reduce_sum(output * tf.cast(tf.constant(weights), output.dtype))
        variables = self.trainable()
        dense = replay._dense_inputs(case)
        sources = variables + [inputs[name] for name in dense]
        gradients = [
            None if g is None else tf.convert_to_tensor(g)
            for g in (tf.gradients(value, sources) if sources else [])
        ]
        values = self.run([g for g in gradients if g is not None])
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


class _Renamed:
    """A variable under its name in the module."""

    def __init__(self, variable: Any) -> None:
        self.name = variable.name[len("module/") :]
        self.shape = variable.shape
        self.dtype = variable.dtype
