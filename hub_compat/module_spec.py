"""ModuleSpec: what a module is before it is in a graph."""

from __future__ import annotations

import os
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from hub_compat import _guard, _preflight
from hub_compat._handles.resolving import resolve
from hub_compat._io import files
from hub_compat._modules import checkpoints, reading, writing
from hub_compat._modules.fitting import fitted
from hub_compat._modules.graph_parts import GraphParts
from hub_compat._modules.importing import ModuleImpl
from hub_compat._modules.saved_keys import keys_of_savers
from hub_compat._modules.tensor_info import ParsedTensorInfo, parse
from hub_compat._parsing.known_names import ATTACHMENTS, INTERNAL_SIGNATURES
from hub_compat._tf1_form import tf1_form
from hub_compat.attachments import read_attachments
from hub_compat.converters.ir.model import root_tags
from hub_compat.detector import detect
from hub_compat.errors import (
    AttachmentError,
    FormatError,
    GraphError,
    InputError,
    SignatureError,
    VariantError,
)
from hub_compat.formats import Format

__all__ = ["ModuleSpec", "create_module_spec_from_saved_model", "load_module_spec"]

_Tags = Optional[Iterable[str]]
# Signatures that TensorFlow keeps for itself begin with this.
_DEFAULTS = ("default", "serving_default")
# Of the program that wrote a SavedModel, and of no use in a module.
_DROPPED = ("global_step", "legacy_init_op", "saved_model_main_op")


