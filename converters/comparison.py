"""One variant of a TF1 model, original against converted."""

from __future__ import annotations

import re
import zlib
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set

import numpy as np

from hub_compat import _files
from hub_compat._tf import tf
from hub_compat.errors import ConversionError, CorruptModuleError, VerificationError
from hub_compat.formats import SignatureComparison
from hub_compat.provenance import Provenance

from .determinism import Determinism
from .differences import Difference, difference, portable
from .given_inputs import GivenInputs
from .graph import DT_RESOURCE, DT_VARIANT, Graph, node_of
from .model import Component, Signature, Value
from .sample_inputs import SampleInputs
from .sessions import Converted, Original, runnable

__all__ = ["VariantComparison"]

# Signatures that TensorFlow keeps for itself begin with this.
_INTERNAL = "__saved_model_"
# Any that a model is unlikely to have.
_SEED = 87654321
# How often an output must be the same with another seed to be compared.
_AGAIN = 8


class _Skipped(Exception):
    """A signature, or a whole variant, cannot be compared; says why."""


class _Call(NamedTuple):
    """What a signature was called with, and what the original returned.

    Attributes:
      feeds: arrays by flattened input name.
      outputs: arrays by flattened output name.
    """

    feeds: Dict[str, np.ndarray]
    outputs: Dict[str, Any]


