"""Modules that a program builds itself: ``create_module_spec()`` and its helpers.

``module_fn`` is called in a graph of its own. What it says by ``add_signature()`` and
``attach_message()`` goes into collections of that graph whose keys are no strings, so
that no program sees them, and no graph is saved with them.
"""

from __future__ import annotations

import collections.abc
import re
import warnings
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from hub_compat._modules.reading import SUPPORTED_COLLECTIONS
from hub_compat._modules.tensor_info import SUPPORTED_TYPES
from hub_compat._tf import meta_graph_pb2, tf
from hub_compat._tf.runtime import registered_op
from hub_compat._tf.structures import components_of
from hub_compat.attachments import write_attachments
from hub_compat.converters.ir.used_nodes import keep_used
from hub_compat.errors import (
    AttachmentError,
    ModuleFnError,
    SignatureError,
    VariantError,
)
from hub_compat.module_spec import ModuleSpec

__all__ = [
    "add_signature",
    "attach_message",
    "create_module_spec",
    "find_signature_inputs_from_multivalued_ops",
    "get_unsupported_collections",
]

_SIGNATURES = ("hub_compat_signatures",)
_MESSAGES = ("hub_compat_messages",)

_TagsAndArgs = Iterable[Tuple[Optional[Iterable[str]], Optional[Mapping[str, Any]]]]


def create_module_spec(
    module_fn: Callable[..., None],
    tags_and_args: Optional[_TagsAndArgs] = None,
    drop_collections: Optional[Iterable[str]] = None,
) -> ModuleSpec:
    """Builds a module from a function that makes its graph.

    The function is called in a new TF1 graph, whatever mode the program is in, once
    for each variant. Its variables are resource variables, unless it asks for others::

        def module_fn(is_training):
            text = tf.compat.v1.placeholder(tf.string, [None])
            hub.add_signature(inputs=text, outputs=embed(text, is_training))

        spec = hub.create_module_spec(
            module_fn,
            tags_and_args=[
                (set(), {"is_training": False}),
                ({"train"}, {"is_training": True}),
            ],
        )
        spec.export("module_dir", checkpoint_path="model.ckpt-1000")

    Of its graph, the module has what its signatures and collections need. What is
    exported can be read by tensorflow_hub 0.12 in TensorFlow 1.15, if that has the ops.

    Args:
      module_fn: a function that calls ``add_signature()`` at least once.
      tags_and_args: for each variant its tags and the keyword arguments of
        ``module_fn``; by default one variant without tags or arguments.
      drop_collections: names of collections that the module does without.

    Returns:
      A ``ModuleSpec`` without a checkpoint: the variables of a ``Module`` made of it
      get what their initializers say.

    Raises:
      ModuleFnError: a graph has no signature, collections that a module cannot have,
        or variables that are colocated with other nodes.
      VariantError: two variants have the same tags.
      SignatureError: see ``add_signature()``.
    """
    if not callable(module_fn):
        raise ModuleFnError(
            "create_module_spec() takes a function that builds a graph and calls "
            "add_signature(). Received: module_fn={!r}".format(module_fn)
        )
    variants = _variants(tags_and_args)
    dropped = (
        [drop_collections]
        if isinstance(drop_collections, str)
        else (list(drop_collections or ()))
    )
    meta_graphs = []
    for tags, arguments in variants:
        meta_graphs.append(_build(module_fn, tags, arguments, dropped))
    return ModuleSpec(meta_graphs, None)


def _variants(
    tags_and_args: Optional[_TagsAndArgs],
) -> List[Tuple[List[str], Dict[str, Any]]]:
    if tags_and_args is None:
        return [([], {})]
    found: List[Tuple[List[str], Dict[str, Any]]] = []
    for pair in tags_and_args:
        try:
            tags, arguments = pair
        except (TypeError, ValueError) as error:
            raise ModuleFnError(
                "tags_and_args is a list of pairs, each of a set of tags and a dict "
                "of keyword arguments: [(set(), {{}}), ({{'train'}}, {{'is_training': "
                "True}})]. Received: {!r}".format(pair)
            ) from error
        if isinstance(tags, (str, bytes)) or not all(
            isinstance(tag, str) for tag in tags or ()
        ):
            raise ModuleFnError(
                "Tags are a set of strings, such as {{'train'}} or set(). Received: "
                "tags={!r}".format(tags)
            )
        tags = sorted(set(tags or ()))
        if tags in [known for known, _ in found]:
            raise VariantError(
                "Tags used repeatedly: each variant in tags_and_args needs a tag set "
                "of its own. Received: tags={!r}".format(tags)
            )
        found.append((tags, dict(arguments or {})))
    return found or [([], {})]


