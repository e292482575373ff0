"""Test modules about TF1's loops, conditionals and TensorArrays."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from define import Call, Definition, array, texts
from modules_text import VOCABULARY


def _vector_signature(name: str, x: tf.Tensor, output: Any) -> None:
    outputs = output if isinstance(output, dict) else {"default": output}
    hub.add_signature(name, inputs={"x": x}, outputs=outputs)


def loops() -> None:
    """while_loop in all its forms: nested, growing, with conditionals and states."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    kernel = tf.get_variable("kernel", [3, 3])
    gain = tf.get_variable("gain", [3])
    table = tf.get_variable("table", [5, 3])

    def nested_body(i: Any, value: Any) -> Any:
        _, inner = tf.while_loop(
            lambda j, v: j < i + 1,
            lambda j, v: (j + 1, tf.tanh(tf.matmul(v, kernel)) * gain),
            [0, value],
        )
        return i + 1, inner + value

    _, value = tf.while_loop(lambda i, v: i < 3, nested_body, [0, x])
    _vector_signature("default", x, value)

    # TF 1.15 has no gradient where a branch in a loop reads a resource variable.
    kernel_value, gain_value = tf.identity(kernel), tf.identity(gain)

    def with_cond(i: Any, value: Any) -> Any:
        changed = tf.cond(
            tf.equal(i % 2, 0),
            lambda: tf.matmul(value, kernel_value),
            lambda: tf.cond(
                tf.reduce_sum(value) > 0.0,
                lambda: value * gain_value,
                lambda: tf.matmul(value, kernel_value * gain_value),
            ),
        )
        return i + 1, tf.sin(changed)

    _, value = tf.while_loop(lambda i, v: i < 5, with_cond, [0, x])
    _vector_signature("cond_inside", x, value)

    def goes_on(i: Any, value: Any) -> Any:
        return tf.cond(i < 2, lambda: True, lambda: tf.reduce_sum(tf.abs(value)) > 0.5)

    _, value = tf.while_loop(
        goes_on,
        lambda i, v: [i + 1, v * 0.5 * tf.sigmoid(gain)],
        [0, x],
        maximum_iterations=10,
    )
    _vector_signature("cond_in_condition", x, value)

    _, grown = tf.while_loop(
        lambda i, v: i < 3,
        lambda i, v: (i + 1, tf.concat([v, tf.matmul(v[-1:], kernel)], 0)),
        [0, x[:1]],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 3])],
    )
    _vector_signature("growing", x, grown)

    _, first, second, words = tf.while_loop(
        lambda i, *_: i < 3,
        lambda i, a, b, w: (
            i + 1,
            b * gain,
            tf.matmul(a, kernel),
            tf.strings.join([w, tf.as_string(i)]),
        ),
        [0, x, x * 2.0, tf.constant("turns:")],
    )
    outputs = {"default": first, "second": second, "words": words}
    _vector_signature("swapped", x, outputs)

    _, value = tf.while_loop(
        lambda i, v: i < 3,
        lambda i, v: (i + 1, v + tf.gather(table, [i, 0, i, 1])[: tf.shape(v)[0]]),
        [0, x],
        parallel_iterations=1,
    )
    _vector_signature("gather", x, value)

    def asserting(i: Any, value: Any) -> Any:
        check = tf.Assert(tf.reduce_all(tf.is_finite(value)), [value])
        with tf.control_dependencies([check]):
            return i + 1, tf.tanh(tf.matmul(tf.identity(value), kernel))

    _, value = tf.while_loop(lambda i, v: i < 2, asserting, [0, x])
    _vector_signature("asserting", x, value)

    _, value = tf.while_loop(lambda i, v: i < 0, with_cond, [0, x * gain])
    _vector_signature("no_turn", x, value)

    # Two exits, one of which needs another placeholder.
    y = tf.placeholder(tf.float32, [None, 3], name="y")
    _, one, two = tf.while_loop(
        lambda i, *_: i < 2,
        lambda i, a, b: (i + 1, tf.matmul(a, kernel), b * gain),
        [0, x, y],
    )
    _vector_signature("one_exit", x, one)
    hub.add_signature("both_exits", inputs={"x": x, "y": y}, outputs=one + two)

    resource = tf.get_variable("resource", [3, 3], use_resource=True)

    def inner(j: Any, value: Any) -> Any:
        row = tf.gather(resource, j)
        return j + 1, tf.sin(tf.matmul(value, resource) + row)

    def turned(i: Any, value: Any) -> Any:
        return i + 1, tf.cond(
            tf.equal(i, 1),
            lambda: tf.tanh(tf.matmul(value, resource)),
            lambda: tf.while_loop(lambda j, _: j < 2, inner, [0, value])[1],
        )

    # Functions from the start.
    tf.enable_control_flow_v2()
    _, value = tf.while_loop(lambda i, _: i < 3, turned, [0, x * gain])
    tf.disable_control_flow_v2()
    _vector_signature("functions", x, value)


