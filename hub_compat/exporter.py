"""export_reusable(): a Keras model, or a piece of one, as a Reusable SavedModel."""

from __future__ import annotations

import keyword
import re
import warnings
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from hub_compat._io import files
from hub_compat._io.publish import atomic_directory
from hub_compat._tf import tf
from hub_compat._tf.functions import call_arguments
from hub_compat._tf.keras import parts_of, weight_losses
from hub_compat._tf.runtime import in_tf1_graph
from hub_compat._tf.tracking import tracked_objects
from hub_compat.converters.ir.names import parameter_name
from hub_compat.errors import SaveError

__all__ = ["export_reusable"]


def export_reusable(
    model: Any, directory: Any, *, inputs: Any = None, overwrite: bool = False
) -> None:
    """Writes a Keras model as a Reusable SavedModel that any TensorFlow can train.

    The result has what TensorFlow Hub documents as the Reusable SavedModel interface:
    ``__call__(inputs, training=False)``, ``variables``, ``trainable_variables``,
    ``regularization_losses``, and the signature ``"serving_default"``. It holds nothing
    of Keras: ``tf.saved_model.load``, tensorflow_hub and ``hub_compat.load`` load it,
    TensorFlow 1.15 included, and a ``KerasLayer`` of any Keras trains it.

    Args:
      model: a model or layer of Keras 2 or Keras 3; ``keras.Model(model.inputs,
        model.layers[-2].output)`` is a part of one.
      directory: directory to write; a string or ``os.PathLike``. It appears whole or
        not at all.
      inputs: a nest of ``tf.TensorSpec`` (or the specs of sparse and ragged tensors),
        batch dimension included; needed only if the model does not know its inputs,
        such as a layer or a subclassed model.
      overwrite: replace a directory that exists.

    Raises:
      SaveError: ``model`` is not of Keras, or has no weights yet; it does not know
        its inputs; TensorFlow is in graph mode.
      DestinationError: ``directory`` exists, or cannot be written.
    """
    if in_tf1_graph() or not tf.executing_eagerly():
        raise SaveError(
            "export_reusable() needs eager execution, because it traces the model. "
            "Call tf.compat.v1.enable_v2_behavior() at the start of the program, "
            "and load the model's weights there."
        )
    # Of a model that is not built, Keras 2 does not let it be asked for.
    if not (callable(model) and hasattr(type(model), "trainable_weights")):
        raise SaveError(
            "export_reusable() takes a Keras model or layer. For the result of "
            "load(), use save(). Received: {!r}".format(model)
        )
    specs = _input_specs(model) if inputs is None else inputs
    given = inputs is not None
    _warn_of_activity_losses(model)
    # Before the model is called, after which Keras of TF 1.15 has other names.
    names = _input_names(model, specs, given)
    reusable = _reusable(model, specs)
    signature = _signature(model, reusable, specs, names)
    with atomic_directory(files.as_path(directory), overwrite=overwrite) as new:
        with files.os_errors(new):
            tf.saved_model.save(
                reusable, new, signatures={"serving_default": signature}
            )


def _warn_of_activity_losses(model: Any) -> None:
    names = [
        found.name
        for found in tracked_objects(model)
        if getattr(found, "activity_regularizer", None) is not None
    ]
    if names:
        warnings.warn(
            "The losses that depend on activities are skipped: "
            "regularization_losses are functions without inputs. Add such a loss to "
            "the outputs of the model. Received: layers with activity_regularizer: "
            "{}".format(", ".join(sorted(names))),
            stacklevel=3,
        )


def _reusable(model: Any, specs: Any) -> Any:
    """The interface, without Keras: an object that tracks what it is given."""
    has_training = "training" in call_arguments(model.call)

    def call(inputs: Any, training: bool = False) -> Any:
        return model(inputs, training=training) if has_training else model(inputs)

    function = tf.function(call, autograph=False)
    traces = [
        function.get_concrete_function(specs, training=training)
        for training in (False, True)
    ]
    trained, known = _variables(model.trainable_weights), _variables(model.weights)
    parts = {id(part) for weight in model.weights for part in parts_of(weight)[1:]}
    # A generator of random numbers keeps its state in what is no weight.
    used = [v for trace in traces for v in _variables(trace.graph.variables)]
    losses = [
        tf.function(loss, input_signature=[], autograph=False)
        for loss in weight_losses(model)
    ]
    root = tf.train.Checkpoint()
    root.__call__ = function
    every = {id(v): v for v in known + used if id(v) not in parts}
    root.variables = list(every.values())
    root.trainable_variables = trained
    # A moving average is read as the mean of all replicas'.
    root.replicas = [v for v in used if id(v) in parts]
    root.regularization_losses = losses
    # Tables and their files: variables are not all that a function may use.
    root.resources = list(_resources(model))
    return root


def _variables(weights: Any) -> List[Any]:
    """The variables behind weights, of a strategy's those of the first replica.

    But for a vocabulary, which Keras 2 lists as well; the table holds it.
    """
    return [parts_of(weight)[0] for weight in weights if parts_of(weight)]


def _resources(model: Any) -> Iterator[Any]:
    """The tracked objects of a model that have a handle and are no variables."""
    for found in tracked_objects(model):
        if hasattr(found, "resource_handle"):
            yield found


