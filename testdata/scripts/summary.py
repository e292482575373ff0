"""What makes a recorded case worth comparing with, and its line in the summary."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import numpy as np

HEADER = "{:<19} {:<17} {:<21} {:<34} {:>9} {:>7} {:>6} {:>4} {:>4}".format(
    "module",
    "tags",
    "signature",
    "outputs",
    "largest",
    "grads",
    "inputs",
    "loss",
    "upd",
)


class TrivialCase(Exception):
    """A case that nothing could fail."""


def _arrays(value: Any) -> List[np.ndarray]:
    if hasattr(value, "flat_values"):
        return [np.asarray(value.flat_values)]
    if hasattr(value, "dense_shape"):
        return [np.asarray(value.values)]
    return [np.asarray(value)]


def check_case(
    key: str,
    case: Mapping[str, Any],
    outputs: Mapping[str, Any],
    gradients: Mapping[str, Any],
    input_gradients: Mapping[str, Any],
) -> None:
    """Refuses a case without finite values that differ from zero.

    Args:
      key: where the case is.
      case: its JSON form.
      outputs: what the session returned.
      gradients: of the variables.
      input_gradients: of the inputs.

    Raises:
      TrivialCase: there is such a value.
    """
    where = "{} {} {}".format(key, case["tags"], case["signature"])
    everything = dict(outputs)
    everything.update({"d " + name: g for name, g in gradients.items()})
    everything.update({"d input " + name: g for name, g in input_gradients.items()})
    for name, value in everything.items():
        for array in [] if value is None else _arrays(value):
            if array.dtype.kind in "fc" and not np.all(np.isfinite(array)):
                raise TrivialCase("{}: {} is not finite".format(where, name))
    for name, value in outputs.items():
        if not any(array.dtype.kind == "V" or np.any(array != array.dtype.type())
                   for array in _arrays(value)
                   if array.size and array.dtype.kind not in "OSb"):  # fmt: skip
            kinds = {array.dtype.kind for array in _arrays(value) if array.size}
            if kinds and not kinds & set("OSb") and case["deterministic"]:
                raise TrivialCase("{}: output {} is all zero".format(where, name))
    found = list(gradients.values()) + list(input_gradients.values())
    if case["gradient_of"] and not any(g is not None and np.any(g) for g in found):
        raise TrivialCase("{}: all gradients are zero".format(where))


def _shape(value: Any, arrays: Mapping[str, np.ndarray]) -> str:
    if "asset" in value:
        return "asset"
    if "sparse" in value:
        return "sparse" + _shape(value["sparse"]["values"], arrays)
    if "ragged" in value:
        return "ragged" + _shape(value["ragged"]["values"], arrays)
    return str(list(arrays[value["npz"]].shape)).replace(" ", "")


def _largest(values: Any, arrays: Mapping[str, np.ndarray]) -> float:
    largest = 0.0
    for value in values:
        for kind in ("sparse", "ragged"):
            value = value[kind]["values"] if kind in value else value
        array = arrays[value["npz"]] if "npz" in value else np.zeros(0)
        if array.size and array.dtype.kind in "fciu":
            largest = max(largest, float(np.max(np.abs(array))))
    return largest


def _count(gradients: Dict[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    nonzero = sum(
        value is not None and bool(np.any(arrays[value["npz"]]))
        for value in gradients.values()
    )
    return "{}/{}".format(nonzero, len(gradients)) if gradients else "-"


def describe_case(
    module: str, case: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> str:
    """One line; gradients as how many differ from zero, of how many."""
    outputs = ",".join(_shape(value, arrays) for value in case["outputs"].values())
    if len(outputs) > 34:
        outputs = "{} outputs".format(len(case["outputs"]))
    flags = "" if case["deterministic"] else " random"
    flags += "" if case["recorded_with"] == "hub.Module" else " session"
    return "{:<19} {:<17} {:<21} {:<34} {:>9.3g} {:>7} {:>6} {:>4} {:>4}{}".format(
        module,
        ",".join(case["tags"]) or "-",
        case["signature"],
        outputs,
        _largest(case["outputs"].values(), arrays),
        _count(case["gradients"], arrays),
        _count(case["input_gradients"], arrays),
        len(case["regularization_losses"]) or "-",
        len(case["updated"]) or "-",
        flags,
    )
