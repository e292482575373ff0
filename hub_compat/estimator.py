"""Modules that a training job exports while it runs."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import logging
import re
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from hub_compat._io import files
from hub_compat._tf import tf
from hub_compat._tf.estimators import exporter_base
from hub_compat.errors import HandleError, SaveError
from hub_compat.module_spec import ModuleSpec

# LatestModuleExporter is made by __getattr__ below.
__all__ = ["LatestModuleExporter", "register_module_for_export"]  # noqa: F822

_MODULES = ("hub_compat_modules_for_export",)
_PREDICT = "infer"
_ATTEMPTS = 10

_logger = logging.getLogger(__name__)


def register_module_for_export(module: Any, export_name: str) -> None:
    """Has ``LatestModuleExporter`` export a module of the current graph.

    Args:
      module: a ``Module`` of the graph that a ``model_fn`` builds.
      export_name: the name of its directory; each module of a graph needs its own.

    Raises:
      SaveError: the name is taken, or there is no graph, as in eager execution.
    """
    if tf.executing_eagerly():
        raise SaveError(
            "register_module_for_export() is for a model_fn, which builds a TF1 graph. "
            "In eager execution, call module.export(directory). Received: "
            "export_name={!r}".format(export_name)
        )
    graph = tf.compat.v1.get_default_graph()
    if export_name in [name for name, _ in graph.get_collection(_MODULES)]:
        raise SaveError(
            "There is already a module registered to be exported under this name. "
            "Choose another. Received: export_name={!r}".format(export_name)
        )
    graph.add_to_collection(_MODULES, (export_name, module))


class _LatestModuleExporter:
    """Exports the registered modules of a job into directories named after the time.

    With an Estimator::

        exporter = hub.LatestModuleExporter("tf_hub", serving_input_fn)
        evaluation = tf.estimator.EvalSpec(input_fn, exporters=[exporter])
        tf.estimator.train_and_evaluate(estimator, training, evaluation)

    Without one, of a checkpoint, see ``export()``.

    Args:
      name: its name, and that of the folder that an Estimator has it write to.
      serving_input_fn: a function without arguments that returns a
        ``ServingInputReceiver``, or the features themselves. They are never fed.
      exports_to_keep: how many exports stay; older ones are removed. None keeps all.

    Raises:
      SaveError: ``exports_to_keep`` is not positive.
    """

    def __init__(
        self,
        name: str,
        serving_input_fn: Optional[Callable[[], Any]],
        exports_to_keep: Optional[int] = 5,
    ) -> None:
        if exports_to_keep is not None and exports_to_keep <= 0:
            raise SaveError(
                "`exports_to_keep`, if provided, must be a positive number. Received: "
                "{!r}".format(exports_to_keep)
            )
        self._name = name
        self._serving_input_fn = serving_input_fn
        self._exports_to_keep = exports_to_keep

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    def export(
        self,
        estimator: Any,
        export_path: Any,
        checkpoint_path: Optional[str] = None,
        eval_result: Any = None,
        is_the_final_export: Any = None,
    ) -> Optional[bytes]:
        """Exports the registered modules, with the values of a checkpoint.

        Args:
          estimator: an ``Estimator``. Where TensorFlow has none: a ``model_fn``, called
            with ``mode="infer"``; or a dict from export names to ``ModuleSpec``. For
            other names of variables in the checkpoint, give a pair of the spec and a
            function from the module's names to those.
          export_path: the directory that the export goes to.
          checkpoint_path: the prefix of a checkpoint, or the directory of several, of
            which the last counts. By default the last one of the Estimator.
          eval_result: not used.
          is_the_final_export: not used.

        Returns:
          The new directory, as bytes; None, with a warning in the log, where no module
          is registered.

        Raises:
          HandleError: there is no checkpoint.
          SaveError: ``estimator`` is something else.
        """
        del eval_result, is_the_final_export
        base = files.as_path(_text(export_path))
        checkpoint = _checkpoint(estimator, checkpoint_path)
        new = _free_directory(base)
        temporary = files.join(base, "temp-" + new.rsplit("/", 1)[-1])
        if isinstance(estimator, collections.abc.Mapping):
            count = _export_specs(estimator, temporary, checkpoint)
        else:
            count = _export_modules(
                estimator, self._serving_input_fn, temporary, checkpoint
            )
        if not count:
            _logger.warning(
                "LatestModuleExporter found zero modules to export. Use "
                "register_module_for_export() if needed."
            )
            return None
        tf.io.gfile.rename(temporary, new)
        _remove_old(base, self._exports_to_keep)
        return new.encode("utf-8")


def _text(path: Any) -> Any:
    return path.decode("utf-8") if isinstance(path, bytes) else path


def _checkpoint(estimator: Any, given: Optional[str]) -> str:
    if given is None and hasattr(estimator, "latest_checkpoint"):
        given = estimator.latest_checkpoint()
    found = _text(given)
    if found is not None and tf.io.gfile.isdir(found):
        found = tf.train.latest_checkpoint(found)
    if not found:
        raise HandleError(
            "There is no checkpoint to export modules from. Train first, or give "
            "checkpoint_path. Received: checkpoint_path={!r}".format(given)
        )
    return str(found)


def _export_specs(specs: Mapping[str, Any], directory: str, checkpoint: str) -> int:
    for name, value in specs.items():
        spec, rename = value if isinstance(value, tuple) else (value, None)
        if not isinstance(spec, ModuleSpec):
            raise _unusable(value)
        spec.export(
            files.join(directory, name),
            checkpoint_path=checkpoint,
            name_transform_fn=rename,
        )
    return len(specs)


def _export_modules(
    estimator: Any,
    serving_input_fn: Optional[Callable[[], Any]],
    directory: str,
    checkpoint: str,
) -> int:
    """Exports the modules that a model_fn registers; returns how many those are."""
    with tf.Graph().as_default() as graph:
        tf.compat.v1.train.create_global_step(graph)
        spec, config = _call(estimator, serving_input_fn)
        modules = graph.get_collection(_MODULES)
        if not modules:
            return 0
        with tf.compat.v1.Session(graph=graph, config=config) as session:
            scaffold = getattr(spec, "scaffold", None)
            saver = getattr(scaffold, "saver", None)
            if saver is None:
                saver = tf.compat.v1.train.Saver(sharded=True)
            saver.restore(session, checkpoint)
            for name, module in modules:
                module.export(files.join(directory, name), session)
    return len(modules)


def _call(estimator: Any, serving_input_fn: Optional[Callable[[], Any]]) -> Any:
    """Builds the graph; returns what the model_fn returns, and a session's config."""
    config = getattr(estimator, "config", None)
    seed = getattr(config, "tf_random_seed", None)
    if seed is not None:
        tf.compat.v1.set_random_seed(seed)
    received = serving_input_fn() if serving_input_fn is not None else None
    features = getattr(received, "features", received)
    # Where there are Estimators, it is one; else a model_fn.
    model_fn = getattr(estimator, "model_fn", estimator)
    if not callable(model_fn):
        raise _unusable(estimator)
    taken = inspect.signature(model_fn).parameters
    others = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    arguments: Dict[str, Any] = {"labels": None, "mode": _PREDICT, "config": config}
    if "params" in taken and taken["params"].default is inspect.Parameter.empty:
        arguments["params"] = getattr(estimator, "params", {})
    given = {key: v for key, v in arguments.items() if others or key in taken}
    spec = model_fn(features=features, **given)
    options = getattr(config, "session_config", None)
    if options is None:
        options = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    return spec, options


