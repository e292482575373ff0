"""One variant of a TF1 model, original against converted."""

from __future__ import annotations

import re
import time
import zlib
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
)

import numpy as np

from hub_compat._causes import cause
from hub_compat._io import files
from hub_compat._parsing.known_names import INTERNAL_SIGNATURES
from hub_compat._tf import tf
from hub_compat.errors import ConversionError, CorruptModuleError, VerificationError
from hub_compat.formats import SignatureComparison
from hub_compat.provenance import Provenance

from ..ir import same_inputs
from ..ir.dtypes import DT_RESOURCE, DT_VARIANT
from ..ir.effects import Determinism
from ..ir.graph import Graph, node_of
from ..ir.signatures import Component, Signature, flatten, read_values
from .converted import Calls
from .differences import Difference, difference, portable
from .given_inputs import GivenInputs
from .job import FAILS
from .sample_inputs import SampleInputs
from .sessions import Original, runnable

__all__ = ["LACKS", "VariantComparison"]

# Signatures that TensorFlow keeps for itself begin with this.
# Any that a model is unlikely to have.
_SEED = 87654321
# How often an output must be the same with another seed to be compared.
_AGAIN = 8
# Seconds after which no other inputs are made up.
_PATIENCE = 30.0


class _Skipped(Exception):
    """A signature, or a whole variant, cannot be compared; says why."""


class _Call(NamedTuple):
    """The inputs of a signature, and the outputs of the original.

    Attributes:
      feeds: arrays by flattened input name.
      outputs: arrays by flattened output name.
      random: by name, why an output is another each time.
    """

    feeds: Dict[str, np.ndarray]
    outputs: Dict[str, Any]
    random: Dict[str, str]


