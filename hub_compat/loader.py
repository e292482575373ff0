"""load(): any module, as one kind of object."""

from __future__ import annotations

import re
from typing import Any, Iterable, List, Optional, Tuple

from hub_compat import _guard, _preflight, cache, converters, provenance
from hub_compat._causes import cause
from hub_compat._collector import collector_paused
from hub_compat._handles.resolving import resolve
from hub_compat._io import files
from hub_compat._loaded import (
    graph_mode,
    lifetime,
    missing_gradients,
    origin,
    pruning,
    restore,
    signature_calls,
    signatures,
    slim_form,
    variables,
)
from hub_compat._registration import register
from hub_compat._tf import registered_gradients, tf
from hub_compat._tf.gradients import (
    keep_inner_control_flow,
    register_control_flow_gradients,
)
from hub_compat._tf.loading import LOAD_ERRORS, drop_missing_variables, load_saved_model
from hub_compat._tf.runtime import is_newer
from hub_compat.converters.trial_loading import NothingLoads
from hub_compat.detector import detect
from hub_compat.errors import (
    CorruptModuleError,
    HandleError,
    HubCompatError,
    UnknownOpError,
    VariantError,
)
from hub_compat.formats import Detection, Format

__all__ = ["load"]


class _Unfit(CorruptModuleError):
    """A module's own check does not hold: no other conversion of it would do."""


@collector_paused()
def load(
    handle: Any,
    tags: Optional[Iterable[str]] = None,
    options: Any = None,
    fill_collections: bool = False,
    name: Optional[str] = None,
    slim: Any = False,
) -> Any:
    """Loads a module of any format.

    A TF1 Hub module or TF1 SavedModel is converted once, into the cache, and loaded
    from there; a TF2 SavedModel is loaded as it is. The result has the interface of
    TensorFlow Hub's Reusable SavedModel. It is callable, with ``training`` as an
    argument, and has ``variables``, ``trainable_variables``,
    ``regularization_losses`` and ``signatures``. The other signatures of a TF1 module
    are sub-objects of the same kind. Two loads of one module share nothing.

    Args:
      handle: directory of the module, a string or ``os.PathLike``, on any file
        system TensorFlow reads; or another handle that ``resolve()`` takes.
      tags: the variant to load, ``{"train"}``; by default the untagged one of
        a TF1 Hub module, ``{"serve"}`` of a TF1 SavedModel, or the only one.
      options: a ``tf.saved_model.LoadOptions`` (TF 2.3 or newer).
      fill_collections: adds to the collections of the graph what ``hub.Module``
        added: trainable variables to TRAINABLE_VARIABLES, regularization losses to
        REGULARIZATION_LOSSES, each call with ``training=True`` to UPDATE_OPS. For an
        object loaded by the tag ``train``, ``training=True`` is then the default of a
        call. The updates are part of the call's op: they run once in each step that
        needs its outputs, with or without UPDATE_OPS.
      name: in a graph, a scope for the names of the variables. The default of
        ``hub.Module`` is ``name="module"``; with it, checkpoints of an old training
        job are restored. By default variables have the module's own names.
      slim: True leaves out of a SavedModel of Keras 2 what only Keras' own loader
        needs: ``keras_api``, numbered layers with their functions, the optimizer. It
        then loads in a third of the time. The slim form is made once, in the cache;
        its weights are links. ``"auto"`` does so where there are many layers, as
        ``KerasLayer`` does. Other models are loaded whole. ``save()`` saves the whole
        model in either case.

    Returns:
      The loaded object. ``_is_hub_module_v1`` tells, as in TensorFlow Hub,
      whether it came from a TF1 Hub module.

    Raises:
      HandleError: there is nothing at ``handle``.
      FormatError: it is not a module, or its format is refused.
      CorruptModuleError: it is damaged.
      VariantError: it has no variant with these tags.
      UnknownOpError: it uses ops that this TensorFlow does not have.
      OptionsError: ``options`` are given, and this TensorFlow has none; or
        ``fill_collections`` or ``name``, and operations run eagerly; or ``slim`` is
        none of its values.
    """
    register()
    slim_form.check(slim)
    if fill_collections:
        graph_mode.check_collections()
    wanted = None if tags is None else _tag_set(tags)
    before = graph_mode.variables()
    path = resolve(handle)
    loading: List[str] = []
    with graph_mode.name_scope(name), _guard.reading(path, "loaded", loading):
        loaded = _load_any(path, wanted, options, loading, slim)
    if fill_collections:
        created = graph_mode.variables()[len(before) :]
        graph_mode.fill_collections(loaded, created, "train" in (wanted or ()))
    return loaded


