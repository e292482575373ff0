"""KerasLayer for Keras 3 on TensorFlow."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from hub_compat._keras.core import KerasCore
from hub_compat._keras.layer import LayerMixin
from hub_compat._tf import tf
from hub_compat._tf.keras import calling_layer, keras3, weight_of
from hub_compat.errors import LayerError

__all__ = ["KerasLayer"]

keras = keras3()
_Layer: Any = keras.layers.Layer
# Keras 3.5 takes nothing else for that of a weight.
_Regularizer: Any = keras.regularizers.Regularizer


@keras.saving.register_keras_serializable(package="hub_compat")
class KerasLayer(LayerMixin, _Layer):  # noqa: D101
    # For help(): all that is to say is the same for both.
    __doc__ = LayerMixin.__doc__
    _generation = 3

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
        # The loaded functions say what they take; Keras would guess.
        kwargs.setdefault("autocast", False)
        if core.inputs.dtype not in (None, "float32") and (
            core.inputs.dtype == "string" or _knows(core.inputs.dtype)
        ):
            # Of the Input that a Sequential makes when it has seen one; for a shape
            # that is given before, it makes one of float32.
            kwargs.setdefault("dtype", core.inputs.dtype)
            kwargs.pop("input_shape", None)
        super().__init__(trainable=trainable, **kwargs)
        self._core = core
        self._show_names_of_tensorflow_hub(load_options)
        # Tracked: an export of a Keras model holds the functions of its layers.
        self._func = self._core.loaded
        trained, others = [], []
        # Of a layer or model of Keras, the weights are tracked with it.
        if not isinstance(self._func, _Layer):
            trained = [v for v in core.trainable_variables if _knows(v.dtype.name)]
            others = [v for v in core.other_variables if _knows(v.dtype.name)]
        # Paths tell apart the slots that optimizers have for layers of one module.
        with keras.name_scope(self.name):
            self._adopted: List[Any] = [
                weight_of(variable, is_trainable)
                for is_trainable, variables in ((True, trained), (False, others))
                for variable in variables
            ]
        if embed is True:
            self._core.pack(trained + others)
        self._attach_losses()
        self.built = True
        # Keras does so when `trainable` is changed, and lists them by it.
        for variable in list(self._adopted):
            variable.trainable = variable.trainable and trainable
        if isinstance(self._func, _Layer) and not trainable:
            # Of this layer it is no change, and Keras would hand on none.
            self._func.trainable = False

    def _attach_losses(self) -> None:
        """Has the module's losses among those of its trained variables.

        So Keras counts them whenever the layer is trainable, as it does those of its
        own layers, and needs no call of this one before.
        """
        weights = [v for v in self._adopted if v.trainable]
        losses = self._core.losses
        for number, weight in enumerate(weights):
            # One for each variable; what is left is all at the last one.
            last = number == len(weights) - 1
            own = losses[number:] if last else losses[number : number + 1]
            if own:
                weight.regularizer = _Sum(own)

    def __call__(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer; Python numbers and strings become tensors."""
        self._refuse_other_keras(inputs)
        return super().__call__(self._core.inputs.tensors(inputs), *args, **kwargs)

    def compute_output_spec(
        self, inputs: Any = None, training: Any = None, **kwargs: Any
    ) -> Any:
        """The outputs for symbolic inputs, with the dtypes that they really have.

        Keras itself has none that are ragged.
        """

        def call(given: Any) -> Any:
            return self.call(given, training)

        function = tf.function(call, autograph=False)
        specs = tf.nest.map_structure(_spec, inputs)
        outputs = function.get_concrete_function(specs).structured_outputs
        return tf.nest.map_structure(_symbolic, outputs)

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Calls the module; see the class."""
        self._warn_if_lost(calling_layer(self))
        return self._call_core(inputs, training)


def _spec(value: Any) -> Any:
    """TensorFlow's spec of a symbolic tensor of Keras."""
    if not isinstance(value, keras.KerasTensor):
        return value
    if getattr(value, "ragged", False):
        rank = value.ragged_rank or 1
        return tf.RaggedTensorSpec(value.shape, value.dtype, rank)
    if value.sparse:
        return tf.SparseTensorSpec(value.shape, value.dtype)
    return tf.TensorSpec(value.shape, value.dtype)


def _symbolic(output: Any) -> Any:
    """Keras' symbolic tensor for an output; what is no tensor is as it was."""
    if not hasattr(output, "dtype"):
        return output
    keywords: Dict[str, Any] = {}
    if isinstance(output, (tf.SparseTensor, tf.SparseTensorSpec)):
        keywords = dict(sparse=True)
    # Keras < 3.10 has no ragged ones.
    if isinstance(output, (tf.RaggedTensor, tf.RaggedTensorSpec)) and (
        hasattr(keras.KerasTensor, "ragged")
    ):
        rank = getattr(output, "ragged_rank", None)
        keywords = dict(ragged=True, ragged_rank=rank)
    if output.shape.rank is None:
        raise LayerError(
            "Keras 3 needs the rank of every output, and the module does not know it: "
            "give KerasLayer(..., output_shape=...), without the batch dimension. "
            "Received: {!r}".format(output)
        )
    return keras.KerasTensor(output.shape.as_list(), output.dtype.name, **keywords)


class _Sum(_Regularizer):
    """Losses, where Keras expects a regularizer of a variable."""

    def __init__(self, losses: Sequence[Any]) -> None:
        self._losses = losses

    def __call__(self, variable: Any) -> Any:
        return tf.add_n([loss() for loss in self._losses])


def _knows(dtype: Any) -> bool:
    """Whether Keras has weights of a dtype: no quantized ones, and no strings."""
    if dtype == "string":
        return False
    try:
        keras.backend.standardize_dtype(dtype)
    except ValueError:
        return False
    return True


# A model that was saved with tensorflow_hub's layer has it under the plain name.
keras.saving.get_custom_objects().setdefault("KerasLayer", KerasLayer)