#     _meta_graphs: tags -> MetaGraphDef, never changed: Module() imports copies
#     _parts:       tags -> its GraphParts, cut once for all Modules of the spec
#     _keys:        tags -> (variable -> key in the checkpoint), where they differ
class ModuleSpec:
    """Describes a module: its variants, its signatures, where its values are.

    ``Module(spec)`` brings it into a graph, as often as it is called. A spec is made
    by ``load_module_spec()`` or ``create_module_spec()``.

    Args:
      meta_graphs: a MetaGraphDef for each variant; its tags are those of its
        ``meta_info_def``. The constants of its ``asset_filepaths`` have absolute paths.
      checkpoint: the prefix of the files with the values of variables; None where
        there are none, and the graph's own initializers count.
      default_tags: the variant that is meant by no tags.
      keys: for each variant, the keys in the checkpoint of those variables that are
        there under other names than their own.

    Raises:
      VariantError: two of them have the same tags.
      FormatError: one has collections that a module cannot have.
    """

    def __init__(
        self,
        meta_graphs: Sequence[Any] = (),
        checkpoint: Optional[str] = None,
        default_tags: _Tags = None,
        keys: Optional[Mapping[FrozenSet[str], Mapping[str, str]]] = None,
    ) -> None:
        self._keys = dict(keys or {})
        self._directory: Optional[str] = None
        self._parts: Dict[FrozenSet[str], GraphParts] = {}
        self._meta_graphs: Dict[FrozenSet[str], Any] = {}
        self._checkpoint = checkpoint
        self._default_tags = frozenset(default_tags or ())
        for meta_graph in meta_graphs:
            tags = frozenset(meta_graph.meta_info_def.tags)
            if tags in self._meta_graphs:
                raise VariantError(
                    "Tags used repeatedly: each variant of a module needs tags of its "
                    "own. Received: {}".format(sorted(tags))
                )
            self._meta_graphs[tags] = meta_graph
        used = {name for graph in meta_graphs for name in graph.collection_def}
        others = sorted(used - reading.SUPPORTED_COLLECTIONS)
        if others:
            raise FormatError(
                "Unsupported collections in graph: a module has no use for them. Name "
                "them in drop_collections=[...] of create_module_spec() or "
                "create_module_spec_from_saved_model(). Received: {}".format(others)
            )

    def get_tags(self) -> List[FrozenSet[str]]:
        """Returns the tags of each variant: ``[frozenset(), frozenset({"train"})]``.

        They are in the order of the file, or of ``create_module_spec()``.
        """
        return list(self._meta_graphs)

    def get_signature_names(self, tags: _Tags = None) -> List[str]:
        """Returns the names of the signatures of a variant: ``["default"]``.

        Raises:
          VariantError: there is no such variant.
        """
        names = self.meta_graph(tags).signature_def
        return sorted(
            name for name in names if not name.startswith(INTERNAL_SIGNATURES)
        )

    def get_input_info_dict(
        self, signature: Optional[str] = None, tags: _Tags = None
    ) -> Dict[str, ParsedTensorInfo]:
        """Describes the inputs of a signature.

        Args:
          signature: its name; by default ``"default"``.
          tags: the variant; by default the one without tags.

        Returns:
          For each input an object with ``dtype``, ``get_shape()``, ``is_sparse``,
          ``is_composite`` and ``type_spec``.

        Raises:
          SignatureError: there is no such signature.
          VariantError: there is no such variant.
        """
        return parse(self.signature_def(signature, tags).inputs)

    def get_output_info_dict(
        self, signature: Optional[str] = None, tags: _Tags = None
    ) -> Dict[str, ParsedTensorInfo]:
        """Describes the outputs of a signature, as ``get_input_info_dict()`` does.

        Raises:
          SignatureError: there is no such signature.
          VariantError: there is no such variant.
        """
        return parse(self.signature_def(signature, tags).outputs)

    def get_attached_message(
        self, key: str, message_type: Any, tags: _Tags = None, required: bool = False
    ) -> Any:
        """Returns a message that the module's publisher attached, or None.

        Args:
          key: the key it was attached under: ``"image_module_info"``.
          message_type: the class of the message.
          tags: the variant.
          required: raise an error, rather than return None, if there is none.

        Raises:
          AttachmentError: there is none although it is required.
          VariantError: there is no such variant.
        """
        attached = self._get_attached_bytes(key, tags)
        if attached is None:
            if not required:
                return None
            raise AttachmentError(
                "No attached message for key {!r} in graph version {} of Hub Module; "
                "it has {}. Received: {!r}".format(
                    key,
                    sorted(tags or ()),
                    ", ".join(map(repr, sorted(self._attached(tags)))) or "none",
                    key,
                )
            )
        message = message_type()
        message.ParseFromString(attached)
        return message

    # Specs of programs redefine it, as those of hub.ModuleSpec do.
    def _get_attached_bytes(self, key: str, tags: _Tags) -> Optional[bytes]:
        """The attached message in its wire format, or None."""
        return self._attached(tags).get(key)

    def _attached(self, tags: _Tags) -> Dict[str, bytes]:
        wanted = self.resolve_tags(tags)
        if wanted not in self._meta_graphs:
            return {}
        collections = self._meta_graphs[wanted].collection_def
        if ATTACHMENTS not in collections:
            return {}
        return read_attachments(collections[ATTACHMENTS].bytes_list.value)

    def export(
        self,
        path: Union[str, os.PathLike[str]],
        _sentinel: Any = None,
        checkpoint_path: Optional[str] = None,
        name_transform_fn: Optional[Callable[[str], str]] = None,
    ) -> None:
        """Writes the module, with values from a checkpoint of a training job.

        Args:
          path: the directory, which is not there yet, or empty.
          checkpoint_path: the prefix of the checkpoint's files, or its directory.
          name_transform_fn: from the name of a variable in the module to its name in
            the checkpoint: ``lambda name: "module/" + name``.

        Raises:
          InputError: ``checkpoint_path`` is missing.
          HandleError: there is no checkpoint.
          ConversionError: it has no value of a variable, or one that does not fit.
          DestinationError: the directory is not empty, or cannot be written.
        """
        if _sentinel is not None or not checkpoint_path:
            raise InputError(
                "Missing mandatory `checkpoint_path` parameter, which must be passed "
                "by name. Received: {!r}".format(_sentinel or checkpoint_path)
            )
        weights = checkpoints.weights_of(self.meta_graph(None))
        values = checkpoints.read_values(
            files.as_path(checkpoint_path),
            (weights[name] for name in sorted(weights)),
            name_transform_fn or (lambda name: name),
        )
        self.write(path, values)

    def write(self, path: Any, values: Dict[str, Any]) -> None:
        """Writes the module, with these values of its variables, by their names."""
        graphs = [self._meta_graphs[tags] for tags in self.get_tags()]
        writing.write_module(files.as_path(path), graphs, values)

    def _create_impl(self, name: str, trainable: bool, tags: _Tags) -> ModuleImpl:
        """Imports a variant into the graph at hand, into an unused scope."""
        wanted = self.resolve_tags(tags)
        if wanted not in self._parts:
            self._parts[wanted] = GraphParts(fitted(self.meta_graph(tags)))
        return ModuleImpl(
            self._parts[wanted],
            self._checkpoint,
            self._keys.get(wanted, {}),
            trainable,
            name,
        )

    def directory(self) -> str:
        """The directory that it was read from.

        Raises:
          GraphError: it was made by a program, and is in no directory.
        """
        if self._directory is None:
            raise GraphError(
                "A spec that the program has made needs a graph. Make the Module under "
                "`with tf.Graph().as_default():`, or export() it first and pass the "
                "directory. Received: {!r}".format(self)
            )
        return self._directory

    @property
    def checkpoint(self) -> Optional[str]:
        """The prefix of the files with the values of variables, or None."""
        return self._checkpoint

    def meta_graph(self, tags: _Tags = None) -> Any:
        """The MetaGraphDef of a variant; it must not be changed.

        Raises:
          VariantError: there is no such variant.
        """
        return self._meta_graphs[self.resolve_tags(tags)]

    # No tags mean the untagged variant, as in hub.Module; only where there is none, the
    # default of the format ("serve").
    def resolve_tags(self, tags: _Tags = None) -> FrozenSet[str]:
        """The tags of a variant; of the one that is meant by none.

        Raises:
          VariantError: there is no such variant.
        """
        wanted = frozenset(tags or ())
        known = [frozenset(own) for own in self.get_tags()]
        if wanted not in known and not wanted:
            wanted = self._default_tags
        if wanted not in known:
            raise VariantError(
                "No such graph variant: the module has {}. Received: tags={!r}".format(
                    ", ".join(str(sorted(own)) for own in known) or "none",
                    sorted(tags or ()),
                )
            )
        return wanted

    def signature_name(self, signature: Optional[str], tags: _Tags = None) -> str:
        """The name of a signature; of the one that is meant by none."""
        if signature:
            return signature
        names = list(self.get_signature_names(tags))
        return next((name for name in _DEFAULTS if name in names), _DEFAULTS[0])

    def signature_def(self, signature: Optional[str], tags: _Tags = None) -> Any:
        """The SignatureDef of a signature.

        Raises:
          SignatureError: there is none.
          VariantError: there is no such variant.
        """
        name = self.signature_name(signature, tags)
        names = self.get_signature_names(tags)
        if name not in names:
            raise SignatureError(
                "Signature {!r} is missing from meta graph, which has {}. Received: "
                "{!r}".format(name, ", ".join(map(repr, names)) or "none", signature)
            )
        return self.meta_graph(tags).signature_def[name]