# From the cheapest to the dearest:
#
#     detect            reads a few fields; no TensorFlow
#     preflight         TensorFlow ends the process over some damage, so we look first
#     _normal_form      the directory itself, or an entry of the cache, made if need be
#     load              TensorFlow's loader
#     load once more    if the copy of the weights in the cache was damaged
#     convert once more if TensorFlow refuses some signatures: those that load
#
# The first error is the one to raise where nothing of that helps: it is about the
# module, and the later ones are about attempts.
def _load_any(
    path: str,
    wanted: Optional[Tuple[str, ...]],
    options: Any,
    loading: List[str],
    slim: Any,
) -> Any:
    """Loads.

    Args:
      path: the module.
      wanted: the variant; None for the default one.
      options: a ``tf.saved_model.LoadOptions``, or None.
      loading: gets each directory that TensorFlow is about to load.
      slim: as ``load()`` has it.
    """
    detection = detect(path)
    _preflight.check_files(path)
    if detection.format.is_tf2:
        if not getattr(options, "experimental_skip_checkpoint", False):
            _preflight.check_checkpoint(path)
    else:
        _check_tags(detection, wanted)
    directory = _normal_form(detection, wanted)
    facts = provenance.read(directory)
    if facts is None:
        _check_tags(detection, wanted)
    loading.append(directory)
    loaded = None
    if slim and detection.format.is_tf2:
        loaded = slim_form.load_slim(
            directory, slim, path, lambda place: _load(detection, place, options)
        )
    if facts is None:
        if loaded is None:
            loaded = _load(detection, directory, options)
        signatures.adapt(loaded, detection.path, {}, tf1=False)
        loaded._is_hub_module_v1 = False
        origin.remember(loaded, detection, directory, tags=wanted)
        return loaded
    if loaded is not None:
        return _finish(detection, directory, loaded, facts, wanted)
    try:
        directory, root = _load_again(detection, directory, wanted, options, loading)
    except (CorruptModuleError, UnknownOpError) + LOAD_ERRORS as error:
        if detection.format.is_tf2 or isinstance(error, _Unfit):
            _forget(loading[-1:])
            raise
        directory, root = _load_what_loads(detection, wanted, options, loading, error)
        facts = provenance.read(directory)
        assert facts is not None
    return _finish(detection, directory, root, facts, wanted)


def _load_what_loads(
    detection: Detection,
    wanted: Optional[Tuple[str, ...]],
    options: Any,
    loading: List[str],
    error: BaseException,
) -> Tuple[str, Any]:
    """Converts once more, without the signatures that TensorFlow refuses, and loads.

    Args:
      detection: the module.
      wanted: the variant; None for the default one.
      options: a ``tf.saved_model.LoadOptions``, or None.
      loading: gets the other directory.
      error: that of the whole, which is raised where nothing loads.

    Returns:
      The directory that was loaded, and the object.
    """
    tried = loading[-1:]
    try:
        directory = _converted(detection, wanted or None, what_loads=True)
        tried.append(directory)
        loading.append(directory)
        return directory, _load(detection, directory, options)
    except NothingLoads:
        if isinstance(error, CorruptModuleError):
            _forget(tried)
        raise error from None
    except CorruptModuleError:
        _forget(tried)
        raise


