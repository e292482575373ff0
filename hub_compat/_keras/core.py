"""The core of a KerasLayer, without Keras: which function it calls, and how.

The arguments and their meaning are those of ``tensorflow_hub.KerasLayer``.
"""

from __future__ import annotations

import os
from typing import Any, List, Mapping, Optional, Sequence

from hub_compat._handles.resolving import resolve
from hub_compat._keras.embedded import Embedded, pack
from hub_compat._keras.inputs import InputSpecs, described
from hub_compat._keras.output_shapes import OutputShapes, to_shapes
from hub_compat._keras.state import State
from hub_compat._loaded import origin
from hub_compat._loaded.signatures import input_specs
from hub_compat._tf import tf
from hub_compat._tf.functions import call_arguments, traces_of
from hub_compat._tf.gradients import lacks_gradients, recording_stopped
from hub_compat._tf.tracking import tracks_attributes
from hub_compat.errors import LayerError, SignatureError
from hub_compat.formats import Format
from hub_compat.loader import load

__all__ = ["KerasCore"]


# What is called, by the arguments:
#
#     signature=None                 loaded(...); loaded.serve where it has no call
#     signature="s", output_key="k"  loaded.signatures["s"](...)["k"]
#     signature="s", ..._as_dict     loaded.signatures["s"](...)
#
# A TF1 Hub module counts as signature="default", output_key="default" where only that
# makes sense of the arguments, as in tensorflow_hub.
class KerasCore:
    """The loaded object behind a layer.

    Args:
      handle: directory of a module, or what ``load()`` returned, or a part of it, or
        any callable.
      arguments: further keyword arguments of each call.
      tags: the variant; for a directory only.
      signature: the signature to call instead of the object itself.
      signature_outputs_as_dict: whether a signature's outputs are all returned.
      output_key: the only output to return.
      output_shape: a nest of shapes without the batch dimension, or of TensorShapes.
      load_options: for a directory only.
      embed: whether ``pack()`` will be called; or what ``embedded`` was, as a
        configuration.

    Attributes:
      loaded: the object.
      embedded: the module as text; None where it is not wanted.
      function: what is called.
      promised: the shapes that ``output_shape`` promises.
      state: the variables and losses.
      has_training: whether it has an argument ``training``.
      weights_missing: whether the weights may still be without values, as of an
        embedded module whose directory is gone.

    Raises:
      LayerError: the arguments do not fit each other or the object.
      SignatureError: there is no such signature.
    """

    def __init__(
        self,
        handle: Any,
        arguments: Optional[Mapping[str, Any]] = None,
        tags: Any = None,
        signature: Optional[str] = None,
        signature_outputs_as_dict: Optional[bool] = None,
        output_key: Optional[str] = None,
        output_shape: Any = None,
        load_options: Any = None,
        embed: Any = False,
    ) -> None:
        self.handle = handle
        self.embedded: Optional[Embedded] = None
        self.weights_missing = False
        if isinstance(embed, Mapping):
            self.embedded = Embedded.from_config(embed)
        self.arguments = dict(arguments or {})
        self.tags = [tags] if isinstance(tags, str) else sorted(tags or ())
        self.signature = signature
        self.output_key = self.given_output_key = output_key
        self.as_dict = signature_outputs_as_dict
        self.promised = OutputShapes(output_shape)
        self.loaded = self._resolve(load_options, bool(embed))
        place = origin.of(self.loaded)
        self._facts = place.facts if place is not None else None
        self._called = signature
        if self.embedded is not None:
            hub_module = self.embedded.hub_module
        else:
            hub_module = place is not None and (
                place.detection.format is Format.TF1_HUB_MODULE
            )
        # As tensorflow_hub's layer has it, which calls no TF1 module itself.
        self._upstream_signature = "default" if hub_module else None
        if hub_module:
            self._fill_in_hub_defaults()
        self._check_outputs()
        # What a signature of a TF1 model is as an object: it trains with its updates.
        self._reusable: Any = None
        self._lacks_gradients: Optional[bool] = None
        # Whether a sub-class of the layer has set what is called.
        self._is_replaced = False
        self.function = self._choose()
        owner = self.function if self._reusable is None else self._reusable
        self.has_training = self.takes_training(self.function)
        self.inputs = self._input_specs()
        self.state = State(self.loaded, owner)

    # ---- what is called

    # What tensorflow_hub's layer has, and its sub-classes change: upstream_names.py.

    @property
    def upstream_signature(self) -> Optional[str]:
        """The signature that is called; None where it is the object itself."""
        return self._called or self._upstream_signature

    @property
    def upstream_output_key(self) -> Optional[str]:
        """The output that is returned of those of ``upstream_function``."""
        is_default = self._called is None and not self._is_replaced
        return self.output_key or (self._upstream_signature if is_default else None)

    @property
    def upstream_function(self) -> Any:
        """The function to call: a signature returns all outputs."""
        name = self.upstream_signature
        if name is None or self._is_replaced:
            return self.function
        return self.loaded.signatures[name]

    @property
    def upstream_takes_training(self) -> bool:
        """Whether that function has an argument ``training``."""
        if self._is_replaced or self.upstream_function is self.function:
            return self.has_training
        return self.takes_training(self.upstream_function)

    def replace_function(self, function: Any) -> None:
        """Calls another function, of the arguments and results that it has there."""
        self.has_training = self.upstream_takes_training
        self.output_key = self.upstream_output_key
        self._called = self.upstream_signature
        self.function, self._reusable, self._is_replaced = function, None, True
        self.inputs = self._input_specs()
        self._lacks_gradients = None

    def take_output_key(self, key: Optional[str]) -> None:
        """Returns another output."""
        self._called = self.upstream_signature
        self.output_key = self.given_output_key = key
        if self._called is not None and not self._is_replaced:
            self.function = self._choose()
            self.has_training = self.takes_training(self.function)
            self.inputs = self._input_specs()

    @staticmethod
    def takes_training(function: Any) -> bool:
        """Whether a function has an argument ``training``."""
        # A layer or model of Keras says so in its call().
        return "training" in call_arguments(getattr(function, "call", function))

    def pack(self, weights: Sequence[Any]) -> None:
        """Makes ``embedded``, but for the values of some variables."""
        self.embedded = pack(self.loaded, weights)

    def _resolve(self, load_options: Any, embed: bool) -> Any:
        handle = self.handle
        if isinstance(handle, (str, os.PathLike)):
            if self.embedded is not None:
                source = resolve(handle)
                handle = self.embedded.directory(source)
                self.weights_missing = handle != source
            # What is unpacked goes with the process, and so would the slim form.
            slim = False if self.weights_missing else "auto"
            return load(handle, tags=self.tags or None, options=load_options, slim=slim)
        for name, value in (("tags", self.tags), ("load_options", load_options)):
            if value:
                raise LayerError(
                    "{} choose what to load from a directory, but the handle is an "
                    "object that is already loaded. Received: {}={!r}".format(
                        name, name, value
                    )
                )
        if embed:
            raise LayerError(
                "embed=True keeps the files of a module, but the handle is an "
                "object. Pass the path of its directory. Received: {!r}".format(handle)
            )
        if callable(handle) or hasattr(handle, "signatures"):
            return handle
        raise LayerError(
            "Expected a string, got a value of type {}. A handle is a path, the "
            "result of load(), or a callable. Received: {!r}".format(
                type(handle).__name__, handle
            )
        )

    def _fill_in_hub_defaults(self) -> None:
        """As tensorflow_hub does for a TF1 Hub module."""
        if self._called is None and (
            self.as_dict or self.output_key or not callable(self.loaded)
        ):
            self._called = "default"
        if self._called is not None and not self.as_dict and self.output_key is None:
            self.output_key = "default"

    def _check_outputs(self) -> None:
        if self._called is None and self.as_dict:
            raise LayerError(
                "signature_outputs_as_dict is only valid if specifying a signature; "
                "the object itself defines its outputs. {}. Received: "
                "signature=None".format(self._offers())
            )
        if self._called is not None and bool(self.as_dict) == bool(self.output_key):
            raise LayerError(
                "When using a signature, either output_key or "
                "signature_outputs_as_dict=True should be set. {}. Received: signature="
                "{!r}, output_key={!r}, signature_outputs_as_dict={!r}".format(
                    self._offers(), self._called, self.output_key, self.as_dict
                )
            )

    def _offers(self) -> str:
        """The signatures that a layer can call, with the arguments to write."""
        signatures = getattr(self.loaded, "signatures", None) or {}
        if not signatures:
            return "The object has no signatures: call it without signature"
        lines = [
            "{!r}, from {} to {}".format(
                name,
                described(input_specs(signatures[name])),
                described(signatures[name].structured_outputs),
            )
            for name in sorted(signatures)
        ]
        name = self._called if self._called in signatures else min(signatures)
        key = min(signatures[name].structured_outputs, default="")
        return (
            "The signatures are {}; to call one, KerasLayer(..., signature={!r}, "
            "output_key={!r})".format("; ".join(lines), name, key)
        )

    def _choose(self) -> Any:
        if self._called is None:
            if callable(self.loaded):
                return self.loaded
            # The endpoint that Keras 3 gives a model when it exports it.
            serve = getattr(self.loaded, "serve", None)
            if callable(serve):
                return serve
            raise LayerError(
                "The object cannot be called, so a signature must be named. {}. "
                "Received: signature=None".format(self._offers())
            )
        signatures = getattr(self.loaded, "signatures", None)
        if signatures is None:
            raise LayerError(
                "The object has no signatures; leave out signature to call it as it "
                "is. Received: signature={!r}".format(self._called)
            )
        if self._called not in signatures:
            left_out = self._facts.left_out if self._facts is not None else ()
            if any(name == self._called for _, name, _ in left_out):
                # Says why.
                signatures[self._called]
            raise SignatureError(
                "The module has no signature of this name. {}. Received: {!r}".format(
                    self._offers(), self._called
                )
            )
        if self.signature is not None:
            self._check_output_key(signatures[self._called].structured_outputs)
        self._reusable = self._find_reusable(self._called)
        if self._reusable is None:
            return signatures[self._called]
        if self.as_dict or not self._returns_output():
            # Where there is none, the call returns all outputs or the only one.
            return getattr(self._reusable, "as_dict", self._reusable)
        return self._reusable

    def _find_reusable(self, name: str) -> Any:
        """The callable that a conversion made of a signature."""
        # What was lowered alone is as its author made it.
        if self._facts is None or Format(self._facts.source_format).is_tf2:
            return None
        if name in (self._facts.callable, "serving_default") and callable(self.loaded):
            return self.loaded
        # A signature may be called as what every object has, "as_dict".
        found = getattr(self.loaded, name, None)
        return found if callable(found) and tracks_attributes(found) else None

    def _returns_output(self) -> bool:
        """Whether the output that was chosen is what a reusable callable returns."""
        outputs = self.loaded.signatures[self._called].structured_outputs
        if "default" in outputs:
            return self.output_key == "default"
        return len(outputs) == 1 and self.output_key in outputs

    def _check_output_key(self, outputs: Any) -> None:
        if self.output_key is not None and self.output_key not in outputs:
            advice = "; try output_key={!r}".format(min(outputs)) if outputs else ""
            raise LayerError(
                "The signature {!r} has no output of this name; it has {}{}. "
                "Received: output_key={!r}".format(
                    self._called,
                    described(outputs) if outputs else "none",
                    advice,
                    self.output_key,
                )
            )

    # ---- calling

    def call(self, inputs: Any, training: Any) -> Any:
        """Calls the function.

        Args:
          inputs: a nest of tensors, in the structure that the function takes.
          training: a bool, or a scalar tensor where that is known later only.

        Raises:
          LayerError: it does not take these inputs.
        """
        if not self.has_training or "training" in self.arguments:
            return self._call(inputs, {})
        # The second takes a while, and most calls know.
        if isinstance(training, bool) or not isinstance(training, tf.Tensor):
            return self._call(inputs, {"training": bool(training)})
        return tf.cond(
            tf.cast(training, tf.bool),
            lambda: self._call(inputs, {"training": True}),
            lambda: self._call(inputs, {"training": False}),
        )

    def call_frozen(self, inputs: Any) -> Any:
        """Calls the function for inference; its variables are not trained.

        A tape would have the gradient of all of the function built, for variables that
        it watches, before anybody asks. Where an op has none, that must not be.
        """
        if self._lacks_gradients is None:
            self._lacks_gradients = lacks_gradients(self.function)
        if not self._lacks_gradients:
            return self.call(inputs, False)
        watched = [
            variable.handle
            for variable in self.state.trainable + self.state.others
            if hasattr(variable, "handle")
        ]
        flat = tf.nest.flatten(inputs, expand_composites=True)
        with recording_stopped([v for v in flat if tf.is_tensor(v)] + watched):
            return self.call(inputs, False)

    def _call(self, inputs: Any, training: Mapping[str, Any]) -> Any:
        keywords = dict(self.arguments, **training)
        if self._reusable is not None:
            inputs = self._alone(inputs)
        try:
            results = self._results(inputs, keywords)
        except LayerError:
            raise
        except Exception as error:
            problem = self._problem(inputs, keywords)
            if problem is None:
                raise
            what = "module" if self._called is None else "signature " + self._called
            raise LayerError("The {} does not take {}".format(what, problem)) from error
        return self._pick(results)

    def _problem(self, inputs: Any, keywords: Mapping[str, Any]) -> Optional[str]:
        """The error for a call that failed; None if its cause is unknown."""
        if self.inputs.nests or self.inputs.nothing:
            known = self._input_names() or call_arguments(self.function)
            unknown = sorted(set(keywords).difference(known))
            if unknown:
                return "the arguments {}; it takes {}. Received: arguments={!r}".format(
                    unknown, sorted(set(known) - {"self"}), self.arguments
                )
        problem = self.inputs.problem(inputs)
        return problem and "these inputs. " + problem

    def _calls_signature(self) -> bool:
        """Whether a signature is what is called, by the names of its inputs."""
        if self._called is None or self._is_replaced:
            return False
        return self._reusable is None

    def _input_names(self) -> List[str]:
        """The inputs of a signature that is called by names."""
        if not self._calls_signature():
            return []
        return sorted(input_specs(self.function))

    def _results(self, inputs: Any, keywords: Mapping[str, Any]) -> Any:
        if self.inputs.nothing and _is_nothing(inputs):
            return self.function(**keywords)
        prepared = self.inputs.prepared(inputs)
        if self._is_replaced and self._called is not None and isinstance(inputs, dict):
            return self.function(**dict(keywords, **inputs))
        if not self._calls_signature():
            return self.function(prepared, **keywords)
        if isinstance(prepared, Mapping):
            return self.function(**dict(keywords, **prepared))
        if not keywords:
            return self.function(prepared)
        (name, *more) = [n for n in self._input_names() if n not in keywords]
        if more:
            raise LayerError(
                "The signature {!r} has several inputs: call the layer with a dict. It "
                "takes {}. Received: {!r}".format(
                    self._called, ", ".join([name] + more), inputs
                )
            )
        return self.function(**dict(keywords, **{name: prepared}))

    def _alone(self, inputs: Any) -> Any:
        """The only input of a signature, where it was given by its name."""
        if not isinstance(inputs, Mapping) or len(inputs) != 1:
            return inputs
        ((name, value),) = inputs.items()
        # A sparse or ragged one has several, of names that begin with its own.
        flat = input_specs(self.loaded.signatures[self._called])
        if any(n != name and not n.startswith(name + "_") for n in flat):
            return inputs
        dicts = any(isinstance(nest, Mapping) for nest in self.inputs.nests)
        return inputs if dicts else value

    def _input_specs(self) -> InputSpecs:
        if self._calls_signature():
            return InputSpecs((), input_specs(self.function))
        return InputSpecs(traces_of(self.function))

    def _pick(self, results: Any) -> Any:
        if self._reusable is not None and not isinstance(results, Mapping):
            if self._returns_output():
                return results
            results = {self._only_output(): results}
        if self.output_key is None:
            return results
        if not isinstance(results, Mapping):
            raise LayerError(
                "Specifying `output_key` is forbidden if output type is not a dict: it "
                "picks one of several named outputs. Leave it out. Received: "
                "output_key={!r} and {!r}".format(self.output_key, results)
            )
        if self.output_key not in results:
            raise LayerError(
                "KerasLayer output does not contain the output key; it has {}. "
                "Received: output_key={!r}".format(
                    ", ".join(sorted(results)), self.output_key
                )
            )
        return results[self.output_key]

    def _only_output(self) -> str:
        (name,) = self.loaded.signatures[self._called].structured_outputs
        return str(name)

    def output_shapes(self, input_shapes: Any) -> Any:
        """The shapes of the outputs, from those of the inputs.

        Args:
          input_shapes: a nest of TensorShapes or tuples.
        """
        specs = self.inputs.with_shapes(to_shapes(input_shapes))

        def call(inputs: Any) -> Any:
            return self.promised.applied(inputs, self.call(inputs, False))

        function = tf.function(call, autograph=False)
        outputs = function.get_concrete_function(specs).structured_outputs
        return tf.nest.map_structure(lambda output: output.shape, outputs)


def _is_nothing(inputs: Any) -> bool:
    return inputs is None or (isinstance(inputs, (list, tuple, dict)) and not inputs)
