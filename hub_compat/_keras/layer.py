"""The base of the KerasLayers of Keras 2 and Keras 3."""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import warnings
import weakref
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from hub_compat._handles.grammar import Kind, parse
from hub_compat._handles.resolving import resolve
from hub_compat._io import files
from hub_compat._keras.core import KerasCore
from hub_compat._keras.upstream_names import UpstreamNames
from hub_compat._tf import tf
from hub_compat._tf.gradients import prepare_gradients
from hub_compat._tf.keras import (
    caller_of_other_keras,
    has_weights_of,
    in_safe_mode,
    is_of_other_keras,
    variable_of,
)
from hub_compat._tf.runtime import in_tf1_graph
from hub_compat._tf.tracking import tracked_objects
from hub_compat._tf.variables import rename_variable
from hub_compat.errors import LayerError, MissingModuleError, SafeModeError

__all__ = ["LayerMixin"]

_logger = logging.getLogger(__name__)


class _Calls(threading.local):
    """How many layers' functions are running in this thread."""

    core = 0


_calls = _Calls()


class LayerMixin(UpstreamNames):
    """A module of any format as a Keras layer, trainable.

    The arguments are those of ``tensorflow_hub.KerasLayer``. A TF1 Hub module, a TF1
    SavedModel and any signature train as well as a TF2 SavedModel.

    Args:
      handle: directory of a module; or the result of ``load()``, a part of it, or any
        callable.
      trainable: whether the variables are trained. It can be changed later, as Keras
        defines it. A layer that is not trainable runs in inference mode, whatever
        ``training`` is.
      arguments: further keyword arguments of each call, serializable as JSON; a
        ``training`` in it overrides that of Keras.
      tags: the variant to load; only where the handle is a directory.
      signature: the signature to call instead of the object itself.
      signature_outputs_as_dict: return all of the signature's outputs.
      output_key: the output to return; for a TF1 Hub module, the default is
        ``"default"``.
      output_shape: shapes of the outputs without the batch dimension, where they
        cannot be inferred; a nest like the outputs.
      load_options: a ``tf.saved_model.LoadOptions``.
      embed: keep the module in the layer's configuration, and so in every file that
        Keras writes. The file then loads without the directory. Keras saves the
        values of the weights, once.
      **kwargs: of the Keras layer, such as ``name``, ``dtype``, ``input_shape``.

    Raises:
      LayerError: the arguments do not fit each other or the module.
      SignatureError: the module has no such signature.
      And what ``load()`` raises.
    """

    _core: KerasCore
    _generation: int
    trainable: bool
    name: str
    weights: List[Any]
    compute_dtype: Any
    _checked = False
    # Of each weight in a file of tensorflow_hub's, its place here.
    _positions: Sequence[int] = ()
    # The one that called it last; a weak reference.
    _caller: Any = staticmethod(lambda: None)

    @property
    def resolved_object(self) -> Any:
        """The loaded object."""
        return self._core.loaded

    def __repr__(self) -> str:
        return (
            "<hub_compat.keras{}.KerasLayer {!r}, a layer of Keras {}; of Keras {} is "
            "hub_compat.keras{}.KerasLayer>".format(
                self._generation,
                self.name,
                self._generation,
                5 - self._generation,
                5 - self._generation,
            )
        )

    # Keras 2 would rewrite all of hub_compat, and says of what it cannot.
    @tf.autograph.experimental.do_not_convert
    def _call_core(self, inputs: Any, training: Any) -> Any:
        return self._call_now(inputs, training)

    def _call_now(self, inputs: Any, training: Any) -> Any:
        trainable = self.trainable
        if self._core.weights_missing:
            inputs = self._if_weights_are_there(inputs)
        self._check_trainability()
        # Asked once: an eager call has no need of it.
        in_graph = not tf.executing_eagerly() and in_tf1_graph()
        if in_graph and isinstance(training, tf.Tensor):
            training = self._unless_frozen(training)
        elif training is None or not trainable:
            # As Keras has it for batch normalization, and tensorflow_hub.
            training = False
        # What is behind the function may be of the other Keras.
        _calls.core += 1
        try:
            if trainable or in_graph:
                outputs = self._core.call(inputs, training)
            else:
                outputs = self._core.call_frozen(inputs)
        finally:
            _calls.core -= 1
        if in_graph:
            # What is before a frozen layer may train.
            sources = self._core.state.trainable if trainable else _computed(inputs)
            prepare_gradients(outputs, sources)
        if trainable:
            if in_graph or tf.__version__.startswith("1."):
                outputs = self._with_all_variables(outputs)
        outputs = self._apply_output_shape_if_set(inputs, outputs)
        return self._in_compute_dtype(outputs)

    def _if_weights_are_there(self, inputs: Any) -> Any:
        """Inputs that cannot be used before an embedded module has its weights.

        Keras builds models before it loads weights: a graph asks when it runs.
        """
        variables = self._core.state.trainable + self._core.state.others
        found = [v for v in variables if v.dtype.is_floating and v.shape.num_elements()]
        with tf.init_scope():
            known = tf.executing_eagerly()
            if not found or (known and not _all_nan(found[0])):
                self._core.weights_missing = False
                return inputs
        problem = (
            "The weights of the layer {!r} were never loaded: its configuration "
            "does not hold them, and its directory is gone. Load them with "
            "keras.models.load_model(), load_weights() or set_weights(). Received: "
            "{!r}".format(self.name, self._core.handle)
        )
        if tf.executing_eagerly():
            raise LayerError(problem)
        flat = tf.nest.flatten(inputs)
        is_there = tf.logical_not(_all_nan(found[0]))
        with tf.control_dependencies([tf.debugging.Assert(is_there, [problem])]):
            flat = [tf.identity(v) if isinstance(v, tf.Tensor) else v for v in flat]
        return tf.nest.pack_sequence_as(inputs, flat)

    def _unless_frozen(self, training: Any) -> Any:
        """Whether to train, in a graph that is there when a layer is frozen."""
        return training if self.trainable else False

    def _with_all_variables(self, outputs: Any) -> Any:
        """Outputs that have a gradient with respect to every trained variable.

        In a TF1 graph, and where Keras of TF 1.15 loads a model, it refuses a variable
        without one; a module has such: those of its other signatures.
        """
        flat = tf.nest.flatten(outputs)
        for number, output in enumerate(flat):
            if isinstance(output, tf.Tensor) and output.dtype.is_floating:
                # Of no elements: zero, and so is its gradient, whatever the values.
                nothing = [
                    tf.cast(tf.reduce_sum(tf.reshape(v, [-1])[:0]), output.dtype)
                    for v in self._core.state.trainable
                ]
                flat[number] = output + tf.add_n(nothing) if nothing else output
                break
        return tf.nest.pack_sequence_as(outputs, flat)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shapes of the outputs; they follow from the function's own."""
        return self._core.output_shapes(input_shape)

    def _check_trainability(self) -> None:
        if self._checked or not self.trainable:
            return
        self._checked = True
        if not self._core.state.trainable:
            _logger.error("%r is trainable, and has zero trainable weights.", self)

    def _refuse_other_keras(self, inputs: Any) -> None:
        """Says which class is right, where a model of the other Keras calls the layer.

        Raises:
          LayerError: one does.
        """
        own, other = self._generation, 5 - self._generation
        found = None
        if not isinstance(inputs, tf.Tensor):
            symbolic = (v for v in tf.nest.flatten(inputs) if is_of_other_keras(v, own))
            found = next(symbolic, None)
        if found is None and not _calls.core:
            found = caller_of_other_keras(own)
        if found is not None:
            how = "with HUB_COMPAT_KERAS=3, if tf_keras is imported, too"
            if other == 2:
                how = "after `import tf_keras`, or with HUB_COMPAT_KERAS=2"
            raise LayerError(
                "A layer of Keras {0} is called in a model of Keras {1}, where its "
                "weights would neither be trained nor saved. Make it with "
                "hub_compat.keras{1}.KerasLayer; hub_compat.KerasLayer is that class "
                "{2}. Received: {3!r}, in the layer {4!r}".format(
                    own, other, how, found, self.name
                )
            )

    def _warn_if_lost(self, caller: Any) -> None:
        """Says so where a layer is called by one that does not know its weights."""
        if caller is None or caller is self or caller is self._caller():
            return
        # Not tracked: Keras would take the caller for a part of this layer.
        object.__setattr__(self, "_caller", weakref.ref(caller))
        if self.weights and not has_weights_of(caller, self):
            warnings.warn(
                "Keras does not know that the layer {!r} is part of {!r}, which "
                "calls it in a Lambda or a function. Its {} weights are neither "
                "trained nor saved there. Put the layer itself into the model, or "
                "make it an attribute of the layer or model that calls it. "
                "Received: {!r}".format(
                    self.name, caller.name, len(self.weights), caller
                ),
                stacklevel=5,
            )
        if self._generation == 2:
            self._tell_apart(caller)

    def _tell_apart(self, caller: Any) -> None:
        """Renames weights where a model has another layer with weights of their names.

        An optimizer of Keras 2 names its slots by them, and an .h5 file has each name
        once.
        """
        others = [
            other
            for other in tracked_objects(caller)
            if isinstance(other, LayerMixin) and other is not self
        ]
        known = {weight.name: weight for other in others for weight in other.weights}
        for weight in self.weights:
            if known.get(weight.name, weight) is not weight:
                rename_variable(weight, "{}/{}".format(self.name, weight.name))

    def _in_compute_dtype(self, outputs: Any) -> Any:
        """Floating-point outputs in the dtype of a mixed precision policy."""
        wanted = self._mixed_dtype()
        if wanted is None:
            return outputs

        def cast(output: Any) -> Any:
            if not isinstance(output, tf.Tensor) or not output.dtype.is_floating:
                return output
            return output if output.dtype == wanted else tf.cast(output, wanted)

        return tf.nest.map_structure(cast, outputs)

    def _mixed_dtype(self) -> Any:
        """The compute dtype, where a policy has another one for variables."""
        compute = getattr(self, "compute_dtype", None)
        variable = getattr(self, "variable_dtype", None)
        if compute is None or variable is None or compute == variable:
            return None
        return tf.as_dtype(compute)

    def get_config(self) -> Dict[str, Any]:
        """All arguments but ``load_options``, as JSON takes them.

        Raises:
          LayerError: the handle is no path, or ``arguments`` are not serializable.
        """
        core = self._core
        if not isinstance(core.handle, (str, os.PathLike)):
            raise NotImplementedError(
                "A layer can be saved only if it was made from the path of its "
                "module, not from an object. Give KerasLayer the path, or save only "
                "the weights. Received: {!r}".format(core.handle)
            )
        for key, value in core.arguments.items():
            try:
                json.dumps(value)
            except TypeError as error:
                raise LayerError(
                    "The argument {!r} is not serializable as JSON, so the layer "
                    "cannot be saved. Use numbers, strings, lists and dicts, or "
                    "save only the weights. Received: {!r}".format(key, value)
                ) from error
        config: Dict[str, Any] = super().get_config()  # type: ignore[misc]
        config["handle"] = _OwnHandle(os.fspath(core.handle))
        for key, value in (
            ("arguments", core.arguments),
            ("tags", core.tags),
            ("signature", core.signature),
            ("signature_outputs_as_dict", core.as_dict),
            ("output_key", core.given_output_key),
            ("output_shape", core.promised.config()),
        ):
            if value or (key == "output_shape" and value is not None):
                config[key] = value
        if not self._positions:
            embedded = core.embedded
            config["embed"] = False if embedded is None else embedded.to_config()
        strings = {
            name: base64.b64encode(_to_bytes(variable)).decode("ascii")
            for name, variable in self._strings().items()
            if core.state.has_changed(variable)
        }
        if strings:
            # An .h5 file has no other place for them.
            config["strings"] = strings
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a layer again, of what ``get_config()`` returned.

        Raises:
          SafeModeError: Keras loads a file in safe mode.
          MissingModuleError: the module's directory is gone.
        """
        handle = config["handle"]
        if in_safe_mode(cls) and not isinstance(handle, _OwnHandle):
            raise SafeModeError(
                "The layer {!r} loads a module, which is a program: it may read and "
                "write files. Therefore Keras' safe mode refuses it, as it refuses "
                "TFSMLayer. If you trust the file and the module, load it with "
                "load_model(..., safe_mode=False), or call "
                "keras.config.enable_unsafe_deserialization() before (in Keras 2, "
                "keras.__internal__.enable_unsafe_deserialization()). Received: "
                "{!r}{}".format(
                    config.get("name"),
                    handle,
                    ", embedded in the file" if config.get("embed") else "",
                )
            )
        if not config.get("embed") and _is_gone(handle):
            raise MissingModuleError(
                "The module of the layer {!r} is not in its directory any more. Put "
                "it back, or save the model again with the module in the file: "
                "KerasLayer(..., embed=True). Received: {!r}".format(
                    config.get("name"), handle
                )
            )
        strings = config.get("strings") or {}
        config = {key: value for key, value in config.items() if key != "strings"}
        layer = super().from_config(config)  # type: ignore[misc]
        if "embed" not in config:
            layer._take_order_of_tensorflow_hub()
        layer._take_strings(strings)
        return layer

    def _take_strings(self, values: Mapping[str, str]) -> None:
        """Gives variables that are no weights the values of a configuration."""
        variables = self._strings()
        for name, text in values.items():
            if name not in variables:
                raise LayerError(
                    "The layer {!r} was saved with changed values of string "
                    "variables. They can be set only in eager execution, and only "
                    "if the module has such variables. Received: {!r}, and "
                    "variables {!r}".format(
                        self.name, sorted(values), sorted(variables)
                    )
                )
            _set_bytes(variables[name], base64.b64decode(text))

    # ---- weights of a model that was saved with tensorflow_hub's layer

    def _take_order_of_tensorflow_hub(self) -> None:
        order = self._core.state.order_in_tensorflow_hub
        rank = {id(variable): number for number, variable in enumerate(order)}
        own = [rank.get(id(variable_of(weight)), -1) for weight in self.weights]
        if own != sorted(own):
            positions = sorted(range(len(own)), key=own.__getitem__)
            # Not tracked: it is no part of the layer's state.
            object.__setattr__(self, "_positions", positions)

    @property
    def non_trainable_weights(self) -> List[Any]:
        """The weights that are not trained; all of them of a frozen layer."""
        weights: List[Any] = super().non_trainable_weights  # type: ignore[misc]
        # By the order Keras finds them again in a file.
        if self._positions and not self.trainable:
            weights = [weights[position] for position in self._positions]
        return weights

    def save_own_variables(self, store: Any) -> None:
        """Gives Keras the values of the weights, for a .keras file."""
        values: Dict[str, Any] = {}
        super().save_own_variables(values)  # type: ignore[misc]
        order = self._order_in_file(len(values))
        for number, position in enumerate(order):
            store[str(number)] = values[str(position)]
        for name, variable in self._strings().items():
            store[name] = np.frombuffer(_to_bytes(variable), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Takes the values of the weights from a .keras file."""
        numbers = [name for name in store.keys() if name.isdigit()]
        order = self._order_in_file(len(numbers))
        values = {str(p): store[str(number)] for number, p in enumerate(order)}
        super().load_own_variables(values)  # type: ignore[misc]
        for name, variable in self._strings().items():
            if name in store.keys():
                _set_bytes(variable, np.asarray(store[name]).tobytes())

    def _strings(self) -> Dict[str, Any]:
        """Variables that are no weights, by their names in a .keras file."""
        found = self._core.state.strings if tf.executing_eagerly() else []
        return {"string_{}".format(n): variable for n, variable in enumerate(found)}

    def _order_in_file(self, count: int) -> Sequence[int]:
        if len(self._positions) == count and not self.trainable:
            return self._positions
        return range(count)


class _OwnHandle(str):
    """A handle in the configuration of a layer of this program.

    JSON makes a plain string of it. So a configuration that has one comes from no file,
    but from a layer that is copied, and loads nothing that is not loaded already.
    """

    __slots__ = ()


def _to_bytes(variable: Any) -> bytes:
    """The value of a variable of strings."""
    text: bytes = tf.io.serialize_tensor(tf.convert_to_tensor(variable)).numpy()
    return text


def _set_bytes(variable: Any, text: bytes) -> None:
    variable.assign(tf.io.parse_tensor(text, tf.string))


def _computed(inputs: Any) -> List[Any]:
    """Those of some tensors of a graph that variables may have been used for."""
    flat = tf.nest.flatten(inputs, expand_composites=True)
    return [t for t in flat if t.dtype.is_floating and t.op.type != "Placeholder"]


def _all_nan(variable: Any) -> Any:
    return tf.reduce_all(tf.math.is_nan(tf.convert_to_tensor(variable)))


def _is_gone(handle: Any) -> bool:
    """Whether a directory is not there; of another handle, loading it tells."""
    return parse(handle).kind is Kind.PATH and not files.exists(resolve(handle))