def _load_again(
    detection: Detection,
    directory: str,
    wanted: Optional[Tuple[str, ...]],
    options: Any,
    loading: List[str],
) -> Tuple[str, Any]:
    """Loads a directory; another one if its copy of the weights is damaged.

    Args:
      detection: the module.
      directory: its converted form.
      wanted: the variant; None for the default one.
      options: a ``tf.saved_model.LoadOptions``, or None.
      loading: gets the other directory.

    Returns:
      The directory that was loaded, and the object.
    """
    try:
        return directory, _load(detection, directory, options)
    except _Unfit:
        raise
    except (CorruptModuleError,) + LOAD_ERRORS:
        if directory == detection.path or restore.is_whole(directory):
            raise
        # A copy of the weights, damaged in the cache; or it is the module that is.
        cache.forget(directory)
        directory = _normal_form(detection, wanted)
        loading.append(directory)
        return directory, _load(detection, directory, options)


def _finish(
    detection: Detection,
    directory: str,
    root: Any,
    facts: provenance.Provenance,
    wanted: Optional[Tuple[str, ...]],
) -> Any:
    """Gives what TensorFlow loaded of a converted module all that is promised of it."""
    path = detection.path
    if facts.weights_elsewhere:
        restore.restore_variables(root.variables, facts.variables, path)
    if not tf.executing_eagerly():
        graph_mode.join_parts(root.variables, facts.variables)
    loaded = _select(root, facts, wanted, path)
    own = wanted or facts.root_tags
    reasons = {name: reason for tags, name, reason in facts.left_out if tags == own}
    tf1 = not Format(facts.source_format).is_tf2
    signatures.adapt(loaded, path, reasons, tf1)
    if tf1:
        signature_calls.take_signatures(loaded, facts.callable)
    loaded._is_hub_module_v1 = detection.format is Format.TF1_HUB_MODULE
    if not detection.format.is_tf2:
        pruning.offer(loaded, root, detection, wanted)
    whole = None if loaded is root else root
    origin.remember(loaded, detection, directory, whole, wanted, facts)
    return loaded


def _normal_form(detection: Detection, wanted: Optional[Tuple[str, ...]]) -> str:
    """The directory that TensorFlow loads: the module's, or an entry of the cache."""
    if detection.format.is_tf2:
        return _lowered(detection)
    return _converted(detection, wanted or None)


def _forget(directories: List[str]) -> None:
    """Makes place in the cache: a whole copy of a damaged module has the same one."""
    for directory in directories:
        cache.forget(directory)


def _tag_set(tags: Any) -> Tuple[str, ...]:
    return (tags,) if isinstance(tags, str) else tuple(sorted(set(tags)))


def _check_tags(detection: Detection, wanted: Optional[Tuple[str, ...]]) -> None:
    known = [variant.tags for variant in detection.variants]
    if wanted is None:
        if len(known) == 1 or () in known or ("serve",) in known:
            return
        problem = "neither a variant without tags nor one for serving"
    elif wanted in known:
        return
    else:
        problem = "no variant with these tags"
    raise VariantError(
        "The module {!r} has {}; it has {}. Received: tags={}".format(
            detection.path,
            problem,
            ", ".join(str(list(tags)) for tags in known),
            None if wanted is None else list(wanted),
        )
    )