class _Found:
    """The state of the comparison of one signature."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.signature: Optional[Signature] = None
        self.calls: List[_Call] = []
        self.reason = ""
        self.skipped: Dict[str, str] = {}
        self.compared: Dict[str, Difference] = {}
        # How a difference was found first, where not by objects.
        self.where: Dict[str, str] = {}
        self.failures: List[str] = []
        self.partly: List[str] = []


# First all signatures of the original, then all of each converted form: a session of
# the original and a loaded result are not in memory at once, and each is loaded once.
#
#     _found:   for each signature its calls (inputs and outputs of the original), and
#               what came of the comparisons
#     _writing: signature -> whether it writes variables, so that the next one needs a
#               restart
class VariantComparison:
    """One variant, in both forms.

    Args:
      job: the ``Job``.
      meta_graph: the variant.
      facts: what the converted model remembers of its source.
      watch: is told before each step that may not come back.

    Attributes:
      tags: the variant's, sorted.
      refusal: why a session does not load the original; "" if it does.
    """

    def __init__(
        self, job: Any, meta_graph: Any, facts: Provenance, watch: Callable[..., None]
    ) -> None:
        self._job = job
        self._facts = facts
        self._watch = watch
        self.tags = tuple(sorted(meta_graph.meta_info_def.tags))
        self._definitions = {
            name: meta_graph.signature_def[name]
            for name in sorted(meta_graph.signature_def)
            if not name.startswith(INTERNAL_SIGNATURES)
        }
        self._meta_graph, self._gone = runnable(meta_graph)
        self._graph = Graph(self._meta_graph)
        self._facts_of_graph = Determinism(self._graph)
        # By signature, whether it writes variables.
        self._writing: Dict[str, bool] = {}
        self.refusal = ""
        self._original: Optional[Original] = None
        self._reseeded: Optional[Original] = None
        self._found = [_Found(name) for name in self._definitions]

    def run_original(self, given: GivenInputs) -> None:
        """Runs all signatures of the original, and keeps what they return."""
        samples = SampleInputs(
            self._job.path,
            self._meta_graph,
            self._graph,
            zlib.crc32(",".join(self.tags).encode()) + self._job.seed,
        )
        try:
            for found in self._found:
                try:
                    self._check_there(found.name)
                    signature = _signature(found.name, self._definitions[found.name])
                    self._check_runs(signature)
                    found.calls = self._calls(signature, given.of(signature), samples)
                    found.skipped = self._always_skipped(signature)
                    found.signature = signature
                except _Skipped as reason:
                    found.reason = str(reason)
        finally:
            for sessions in (self._original, self._reseeded):
                if sessions is not None:
                    sessions.restart()
            self._original = self._reseeded = None

    def compare_with(self, form: Any) -> None:
        """Compares all signatures that the original runs.

        Args:
          form: the converted model, loaded in one way.
        """
        for found in self._found:
            if found.signature is None or not form.has(self.tags, found.signature):
                continue
            death = self._job.deaths.get((form.stage, self.tags, found.name))
            if death is not None:
                found.partly.append("by {}: {}".format(form.how, death))
            else:
                self._watch((form.stage, self.tags, found.name))
                self._compare(found, found.signature, form)

    def ran(self) -> bool:
        """Whether any signature of the original ran."""
        return any(found.signature is not None for found in self._found)

    def lacks(self) -> bool:
        """Whether this TensorFlow lacks what a signature of the original needs."""
        return any(LACKS.search(found.reason) for found in self._found)

    def not_compared_with(self, form: Any, reason: str) -> None:
        """Notes that the converted model was not loaded in one way, and why."""
        for found in self._found:
            if found.reason and form.stage == "objects":
                found.reason += "; " + reason
            if found.signature and form.has(self.tags, found.signature):
                found.partly.append("by {}: {}".format(form.how, reason))

    def results(self) -> List[SignatureComparison]:
        """What was found."""
        return [self._result(found) for found in self._found]

    def _result(self, found: _Found) -> SignatureComparison:
        if found.reason:
            return SignatureComparison(self.tags, found.name, (), found.reason)
        mismatches = found.failures + [
            "output {!r}{}: {}".format(name, found.where[name], difference.text())
            for name, difference in found.compared.items()
            if not difference.within(self._job.tolerance)
        ]
        reasons = found.partly + [
            "{}: {}".format(name, reason)
            for name, reason in sorted(found.skipped.items())
            if name not in found.compared
        ]
        if not found.compared and not mismatches:
            reason = "; ".join(dict.fromkeys(reasons)) or "it has no outputs"
            return SignatureComparison(self.tags, found.name, (), reason)
        differences = list(found.compared.values())
        return SignatureComparison(
            tags=self.tags,
            name=found.name,
            outputs=tuple(found.compared),
            skipped=tuple(dict.fromkeys(reasons)),
            largest_absolute=max([d.absolute for d in differences] or [0.0]),
            largest_relative=max([d.relative for d in differences] or [0.0]),
            mismatches=tuple(dict.fromkeys(mismatches)),
        )

    def _check_there(self, name: str) -> None:
        """Asks whether the conversion has the signature, and it may be run."""
        for tags, left_out, reason in self._facts.left_out:
            if (tags, left_out) == (self.tags, name):
                raise _Skipped("skipped by the conversion: " + reason)
        if self.tags not in [tags for tags, _ in self._facts.variants]:
            said = [w for w in self._facts.warnings if str(list(self.tags)) in w]
            raise _Skipped("; ".join(said) or "its variant was skipped")
        if self._job.given_up:
            raise _Skipped(self._job.given_up)
        for own in ("", name):
            death = self._job.deaths.get(("original", self.tags, own))
            if death is not None:
                raise _Skipped(
                    "the process that ran the original did not survive it: " + death
                )

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
        self._start_original()
        self._watch(("original", self.tags, signature.name))
        calls: List[_Call] = []
        first: Optional[Exception] = None
        until = time.monotonic() + _PATIENCE
        for feeds in [given] if given is not None else samples.attempts(signature):
            feeds = _fed_alike(signature, feeds)
            try:
                calls = [self._call(signature, feeds)]
                break
            except Exception as error:  # a stranger's graph; any will do
                first = first or error
                if not _may_run_with_others(error) or time.monotonic() > until:
                    break
        if not calls:
            message = cause(first)
            if given is not None:
                raise VerificationError(
                    "The original does not run on your inputs for the signature "
                    "{!r}. Received: {}".format(signature.name, message)
                ) from first
            raise _Skipped("the original does not run on generated inputs: " + message)
        if given is None and signature.inputs:
            calls += self._more_calls(signature, calls[0], samples)
        return calls

    def _start_original(self) -> None:
        """Loads the original, unless that has been done.

        Raises:
          CorruptModuleError: its weights are damaged.
        """
        if self._original is None:
            self._watch(("original", self.tags, ""))
        try:
            if self._original is None:
                self._original = Original(self._job.path, self._meta_graph)
            self._original.start()
        except Exception as error:  # a stranger's graph; any will do
            if _is_damage(error):
                raise CorruptModuleError(
                    "The weights of the original are damaged, so it cannot be "
                    "compared with its conversion. Download or export the module "
                    "again. Received: {!r} ({})".format(self._job.path, cause(error))
                ) from error
            self.refusal = cause(error)
            raise _Skipped(
                "the original does not load in this TensorFlow: " + self.refusal
            ) from error

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
            feeds = _fed_alike(signature, feeds)
            try:
                calls.append(self._call(signature, feeds))
            except Exception:  # a stranger's graph; any will do
                continue
        return calls

    def _call(self, signature: Signature, feeds: Dict[str, np.ndarray]) -> _Call:
        outputs = self._run_original(signature, feeds)
        return _Call(feeds, outputs, self._random(signature, feeds, outputs))

    def _run_original(
        self,
        signature: Signature,
        feeds: Mapping[str, np.ndarray],
        reseeded: bool = False,
    ) -> Dict[str, Any]:
        sessions = self._original
        if reseeded:
            if self._reseeded is None:
                self._reseeded = Original(self._job.path, self._meta_graph, _SEED)
            sessions = self._reseeded
        assert sessions is not None
        outputs = {c.name: c.tensor for c in _fetched(signature)}
        tensors = {c.tensor: feeds[c.name] for c in signature.flat_inputs()}
        try:
            return dict(sessions.run(outputs, tensors))
        finally:
            if self._writes(signature):
                sessions.restart()

    def _writes(self, signature: Signature) -> bool:
        known = self._writing.get(signature.name)
        if known is None:
            outputs = [c.tensor for c in signature.flat_outputs()]
            nodes = self._graph.slice(outputs, _fed(signature))
            known = self._facts_of_graph.writes(nodes)
            self._writing[signature.name] = known
        return known

    def _compare(self, found: _Found, signature: Signature, form: Any) -> None:
        """Compares a signature's outputs with those of the converted model."""
        outputs = signature.outputs
        if isinstance(form, Calls):
            outputs = form.outputs(signature)
        names = [c.name for c in flatten(outputs) if c.name not in found.skipped]
        for call in found.calls:
            try:
                returned = form.call(self.tags, signature, call.feeds)
            except Exception as error:  # whatever it is, a user would meet it
                found.failures.append(_failure(form, cause(error)))
                continue
            finally:
                if self._writes(signature):
                    form.restart()
            for name in names:
                if name in call.random:
                    found.skipped.setdefault(name, call.random[name])
                elif name not in returned:
                    found.failures.append("output {!r} is missing".format(name))
                else:
                    new = self._difference(call.outputs[name], returned[name])
                    known = found.compared.get(name)
                    tolerance = self._job.tolerance
                    if known is None or known.within(tolerance):
                        by = "" if form.stage == "objects" else " by " + form.how
                        found.where[name] = by
                    found.compared[name] = new.worse(known)

    def _always_skipped(self, signature: Signature) -> Dict[str, str]:
        """Outputs that no call compares, and why."""
        tensors = {c.name: c.tensor for c in signature.flat_outputs()}
        racing = self._facts_of_graph.racing(tensors.values(), _fed(signature))
        skipped = {
            name: "the variable {!r} is read while it is written".format(racing[tensor])
            for name, tensor in tensors.items()
            if tensor in racing
        }
        for c in signature.flat_outputs():
            if c.dtype in (DT_RESOURCE, DT_VARIANT):
                skipped[c.name] = "it has no value outside of the graph"
        return skipped

    def _random(
        self,
        signature: Signature,
        feeds: Mapping[str, np.ndarray],
        outputs: Mapping[str, Any],
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
            again = self._run_original(signature, feeds, reseeded=True)
            for name, reason in drawing.items():
                same = self._difference(outputs[name], again[name])
                if not same.within(self._job.tolerance):
                    random[name] = reason
            if len(random) == len(drawing):
                break
        return random

    def _difference(self, wanted: Any, found: Any) -> Difference:
        own, other = [
            files.join(path, "assets") for path in (self._job.path, self._job.directory)
        ]
        return difference(
            portable(np.asarray(wanted), own), portable(np.asarray(found), other, own)
        )


# What other inputs may help.
_RETRIED = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, ValueError)
# How TensorFlow, or we, say that it lacks an op, an attribute of one, or a kernel.
LACKS = re.compile(
    r"No OpKernel was registered|Op type not registered|NodeDef mentions attr|"
    r"not in Op<name=|No attr named|No OpDef for|the original needs the op"
)
# What they do not: the op is not there, whatever it is given.
_NO_KERNEL = ("No OpKernel was registered", "Op type not registered", "no kernel")
# A checkpoint whose bytes do not match their checksums, or end early.
_DAMAGE = ("Checksum does not match", "Read less bytes", "checkpoint")


