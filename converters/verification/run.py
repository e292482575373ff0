"""The comparison of one conversion, in this process."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List

from hub_compat import provenance
from hub_compat._causes import cause
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat._tf import tf
from hub_compat._tf.runtime import is_newer
from hub_compat.detector import detect
from hub_compat.errors import VerificationError
from hub_compat.formats import Detection, SignatureComparison

from ..opdata.targets import TARGETS, version_of
from .comparison import LACKS, VariantComparison
from .converted import forms
from .given_inputs import GivenInputs
from .job import NOT_LOADED, Job, Place, Tags, Watch
from .sessions import unknown_ops

__all__ = ["advice", "as_it_was", "run"]

Provide = Callable[[List[str]], bool]


def _nobody(place: Place) -> None:
    del place


def _nothing(ops: List[str]) -> bool:
    del ops
    return False


# The watch is told before each step that may end the process: who started it knows by
# the last step what died, and goes on without that.
def run(
    job: Job, watch: Watch = _nobody, provide: Provide = _nothing
) -> List[SignatureComparison]:
    """Compares in this process.

    Args:
      job: what.
      watch: is told before each step that may not come back.
      provide: is asked for ops that are not here, or, with none, for what else a model
        may need; says whether it loaded anything.

    Raises:
      VerificationError: the converted model does not load, or given inputs do not fit.
      CorruptModuleError: the original's weights are damaged.
    """
    detection = detect(job.path)
    facts = provenance.read(job.directory)
    if detection.format.is_tf2 or facts is None:
        facts = as_it_was(detection)
    given = GivenInputs(job.inputs)
    variants: Dict[Tags, VariantComparison] = {}
    meta_graphs = read_saved_model(detection).meta_graphs
    unknown = unknown_ops(meta_graphs)
    if unknown:
        provide(unknown)
    for meta_graph in meta_graphs:
        tags = tuple(sorted(meta_graph.meta_info_def.tags))
        if tags not in variants:
            variant = VariantComparison(job, meta_graph, facts, watch)
            variant.run_original(given)
            variants[tags] = variant
    made = detect(job.directory).variants
    ran = any(variant.ran() for variant in variants.values())
    lacking = not ran and any(variant.lacks() for variant in variants.values())
    refusals = [] if ran else [variant.refusal for variant in variants.values()]
    for form in forms(job.directory, facts, made[0].tags if made else ("serve",)):
        loading = _Form(form, job, detection, watch, provide, lacking, refusals)
        with contextlib.closing(loading):
            if loading.loads():
                for variant in variants.values():
                    variant.compare_with(form)
            else:
                for variant in variants.values():
                    variant.not_compared_with(form, loading.reason)
    given.check_used(detection)
    return [found for variant in variants.values() for found in variant.results()]


def as_it_was(detection: Detection) -> provenance.Provenance:
    """What is known of a TF2 SavedModel, of which lowering leaves nothing out."""
    variants = tuple((v.tags, tuple(v.signatures)) for v in detection.variants)
    return provenance.Provenance(
        source_format=detection.format.value,
        source_fingerprint="",
        source_tensorflow_version="",
        callable=None,
        root_tags=variants[0][0],
        variants=variants,
        variables=(),
        weights_elsewhere=False,
        warnings=(),
    )


# A result that does not load is a failure, but for two cases: the original does not
# load either, for the same reason; or this TensorFlow lacks what both need.
class _Form:
    """Loads a converted model in one way, and says why it cannot be."""

    def __init__(
        self,
        form: Any,
        job: Job,
        detection: Detection,
        watch: Watch,
        provide: Provide,
        lacking: bool,
        refusals: List[str],
    ) -> None:
        self._form = form
        self._job = job
        self._detection = detection
        self._watch = watch
        self._provide = provide
        self._lacking = lacking
        self._refusals = refusals
        self.reason = job.given_up

    def loads(self) -> bool:
        """Whether it is loaded now; if not, ``reason`` says why it was not tried.

        Raises:
          VerificationError: it cannot be.
        """
        if self.reason:
            return False
        place: Place = (self._form.stage, (), "")
        self.reason = self._job.deaths.get(place, "")
        if self.reason:
            return False
        self._watch(place)
        try:
            self._form.start()
        except Exception as error:  # whatever it is, a user would meet it
            self._form.restart()
            if self._provide([]):
                return self._loads_at_last()
            return self._refused(error)
        return True

    def _loads_at_last(self) -> bool:
        """Loads it once more, with packages that a loader may need."""
        try:
            self._form.start()
        except Exception as error:  # whatever it is, a user would meet it
            return self._refused(error)
        return True

    def _refused(self, error: Exception) -> bool:
        """No failure, where the original does not load either, for the same reason."""
        if cause(error) in self._refusals:
            self.reason = "nor does the converted one, by " + self._form.how
            return False
        if not self._lacking or not LACKS.search(str(error)):
            raise self._error(cause(error)) from error
        self.reason = "the converted one does not load in it by {}: {}. {}".format(
            self._form.how, cause(error), advice(self._detection, self._job.directory)
        )
        return False

    def close(self) -> None:
        """Frees what was loaded."""
        self._form.restart()

    def _error(self, reason: str) -> VerificationError:
        return VerificationError(
            "{}, {}, by {}, and so cannot be compared. {} Received: {}".format(
                NOT_LOADED,
                tf.__version__,
                self._form.how,
                advice(self._detection, self._job.directory),
                reason,
            )
        )


def advice(detection: Detection, directory: str) -> str:
    """Advice for a converted model that does not load or run here."""
    facts = provenance.read(directory)
    lowered = facts is not None and facts.lowered_for
    if is_newer(detection.producer) and not lowered:
        return (
            "TensorFlow {} wrote the original, which is newer: convert it with "
            "target={!r} (--target={}), or verify in that TensorFlow.".format(
                detection.producer.tensorflow_version or "of unknown version",
                *[_target()] * 2,
            )
        )
    return (
        "If it lacks an op, verify with another TensorFlow, or import the package "
        "of the op first. Otherwise report it as a bug of hub_compat."
    )


def _target() -> str:
    """The newest target of ``convert()`` that the running TensorFlow loads."""
    running = version_of(tf.__version__)
    names = {target.version: name for name, target in TARGETS.items()}
    return names[max(version for version in names if version <= running)]
