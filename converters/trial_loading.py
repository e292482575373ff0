"""Which signatures keep a converted model from loading.

TensorFlow's loader takes a SavedModel whole or not at all. A signature that its shape
inference finds invalid, one whose declared shapes it contradicts, one with an op of a
package that is not there, and one with a table of which there is no kernel, each keep
all others from loading.
"""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, List, Optional, Tuple

from hub_compat._causes import cause
from hub_compat._io import files, scratch
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat._tf import tf
from hub_compat._tf.loading import LOAD_ERRORS, load_saved_model
from hub_compat.errors import ConversionError, HubCompatError
from hub_compat.formats import Omission

from .checkpoint.shards import AUTO
from .request import ConversionRequest, ConversionResult, Exclusions, Tags

__all__ = ["NothingLoads", "find_exclusions", "refusal"]


class NothingLoads(ConversionError):
    """No choice of a source's signatures makes a model that TensorFlow loads."""


def refusal(directory: str, whole: bool = False) -> Optional[str]:
    """Why TensorFlow does not load a SavedModel; None if it does.

    Args:
      directory: the SavedModel.
      whole: whether to make its tables, too, as eager execution does, and fill them.
    """
    try:
        # A graph of its own: nothing is added to the program's, and no value is read.
        with tf.Graph().as_default():
            load_saved_model(directory)
        if whole and tf.executing_eagerly():
            load_saved_model(directory)
    except LOAD_ERRORS as error:
        return cause(error)
    return None


def find_exclusions(
    request: ConversionRequest,
    convert: Callable[[ConversionRequest], ConversionResult],
) -> Optional[Exclusions]:
    """Converts and loads each signature alone, to see which can be loaded.

    Args:
      request: the conversion whose result TensorFlow refused.
      convert: converts a TF1 model.

    Returns:
      What must go for the rest to load. None if nothing loads, or if each signature
      does.
    """
    names: Dict[Tags, List[str]] = {}
    for meta_graph in read_saved_model(request.detection).meta_graphs:
        own = tuple(sorted(meta_graph.meta_info_def.tags))
        if request.tags in (None, own):
            names.setdefault(own, sorted(meta_graph.signature_def))
    left_out: List[Omission] = []
    unshaped: List[Tuple[Tags, str]] = []
    loads = 0

    def attempt(own: Tags, name: str, shapes: bool) -> Optional[str]:
        others = tuple(Omission(own, n, "not tried") for n in names[own] if n != name)
        exclusions = Exclusions(others, () if shapes else ((own, name),))
        with scratch.temporary() as folder:
            directory = files.join(folder, "model")
            files.make_dirs(directory)
            alone = dataclasses.replace(
                request,
                directory=directory,
                link=AUTO,
                weights=False,
                tags=own,
                whole=False,
                exclusions=exclusions,
            )
            convert(alone)
            return refusal(directory, whole=True)

    for own, listed in names.items():
        for name in listed:
            try:
                reason = attempt(own, name, shapes=True)
            except HubCompatError:
                # The conversion itself skips these.
                continue
            if reason is None:
                loads += 1
            elif attempt(own, name, shapes=False) is None:
                loads += 1
                unshaped.append((own, name))
            else:
                text = "TensorFlow {} does not load it: {}"
                text = text.format(tf.__version__, reason)
                left_out.append(Omission(own, name, text))
    if not loads or not (left_out or unshaped):
        return None
    return Exclusions(tuple(left_out), tuple(unshaped))
