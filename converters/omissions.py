"""Which signatures keep a converted model from loading.

TensorFlow's loader takes a SavedModel whole or not at all. A signature that its shape
inference finds invalid, one whose declared shapes it contradicts, one with an op of a
package that is not there, and one with a table of which there is no kernel, each keep
all others from loading.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from hub_compat._causes import cause
from hub_compat._io import files, scratch
from hub_compat._parsing.full_proto import read_saved_model
from hub_compat._tf import LOAD_ERRORS, load_saved_model, tf
from hub_compat.errors import HubCompatError
from hub_compat.formats import Detection

__all__ = ["NOTHING", "Exclusions", "find_exclusions", "refusal"]

Tags = Tuple[str, ...]


class Exclusions(NamedTuple):
    """What of a source to leave out.

    Attributes:
      left_out: tags, name and reason of each signature that goes.
      unshaped: tags and name of each signature of whose outputs the declared shapes
        go.
    """

    left_out: Tuple[Tuple[Tags, str, str], ...] = ()
    unshaped: Tuple[Tuple[Tags, str], ...] = ()

    def reason(self, tags: Tags, name: str) -> Optional[str]:
        """Why a signature is left out; None if it is not."""
        for own, other, reason in self.left_out:
            if (own, other) == (tags, name):
                return reason
        return None


NOTHING = Exclusions()


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
    detection: Detection, convert: Callable[..., Any], tags: Optional[Tags] = None
) -> Optional[Exclusions]:
    """Converts and loads each signature alone, to see which can be loaded.

    Args:
      detection: the module.
      convert: ``convert_tf1_model`` with what the loader knows; called with the
        detection, a directory, ``"auto"`` and keywords.
      tags: the only variant to look at.

    Returns:
      What must go for the rest to load. None if nothing loads, or if each signature
      does.
    """
    names: Dict[Tags, List[str]] = {}
    for meta_graph in read_saved_model(detection).meta_graphs:
        own = tuple(sorted(meta_graph.meta_info_def.tags))
        if tags is None or own == tags:
            names.setdefault(own, sorted(meta_graph.signature_def))
    left_out: List[Tuple[Tags, str, str]] = []
    unshaped: List[Tuple[Tags, str]] = []
    loads = 0

    def attempt(own: Tags, name: str, shapes: bool) -> Optional[str]:
        others = tuple((own, n, "not tried") for n in names[own] if n != name)
        exclusions = Exclusions(others, () if shapes else ((own, name),))
        with scratch.temporary() as folder:
            directory = files.join(folder, "model")
            files.make_dirs(directory)
            convert(
                detection,
                directory,
                "auto",
                weights=False,
                tags=own,
                whole=False,
                exclusions=exclusions,
            )
            return refusal(directory, whole=True)

    for own, listed in names.items():
        for name in listed:
            try:
                reason = attempt(own, name, shapes=True)
            except HubCompatError:
                # What cannot be converted is left out by the conversion itself.
                continue
            if reason is None:
                loads += 1
            elif attempt(own, name, shapes=False) is None:
                loads += 1
                unshaped.append((own, name))
            else:
                text = "TensorFlow {} does not load it: {}"
                left_out.append((own, name, text.format(tf.__version__, reason)))
    if not loads or not (left_out or unshaped):
        return None
    return Exclusions(tuple(left_out), tuple(unshaped))