# The order: the collections are dropped before they are judged; state is checked while
# the graph is there, as a proto says nothing of its ops; signatures come from the
# collection that add_signature() fills; keep_used is last, as it goes by signatures.
def _build(
    module_fn: Callable[..., None],
    tags: List[str],
    arguments: Dict[str, Any],
    dropped: List[str],
) -> Any:
    """The MetaGraphDef of one variant."""
    with tf.Graph().as_default() as graph:
        with tf.compat.v1.variable_scope("", use_resource=True):
            module_fn(**arguments)
        for key in dropped:
            del tf.compat.v1.get_collection_ref(key)[:]
        _check_state(graph, tags)
        signatures = graph.get_collection(_SIGNATURES)
        if not signatures:
            raise ModuleFnError(
                "No signatures present: the module_fn must call add_signature() at "
                "least once. Received: module_fn={!r}, tags={!r}".format(
                    module_fn, tags
                )
            )
        # Attributes with their default values, which an older TensorFlow may lack, go.
        meta_graph = tf.compat.v1.train.export_meta_graph(
            graph=graph, strip_default_attrs=True
        )
        messages = dict(graph.get_collection(_MESSAGES))
    unsupported = get_unsupported_collections(meta_graph.collection_def)
    if unsupported:
        raise ModuleFnError(
            "Unsupported collections in graph: {}. A module can have {}. Give the "
            "others to drop_collections if it can do without them. Received: "
            "tags={!r}".format(
                unsupported, ", ".join(sorted(SUPPORTED_COLLECTIONS)), tags
            )
        )
    meta_graph.meta_info_def.tags.extend(tags)
    for name, signature in signatures:
        meta_graph.signature_def[name].CopyFrom(signature)
    write_attachments(meta_graph, messages)
    keep_used(meta_graph)
    return meta_graph


def get_unsupported_collections(keys: Iterable[str]) -> List[str]:
    """The collections, of some names, that a module cannot have; sorted."""
    return sorted(set(keys) - SUPPORTED_COLLECTIONS)


# Module imports state first and alone. A node of a signature that a variable must be
# with is not there yet.
def _check_state(graph: Any, tags: List[str]) -> None:
    """Refuses variables and tables that must be where another node is.

    ``Module`` makes them once, before the nodes of any signature.
    """
    state = {op.name: op for op in graph.get_operations() if _is_state(op.type)}
    for op in state.values():
        for place in op.colocation_groups():
            name = place.decode("utf-8")
            if name.startswith("loc:@") and name[5:] in state:
                continue
            raise ModuleFnError(
                "A state-holding node of a module's graph, such as a variable, must "
                "not be colocated with another node, unless that holds state, too. "
                "Take it out of tf.compat.v1.colocate_with(). Received: node {!r} of "
                "op {} with {!r}, in the variant with tags {!r}".format(
                    op.name, op.type, name, tags
                )
            )


def _is_state(op: str) -> bool:
    definition = registered_op(op)
    return (
        definition is not None and definition.is_stateful and not definition.input_arg
    )


def add_signature(
    name: Optional[str] = None, inputs: Any = None, outputs: Any = None
) -> None:
    """Adds a signature to the module that a ``module_fn`` builds.

    A second one of the same name takes the place of the first.

    Args:
      name: its name; by default ``"default"``, which ``Module`` calls by default.
      inputs: a dict from names to tensors that are fed: ``tf.Tensor``,
        ``tf.SparseTensor`` or ``tf.RaggedTensor`` of any dtype. A single one is
        called ``"default"``. None where there are none.
      outputs: the same, of what the signature returns.

    Raises:
      SignatureError: something else is given, or an input is colocated with another
        node.
      ModuleFnError: it is called outside of a ``module_fn``.
    """
    graph = _graph("add_signature")
    name = _checked_name(name)
    given, returned = _as_dict(inputs), _as_dict(outputs)
    _check_types(name, given, returned)
    for kind, tensors in (("input", given), ("output", returned)):
        for key, tensor in tensors.items():
            for part in components_of(tensor):
                if part.graph is not graph:
                    raise SignatureError(
                        "The {} {!r} of the signature {!r} must be a tensor of the "
                        "graph that the module_fn builds. Make it there. Received: "
                        "{!r}".format(kind, key, name, tensor)
                    )
    _check_input_places(name, given)
    message = find_signature_inputs_from_multivalued_ops(given)
    if message:
        warnings.warn(message, stacklevel=2)
    known = [key for key, _ in graph.get_collection(_SIGNATURES)]
    if name in known:
        warnings.warn(
            "add_signature() was called twice with one name; the last call counts. "
            "Received: name={!r}".format(name),
            stacklevel=2,
        )
    signature = meta_graph_pb2.SignatureDef()
    for infos, tensors in ((signature.inputs, given), (signature.outputs, returned)):
        for key, tensor in tensors.items():
            infos[key].CopyFrom(_tensor_info(tensor))
    graph.add_to_collection(_SIGNATURES, (name, signature))


def _tensor_info(tensor: Any) -> Any:
    info = meta_graph_pb2.TensorInfo(dtype=tensor.dtype.as_datatype_enum)
    if isinstance(tensor, tf.Tensor):
        info.name = tensor.name
    elif isinstance(tensor, tf.SparseTensor):
        info.coo_sparse.values_tensor_name = tensor.values.name
        info.coo_sparse.indices_tensor_name = tensor.indices.name
        info.coo_sparse.dense_shape_tensor_name = tensor.dense_shape.name
    else:
        return tf.compat.v1.saved_model.utils.build_tensor_info(tensor)
    info.tensor_shape.CopyFrom(tensor.get_shape().as_proto())
    return info


