"""Test modules about text: vocabularies, tables, assets."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from define import Call, Definition, texts

WORDS = (
    "the a of to and in is it you that he was for on are with as his they be at one "
    "have this from or had by"
).split()
WORDS.append("gr\u00f6\u00dfe")
VOCABULARY = "".join(word + "\n" for word in WORDS)
PIECES = "".join(
    piece + "\n" for piece in ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + WORDS[:12]
)


def text_embedding() -> None:
    """Sentences to the sum of their words' embeddings."""
    buckets = 2
    sentences = tf.placeholder(tf.string, [None], name="sentences")
    table = tf.contrib.lookup.index_table_from_file(
        "vocabulary/words.txt", num_oov_buckets=buckets
    )
    embeddings = tf.get_variable(
        "embeddings",
        [len(WORDS) + buckets, 4],
        partitioner=tf.fixed_size_partitioner(3),
    )
    words = tf.string_split(sentences)
    ids = tf.SparseTensor(words.indices, table.lookup(words.values), words.dense_shape)

    def embed(combiner: str) -> tf.Tensor:
        return tf.nn.embedding_lookup_sparse(
            embeddings, ids, None, partition_strategy="div", combiner=combiner
        )

    hub.add_signature(inputs=sentences, outputs=embed("sqrtn"))
    hub.add_signature(
        "with_counts",
        inputs={"sentences": sentences},
        outputs={
            "default": embed("mean"),
            "words": tf.sparse.reduce_sum(
                tf.SparseTensor(ids.indices, tf.ones_like(ids.values), ids.dense_shape),
                axis=1,
            ),
            "ids": tf.sparse.to_dense(ids, default_value=-1),
        },
    )


def _dense(inputs: tf.Tensor, width: int, name: str, activation: Any = None) -> Any:
    return tf.layers.dense(inputs, width, activation=activation, name=name)


def bert_like(is_training: bool) -> None:
    """Token ids to one vector per token, and one per text."""
    width, heads = 8, 2
    shape = [None, None]
    ids = tf.placeholder(tf.int32, shape, name="input_ids")
    mask = tf.placeholder(tf.int32, shape, name="input_mask")
    segments = tf.placeholder(tf.int32, shape, name="segment_ids")
    length = tf.shape(ids)[1]

    def normalize(values: tf.Tensor, scope: str) -> tf.Tensor:
        return tf.contrib.layers.layer_norm(
            values, begin_norm_axis=-1, begin_params_axis=-1, scope=scope
        )

    def dropout(values: tf.Tensor) -> tf.Tensor:
        return tf.nn.dropout(values, rate=0.1) if is_training else values

    with tf.variable_scope("bert"):
        words = tf.get_variable("embeddings/words", [16, width])
        types = tf.get_variable("embeddings/types", [2, width])
        positions = tf.get_variable("embeddings/positions", [12, width])
        hidden = tf.gather(words, ids)
        one_hot = tf.one_hot(tf.reshape(segments, [-1]), depth=2)
        hidden += tf.reshape(tf.matmul(one_hot, types), tf.shape(hidden))
        hidden += tf.expand_dims(tf.slice(positions, [0, 0], [length, -1]), 0)
        hidden = dropout(normalize(hidden, "embeddings/LayerNorm"))

        def split(values: tf.Tensor) -> tf.Tensor:
            parts = tf.reshape(values, [-1, length, heads, width // heads])
            return tf.transpose(parts, [0, 2, 1, 3])

        with tf.variable_scope("layer_0"):
            query = split(_dense(hidden, width, "query"))
            key = split(_dense(hidden, width, "key"))
            value = split(_dense(hidden, width, "value"))
            scores = tf.matmul(query, key, transpose_b=True) / (width / heads) ** 0.5
            hide = (1.0 - tf.cast(mask, tf.float32)) * -10000.0
            scores += hide[:, tf.newaxis, tf.newaxis, :]
            context = tf.matmul(dropout(tf.nn.softmax(scores)), value)
            context = tf.transpose(context, [0, 2, 1, 3])
            context = tf.reshape(context, [-1, length, width])
            hidden = normalize(hidden + _dense(context, width, "output"), "LayerNorm")
        pooled = tf.layers.dense(
            hidden[:, 0],
            width,
            activation=tf.tanh,
            kernel_regularizer=tf.contrib.layers.l2_regularizer(0.1),
            name="pooler",
        )
    hub.add_signature(
        "tokens",
        inputs={"input_ids": ids, "input_mask": mask, "segment_ids": segments},
        outputs={"pooled_output": pooled, "sequence_output": hidden},
    )
    vocabulary = tf.constant("vocabulary/pieces.txt", name="vocab_file")
    tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, vocabulary)
    hub.add_signature(
        "tokenization_info",
        outputs={"vocab_file": vocabulary, "do_lower_case": tf.constant(True)},
    )


def _tokens(batch: int, length: int) -> Any:
    random = np.random.RandomState(batch)
    mask = np.ones([batch, length], np.int32)
    mask[-1, length - 2 :] = 0
    return {
        "input_ids": random.randint(0, 16, [batch, length]).astype(np.int32),
        "input_mask": mask,
        "segment_ids": random.randint(0, 2, [batch, length]).astype(np.int32),
    }


def _bert_calls() -> Tuple[Call, ...]:
    return (
        Call(_tokens(1, 5), "tokens", gradient_of="pooled_output"),
        Call(_tokens(3, 7), "tokens", gradient_of="sequence_output"),
        Call({}, "tokenization_info", gradient_of=None),
        Call(
            _tokens(3, 4),
            "tokens",
            tags=("train",),
            gradient_of="pooled_output",
            deterministic=False,
        ),
        Call({}, "tokenization_info", tags=("train",), gradient_of=None),
    )


def tables() -> None:
    """Tables of all kinds, read by three signatures."""
    words = tf.placeholder(tf.string, [None], name="words")
    ids = tf.placeholder(tf.int64, [None], name="ids")
    lookup = tf.lookup

    to_id = lookup.StaticHashTable(
        lookup.KeyValueTensorInitializer(
            ["zero", "one", "two", ""], [0, 1, 2, 3], tf.string, tf.int64
        ),
        4,
    )
    rank = lookup.StaticHashTable(
        lookup.TextFileInitializer(
            "vocabulary/ranks.txt", tf.string, 0, tf.float32, 1, delimiter="\t"
        ),
        -1.0,
    )
    vectors = tf.get_variable("vectors", [5, 3])
    word_ids = to_id.lookup(words)
    hub.add_signature(
        inputs={"words": words},
        outputs={
            "default": tf.gather(vectors, word_ids),
            "ids": word_ids,
            "ranks": rank.lookup(words),
        },
    )

    price = lookup.StaticHashTable(
        lookup.KeyValueTensorInitializer(
            tf.constant([10, 20, -30], tf.int64), tf.constant([1.5, 2.5, -3.5])
        ),
        0.25,
    )
    to_word = tf.contrib.lookup.index_to_string_table_from_file(
        "vocabulary/words.txt", default_value="<none>"
    )
    hub.add_signature(
        "numbers",
        inputs={"ids": ids},
        outputs={"words": to_word.lookup(ids), "prices": price.lookup(ids)},
    )

    # checkpoint=True would add the table to a collection that tensorflow_hub refuses.
    counts = tf.contrib.lookup.MutableHashTable(
        tf.string, tf.int64, default_value=-1, checkpoint=False
    )
    points = tf.contrib.lookup.MutableHashTable(
        tf.string, tf.float32, default_value=[-1.0, -2.0], checkpoint=False
    )
    for insert in (
        counts.insert(tf.constant(["zero", "one"]), tf.constant([70, 71], tf.int64)),
        points.insert(tf.constant(["one"]), tf.constant([[0.5, 1.5]])),
    ):
        tf.add_to_collection(tf.GraphKeys.TABLE_INITIALIZERS, insert)
    hub.add_signature(
        "mutable",
        inputs={"words": words},
        outputs={"counts": counts.lookup(words), "points": points.lookup(words)},
    )


def shared_asset() -> None:
    """Two assets whose files have the same name."""
    ids = tf.placeholder(tf.int64, [None], name="ids")
    to_string = tf.contrib.lookup.index_to_string_table_from_file
    animals = to_string("animals/labels.txt", default_value="no animal")
    plants = to_string("plants/labels.txt", default_value="no plant")
    hub.add_signature(
        inputs={"ids": ids},
        outputs={"animals": animals.lookup(ids), "plants": plants.lookup(ids)},
    )
    paths = {}
    for kind in ("animals", "plants"):
        path = tf.constant(kind + "/labels.txt", name=kind + "_path")
        tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, path)
        paths[kind] = path
    hub.add_signature("path", outputs={"default": paths["plants"]})
    hub.add_signature("paths", outputs=paths)