class VariantComparison:
    """One variant, in both forms."""

    def __init__(
        self, path: str, directory: str, meta_graph: Any, facts: Provenance
    ) -> None:
        self._path = path
        self._directory = directory
        self._facts = facts
        self.tags = tuple(sorted(meta_graph.meta_info_def.tags))
        self._definitions = {
            name: meta_graph.signature_def[name]
            for name in sorted(meta_graph.signature_def)
            if not name.startswith(_INTERNAL)
        }
        self._meta_graph, self._gone = runnable(meta_graph)
        self._graph = Graph(self._meta_graph)
        self._facts_of_graph = Determinism(self._graph)
        self._original: Optional[Original] = None
        self._reseeded: Optional[Original] = None
        self._converted: Optional[Converted] = None

    def compare(
        self, given: GivenInputs, tolerance: float, seed: int
    ) -> List[SignatureComparison]:
        """Compares all signatures."""
        samples = SampleInputs(
            self._path,
            self._meta_graph,
            self._graph,
            zlib.crc32(",".join(self.tags).encode()) + seed,
        )
        found = []
        try:
            for name, definition in self._definitions.items():
                try:
                    self._check_there(name)
                    signature = _signature(name, definition)
                    self._check_runs(signature)
                    calls = self._calls(signature, given.of(signature), samples)
                    found.append(self._compare(signature, calls, tolerance))
                except _Skipped as reason:
                    found.append(SignatureComparison(self.tags, name, (), str(reason)))
        finally:
            for sessions in (self._original, self._reseeded, self._converted):
                if sessions is not None:
                    sessions.restart()
        return found

    def _check_there(self, name: str) -> None:
        """Asks whether the conversion has the signature."""
        for tags, left_out, reason in self._facts.left_out:
            if (tags, left_out) == (self.tags, name):
                raise _Skipped("left out of the conversion: " + reason)
        if self.tags not in [tags for tags, _ in self._facts.variants]:
            said = [w for w in self._facts.warnings if str(list(self.tags)) in w]
            raise _Skipped("; ".join(said) or "its variant was left out")

    def _check_runs(self, signature: Signature) -> None:
        """Asks whether the original gives the same results each time, and at all."""
        outputs = [c.tensor for c in signature.flat_outputs()]
        for tensor in outputs + [c.tensor for c in signature.flat_inputs()]:
            if node_of(tensor) in self._gone:
                raise _Skipped(
                    "the original needs the op {}, which this TensorFlow does not "
                    "have".format(self._gone[node_of(tensor)])
                )
        outside = self._facts_of_graph.outside(
            self._graph.slice(outputs, _fed(signature))
        )
        if outside:
            raise _Skipped("uses " + ", ".join(outside))

    def _calls(
        self,
        signature: Signature,
        given: Optional[Dict[str, np.ndarray]],
        samples: SampleInputs,
    ) -> List[_Call]:
        """Inputs with which the original runs, and what it returns."""
        try:
            if self._original is None:
                self._original = Original(self._path, self._meta_graph)
            self._original.start()
        except _REFUSALS as error:
            raise _Skipped(
                "the original does not load in this TensorFlow: " + _first_line(error)
            ) from error
        calls: List[_Call] = []
        first: Optional[Exception] = None
        for feeds in [given] if given is not None else samples.attempts(signature):
            try:
                calls = [_Call(feeds, self._run_original(signature, feeds))]
                break
            except _REFUSALS as error:
                first = first or error
                if not isinstance(error, _RETRIED):
                    break
        if not calls:
            message = _first_line(first)
            if given is not None:
                raise VerificationError(
                    "The original does not run with the inputs that are given for the "
                    "signature {!r}. Received: {}".format(signature.name, message)
                ) from first
            raise _Skipped("the original does not run with made-up inputs: " + message)
        if given is None and signature.inputs:
            calls += self._more_calls(signature, calls[0], samples)
        return calls

    def _more_calls(
        self, signature: Signature, call: _Call, samples: SampleInputs
    ) -> List[_Call]:
        """Other inputs that the original happens to accept."""
        calls = []
        # The other way, each: a switch for training, for instance.
        switches = {
            name: ~value
            for name, value in call.feeds.items()
            if value.dtype == bool and not value.ndim
        }
        others = [dict(call.feeds, **switches)] if switches else []
        for feeds in [samples.another(signature)] + others:
            try:
                calls.append(_Call(feeds, self._run_original(signature, feeds)))
            except _REFUSALS:
                continue
        return calls

    def _run_original(
        self,
        signature: Signature,
        feeds: Mapping[str, np.ndarray],
        reseeded: bool = False,
    ) -> Dict[str, Any]:
        sessions = self._original
        if reseeded:
            if self._reseeded is None:
                self._reseeded = Original(self._path, self._meta_graph, _SEED)
            sessions = self._reseeded
        assert sessions is not None
        outputs = {c.name: c.tensor for c in _fetched(signature)}
        tensors = {c.tensor: feeds[c.name] for c in signature.flat_inputs()}
        try:
            return dict(sessions.run(outputs, tensors))
        finally:
            if self._writes(signature):
                sessions.restart()

    def _run_converted(
        self, signature: Signature, feeds: Mapping[str, np.ndarray]
    ) -> Dict[str, Any]:
        if self._converted is None:
            try:
                self._converted = Converted(
                    self._directory, self.tags, self._facts.root_tags
                )
            except (tf.errors.OpError, ValueError) as error:
                raise VerificationError(
                    "The converted module does not load in this TensorFlow, {}, and so "
                    "cannot be compared. If it lacks an op, verify with another, or "
                    "import the package that has the op first. Received: {}".format(
                        tf.__version__, _first_line(error)
                    )
                ) from error
        try:
            found = self._converted.call(signature, feeds)
            return dict(found)
        finally:
            if self._writes(signature):
                self._converted.restart()

    def _writes(self, signature: Signature) -> bool:
        outputs = [c.tensor for c in signature.flat_outputs()]
        nodes = self._graph.slice(outputs, _fed(signature))
        return self._facts_of_graph.writes(nodes)

    def _compare(
        self, signature: Signature, calls: List[_Call], tolerance: float
    ) -> SignatureComparison:
        """Compares a signature's outputs."""
        skipped = self._racing(signature)
        for c in signature.flat_outputs():
            if c.dtype in (DT_RESOURCE, DT_VARIANT):
                skipped[c.name] = "it has no value outside of the graph"
        compared: Dict[str, Difference] = {}
        mismatches: List[str] = []
        names = [c.name for c in signature.flat_outputs() if c.name not in skipped]
        for call in calls:
            random = self._random(signature, call, tolerance)
            try:
                found = self._run_converted(signature, call.feeds)
            except _REFUSALS as error:
                mismatches.append("the converted one fails: " + _first_line(error))
                continue
            for name in names:
                if name in random:
                    skipped.setdefault(name, random[name])
                    continue
                if name not in found:
                    mismatches.append("output {!r} is missing".format(name))
                    continue
                difference = self._difference(call.outputs[name], found[name])
                compared[name] = difference.worse(compared.get(name))
        mismatches += [
            "output {!r}: {}".format(name, difference.text())
            for name, difference in compared.items()
            if not difference.within(tolerance)
        ]
        reasons = tuple(
            "{}: {}".format(name, reason)
            for name, reason in sorted(skipped.items())
            if name not in compared
        )
        if not compared and not mismatches:
            raise _Skipped("; ".join(reasons) or "it has no outputs")
        return SignatureComparison(
            tags=self.tags,
            name=signature.name,
            outputs=tuple(compared),
            skipped=reasons,
            largest_absolute=max([d.absolute for d in compared.values()] or [0.0]),
            largest_relative=max([d.relative for d in compared.values()] or [0.0]),
            mismatches=tuple(dict.fromkeys(mismatches)),
        )

    def _racing(self, signature: Signature) -> Dict[str, str]:
        tensors = {c.name: c.tensor for c in signature.flat_outputs()}
        racing = self._facts_of_graph.racing(tensors.values(), _fed(signature))
        return {
            name: "the variable {!r} is read while it is written".format(racing[tensor])
            for name, tensor in tensors.items()
            if tensor in racing
        }

    def _random(
        self, signature: Signature, call: _Call, tolerance: float
    ) -> Dict[str, str]:
        """Outputs that depend on random numbers, and the ops that draw them.

        An op behind an output need not run: dropout, while the model does not
        train. So the original is asked again, with other seeds.
        """
        drawing = {}
        for c in _fetched(signature):
            nodes = self._graph.slice([c.tensor], _fed(signature))
            ops = self._facts_of_graph.random(nodes)
            if ops:
                drawing[c.name] = "uses " + ", ".join(ops)
        if not drawing:
            return {}
        random: Dict[str, str] = {}
        # Several times: of two elements, a shuffle often leaves both where they are.
        for _ in range(_AGAIN):
            again = self._run_original(signature, call.feeds, reseeded=True)
            for name, reason in drawing.items():
                wanted = call.outputs[name]
                if not self._difference(wanted, again[name]).within(tolerance):
                    random[name] = reason
            if len(random) == len(drawing):
                break
        return random

    def _difference(self, wanted: Any, found: Any) -> Difference:
        own, other = [
            _files.join(path, "assets") for path in (self._path, self._directory)
        ]
        return difference(
            portable(np.asarray(wanted), own), portable(np.asarray(found), other, own)
        )