def _graph(caller: str) -> Any:
    """The graph that a module_fn builds."""
    graph = tf.compat.v1.get_default_graph()
    if tf.executing_eagerly() or getattr(graph, "building_function", False):
        raise ModuleFnError(
            "{}() must be called by the module_fn of create_module_spec(), and not "
            "inside of a tf.function. Received: a call {}".format(
                caller,
                "in eager execution"
                if tf.executing_eagerly()
                else "in the graph of a function, {!r}".format(graph.name),
            )
        )
    return graph


def _checked_name(name: Optional[str]) -> str:
    if not name:
        return "default"
    if not isinstance(name, str):
        raise SignatureError(
            "The name of a signature is a string, or None for 'default'. Received: "
            "name={!r}".format(name)
        )
    return name


def _as_dict(tensors: Any) -> Dict[str, Any]:
    if tensors is None:
        return {}
    if isinstance(tensors, collections.abc.Mapping):
        return dict(tensors)
    return {"default": tensors}


def _check_types(name: str, given: Dict[str, Any], returned: Dict[str, Any]) -> None:
    wrong = []
    for kind, tensors in (("input", given), ("output", returned)):
        for key in sorted(tensors, key=str):
            if not isinstance(key, str):
                wrong.append("the name of an {}, {!r}".format(kind, key))
            elif not isinstance(tensors[key], SUPPORTED_TYPES):
                kind_of = type(tensors[key]).__name__
                wrong.append("{} {!r} has type {}".format(kind, key, kind_of))
    if wrong:
        raise SignatureError(
            "The inputs and outputs of add_signature() for the signature {!r} should "
            "have one of the types {}, and their names should be strings. Of a "
            "variable, give .value(). Received: {}".format(
                name,
                ", ".join(kind.__name__ for kind in SUPPORTED_TYPES),
                "; ".join(wrong),
            )
        )


def _check_input_places(name: str, inputs: Dict[str, Any]) -> None:
    """Refuses inputs that must be where another node is, as others replace them."""
    for key, tensor in inputs.items():
        for part in components_of(tensor):
            groups = [place.decode("utf-8") for place in part.op.colocation_groups()]
            if groups != ["loc:@" + part.op.name]:
                raise SignatureError(
                    "A tensor that is an input of a signature must not be under "
                    "tf.compat.v1.colocate_with(); nodes may be colocated with it. "
                    "Received: {!r} for the input {!r} of the signature {!r}, which "
                    "is colocated with {}".format(
                        part.name, key, name, ", ".join(groups)
                    )
                )


def find_signature_inputs_from_multivalued_ops(
    inputs: Mapping[str, Any],
) -> Optional[str]:
    """A warning of inputs that are one of several outputs of an op; None of none."""
    found = []
    for key, tensor in sorted(inputs.items()):
        parts = [(key, tensor)]
        if isinstance(tensor, tf.SparseTensor):
            fields = ("indices", "values", "dense_shape")
            parts = [(key + "." + field, getattr(tensor, field)) for field in fields]
        elif not isinstance(tensor, tf.Tensor):
            parts = [
                ("{}.component_{}".format(key, i), part)
                for i, part in enumerate(components_of(tensor))
            ]
        for label, part in parts:
            if len(part.op.outputs) != 1:
                found.append("{}={!r}".format(label, str(part.name)))
    if not found:
        return None
    return (
        "Inputs of add_signature() should come from ops with a single output. "
        "Otherwise a node that is colocated with such an op may be refused when the "
        "module is applied.\nAffected inputs: " + ", ".join(found)
    )


def attach_message(key: str, message: Any) -> None:
    """Attaches a message to the module that a ``module_fn`` builds.

    ``get_attached_message()`` reads it, of the module and of what it is converted to.
    Each variant has its own. Of two messages under one key, the last one stays.

    Args:
      key: under which name: a letter, and letters, digits or underscores.
      message: a protocol buffer; a small one, as each reader of the module reads it.

    Raises:
      AttachmentError: the key has another form, or the message is none.
      ModuleFnError: it is called outside of a ``module_fn``.
    """
    graph = _graph("attach_message")
    if not isinstance(key, str) or not re.fullmatch("[a-zA-Z][a-zA-Z0-9_]*", key):
        raise AttachmentError(
            "attach_message() was called with a malformed key. A key begins with a "
            "letter and has letters, digits and underscores. Received: "
            "key={!r}".format(key)
        )
    try:
        data = message.SerializeToString()
    except Exception as error:  # EncodeError of a message that lacks required fields
        raise AttachmentError(
            "attach_message() takes a protocol buffer with all required fields. "
            "Received: message={!r}".format(message)
        ) from error
    graph.add_to_collection(_MESSAGES, (key, data))
