"""Calls as those of ``hub.Module``: ``module(x, signature="tokens", as_dict=True)``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Callable, Optional

from hub_compat._loaded.signatures import input_specs
from hub_compat._tf.functions import name_uncallable, wrap_call
from hub_compat.errors import SignatureError

__all__ = ["take_signatures"]


def take_signatures(loaded: Any, default: Optional[str]) -> None:
    """Adds the arguments ``signature`` and ``as_dict`` to an object of a TF1 model.

    An object that cannot be called, for want of a default signature, says what can.

    Args:
      loaded: the object.
      default: the signature that it calls itself.
    """
    if not callable(loaded):
        names = sorted(getattr(loaded, "signatures", None) or ())
        if names:
            name_uncallable(
                loaded,
                "module without a default signature (write .{}(x), or "
                ".signatures[{!r}](...))".format(names[0], names[0]),
            )
        return

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def by_signature(
            instance: Any,
            *args: Any,
            signature: Optional[str] = None,
            as_dict: Optional[bool] = None,
            **keywords: Any,
        ) -> Any:
            if signature is None and as_dict is None:
                return call(instance, *args, **keywords)
            name = signature or default or ""
            # hub.Module has this name for what is first.
            if "inputs" in keywords and not args:
                args = (keywords.pop("inputs"),)
            args = tuple(_alone(value, instance, name) for value in args)
            if signature is None or name in (default, "serving_default"):
                target = functools.partial(call, instance)
                own = instance
            else:
                target = own = _find(instance, name)
            if not as_dict:
                return target(*args, **keywords)
            results = getattr(own, "as_dict", target)(*args, **keywords)
            if isinstance(results, Mapping):
                return results
            (key,) = instance.signatures[name].structured_outputs
            return {key: results}

        return by_signature

    wrap_call(loaded, wrap)


def _alone(inputs: Any, instance: Any, name: str) -> Any:
    """The only input of a signature, where it was given by its name."""
    signature = instance.signatures[name] if name in instance.signatures else None
    if signature is None or not isinstance(inputs, Mapping) or len(inputs) != 1:
        return inputs
    (value,) = inputs.values()
    return value if set(inputs) == set(input_specs(signature)) else inputs


def _find(instance: Any, name: str) -> Any:
    """The signature as a callable object.

    Raises:
      SignatureError: there is none of this name.
    """
    found = getattr(instance, name, None)
    if name in instance.signatures and callable(found):
        return found
    raise SignatureError(
        "The module has no signature of this name; it has {}. Received: {!r}".format(
            ", ".join(map(repr, sorted(instance.signatures))), name
        )
    )