# What TensorFlow raises where it cannot run a graph, or not with these inputs.
_REFUSALS = (tf.errors.OpError, ValueError, TypeError, KeyError)
# Of these, what other inputs may help.
_RETRIED = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, ValueError)
# TF >= 2.10 puts the message behind where the node was made.
_BEHIND_NODE = re.compile(r"^Node: '[^']*'\n(.+)$", re.MULTILINE)


def _first_line(error: Optional[BaseException]) -> str:
    """What an error says, without where in a graph."""
    text = str(error).strip()
    found = _BEHIND_NODE.search(text)
    lines = [found.group(1)] if found else text.splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def _signature(name: str, definition: Any) -> Signature:
    def values(infos: Any) -> Dict[str, Value]:
        return {key: Value.from_tensor_info(key, infos[key]) for key in sorted(infos)}

    try:
        inputs, outputs = values(definition.inputs), values(definition.outputs)
    except (ConversionError, CorruptModuleError) as error:
        raise _Skipped(str(error)) from error
    return Signature(name, inputs, outputs, definition.method_name)


def _fed(signature: Signature) -> Set[str]:
    return {c.tensor for c in signature.flat_inputs()}


def _fetched(signature: Signature) -> Iterable[Component]:
    """The outputs that have a value outside of the graph."""
    return [
        c for c in signature.flat_outputs() if c.dtype not in (DT_RESOURCE, DT_VARIANT)
    ]