def branches() -> None:
    """tf.cond, case, switch_case: nested, with tables, one branch that is empty."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    kernel = tf.get_variable("kernel", [3, 3])
    gain = tf.get_variable("gain", [3])
    resource = tf.get_variable("resource", [3, 3], use_resource=True)
    size = tf.reduce_mean(x)
    value = tf.case(
        [
            (size > 1.0, lambda: tf.matmul(x, kernel)),
            (size > 0.0, lambda: x * gain),
            (size > -0.5, lambda: tf.matmul(x, resource)),
        ],
        default=lambda: tf.exp(x),
    )
    _vector_signature("default", x, value)

    first, second = tf.cond(
        size > 0.0,
        lambda: (tf.matmul(x, kernel), x),
        lambda: (x, tf.reduce_sum(x * gain, keepdims=True)),
    )
    _vector_signature("several", x, {"default": first, "second": second})

    same = tf.cond(size > 0.0, lambda: tf.identity(x) * gain, lambda: x)
    again = tf.cond(size > 0.0, lambda: tf.matmul(same, kernel), lambda: same * 2.0)
    _vector_signature("in_turn", x, again)

    def looping() -> tf.Tensor:
        return tf.while_loop(
            lambda i, v: i < 3,
            lambda i, v: (i + 1, tf.tanh(tf.matmul(v, resource))),
            [0, x],
        )[1]

    _vector_signature("loop_inside", x, tf.cond(size > 0.0, looping, lambda: x * gain))

    nested = tf.cond(
        size > 0.0,
        lambda: tf.cond(
            size > 0.5,
            lambda: tf.cond(size > 0.75, lambda: x * gain, lambda: x + gain),
            lambda: tf.matmul(x, kernel),
        ),
        lambda: tf.cond(size > -0.5, lambda: tf.sin(x * gain), lambda: x),
    )
    _vector_signature("nested", x, nested)

    words = tf.placeholder(tf.string, [None], name="words")
    lookup = tf.contrib.lookup.index_table_from_tensor(
        ["the", "one", "of"], num_oov_buckets=1
    )
    embedding = tf.get_variable("embedding", [4, 3])
    many = tf.shape(words)[0] > 1
    embedded = tf.cond(
        many,
        lambda: tf.nn.embedding_lookup(embedding, lookup.lookup(words)),
        lambda: tf.zeros([tf.shape(words)[0], 3]) + gain,
    )
    hub.add_signature("table", inputs={"words": words}, outputs=embedded)

    # A Merge of three, as control_flow_ops makes none itself.
    low, rest = tf.contrib.framework.nest.map_structure(
        lambda t: t, tf.raw_ops.Switch(data=x, pred=size > 0.0)
    )
    middle, high = tf.raw_ops.Switch(data=rest, pred=tf.reduce_mean(rest) > 0.5)
    merged, index = tf.raw_ops.Merge(inputs=[low * 2.0, middle * gain, tf.exp(high)])
    _vector_signature("three", x, {"default": merged, "index": index + 1})

    # Functions: one of them chooses among others, two read variables.
    rows = tf.shape(x)[0]
    switched = tf.switch_case(
        rows - 3,
        {
            0: lambda: tf.matmul(x, resource),
            1: lambda: tf.switch_case(
                rows - 3, [lambda: x * 2.0, lambda: tf.matmul(tf.sin(x), resource)]
            ),
        },
        default=lambda: x,
    )
    _vector_signature("switched", x, switched * gain)


def arrays() -> None:
    """TensorArrays: map_fn, scan, foldl, and each of their ops."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    kernel = tf.get_variable("kernel", [3, 3])
    gain = tf.get_variable("gain", [3])
    rows = tf.shape(x)[0]

    def transform(row: tf.Tensor) -> tf.Tensor:
        return tf.tanh(tf.squeeze(tf.matmul(row[None], kernel), 0))

    _vector_signature("default", x, tf.map_fn(transform, x))
    scanned = tf.scan(lambda a, row: transform(a) + row * gain, x)
    _vector_signature("scan", x, scanned)
    folded = tf.foldl(lambda a, row: transform(a) * row, x)
    _vector_signature("foldl", x, folded)
    nested = tf.map_fn(
        lambda row: tf.map_fn(lambda v: v * v * gain[0], row) + transform(row), x
    )
    _vector_signature("nested", x, nested)
    pairs = tf.map_fn(
        lambda pair: (pair[0] * gain, pair[1] + 1),
        (x, tf.range(rows)),
        dtype=(tf.float32, tf.int32),
    )
    _vector_signature("pairs", x, {"default": pairs[0], "numbers": pairs[1]})

    ta = tf.TensorArray(tf.float32, 0, dynamic_size=True, infer_shape=False)

    def grow(i: Any, ta: Any) -> Any:
        return i + 1, ta.write(i, x[: i + 1] * gain)

    _, grown = tf.while_loop(lambda i, _: i < rows, grow, [0, ta])
    _vector_signature("concat", x, {"default": grown.concat(), "size": grown.size()})

    split = tf.TensorArray(tf.float32, 2, infer_shape=False).split(
        tf.matmul(x, kernel), [rows - 1, 1]
    )
    _vector_signature("split", x, split.read(0) * split.read(1))

    unstacked = tf.TensorArray(tf.float32, rows, clear_after_read=False).unstack(
        x * gain
    )
    _vector_signature("gather", x, unstacked.gather([0, rows - 1, 0]))
    _vector_signature("read", x, unstacked.read(0) + unstacked.read(0))

    scattered = tf.TensorArray(tf.float32, 3).scatter(
        [2, 0], tf.stack([x[0], x[-1]]) * gain
    )
    scattered = scattered.write(1, transform(x[0]))
    _vector_signature("scatter", x, scattered.stack())

    chosen = tf.cond(
        tf.reduce_mean(x) > 0.0,
        lambda: (
            tf.TensorArray(tf.float32, 2).unstack(tf.stack([x[0], x[0] * gain])).stack()
        ),
        lambda: tf.TensorArray(tf.float32, 2).unstack(tf.stack([x[-1], x[0]])).stack(),
    )
    _vector_signature("in_branch", x, chosen)


