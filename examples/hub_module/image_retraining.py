"""A new last layer for a network of images, of the time of TensorFlow 1.

Each folder of images is a class. What the module gives for an image, its bottleneck,
is computed once and kept in a file. The program is as it was written for
tensorflow_hub, but for one line: the import::

    python examples/hub_module/image_retraining.py testdata/image_bn/module

Give ``--image_dir`` and ``--saved_model_dir``, or it draws images of its own.
"""

import argparse
import os
import random
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

import hub_compat as hub  # was: import tensorflow_hub as hub

tf.disable_v2_behavior()


def draw_images(image_dir, count=12):
    """Writes images whose left half is bright, and others whose right half is."""
    rng = np.random.RandomState(1)
    pixels = tf.placeholder(tf.uint8, [None, None, 3])
    encoded = tf.image.encode_png(pixels)
    with tf.Session() as sess:
        for label in ("left", "right"):
            os.makedirs(os.path.join(image_dir, label))
            for i in range(count):
                image = rng.randint(0, 128, (12, 12, 3)).astype(np.uint8)
                half = image[:, :6] if label == "left" else image[:, 6:]
                half += 127
                name = os.path.join(image_dir, label, "{}.png".format(i))
                with tf.gfile.GFile(name, "wb") as file:
                    file.write(sess.run(encoded, {pixels: image}))


def create_image_lists(image_dir):
    """The files of each class, some of them for testing."""
    result = {}
    for label in sorted(tf.gfile.ListDirectory(image_dir)):
        files = sorted(tf.gfile.Glob(os.path.join(image_dir, label, "*.png")))
        result[label] = {"training": files[3:], "testing": files[:3]}
    return result


def add_image_decoding(module_spec):
    """Adds the decoding of a file, and its size as the module has it."""
    height, width = hub.get_expected_image_size(module_spec)
    depth = hub.get_num_image_channels(module_spec, SIGNATURE)
    data = tf.placeholder(tf.string, name="DecodeInput")
    decoded = tf.image.convert_image_dtype(
        tf.image.decode_png(data, channels=depth), tf.float32
    )
    resized = tf.image.resize_bilinear(tf.expand_dims(decoded, 0), [height, width])
    return data, resized


def create_module_graph(module_spec):
    """The graph with the module, and its bottleneck."""
    height, width = hub.get_expected_image_size(module_spec)
    with tf.Graph().as_default() as graph:
        resized_input = tf.placeholder(tf.float32, [None, height, width, 3])
        module = hub.Module(module_spec)
        bottleneck = module(dict(images=resized_input), signature=SIGNATURE)
    return graph, bottleneck, resized_input


def get_bottlenecks(sess, files, folder, tensors):
    """The bottlenecks of files, each from its own file or else computed."""
    data, decoded, resized_input, bottleneck = tensors
    found = []
    for path in files:
        kept = os.path.join(folder, path.replace(os.sep, "_") + ".txt")
        if not os.path.exists(kept):
            with tf.gfile.GFile(path, "rb") as file:
                image = sess.run(decoded, {data: file.read()})
            values = np.squeeze(sess.run(bottleneck, {resized_input: image}))
            with open(kept, "w") as file:
                file.write(",".join(repr(float(value)) for value in values))
        with open(kept) as file:
            found.append([float(value) for value in file.read().split(",")])
    return np.array(found, np.float32)


def add_final_retrain_ops(class_count, bottleneck, learning_rate):
    """Adds the new layer and its training."""
    size = bottleneck.get_shape().as_list()[1]
    with tf.name_scope("input"):
        bottleneck_input = tf.placeholder_with_default(
            bottleneck, [None, size], name="BottleneckInputPlaceholder"
        )
        labels = tf.placeholder(tf.int64, [None], name="GroundTruthInput")
    with tf.name_scope("final_retrain_ops"):
        weights = tf.Variable(tf.zeros([size, class_count]), name="final_weights")
        biases = tf.Variable(tf.zeros([class_count]), name="final_biases")
        logits = tf.matmul(bottleneck_input, weights) + biases
    final = tf.nn.softmax(logits, name="final_result")
    loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    optimizer = tf.train.GradientDescentOptimizer(learning_rate)
    step = optimizer.minimize(loss, var_list=[weights, biases])
    right = tf.equal(tf.argmax(final, 1), labels)
    accuracy = tf.reduce_mean(tf.cast(right, tf.float32))
    return step, loss, accuracy, bottleneck_input, labels, final


SIGNATURE = "image_feature_vector"


def retrain(arguments, image_dir, folder):
    """Trains the last layer, and exports it together with the module."""
    random.seed(1)
    image_lists = create_image_lists(image_dir)
    module_spec = hub.load_module_spec(arguments.tfhub_module)
    graph, bottleneck, resized_input = create_module_graph(module_spec)
    with graph.as_default():
        step, loss, accuracy, bottleneck_input, labels, final = add_final_retrain_ops(
            len(image_lists), bottleneck, arguments.learning_rate
        )
        data, decoded = add_image_decoding(module_spec)
    with tf.Session(graph=graph) as sess:
        with graph.as_default():
            sess.run(tf.global_variables_initializer())
        tensors = (data, decoded, resized_input, bottleneck)
        feeds = {}
        for part in ("training", "testing"):
            files = [
                (path, i)
                for i, lists in enumerate(image_lists.values())
                for path in lists[part]
            ]
            values = get_bottlenecks(sess, [f for f, _ in files], folder, tensors)
            numbers = np.array([i for _, i in files])
            feeds[part] = {bottleneck_input: values, labels: numbers}
        for i in range(arguments.how_many_training_steps):
            value, _ = sess.run([loss, step], feeds["training"])
            if i % 20 == 0:
                print("step {}: cross entropy {:.4f}".format(i, value))
        tested = sess.run(accuracy, feeds["testing"])
        print("Final test accuracy = {:.1f}%".format(tested * 100))
        if arguments.saved_model_dir:
            tf.saved_model.simple_save(
                sess,
                arguments.saved_model_dir,
                inputs={"image": resized_input},
                outputs={"prediction": final},
                legacy_init_op=tf.group(tf.tables_initializer()),
            )


def main():
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tfhub_module", help="directory or address of the module")
    parser.add_argument("--image_dir", default="")
    parser.add_argument("--saved_model_dir", default="")
    parser.add_argument("--how_many_training_steps", type=int, default=100)
    parser.add_argument("--learning_rate", type=float, default=0.5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image_dir = arguments.image_dir
        if not image_dir:
            image_dir = os.path.join(folder, "images")
            draw_images(image_dir)
        os.makedirs(os.path.join(folder, "bottlenecks"))
        retrain(arguments, image_dir, os.path.join(folder, "bottlenecks"))


if __name__ == "__main__":
    main()
