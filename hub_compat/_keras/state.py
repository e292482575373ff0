"""The variables and losses of what a KerasLayer calls."""

from __future__ import annotations

from typing import Any, List, Sequence

from hub_compat._loaded import origin
from hub_compat._loaded.lifetime import objects_of, state_of
from hub_compat._loaded.variables import own_list
from hub_compat._tf import tf
from hub_compat._tf.functions import used_variables
from hub_compat._tf.variables import settle_shape
from hub_compat.errors import LayerError

__all__ = ["State"]


class State:
    """The variables and losses of a layer's object.

    Args:
      loaded: the object.
      owner: what is called of it: itself, or a signature with variables of its own.
    """

    def __init__(self, loaded: Any, owner: Any) -> None:
        self._loaded = loaded
        self._owner = owner
        for variable in self.trainable + self.others:
            settle_shape(variable)
        self._first = {
            id(variable): tf.convert_to_tensor(variable)
            for variable in (self.strings if tf.executing_eagerly() else ())
        }

    @property
    def trainable(self) -> List[Any]:
        """Variables that a trainable layer trains, each once."""
        return _once(self._listed("trainable_variables"))

    @property
    def others(self) -> List[Any]:
        """The other variables, each once."""
        known = {id(variable) for variable in self.trainable}
        every = self._listed("variables") + self._listed("non_trainable_variables")
        return [v for v in _once(every) if id(v) not in known]

    @property
    def strings(self) -> List[Any]:
        """The variables that Keras cannot have for weights: HDF5 has no such arrays."""
        every = self.trainable + self.others
        return [variable for variable in every if variable.dtype == tf.string]

    def has_changed(self, variable: Any) -> bool:
        """Whether one of those has another value than the module has."""
        first = self._first.get(id(variable))
        now = tf.convert_to_tensor(variable)
        if first is None or first.shape != now.shape:
            return first is not None
        return not bool(tf.reduce_all(tf.equal(first, now)))

    @property
    def order_in_tensorflow_hub(self) -> List[Any]:
        """The variables as tensorflow_hub's layer has them, if that is another order.

        It trains no model of TF1, and does not sort its variables.
        """
        place = origin.of(self._loaded)
        if place is None or place.detection.format.is_tf2:
            return []
        return list(self._loaded.variables)

    def _listed(self, name: str) -> List[Any]:
        own = own_list(self._owner, name)
        if own is None or (not own and self._owner is not self._loaded):
            # Keras 3 keeps the weights of an export on its root.
            own = own or own_list(self._loaded, name)
        if own is None and own_list(self._loaded, "variables") is None:
            return self._used(name)
        return list(own or ())

    def _used(self, name: str) -> List[Any]:
        """The variables that the function reads, of an object that lists none."""
        found = objects_of(self._loaded)
        used = used_variables(self._owner, state_of(self._owner) or list(found))
        if name == "trainable_variables":
            return [variable for variable in used if variable.trainable]
        return used if name == "variables" else []

    @property
    def losses(self) -> List[Any]:
        """Functions without arguments that return a scalar.

        Raises:
          LayerError: the object's are something else.
        """
        found = list(getattr(self._owner, "regularization_losses", None) or ())
        for loss in found:
            if not callable(loss):
                raise LayerError(
                    "regularization_losses must be callables that return a scalar. "
                    "Received: {!r}".format(loss)
                )
        return found


def _once(variables: Sequence[Any]) -> List[Any]:
    """TensorFlow's variables, each once; a model of Keras 3 wraps them."""
    values = [getattr(variable, "value", None) for variable in variables]
    found = [
        value if isinstance(value, tf.Variable) else variable
        for value, variable in zip(values, variables)
    ]
    return list({id(variable): variable for variable in found}.values())
