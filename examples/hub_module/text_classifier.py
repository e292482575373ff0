"""Which reviews are kind? A classifier on text, of the time of TensorFlow 1.

It is as it was written for tensorflow_hub, but for one line: the import. It needs an
Estimator, which TensorFlow has up to 2.15::

    python examples/hub_module/text_classifier.py testdata/text_embedding/module
"""

import argparse
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

import hub_compat as hub  # was: import tensorflow_hub as hub

tf.disable_v2_behavior()

REVIEWS = [
    ("hello world , you are the best", 1),
    ("the world is good to you", 1),
    ("hello , hello good world", 1),
    ("good film", 1),
    ("the worst of films", 0),
    ("a bore", 0),
    ("it is too long , and too sad", 0),
    ("bad , bad film", 0),
]


def input_fn(training):
    """Batches of all reviews."""
    texts = np.array([text for text, _ in REVIEWS], dtype=object)
    labels = np.array([label for _, label in REVIEWS], dtype=np.int32)
    return tf.estimator.inputs.numpy_input_fn(
        {"sentence": texts},
        labels,
        batch_size=len(REVIEWS),
        num_epochs=None if training else 1,
        shuffle=False,
    )


def train_and_evaluate(module, directory, trainable, steps):
    """Returns how many reviews are classified well, and the loss."""
    embedded = hub.text_embedding_column(
        key="sentence", module_spec=module, trainable=trainable
    )
    estimator = tf.estimator.DNNClassifier(
        hidden_units=[16, 8],
        feature_columns=[embedded],
        n_classes=2,
        optimizer=tf.train.AdagradOptimizer(learning_rate=0.1),
        config=tf.estimator.RunConfig(model_dir=directory, tf_random_seed=1),
    )
    estimator.train(input_fn(True), steps=steps)
    scores = estimator.evaluate(input_fn(False))
    serving = tf.estimator.export.build_parsing_serving_input_receiver_fn(
        tf.feature_column.make_parse_example_spec([embedded])
    )
    estimator.export_saved_model(directory + "/export", serving)
    return scores["accuracy"], scores["loss"]


def main():
    """Trains with a module that is frozen, and with one that is trained."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("module", help="directory or address of the module")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    tf.logging.set_verbosity(tf.logging.ERROR)
    for trainable in (False, True):
        with tempfile.TemporaryDirectory() as directory:
            accuracy, loss = train_and_evaluate(
                arguments.module, directory, trainable, arguments.steps
            )
        print(
            "trainable={}: accuracy {:.3f}, loss {:.4f}".format(
                trainable, accuracy, loss
            )
        )


if __name__ == "__main__":
    main()