# The key of the entry lists all that the result depends on beside the module. What is
# missing in it would let a load get the result of other circumstances.
def _converted(
    detection: Detection,
    tags: Optional[Tuple[str, ...]],
    what_loads: bool = False,
) -> str:
    """The converted form of a module: from the cache, or put there now.

    Args:
      detection: the module.
      tags: the variant; None for the default one.
      what_loads: leave out the signatures that keep the others from loading, as
        TensorFlow refused the result.

    Raises:
      NothingLoads: that does not help.
    """
    from hub_compat.converters import dispatch
    from hub_compat.converters.opdata import op_defs, targets

    # A file system that cannot link would be read once for the copy and once
    # by TensorFlow; with variables restored from the source itself, once. A
    # graph restores later, when the source may be gone, so it gets a copy.
    weights = not (files.is_remote(detection.path) and tf.executing_eagerly())
    available = tuple(op_defs.available())
    registry = targets.of_runtime() if is_newer(detection.producer) else None
    return cache.normalised(
        detection.path,
        (
            converters.VERSION,
            "with-weights" if weights else "without-weights",
            "default" if tags is None else ",".join(tags),
            ",".join(available),
            # What TensorFlow refuses differs between its versions.
            "" if registry is None and not what_loads else tf.__version__,
            "what-loads" if what_loads else "",
        ),
        lambda directory: dispatch.for_load(
            detection, directory, tags, weights, available, registry, what_loads
        ),
        restore.is_whole,
    )


def _lowered(detection: Detection) -> str:
    """A TF2 SavedModel in ops that the running TensorFlow has.

    That is the model itself, unless a newer TensorFlow wrote it, with something that
    is not known here, or in a form that its loader does not read: chunks, and text with
    fields of a newer TensorFlow.
    """
    newer = is_newer(detection.producer)
    rewritten = detection.file.endswith(".cpb") or (
        newer and detection.file.endswith(".pbtxt")
    )
    if not rewritten and not newer:
        return detection.path
    from hub_compat._parsing.full_proto import read_saved_model
    from hub_compat.converters import dispatch, lowering
    from hub_compat.converters.opdata import targets

    registry = targets.of_runtime()
    saved_model = read_saved_model(detection)
    if not rewritten and not lowering.needs_lowering(saved_model, registry):
        return detection.path
    unknown = lowering.unknown_ops(saved_model, registry)
    return cache.normalised(
        detection.path,
        (converters.VERSION, "lowered", tf.__version__, ",".join(unknown)),
        lambda directory: dispatch.for_load(detection, directory, registry=registry),
        restore.is_whole,
    )


def _select(
    root: Any,
    facts: provenance.Provenance,
    wanted: Optional[Tuple[str, ...]],
    path: str,
) -> Any:
    """The variant's object within a converted module."""
    # The directory's own tag is that of every TF2 SavedModel.
    if wanted is None or wanted in (facts.root_tags, ("serve",)):
        return root
    known = [tags for tags, _ in facts.variants]
    if wanted not in known:
        raise VariantError(
            "The module {!r} has no variant with these tags; it has {}. Received: "
            "tags={}".format(
                path, ", ".join(str(list(tags)) for tags in known), list(wanted)
            )
        )
    variant = getattr(root, "graph_variants", {}).get(",".join(wanted))
    if variant is None:
        # Saved by an earlier version, which listed what it had left out.
        raise VariantError(
            "The module {!r} has no variant with these tags any more: it was saved "
            "without its source. Received: tags={}".format(path, list(wanted))
        )
    return variant


# After TensorFlow's loader, in this order: variables that it lists and does not have
# go, before anybody counts them; gradients are registered before a function is called;
# what keeps state alive follows when all of it is there.
def _load(detection: Detection, directory: str, options: Any) -> Any:
    if directory != detection.path:
        _preflight.check_files(directory)
        _preflight.check_checkpoint(directory)
    register_control_flow_gradients()
    try:
        loaded = load_saved_model(directory, options=options)
    except HubCompatError:
        raise
    except Exception as error:
        refusal = _refusal(error, detection, directory)
        if refusal is not None:
            raise refusal from error
        raise
    # A graph reads weights and assets in sessions, whatever becomes of the object.
    eager = tf.executing_eagerly()
    cache.keep(directory, loaded if eager else tf.compat.v1.get_default_graph())
    drop_missing_variables(loaded)
    variables.list_variables(loaded)
    registered_gradients.register_gradients(loaded)
    missing_gradients.train_other_outputs(loaded)
    if tf.executing_eagerly():
        keep_inner_control_flow(list(getattr(loaded, "signatures", {}).values()))
    lifetime.keep_state_alive(loaded)
    if not tf.executing_eagerly():
        lifetime.leave_to_sessions(loaded)
        graph_mode.add_assets(loaded)
        graph_mode.initialize_replicas(loaded)
        graph_mode.act_after_variables()
    return loaded


