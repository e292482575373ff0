"""Test modules of tf.contrib's cells and decoders, and of arrays that are handed on."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from define import Call, Definition, array, texts


def cells() -> None:
    """Cells that are compatible with cuDNN, and those that are one op each."""
    x = tf.placeholder(tf.float32, [None, 4, 3], name="x")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")

    def signature(name: str, cell: Any) -> None:
        outputs, state = tf.nn.dynamic_rnn(
            cell, x, lengths, dtype=tf.float32, scope=name
        )
        last = tf.concat(tf.nest.flatten(state), 1)
        hub.add_signature(
            name,
            inputs={"x": x, "lengths": lengths},
            outputs={"default": outputs, "state": last},
        )

    lstm = tf.contrib.cudnn_rnn.CudnnCompatibleLSTMCell
    signature("default", tf.nn.rnn_cell.MultiRNNCell([lstm(3) for _ in range(2)]))
    signature("gru", tf.contrib.cudnn_rnn.CudnnCompatibleGRUCell(3))
    signature(
        "lstm_block",
        tf.contrib.rnn.LSTMBlockCell(
            3, forget_bias=0.5, use_peephole=True, cell_clip=0.4
        ),
    )
    signature("gru_block", tf.contrib.rnn.GRUBlockCellV2(3))


def decoding() -> None:
    """Attention, a greedy decoder; loops over words; arrays through loops, branches."""
    x = tf.placeholder(tf.float32, [None, 4, 3], name="x")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    batch = tf.shape(x)[0]
    seq2seq = tf.contrib.seq2seq

    memory, _ = tf.nn.dynamic_rnn(
        tf.nn.rnn_cell.GRUCell(4), x, lengths, dtype=tf.float32, scope="encoder"
    )
    cell = seq2seq.AttentionWrapper(
        tf.nn.rnn_cell.GRUCell(4),
        seq2seq.BahdanauAttention(4, memory, lengths),
        attention_layer_size=3,
        alignment_history=True,
    )
    # As in loops(): TF 1.15 has no gradient where a branch in a loop reads a resource.
    embedding = tf.identity(tf.get_variable("embedding", [6, 3]))
    helper = seq2seq.GreedyEmbeddingHelper(embedding, tf.fill([batch], 1), 0)
    decoder = seq2seq.BasicDecoder(
        cell, helper, cell.zero_state(batch, tf.float32), tf.layers.Dense(6)
    )
    found, state, sizes = seq2seq.dynamic_decode(decoder, maximum_iterations=5)
    hub.add_signature(
        inputs={"x": x, "lengths": lengths},
        outputs={
            "default": found.rnn_output,
            "words": found.sample_id,
            "sizes": sizes,
            "alignments": state.alignment_history.stack(),
        },
    )

    words = tf.placeholder(tf.string, [None], name="words")
    table = tf.contrib.lookup.index_table_from_tensor(["a", "b", "c"], default_value=0)

    def letters(word: tf.Tensor) -> tf.Tensor:
        numbers = table.lookup(tf.string_split([word], "").values)
        return tf.reduce_sum(tf.nn.embedding_lookup(embedding, numbers), 0)

    spelled = tf.map_fn(letters, words, dtype=tf.float32)
    hub.add_signature("spelled", inputs={"words": words}, outputs=spelled)

    kernel = tf.identity(tf.get_variable("kernel", [3, 3]))
    rows = tf.TensorArray(tf.float32, 4, clear_after_read=False)
    rows = rows.unstack(tf.transpose(x, [1, 0, 2]))
    pairs = tf.TensorArray(tf.float32, 16, element_shape=[None, 3])

    def outer(i: Any, written: Any) -> Any:
        def inner(j: Any, written: Any) -> Any:
            value = tf.cond(
                i > j,
                lambda: tf.matmul(rows.read(i), kernel),
                lambda: rows.read(j) * rows.read(i),
            )
            return j + 1, written.write(i * 4 + j, value)

        return i + 1, tf.while_loop(lambda j, _: j < 4, inner, [0, written])[1]

    _, pairs = tf.while_loop(lambda i, _: i < 4, outer, [0, pairs])
    hub.add_signature("pairs", inputs={"x": x}, outputs=pairs.stack())

    chosen = tf.TensorArray(tf.float32, 0, dynamic_size=True, infer_shape=False)

    def choose(i: Any, count: Any, chosen: Any) -> Any:
        positive = tf.reduce_sum(x[:, i]) > 0.0
        chosen = tf.cond(
            positive,
            lambda: chosen.write(count, tf.matmul(x[:, i], kernel)),
            lambda: chosen,
        )
        return i + 1, count + tf.cast(positive, tf.int32), chosen

    _, count, chosen = tf.while_loop(lambda i, *_: i < 4, choose, [0, 0, chosen])
    hub.add_signature(
        "chosen", inputs={"x": x}, outputs={"default": chosen.concat(), "count": count}
    )


_INPUTS = {"x": array((2, 4, 3), 7), "lengths": np.array([4, 2], np.int32)}

DEFINITIONS = (
    Definition(
        name="cells",
        why="recurrent cells of tf.contrib: compatible with cuDNN, and of one op",
        build=cells,
        calls=tuple(
            Call(_INPUTS, name)
            for name in ("default", "gru", "lstm_block", "gru_block")
        ),
    ),
    Definition(
        name="decoding",
        why="tf.contrib.seq2seq's attention and greedy decoder, map_fn over words with "
        "a table, arrays that go through nested loops and through branches",
        build=decoding,
        calls=(
            Call(_INPUTS, "default"),
            Call({"words": texts("abc", "cab?", "b")}, "spelled"),
            Call({"x": _INPUTS["x"]}, "pairs"),
            Call({"x": _INPUTS["x"]}, "chosen"),
        ),
    ),
)