def recurrent() -> None:
    """Recurrent nets as TF1 has them."""
    x = tf.placeholder(tf.float32, [None, 4, 3], name="x")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    inputs = {"x": x, "lengths": lengths}

    def signature(name: str, outputs: Any) -> None:
        hub.add_signature(name, inputs=inputs, outputs=outputs)

    cell = tf.nn.rnn_cell.GRUCell(3, name="gru")
    outputs, state = tf.nn.dynamic_rnn(cell, x, lengths, dtype=tf.float32)
    signature("default", {"default": outputs, "state": state})

    stacked = tf.nn.rnn_cell.MultiRNNCell(
        [
            tf.nn.rnn_cell.DropoutWrapper(tf.nn.rnn_cell.LSTMCell(4, name="one")),
            tf.nn.rnn_cell.ResidualWrapper(
                tf.nn.rnn_cell.LSTMCell(4, use_peepholes=True, name="two")
            ),
        ]
    )
    outputs, _ = tf.nn.dynamic_rnn(
        stacked,
        tf.transpose(x, [1, 0, 2]),
        lengths,
        dtype=tf.float32,
        time_major=True,
        scope="stacked",
    )
    signature("stacked", outputs)

    pair, states = tf.nn.bidirectional_dynamic_rnn(
        tf.nn.rnn_cell.LSTMCell(3, num_proj=2, name="forward"),
        tf.nn.rnn_cell.LSTMCell(3, num_proj=2, name="backward"),
        x,
        lengths,
        dtype=tf.float32,
    )
    signature("bidirectional", {"default": tf.concat(pair, 2), "memory": states[1].c})

    unstacked = tf.TensorArray(tf.float32, 4).unstack(tf.transpose(x, [1, 0, 2]))
    raw_cell = tf.nn.rnn_cell.BasicRNNCell(3, name="raw")

    def loop_fn(time: Any, output: Any, state: Any, _: Any) -> Any:
        if output is None:
            state = raw_cell.zero_state(tf.shape(x)[0], tf.float32)
        finished = time >= lengths
        following = tf.cond(
            tf.reduce_all(finished),
            lambda: tf.zeros([tf.shape(x)[0], 3]),
            lambda: unstacked.read(time),
        )
        return finished, following, state, output, None

    written, state, _ = tf.nn.raw_rnn(raw_cell, loop_fn)
    signature("raw", {"default": written.stack(), "state": state})