def _refusal(
    error: Exception, detection: Detection, directory: str
) -> Optional[HubCompatError]:
    """Our error for an exception of TensorFlow's loader; None if unknown."""
    text, said = str(error), cause(error)
    if _PATTERN.search(directory) and "matching files" in text:
        return HandleError(
            "TensorFlow treats *, ? and [ in a checkpoint path as wildcards, so it "
            "cannot find the weights in {!r}. Rename the directory, or pass a "
            "symbolic link to it. Received: {!r}".format(directory, detection.path)
        )
    if _UNKNOWN.search(text):
        return UnknownOpError(
            "The module {!r} was written by TensorFlow {} and needs something that "
            "the running TensorFlow {} does not have. Load it with a newer "
            "TensorFlow, or import the package that provides the op first. "
            "{}Received: {}".format(
                detection.path,
                detection.producer.tensorflow_version or "of unknown version",
                tf.__version__,
                _home(text),
                said,
            )
        )
    if _UNKNOWN_TYPE.search(text):
        return UnknownOpError(
            "The module {!r} has a function that takes or returns a type that no "
            "imported package has registered. Import the package first, in a "
            "version near the writer's, or use a newer TensorFlow. Types of tfp are "
            "in tensorflow_probability. Received: {}".format(detection.path, said)
        )
    if "No OpKernel was registered" in text:
        return UnknownOpError(
            "The running TensorFlow {} knows an op that the module {!r} needs, but "
            "has no implementation of it. TensorFlow {}, which wrote the module, "
            "has one. Received: {}".format(
                tf.__version__,
                detection.path,
                detection.producer.tensorflow_version or "of unknown version",
                said,
            )
        )
    if _ASSERTED.search(text) and isinstance(error, tf.errors.InvalidArgumentError):
        return _Unfit(
            "A check in the init op of the module {!r} failed when the module was "
            "loaded. TensorFlow 1 refuses the module, too. Export it again, or "
            "without that check. Received: {}".format(detection.path, said)
        )
    if isinstance(error, (tf.errors.OpError, FileNotFoundError)):
        return CorruptModuleError(
            "TensorFlow cannot load the module {!r}; it may be damaged or only "
            "partly there. Received: {}".format(detection.path, said)
        )
    if detection.format.is_tf2:
        return _wrong_value(directory)
    return None


def _wrong_value(directory: str) -> Optional[HubCompatError]:
    """Says of which variable a checkpoint has no value that fits, if there is one."""
    from hub_compat._parsing.full_proto import read_saved_model
    from hub_compat.converters.checkpoint.objects import check_object_checkpoint

    try:
        check_object_checkpoint(directory, read_saved_model(detect(directory)))
    except CorruptModuleError as problem:
        return problem
    return None


_NAMED = re.compile(r"Op type not registered '([^']+)'")
_PATTERN = re.compile(r"[*?\[]")


def _home(text: str) -> str:
    """A sentence on where the op is that TensorFlow says it does not have."""
    from hub_compat.converters.lowering.explanations import home_of

    named = _NAMED.search(text)
    return "{}: {}. ".format(named[1], home_of(named[1])) if named else ""


_ASSERTED = re.compile(r"assertion failed", re.IGNORECASE)
# How they say that a TypeSpec is not there.
_UNKNOWN_TYPE = re.compile(
    r"The type '.*' (has not been registered|is not supported by this version)|"
    r"No TypeSpec has been registered"
)
# How TensorFlow 1.15 to 2.21 say that a graph is newer than they are.
_UNKNOWN = re.compile(
    r"Op type not registered|NodeDef mentions attr|not in Op<name=|No attr named|"
    r"No OpDef for"
)
