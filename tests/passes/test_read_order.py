"""What a function reads, it reads before its caller goes on to write.

As in a function that TensorFlow 2 traced itself: the values wanted here follow from
the order of the lines. The reads of these graphs come late, after a large product.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow, pytest.mark.eager]


@pytest.fixture(scope="module", name="loaded")
def _loaded(tmp_path_factory: Any) -> Any:
    """A TF1 SavedModel of ``x * scale``, with a loss of three times the scale."""
    import tensorflow as tf

    v1 = tf.compat.v1
    path = str(tmp_path_factory.mktemp("late") / "module")
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [], "x")
        with v1.variable_scope("", use_resource=True):
            scale = v1.get_variable("scale", [], initializer=v1.ones_initializer())
        large = v1.random_uniform([700, 700])
        with v1.control_dependencies([tf.matmul(large, tf.matmul(large, large))]):
            y = x * scale.read_value()
            loss = 3.0 * scale.read_value()
            zero = tf.zeros([])
        chosen = v1.cond(zero > x, lambda: zero, lambda: x * scale.read_value())
        v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, loss)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, path, {"x": x}, {"y": y, "chosen": chosen})
    return hub.load(path)


WAYS: Dict[str, Callable[[Any, Any], Any]] = {
    "call": lambda loaded, x: loaded(x)["y"],
    "call in training": lambda loaded, x: loaded(x, training=True)["y"],
    "signature": lambda loaded, x: loaded.signatures["serving_default"](x=x)["y"],
    "conditional": lambda loaded, x: loaded(x)["chosen"],
    "loss": lambda loaded, _: loaded.regularization_losses[0](),
}


@pytest.mark.parametrize("way", WAYS)
def test_step_of_the_caller_follows_the_read(loaded: Any, way: str) -> None:
    """The result is of the variable as it was, though its gradient is known at once."""
    import tensorflow as tf

    (scale,) = loaded.variables
    scale.assign(1.0)

    @tf.function
    def step(x: Any) -> Any:
        result = WAYS[way](loaded, x)
        scale.assign_sub(0.25)
        return result

    @tf.function
    def trained(x: Any) -> Any:
        with tf.GradientTape() as tape:
            result = WAYS[way](loaded, x)
        scale.assign_sub(0.25 * tape.gradient(result, scale) / 3.0)
        return result

    x = tf.constant(3.0)
    assert float(step(x)) == 3.0
    assert float(trained(x)) == 2.25
    assert float(step(x)) == 1.5
