"""KerasLayer for Keras 3 on TensorFlow."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

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
        # Before Keras makes a layer of it, as sub-classes of tensorflow_hub's have it.
        object.__setattr__(self, "_core", core)
        self._show_names_of_tensorflow_hub(load_options)
        self._take_callable()
        self._setup_layer(trainable, **kwargs)
        if embed is True:
            self._core.pack([v for _, v in self._own_variables()])
        self.built = True
        # Keras does so when `trainable` is changed, and lists them by it.
        for variable in list(self._adopted):
            variable.trainable = variable.trainable and trainable
        if isinstance(self._func, _Layer) and not trainable:
            # Of this layer it is no change, and Keras would hand on none.
            self._func.trainable = False

    def _setup_layer(self, trainable: bool = False, **kwargs: Any) -> None:
        """Makes a Keras layer with the weights and losses; sub-classes may add some."""
        dtype = self._core.inputs.dtype
        # The loaded functions say what they take; Keras would guess.
        kwargs.setdefault("autocast", False)
        if dtype not in (None, "float32") and (dtype == "string" or _knows(dtype)):
            # Of the Input that a Sequential makes when it has seen one; for a shape
            # that is given before, it makes one of float32.
            kwargs.setdefault("dtype", dtype)
            kwargs.pop("input_shape", None)
        super().__init__(trainable=trainable, **kwargs)
        # Tracked: an export of a Keras model holds the functions of its layers.
        self._func = self._core.loaded
        self._adopted: List[Any] = []
        # Paths tell apart the slots that optimizers have for layers of one module.
        with keras.name_scope(self.name):
            for is_trainable, variable in self._own_variables():
                self._add_existing_weight(variable, is_trainable)
        self._attach_losses()

    def _own_variables(self) -> List[Tuple[bool, Any]]:
        """The variables that become weights, those that train first."""
        if isinstance(self._func, _Layer):
            # Of a layer or model of Keras, the weights are tracked with it.
            return []
        return [
            (is_trainable, variable)
            for is_trainable, variables in (
                (True, self._core.state.trainable),
                (False, self._core.state.others),
            )
            for variable in variables
            if _knows(variable.dtype.name)
        ]

    def _add_existing_weight(
        self, weight: Any, trainable: Optional[bool] = None
    ) -> None:
        """Registers a variable that is there as a weight of the layer."""
        trainable = weight.trainable if trainable is None else trainable
        self._adopted.append(weight_of(weight, trainable))

    def _attach_losses(self) -> None:
        """Adds the module's losses to those of its trained variables.

        So Keras counts them whenever the layer is trainable, as it does those of its
        own layers, and needs no call of this one before.
        """
        weights = [v for v in self._adopted if v.trainable]
        losses = self._core.state.losses
        if type(self)._call_loss_if_trainable is not (
            LayerMixin._call_loss_if_trainable
        ):
            losses = [self._call_loss_if_trainable(loss) for loss in losses]
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
            "Keras 3 needs the rank of every output, which the module does not "
            "state. Pass KerasLayer(..., output_shape=...), without the batch "
            "dimension. Received: {!r}".format(output)
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