def own_gradient() -> None:
    """A graph that holds a loop and tf.gradients of it."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    kernel = tf.get_variable("kernel", [3, 3])
    _, value = tf.while_loop(
        lambda i, v: i < 3, lambda i, v: (i + 1, tf.tanh(tf.matmul(v, kernel))), [0, x]
    )
    (slope,) = tf.gradients(value, x)
    _vector_signature("default", x, slope)
    _, value = tf.while_loop(
        lambda i, v: i < 2, lambda i, v: (i + 1, tf.matmul(v, kernel)), [0, x]
    )
    _vector_signature("apart", x, value)


def language() -> None:
    """ELMo's shape: characters, highway, two bidirectional LSTMs, a weighted sum."""
    width = 4
    text = tf.placeholder(tf.string, [None], name="text")
    tokens = tf.placeholder(tf.string, [None, None], name="tokens")
    sequence_len = tf.placeholder(tf.int32, [None], name="sequence_len")
    lookup = tf.contrib.lookup.index_table_from_file("words.txt", num_oov_buckets=1)
    bos = tf.get_variable("bos", [5], tf.float32)

    def encode(words: tf.Tensor, lengths: tf.Tensor) -> Dict[str, tf.Tensor]:
        batch, most = tf.shape(words)[0], tf.shape(words)[1]

        def characters(word: tf.Tensor) -> tf.Tensor:
            numbers = tf.decode_raw(word, tf.uint8)[:6]
            numbers = tf.cast(numbers, tf.int32)
            return tf.pad(numbers, [[0, 6 - tf.shape(numbers)[0]]])

        flat = tf.reshape(words, [-1])
        codes = tf.map_fn(characters, flat, dtype=tf.int32, parallel_iterations=4)
        codes = tf.reshape(codes, [-1, 6])
        with tf.variable_scope("characters", reuse=tf.AUTO_REUSE):
            table = tf.get_variable("embedding", [256, 5])
            embedded = tf.nn.embedding_lookup(table, codes) + bos
            columns = []
            for kernel in (1, 2, 3):
                convolved = tf.layers.conv1d(
                    embedded, 3, kernel, name="conv_{}".format(kernel)
                )
                columns.append(tf.reduce_max(tf.nn.relu(convolved), 1))
            net = tf.concat(columns, 1)
            for i in range(2):
                gate = tf.layers.dense(net, 9, tf.sigmoid, name="gate_{}".format(i))
                new = tf.layers.dense(net, 9, tf.nn.relu, name="new_{}".format(i))
                net = gate * new + (1.0 - gate) * net
            net = tf.layers.dense(net, width, name="projection")
        word_table = tf.get_variable("word_embedding", [40, width])
        known = tf.nn.embedding_lookup(word_table, lookup.lookup(words))
        net = tf.reshape(net, [batch, most, width])
        layers = [tf.concat([net, known], 2)]
        current = [net, tf.reverse_sequence(net, lengths, seq_axis=1)]
        for i in range(2):
            for direction in range(2):
                with tf.variable_scope(
                    "layer_{}_{}".format(i, direction), reuse=tf.AUTO_REUSE
                ):
                    cell = tf.nn.rnn_cell.LSTMCell(
                        6, num_proj=width, cell_clip=3.0, proj_clip=3.0, name="cell"
                    )
                    output, _ = tf.nn.dynamic_rnn(
                        cell, current[direction], lengths, dtype=tf.float32
                    )
                if i:
                    output = output + current[direction]
                current[direction] = output
            backward = tf.reverse_sequence(current[1], lengths, seq_axis=1)
            layers.append(tf.concat([current[0], backward], 2))
        with tf.variable_scope("aggregation", reuse=tf.AUTO_REUSE):
            weights = tf.nn.softmax(tf.get_variable("weights", [3]))
            scale = tf.get_variable("scaling", [])
        elmo = scale * tf.add_n([weights[i] * layers[i] for i in range(3)])
        mask = tf.sequence_mask(lengths, most, tf.float32)[:, :, None]
        pooled = tf.reduce_sum(elmo * mask, 1) / tf.reduce_sum(mask, 1)
        return {
            "default": pooled,
            "elmo": elmo,
            "word_emb": net,
            "lstm_outputs1": layers[1],
            "lstm_outputs2": layers[2],
        }

    def split() -> Tuple[tf.Tensor, tf.Tensor]:
        sparse = tf.string_split(text)
        words = tf.sparse_tensor_to_dense(sparse, default_value="")
        lengths = tf.cast(
            tf.reduce_sum(tf.cast(tf.not_equal(words, ""), tf.int64), 1), tf.int32
        )
        return words, lengths

    with tf.variable_scope("model", reuse=tf.AUTO_REUSE):
        hub.add_signature("default", inputs={"strings": text}, outputs=encode(*split()))
        hub.add_signature(
            "tokens",
            inputs={"tokens": tokens, "sequence_len": sequence_len},
            outputs=encode(tokens, sequence_len),
        )


