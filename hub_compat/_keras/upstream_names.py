"""Private names of tensorflow_hub's KerasLayer, which its sub-classes use."""

from __future__ import annotations

from typing import Any

from hub_compat._keras.core import KerasCore
from hub_compat._keras.output_shapes import OutputShapes

__all__ = ["UpstreamNames"]


class UpstreamNames:
    """Names that sub-classes of tensorflow_hub's layer read, set, call and replace.

    All of it has the effect that it has there (version 0.16.1). A method is replaced
    by overriding it; it may call the one of this class.
    """

    _core: KerasCore
    trainable: bool

    # ---- attributes

    @property
    def _handle(self) -> Any:
        return self._core.handle

    @_handle.setter
    def _handle(self, value: Any) -> None:
        if self._is_made():
            self._core.handle = value

    @property
    def _arguments(self) -> Any:
        return self._core.arguments

    @_arguments.setter
    def _arguments(self, value: Any) -> None:
        if self._is_made():
            self._core.arguments = dict(value or {})

    @property
    def _output_key(self) -> Any:
        return self._core.upstream_output_key

    @_output_key.setter
    def _output_key(self, value: Any) -> None:
        if self._is_made():
            self._core.take_output_key(value)

    @property
    def _callable(self) -> Any:
        return self._core.upstream_function

    @_callable.setter
    def _callable(self, value: Any) -> None:
        if self._is_made():
            self._core.replace_function(value)

    @property
    def _has_training_argument(self) -> bool:
        return self._core.upstream_takes_training

    @_has_training_argument.setter
    def _has_training_argument(self, value: bool) -> None:
        if self._is_made():
            self._core.has_training = bool(value)

    @property
    def _output_shape(self) -> Any:
        # There as in tensorflow_hub, whose users look at it: only if it was given.
        if self._core.promised.shapes is None:
            raise AttributeError("_output_shape")
        return self._core.promised.shapes

    @_output_shape.setter
    def _output_shape(self, value: Any) -> None:
        if self._is_made():
            self._core.promised = OutputShapes(value)

    def _is_made(self) -> bool:
        """Whether there is something to set; before, __init__() sets it all."""
        return "_core" in self.__dict__

    def _show_names_of_tensorflow_hub(self, load_options: Any) -> None:
        """Sets those attributes that nothing here depends on.

        They are plain ones: Keras tracks nothing of them.
        """
        core = self._core
        for name, value in (
            ("_signature", core.upstream_signature),
            ("_signature_outputs_as_dict", core.as_dict),
            ("_load_options", load_options),
            ("_is_hub_module_v1", getattr(core.loaded, "_is_hub_module_v1", False)),
        ):
            object.__setattr__(self, name, value)

    # ---- methods

    def _get_callable(self) -> Any:
        return self._core.upstream_function

    def _take_callable(self) -> None:
        """Calls what a sub-class says is to be called."""
        if type(self)._get_callable is not UpstreamNames._get_callable:
            function = self._get_callable()
            self._callable = function
            self._has_training_argument = self._core.takes_training(function)

    def _call_loss_if_trainable(self, loss: Any) -> Any:
        return lambda: loss() if self.trainable else 0.0

    def _apply_output_shape_if_set(self, inputs: Any, outputs: Any) -> Any:
        return self._core.promised.applied(inputs, outputs)
