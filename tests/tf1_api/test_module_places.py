"""A Module is applied in functions and loops of its graph, which upstream refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hub_compat as hub

pytestmark = [pytest.mark.tensorflow]

IMAGES = np.random.RandomState(0).rand(4, 8, 8, 3).astype(np.float32)


def test_dataset_map(testdata: Path) -> None:
    """AutoGraph, which rewrites the lambda, leaves the code of the Module alone."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        module = hub.Module(str(testdata / "image_bn" / "module"))
        plain: Any = module(v1.constant(IMAGES))
        data = v1.data.Dataset.from_tensors(IMAGES).map(lambda images: module(images))
        iterator = v1.data.make_initializable_iterator(data)
        following = iterator.get_next()
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            session.run(iterator.initializer)
            one, two = session.run([plain, following])
    np.testing.assert_allclose(one, two, rtol=1e-5)
