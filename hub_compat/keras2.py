"""KerasLayer for Keras 2: ``tf.keras`` of TensorFlow 1.15 to 2.15, and tf_keras."""

from __future__ import annotations

import warnings
import weakref
from typing import Any, Dict, List, Mapping, Optional

from hub_compat._keras.core import KerasCore
from hub_compat._keras.layer import LayerMixin
from hub_compat._loaded.graph_mode import Switch
from hub_compat._tf import tf
from hub_compat._tf.gradients import prepare_gradients
from hub_compat._tf.keras import calling_layer, graph_session, keras2
from hub_compat._tf.runtime import in_tf1_graph
from hub_compat._tf.variables import name_slots

__all__ = ["KerasLayer"]

keras = keras2()
_Layer: Any = keras.layers.Layer
# The weights of all layers, by what the slots that optimizers have for them are called.
_slots: Any = weakref.WeakValueDictionary()


class KerasLayer(LayerMixin, _Layer):  # noqa: D101
    # For help(): all that is to say is the same for both.
    __doc__ = LayerMixin.__doc__
    _generation = 2
    # Of the graph for sessions that the layer was called in, if any.
    _switch: Any = None
    _frozen_in_graph = False

    def __init__(
        self,
        handle: Any,
        trainable: bool = False,
        arguments: Optional[Mapping[str, Any]] = None,
        *,
        tags: Any = None,
        signature: Optional[str] = None,
        signature_outputs_as_dict: Optional[bool] = None,
        output_key: Optional[str] = None,
        output_shape: Any = None,
        load_options: Any = None,
        embed: Any = False,
        **kwargs: Any,
    ) -> None:
        core = KerasCore(
            handle,
            arguments,
            tags,
            signature,
            signature_outputs_as_dict,
            output_key,
            output_shape,
            load_options,
            embed,
        )
        # Before Keras makes a layer of it, as sub-classes of tensorflow_hub's have it.
        object.__setattr__(self, "_core", core)
        self._show_names_of_tensorflow_hub(load_options)
        self._take_callable()
        self._setup_layer(trainable, **kwargs)
        self.built = True
        if embed is True:
            self._core.pack(self._core.state.trainable + self._core.state.others)

    def _setup_layer(self, trainable: bool = False, **kwargs: Any) -> None:
        """Makes a Keras layer with the weights and losses; sub-classes may add some."""
        inputs = self._core.inputs
        # The loaded functions say what they take; Keras would guess.
        kwargs.setdefault("autocast", False)
        if inputs.dtype not in (None, "float32") and "input_shape" in kwargs:
            # Of the Input that Keras makes for it.
            kwargs.setdefault("dtype", inputs.dtype)
        super().__init__(trainable=trainable, **kwargs)
        # Tracked: a SavedModel of a Keras model holds the functions of its layers.
        self._func = self._core.loaded
        if not isinstance(self._func, _Layer):
            # Of a layer or model of Keras, the weights are tracked with it.
            self._adopt_weights()
        for loss in self._core.state.losses:
            self.add_loss(self._call_loss_if_trainable(loss))

    def _adopt_weights(self) -> None:
        for is_trainable, variables in (
            (True, self._core.state.trainable),
            (False, self._core.state.others),
        ):
            for variable in variables:
                if variable.dtype.base_dtype != tf.string:
                    self._add_existing_weight(variable, is_trainable)

    def _add_existing_weight(
        self, weight: Any, trainable: Optional[bool] = None
    ) -> None:
        """Registers a variable that is there as a weight of the layer."""
        trainable = weight.trainable if trainable is None else trainable
        keywords: Dict[str, Any] = {"experimental_autocast": False}
        self.add_weight(
            name=weight.name.split(":")[0],
            shape=weight.shape,
            dtype=weight.dtype.base_dtype,
            # Never called; TF 1.15 has none of its own for a complex variable.
            initializer="zeros",
            trainable=trainable,
            getter=lambda *unused, **ignored: weight,
            **keywords,
        )
        if trainable:
            name_slots(weight, lambda name: self._slot_name(weight, name))

    def _slot_name(self, variable: Any, name: str) -> str:
        """A name that no other layer's slots have: an .h5 file has each name once."""
        found, own = name, "{}/{}".format(self.name, name)
        number = 0
        while _slots.setdefault(found, variable) is not variable:
            found = "{}_{}".format(own, number) if number else own
            number += 1
        return found

    def _call_loss_if_trainable(self, loss: Any) -> Any:
        def value() -> Any:
            if not self.trainable:
                return tf.zeros([])
            result = loss()
            if in_tf1_graph():
                prepare_gradients(result, self._core.state.trainable)
            return result

        return value

    @property
    def trainable_weights(self) -> List[Any]:
        """The weights that are trained; compile() asks for them."""
        if self._switch is not None:
            self._switch.turn(self.trainable, lambda: graph_session(self))
        elif self.trainable and self._frozen_in_graph:
            self._frozen_in_graph = False
            warnings.warn(
                "In graph mode, a layer that was called while it was frozen stays "
                "in inference mode. TensorFlow 1.15 may refuse to differentiate it. "
                "Make the model with trainable=True, and freeze the layer after "
                "that. Received: {!r}".format(self),
                stacklevel=2,
            )
        found: List[Any] = super().trainable_weights
        return found

    def _unless_frozen(self, training: Any) -> Any:
        # Updates are part of the call, so Keras cannot leave them out later.
        if not self.trainable:
            self._frozen_in_graph = True
            return False
        if self._switch is None or not self._switch.is_here():
            # Not tracked: it is no part of the layer's state.
            object.__setattr__(self, "_switch", Switch())
        return tf.logical_and(tf.cast(training, tf.bool), self._switch.is_on())

    def __call__(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer; Python numbers and strings become tensors."""
        self._refuse_other_keras(inputs)
        self._warn_if_lost(calling_layer(self))
        inputs = self._core.inputs.tensors(inputs)
        if self._core.inputs.nothing and tf.__version__.startswith("1."):
            # Keras of TF 1.15 would call it in a graph, for want of an eager tensor.
            return self.call(inputs, *args, **kwargs)
        return super().__call__(inputs, *args, **kwargs)

    def __deepcopy__(self, memo: Any) -> Any:
        """A layer with weights of its own, as Keras 3 copies layers and models."""
        copied = type(self).from_config(self.get_config())
        copied.set_weights(self.get_weights())
        return copied

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Calls the module; see the class."""
        eager = tf.executing_eagerly()
        # Keras takes a while to say it, and a frozen layer does not train.
        if training is None and (self.trainable or not eager):
            training = keras.backend.learning_phase()
        # What keeps AutoGraph out takes a while, too.
        return (self._call_now if eager else self._call_core)(inputs, training)


# TF 1.15 has no decorator for it. A model that was saved with tensorflow_hub's layer
# has it under the plain name.
if hasattr(keras.utils, "register_keras_serializable"):
    keras.utils.register_keras_serializable(package="hub_compat")(KerasLayer)
keras.utils.get_custom_objects().setdefault("KerasLayer", KerasLayer)
