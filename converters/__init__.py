"""The compiler: any format of module to a Reusable TF2 SavedModel.

``convert()`` is here; ``dispatch.py`` picks the conversion for a format.
"""

from __future__ import annotations

from typing import Any, Optional

from hub_compat.formats import ConversionReport
from hub_compat.provenance import CONVERTER_VERSION as VERSION

from . import conversion

__all__ = ["VERSION", "convert"]


def convert(
    source: Any,
    destination: Any,
    *,
    overwrite: bool = False,
    link: str = "auto",
    verify: bool = False,
    tolerance: Optional[float] = None,
    target: Optional[str] = None,
    follow_links: bool = False,
    slim: bool = False,
) -> ConversionReport:
    """Converts a module into a Reusable TF2 SavedModel, or for an older TensorFlow.

    Without ``target`` the result loads in TensorFlow 1.15 to 2.21, with
    ``tf.saved_model.load``, ``tf.compat.v1.saved_model.load`` and TensorFlow Hub. That
    is so unless a newer TensorFlow than 1.15 wrote the source. No weights are read: the
    new checkpoint is a new index over the old shards.

    Args:
      source: directory of a TF1 Hub module or a TF1 SavedModel, and with
        ``target`` of a TF2 SavedModel; a string or ``os.PathLike``.
      destination: directory to write. It appears whole or not at all.
      overwrite: replace a destination that exists.
      link: how the checkpoint shards get there: ``"hard"`` links, ``"copy"``, or
        ``"auto"``, hard links if the file system has them. Whoever changes a linked
        shard in place changes the source's, too.
      verify: compare it with the source first, as ``hub_compat.verify()`` does.
      tolerance: for that; by default that of ``hub_compat.verify()``.
      target: the oldest TensorFlow that must load the result, ``"tf1.15"``,
        ``"tf2.15"`` or ``"tf2.21"``. Newer ops are rewritten as ops that it has. A
        model without newer ops is written as it is. Or a format of TF1: ``"tf1-hub"``
        for ``hub.Module``, ``"tf1-saved-model"`` for loaders that open a session.
      follow_links: treat symbolic links that lead out of the module as part of it.
        Its own folders, such as ``assets``, may be links in any case.
      slim: leave out of a SavedModel of Keras 2 what only Keras' own loader needs.

    Returns:
      A report of what was converted, and what was skipped.

    Raises:
      HandleError: there is nothing at ``source``.
      FormatError: it is not a module, or its format is not converted.
      CorruptModuleError: it is damaged.
      ConversionError: nothing of it can be converted, or the target is unknown.
      UnknownOpError: it has ops without an equivalent in the target.
      DestinationError: ``destination`` exists, or cannot be written.
      VerificationError: the result differs from the source; nothing is written.
    """
    return conversion.run(
        source,
        destination,
        overwrite=overwrite,
        link=link,
        verify=verify,
        tolerance=tolerance,
        target=target,
        follow_links=follow_links,
        slim=slim,
    )