def _unusable(found: Any) -> SaveError:
    return SaveError(
        "LatestModuleExporter.export() takes an Estimator, a model_fn, or a dict from "
        "export names to ModuleSpecs. Received: {!r}".format(found)
    )


def _free_directory(base: str) -> str:
    """A directory named after the time, in seconds, that is not there yet."""
    for _ in range(_ATTEMPTS):
        path = files.join(base, str(int(time.time())))
        if not files.exists(path):
            return path
        time.sleep(1)
    raise SaveError(
        "The directories named after the last seconds are all there. Export less "
        "often. "
        "Received: {!r}".format(base)
    )


def _remove_old(base: str, keep: Optional[int]) -> None:
    if keep is None:
        return
    # A file system may list directories with a slash.
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(base)]
    found: List[str] = sorted(name for name in names if re.fullmatch("[0-9]{10}", name))
    for name in found[:-keep]:
        tf.io.gfile.rmtree(files.join(base, name))


def __getattr__(name: str) -> Any:
    # Made when asked for: Estimators, where there are any, look for their base class.
    if name != "LatestModuleExporter":
        raise AttributeError(name)
    globals()[name] = value = _exporter_class()
    return value


@functools.lru_cache(maxsize=None)
def _exporter_class() -> Any:
    bases: Tuple[type, ...] = (_LatestModuleExporter,)
    base = exporter_base()
    if base is not None:
        bases += (base,)
    made = type(
        "LatestModuleExporter", bases, {"__doc__": _LatestModuleExporter.__doc__}
    )
    made.__module__ = __name__
    return made
