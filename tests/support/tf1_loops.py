"""TF1's control flow in any TensorFlow, and modules that have it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import numpy as np

X = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, 1.5]], np.float32)


@contextlib.contextmanager
def old_control_flow() -> Iterator[None]:
    """Switch and Merge, frames: what TF 1.15 makes of control flow."""
    import tensorflow as tf

    v1 = tf.compat.v1
    enabled = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        yield
    finally:
        if enabled:
            v1.enable_control_flow_v2()


def write(
    program: Callable[..., Any], path: Path, name: str = "go", tags: Any = ("serve",)
) -> Dict[str, Any]:
    """Writes a program; returns what two runs of it give, and the variable then."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with old_control_flow(), tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        kernel = np.random.RandomState(3).normal(size=(3, 3)).astype(np.float32)
        weights = v1.get_variable("weights", initializer=kernel, use_resource=True)
        steps = v1.get_variable(
            "steps", initializer=1.0, use_resource=True, trainable=False
        )
        y = v1.identity(program(v1, x, weights, steps), name="y")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, list(tags), {name: signature}, main_op=v1.tables_initializer()
        )
        builder.save()
        ops = {op.type for op in x.graph.get_operations()}
        assert "Merge" in ops
        assert ops.isdisjoint(["If", "While"])
        runs = [session.run(y, {x: X}) for _ in range(2)]
        return {"runs": runs, "steps": session.run(steps)}