def _calls(*names: str, gradient_of: Optional[str] = "default") -> Tuple[Call, ...]:
    calls = []
    for name in names:
        for seed, shift in ((1, 0.8), (2, -0.3)):
            inputs: Dict[str, Any] = {"x": array((2 + seed, 3), seed) * 0.5 + shift}
            if name == "both_exits":
                inputs["y"] = array((2 + seed, 3), seed + 5)
            if name == "default":
                inputs = {"x": inputs["x"]}
            calls.append(Call(inputs, name, gradient_of=gradient_of))
    return tuple(calls)


def _recurrent_calls() -> Tuple[Call, ...]:
    inputs = {"x": array((3, 4, 3), 4), "lengths": np.array([4, 1, 2], np.int32)}
    names = ("default", "stacked", "bidirectional", "raw")
    return tuple(Call(inputs, name) for name in names)


DEFINITIONS: Tuple[Definition, ...] = (
    Definition(
        name="loops",
        why="tf.while_loop: nested, with conditionals in body and condition, growing, "
        "several exits, strings, asserts, gathers",
        build=loops,
        calls=_calls(
            "default",
            "cond_inside",
            "cond_in_condition",
            "growing",
            "swapped",
            "asserting",
            "no_turn",
            "one_exit",
            "both_exits",
            "gather",
            "functions",
        ),
    ),
    Definition(
        name="branches",
        why="tf.cond and tf.case: nested, one after another, with a loop, a table, and "
        "a Merge of three",
        build=branches,
        calls=_calls(
            "default", "several", "in_turn", "loop_inside", "nested", "switched"
        )
        # Of what has no tf.cond, TF 1.15 computes a gradient that is not there.
        + _calls("three", gradient_of=None)
        + (
            Call({"words": texts("the", "unheard", "of")}, "table"),
            Call({"words": texts("one")}, "table"),
        ),
    ),
    Definition(
        name="arrays",
        why="TensorArrays: map_fn, scan, foldl, nested, and each op of theirs",
        build=arrays,
        calls=_calls(
            "default",
            "scan",
            "foldl",
            "nested",
            "pairs",
            "concat",
            "split",
            "gather",
            "read",
            "scatter",
            "in_branch",
        ),
    ),
    Definition(
        name="recurrent",
        why="dynamic_rnn, stacked and with residuals, bidirectional, raw_rnn",
        build=recurrent,
        calls=_recurrent_calls(),
    ),
    Definition(
        name="own_gradient",
        why="tf.gradients of a loop within the graph, which runs forward only",
        build=own_gradient,
        # TF 1.15 has no gradient of the gradient of a loop.
        calls=_calls("default", gradient_of=None) + _calls("apart"),
    ),
    Definition(
        name="language",
        why="ELMo's shape: character convolutions, highway layers, bidirectional LSTMs "
        "with projections and residuals, a weighted sum of layers; strings or tokens",
        build=language,
        files={"words.txt": VOCABULARY},
        calls=(
            Call({"strings": texts("the one of all", "unheard of")}, "default"),
            Call(
                {
                    "tokens": np.array(
                        [[b"the", b"one", b"of"], [b"is", b"it", b""]], dtype=object
                    ),
                    "sequence_len": np.array([3, 2], np.int32),
                },
                "tokens",
                gradient_of="elmo",
            ),
        ),
    ),
)