def _may_run_with_others(error: Exception) -> bool:
    if not isinstance(error, _RETRIED):
        return False
    return not any(text in str(error) for text in _NO_KERNEL)


def _failure(form: Any, reason: str) -> str:
    by = {"objects": "", "calls": ", by "}.get(form.stage, ", loaded by ")
    by += form.how if by else ""
    return "{}{}: {}".format(FAILS, by, reason)


def _is_damage(error: Exception) -> bool:
    kinds = (tf.errors.DataLossError, tf.errors.OutOfRangeError)
    return isinstance(error, kinds) and any(text in str(error) for text in _DAMAGE)


def _signature(name: str, definition: Any) -> Signature:
    try:
        inputs = read_values(definition.inputs)
        outputs = read_values(definition.outputs)
    except (ConversionError, CorruptModuleError) as error:
        raise _Skipped(str(error)) from error
    return Signature(name, inputs, outputs, definition.method_name)


def _fed(signature: Signature) -> Set[str]:
    return {c.tensor for c in signature.flat_inputs()}


def _fed_alike(
    signature: Signature, feeds: Dict[str, np.ndarray]
) -> Dict[str, np.ndarray]:
    """Feeds where inputs that are one tensor have the value of the first of them."""
    first = same_inputs.same(signature.flat_inputs())
    return {name: feeds[first.get(name, name)] for name in feeds}


def _fetched(signature: Signature) -> Iterable[Component]:
    """The outputs that have a value outside of the graph."""
    return [
        c for c in signature.flat_outputs() if c.dtype not in (DT_RESOURCE, DT_VARIANT)
    ]
