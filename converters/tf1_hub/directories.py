"""Directories of TF1 Hub modules and TF1 SavedModels that were TF2 SavedModels."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from hub_compat import provenance
from hub_compat._io import files as _files
from hub_compat._io import links as _links
from hub_compat._parsing.full_proto import read_saved_model

from ..backend import canonical
from ..checkpoint import relabel
from ..checkpoint.objects import check_object_checkpoint, checkpoint_keys
from ..ir.outside_ops import warnings_of_saved_model
from ..lowering.lowering import Lowered, lower
from ..opdata.targets import of_target
from ..request import HUB, SERVED, ConversionRequest, ConversionResult
from .module import build

__all__ = ["write_tf1_form"]

# ModuleDef.format = FORMAT_V3 (module_def.proto of tensorflow_hub 0.12).
_MODULE_DEF = b"\x08\x03"
_LOWEST = "tf1.15"
# Its version, and that of its graphs.
_WRITER = ("1.15", 134)


def write_tf1_form(request: ConversionRequest) -> ConversionResult:
    """Writes a TF2 SavedModel in a format of TF1 into an empty directory.

    Args:
      request: the source, the directory, and the form.

    Raises:
      ConversionError, CorruptModuleError: it cannot be converted.
    """
    source = request.detection.path
    saved_model = read_saved_model(request.detection)
    index = check_object_checkpoint(source, saved_model)
    keys = checkpoint_keys(source, saved_model, index)
    outside = tuple(warnings_of_saved_model(saved_model))
    registry = of_target(_LOWEST)
    declared = {
        op.name: op
        for op in saved_model.meta_graphs[0].meta_info_def.stripped_op_list.op
    }
    facts = provenance.read(source)
    lowered = Lowered({}, [])
    if facts is None or request.detection.producer.is_newer_than(*_WRITER):
        lowered = lower(saved_model, registry, source)

    def op_def(op: str) -> Optional[Any]:
        return registry.get(op) or declared.get(op)

    served = request.form == SERVED
    module = build(saved_model.meta_graphs[0], keys, op_def, served, facts)
    report = _write_files(module, request, index)
    return ConversionResult(
        callable="default",
        variables=len(module.variables),
        trainable_variables=sum(v.trainable for v in module.variables),
        tables=module.tables,
        assets=len(module.assets),
        functions=module.functions,
        nodes=module.nodes,
        files_linked=report.files_linked,
        bytes_linked=report.bytes_linked,
        bytes_copied=report.bytes_copied + report.weight_bytes_written,
        weight_bytes_read=report.weight_bytes_read,
        unused_keys=(),
        warnings=lowered.warnings() + module.warnings + outside,
        lowered=lowered.lines(),
    )


def _write_files(module: Any, request: ConversionRequest, index: Any) -> Any:
    """Writes all files of the form; what became of the weights."""
    source, directory = request.detection.path, request.directory
    folder = _files.join(directory, "variables")
    _files.make_dirs(folder)
    report = relabel.relabel(
        index,
        _files.join(folder, "variables"),
        {variable.name: (variable.key, None) for variable in module.variables},
        {},
        link=request.link,
    )
    _copy_assets(module.assets, source, directory, request.links)
    _files.write_bytes(
        _files.join(directory, "saved_model.pb"),
        canonical.serialize(module.saved_model),
    )
    if request.form == HUB:
        _files.write_bytes(_files.join(directory, "tfhub_module.pb"), _MODULE_DEF)
    return report


def _copy_assets(
    assets: Tuple[str, ...], source: str, directory: str, links: str
) -> None:
    _files.make_dirs(_files.join(directory, "assets"))
    for filename in assets:
        path = _files.join(source, "assets", *filename.split("/"))
        _links.check_link(path, source, links)
        target = _files.join(directory, "assets", *filename.split("/"))
        _files.make_dirs(target.rsplit("/", 1)[0])
        _files.copy_file(path, target)
