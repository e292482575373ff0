"""Inputs that a caller of verify() gave, checked against the signatures."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Set

import numpy as np

from hub_compat._tf import tf
from hub_compat.errors import SignatureError, VerificationError
from hub_compat.formats import Detection

from ..ir import same_inputs
from ..ir.signatures import Component, Signature

__all__ = ["GivenInputs"]


class GivenInputs:
    """Inputs that the caller gave."""

    def __init__(self, inputs: Mapping[str, Mapping[str, Any]]) -> None:
        self._inputs = inputs
        self._used: Set[str] = set()
        self._misfits: List[str] = []

    def of(self, signature: Signature) -> Optional[Dict[str, np.ndarray]]:
        """Arrays for a signature's components; None where none were given."""
        values = self._inputs.get(signature.name)
        if values is None:
            return None
        components = {c.name: c for c in signature.flat_inputs()}
        if set(components) != set(values):
            # A variant may have a signature of that name with other inputs.
            self._misfits.append(
                "signature {!r} has the inputs {}; received: {}".format(
                    signature.name, sorted(components), sorted(values)
                )
            )
            return None
        for name, first in same_inputs.same(signature.flat_inputs()).items():
            if not np.array_equal(np.asarray(values[name]), np.asarray(values[first])):
                raise VerificationError(
                    "The inputs {!r} and {!r} of signature {!r} are one tensor of the "
                    "model: give both the same value. Received: {!r} and {!r}".format(
                        first, name, signature.name, values[first], values[name]
                    )
                )
        self._used.add(signature.name)
        return {
            name: _as_array(signature.name, components[name], value)
            for name, value in values.items()
        }

    def check_used(self, detection: Detection) -> None:
        """Refuses inputs that no signature takes."""
        for name in self._inputs:
            if name not in detection.signatures:
                raise SignatureError(
                    "The inputs name a signature that the module {!r} does not "
                    "have; it has {}. Received: {!r}".format(
                        detection.path, ", ".join(detection.signatures), name
                    )
                )
        if set(self._inputs) - self._used:
            raise VerificationError(
                "The inputs name a signature that cannot be compared: {}".format(
                    "; ".join(self._misfits) or "it was skipped"
                )
            )


def _as_array(signature: str, component: Component, value: Any) -> np.ndarray:
    dtype = tf.as_dtype(component.dtype)
    shape = tf.TensorShape(component.shape)
    problem = ""
    try:
        array = np.asarray(value)
        if dtype == tf.string:
            array = array.astype(object)
        elif array.dtype != dtype.as_numpy_dtype:
            array = array.astype(dtype.as_numpy_dtype, casting="same_kind")
    except (TypeError, ValueError) as error:
        problem = str(error)
    else:
        if shape.is_compatible_with(array.shape):
            return array
        problem = "its shape is {}".format(array.shape)
    raise VerificationError(
        "An input of signature {!r} must be {} {}: {}. Received: {!r}".format(
            signature, dtype.name, shape, problem, component.name
        )
    )