def _signature(model: Any, reusable: Any, specs: Any, names: Sequence[str]) -> Any:
    """The model in inference mode, with named inputs and outputs."""
    flat = tf.nest.flatten(specs)
    function = reusable.__call__

    def signature(**inputs: Any) -> Dict[str, Any]:
        values = [inputs[name] for name in names]
        outputs = function(tf.nest.pack_sequence_as(specs, values), training=False)
        if isinstance(outputs, Mapping):
            return dict(outputs)
        return dict(zip(_output_names(model, outputs), tf.nest.flatten(outputs)))

    named = {name: _named(spec, name) for name, spec in zip(names, flat)}
    return tf.function(signature, autograph=False).get_concrete_function(**named)


def _named(spec: Any, name: str) -> Any:
    """A spec with the name that an input of a signature needs."""
    if isinstance(spec, tf.TensorSpec):
        return tf.TensorSpec(spec.shape, spec.dtype, name)
    return spec


def _input_names(model: Any, specs: Any, given: bool) -> List[str]:
    """A name for each input, that TensorFlow leaves as it is.

    Args:
      model: knows names of its inputs, some of them only once it was called.
      specs: the nest of the inputs.
      given: whether the caller made the specs; then their names count.
    """
    flat = tf.nest.flatten(specs)
    if isinstance(specs, Mapping) and len(specs) == len(flat):
        # As tf.nest orders them.
        return _parameters(sorted(specs))
    own = [getattr(spec, "name", None) or "" for spec in flat]
    models = [str(name) for name in getattr(model, "input_names", None) or ()]
    for names in [own, models] if given else [models, own]:
        names = [name.split(":")[0] for name in names]
        if len(names) == len(flat) and all(names) and len(set(names)) == len(names):
            return _parameters(names)
    if len(flat) == 1:
        return ["inputs"]
    return ["inputs_{}".format(i) for i in range(len(flat))]


def _parameters(wanted: Sequence[Any]) -> List[str]:
    """Names that TensorFlow takes for inputs of a signature that it saves.

    They are parameters of Python, and nodes of a graph, where upper and lower case
    are one: letters, digits and "_", no two alike, and no keyword.
    """
    found: List[str] = []
    taken = set()
    for name in wanted:
        made = base = parameter_name(re.sub(r"[^A-Za-z0-9_]", "_", str(name)))
        count = 0
        while made.lower() in taken or keyword.iskeyword(made):
            count += 1
            made = "{}_{}".format(base, count)
        taken.add(made.lower())
        found.append(made)
    return found


def _output_names(model: Any, outputs: Any) -> List[str]:
    count = len(tf.nest.flatten(outputs))
    names = [_base(name) for name in getattr(model, "output_names", None) or ()]
    if len(names) == count and len(set(names)) == count:
        return names
    return ["output_{}".format(i) for i in range(count)]


def _base(name: str) -> str:
    """A name that an argument may have."""
    name = name.split(":")[0].replace("/", "_").replace("-", "_").replace(".", "_")
    return name if name.isidentifier() else ""


def _input_specs(model: Any) -> Any:
    """A nest of specs of what the model takes."""
    known = _symbolic_inputs(model)
    if known is not None:
        return tf.nest.map_structure(_spec_of, known)
    if hasattr(model, "save_spec"):
        found = model.save_spec(dynamic_batch=True)
        if found is not None and found[0]:
            return found[0][0]
    built = getattr(model, "get_build_config", None)
    shape = ((built() if built is not None else None) or {}).get("input_shape")
    if isinstance(shape, (tuple, list)) and all(
        dimension is None or isinstance(dimension, int) for dimension in shape
    ):
        dtype = getattr(model, "input_dtype", None) or getattr(model, "dtype", None)
        return tf.TensorSpec([None] + list(shape[1:]), dtype or tf.float32)
    raise SaveError(
        "The model does not know its inputs: it was never called, or is no "
        "functional model. Pass them, as inputs=tf.TensorSpec([None, 32], "
        "tf.float32). Received: {!r}".format(model)
    )


def _symbolic_inputs(model: Any) -> Any:
    """The inputs of a functional or sequential model, in their structure, or None."""
    if not getattr(model, "inputs", None):
        return None
    try:
        found = model.input
    except (AttributeError, ValueError):
        found = model.inputs
    if isinstance(found, (list, tuple)) and len(found) == 1:
        # A model of one input takes it alone.
        return found[0]
    return found


def _spec_of(symbolic: Any) -> Any:
    """The spec of a symbolic input of either Keras, for batches of any size."""
    shape = [None] + list(symbolic.shape[1:])
    dtype = tf.as_dtype(symbolic.dtype)
    name = getattr(symbolic, "name", None)
    own = getattr(symbolic, "type_spec", None)
    if isinstance(own, tf.RaggedTensorSpec):
        return tf.RaggedTensorSpec(shape, dtype, own.ragged_rank)
    if isinstance(own, tf.SparseTensorSpec) or getattr(symbolic, "sparse", False):
        return tf.SparseTensorSpec(shape, dtype)
    return tf.TensorSpec(shape, dtype, name and _base(name))