def load_module_spec(handle: Any) -> ModuleSpec:
    """Reads the spec of a model of any format.

    Args:
      handle: directory of the model, or another handle that ``resolve()`` takes.

    Returns:
      The spec. Of a SavedModel, no tags mean the variant that ``load()`` gives,
      mostly ``{"serve"}``. No signature means ``"default"``, or where there is none,
      ``"serving_default"``.

    Raises:
      HandleError: there is nothing at ``handle``.
      FormatError: it is no model, or its format is refused.
      CorruptModuleError: it is damaged.
    """
    directory = resolve(handle)
    with _guard.reading(directory, "read"):
        place, graphs, checkpoint, native = _read(directory)
        for meta_graph in graphs:
            for name in set(meta_graph.collection_def) - reading.SUPPORTED_COLLECTIONS:
                del meta_graph.collection_def[name]
        if native:
            spec = ModuleSpec(graphs, checkpoint)
        else:
            known = [tuple(sorted(graph.meta_info_def.tags)) for graph in graphs]
            keys = keys_of_savers(graphs)
            spec = ModuleSpec(graphs, checkpoint, root_tags(known), keys)
        spec._directory = place
        return spec


def create_module_spec_from_saved_model(
    saved_model_path: Any, drop_collections: Optional[Iterable[str]] = None
) -> ModuleSpec:
    """Makes a spec of a TF1 SavedModel, to be exported as a module.

    Tags and signatures stay as they are: ``Module(spec, tags={"serve"})``.

    Args:
      saved_model_path: its directory, or another handle that ``resolve()`` takes.
      drop_collections: names of collections of its graphs to leave out, which a module
        cannot have.

    Raises:
      FormatError: a graph has other collections that a module cannot have; or it is no
        SavedModel.
      HandleError: there is nothing at the path.
    """
    directory = resolve(saved_model_path)
    with _guard.reading(directory, "read"):
        place, graphs, checkpoint, _ = _read(directory)
        for meta_graph in graphs:
            for name in {*_DROPPED, *(drop_collections or ())}:
                if name in meta_graph.collection_def:
                    del meta_graph.collection_def[name]
        spec = ModuleSpec(graphs, checkpoint, keys=keys_of_savers(graphs))
        spec._directory = place
        return spec


def _read(directory: str) -> Tuple[str, List[Any], str, bool]:
    """The directory, the MetaGraphDefs, the checkpoint, whether it is a TF1 Hub module.

    A TF2 SavedModel is read in its TF1 form, which is in the cache.
    """
    detection = detect(directory)
    _preflight.check_files(directory)
    if detection.format.is_tf2:
        directory = tf1_form(detection)
        detection = detect(directory)
    _preflight.check_checkpoint(directory)
    checkpoint = files.join(directory, "variables", "variables")
    native = detection.format is Format.TF1_HUB_MODULE
    return directory, reading.read_meta_graphs(detection), checkpoint, native
