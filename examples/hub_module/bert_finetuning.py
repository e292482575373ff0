"""Fine-tunes a model like BERT to classify sentences, of the time of TensorFlow 1.

The module says which vocabulary it has; it is trained by its variant "train", and
exported each time that the job is evaluated. The program is as it was written for
tensorflow_hub, but for one line: the import. It needs an Estimator, which TensorFlow
has up to 2.15::

    python examples/hub_module/bert_finetuning.py testdata/bert_like/module job
"""

import argparse
import os

import numpy as np
import tensorflow.compat.v1 as tf

import hub_compat as hub  # was: import tensorflow_hub as hub

tf.disable_v2_behavior()

MAX_SEQ_LENGTH = 8
SENTENCES = [
    ("it is he", 0),
    ("he was in it", 0),
    ("the a of it", 0),
    ("you and to that", 1),
    ("that is you", 1),
    ("to you and that", 1),
]


def create_tokenizer(bert_hub_module_handle):
    """Reads the vocabulary whose file the module names."""
    with tf.Graph().as_default():
        bert_module = hub.Module(bert_hub_module_handle)
        tokenization_info = bert_module(signature="tokenization_info", as_dict=True)
        with tf.Session() as sess:
            vocab_file, do_lower_case = sess.run(
                [tokenization_info["vocab_file"], tokenization_info["do_lower_case"]]
            )
    with tf.gfile.GFile(vocab_file, "r") as file:
        vocab = {word.strip(): i for i, word in enumerate(file)}

    def tokenize(sentence):
        text = sentence.lower() if do_lower_case else sentence
        words = ["[CLS]"] + text.split() + ["[SEP]"]
        return [vocab.get(word, vocab["[UNK]"]) for word in words][:MAX_SEQ_LENGTH]

    return tokenize


def convert_examples_to_features(tokenize):
    """The ids of each sentence, filled up to one length."""
    shape = (len(SENTENCES), MAX_SEQ_LENGTH)
    features = {
        name: np.zeros(shape, np.int32)
        for name in ("input_ids", "input_mask", "segment_ids")
    }
    for i, (sentence, _) in enumerate(SENTENCES):
        ids = tokenize(sentence)
        features["input_ids"][i, : len(ids)] = ids
        features["input_mask"][i, : len(ids)] = 1
    return features, np.array([label for _, label in SENTENCES], np.int32)


def create_model(is_training, features, labels, num_labels, handle):
    """The module, and a layer on top of it."""
    tags = {"train"} if is_training else set()
    bert_module = hub.Module(handle, tags=tags, trainable=True)
    bert_inputs = dict(
        input_ids=features["input_ids"],
        input_mask=features["input_mask"],
        segment_ids=features["segment_ids"],
    )
    bert_outputs = bert_module(inputs=bert_inputs, signature="tokens", as_dict=True)
    hub.register_module_for_export(bert_module, "bert")
    output_layer = bert_outputs["pooled_output"]
    hidden_size = output_layer.shape[-1].value
    output_weights = tf.get_variable(
        "output_weights",
        [num_labels, hidden_size],
        initializer=tf.truncated_normal_initializer(stddev=0.02, seed=1),
    )
    output_bias = tf.get_variable(
        "output_bias", [num_labels], initializer=tf.zeros_initializer()
    )
    logits = tf.matmul(output_layer, output_weights, transpose_b=True)
    log_probs = tf.nn.log_softmax(tf.nn.bias_add(logits, output_bias), axis=-1)
    predicted = tf.argmax(log_probs, axis=-1, output_type=tf.int32)
    if labels is None:
        return None, predicted, log_probs
    one_hot = tf.one_hot(labels, depth=num_labels, dtype=tf.float32)
    loss = tf.reduce_mean(-tf.reduce_sum(one_hot * log_probs, axis=-1))
    return loss, predicted, log_probs


def model_fn_builder(num_labels, learning_rate, handle):
    """Returns the model_fn of the Estimator."""

    def model_fn(features, labels, mode, params):
        del params
        loss, predicted, log_probs = create_model(
            mode == tf.estimator.ModeKeys.TRAIN, features, labels, num_labels, handle
        )
        if mode == tf.estimator.ModeKeys.PREDICT:
            predictions = {"probabilities": log_probs, "labels": predicted}
            return tf.estimator.EstimatorSpec(mode, predictions=predictions)
        if mode == tf.estimator.ModeKeys.EVAL:
            metrics = {"eval_accuracy": tf.metrics.accuracy(labels, predicted)}
            return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
        optimizer = tf.train.GradientDescentOptimizer(learning_rate)
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = optimizer.minimize(
                loss, global_step=tf.train.get_or_create_global_step()
            )
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def serving_input_fn():
    """What the exported graph takes."""
    features = {
        name: tf.placeholder(tf.int32, [None, MAX_SEQ_LENGTH], name=name)
        for name in ("input_ids", "input_mask", "segment_ids")
    }
    return tf.estimator.export.ServingInputReceiver(features, features)


def main():
    """Trains, evaluates and exports."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bert_hub_module_handle")
    parser.add_argument("output_dir")
    parser.add_argument("--num_train_steps", type=int, default=60)
    parser.add_argument("--learning_rate", type=float, default=0.2)
    arguments = parser.parse_args()
    tf.logging.set_verbosity(tf.logging.ERROR)
    handle = arguments.bert_hub_module_handle
    features, labels = convert_examples_to_features(create_tokenizer(handle))

    def input_fn(repeat):
        data = tf.data.Dataset.from_tensors((features, labels))
        return data.repeat() if repeat else data

    estimator = tf.estimator.Estimator(
        model_fn_builder(2, arguments.learning_rate, handle),
        config=tf.estimator.RunConfig(arguments.output_dir, tf_random_seed=1),
        params={},
    )
    exporter = hub.LatestModuleExporter("tf_hub", serving_input_fn, exports_to_keep=2)
    tf.estimator.train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(lambda: input_fn(True), arguments.num_train_steps),
        tf.estimator.EvalSpec(
            lambda: input_fn(False), steps=1, exporters=[exporter], throttle_secs=0
        ),
    )
    scores = estimator.evaluate(lambda: input_fn(False), steps=1)
    print("eval_accuracy {eval_accuracy:.3f}, loss {loss:.4f}".format(**scores))
    exports = os.path.join(arguments.output_dir, "export", "tf_hub")
    (latest,) = tf.gfile.ListDirectory(exports)
    exported = os.path.join(exports, latest.rstrip("/"), "bert")
    with hub.eval_function_for_module(exported) as f:
        inputs = {name: value[:1] for name, value in features.items()}
        pooled = f(inputs, signature="tokens", as_dict=True)["pooled_output"]
    print("exported, pooled output {:.4f}".format(float(np.sum(pooled))))


if __name__ == "__main__":
    main()