DEFINITIONS: Tuple[Definition, ...] = (
    Definition(
        name="text_embedding",
        why=(
            "Vocabulary table from an asset, with out-of-vocabulary buckets; "
            "partitioned embedding; two signatures"
        ),
        build=text_embedding,
        files={"vocabulary/words.txt": VOCABULARY},
        calls=(
            Call({"default": texts("the one that was unheard of")}),
            Call(
                {
                    "default": texts(
                        "a", "", "they are gr\u00f6\u00dfe and gr\u00f6\u00dfe"
                    )
                }
            ),
            Call({"sentences": texts("is it you")}, "with_counts"),
            Call(
                {"sentences": texts("is it", "was he not unheard", "a")}, "with_counts"
            ),
        ),
    ),
    Definition(
        name="bert_like",
        why=(
            "Several int32 inputs, attention and layer norm, no default signature, and "
            "a signature without inputs that returns the path of an asset"
        ),
        build=bert_like,
        variants=(((), {"is_training": False}), (("train",), {"is_training": True})),
        files={"vocabulary/pieces.txt": PIECES},
        calls=_bert_calls(),
    ),
    Definition(
        name="tables",
        why=(
            "Key/value tables, text-file tables in both directions, and mutable tables "
            "that insertions among the table initializers fill"
        ),
        build=tables,
        files={
            "vocabulary/words.txt": VOCABULARY,
            "vocabulary/ranks.txt": "one\t1.5\ntwo\t-2.25\n",
        },
        calls=(
            Call({"words": texts("two")}),
            Call({"words": texts("one", "", "else")}),
            Call({"ids": np.array([3], np.int64)}, "numbers", gradient_of=None),
            Call({"ids": np.array([-30, 28, 10])}, "numbers", gradient_of=None),
            Call({"words": texts("one")}, "mutable", gradient_of=None),
            Call({"words": texts("zero", "", "one")}, "mutable", gradient_of=None),
        ),
    ),
    Definition(
        name="shared_asset",
        why=(
            "Two assets of the same basename from different directories, one of which "
            "tensorflow_hub renames, read by tables and returned as paths"
        ),
        build=shared_asset,
        files={"animals/labels.txt": "ant\nbee\n", "plants/labels.txt": "ash\nbox\n"},
        calls=(
            Call({"ids": np.array([1], np.int64)}, gradient_of=None),
            Call({"ids": np.array([0, 1, 2], np.int64)}, gradient_of=None),
            Call({}, "path", gradient_of=None),
            Call({}, "paths", gradient_of=None),
        ),
    ),
)
