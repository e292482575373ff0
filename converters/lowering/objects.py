"""The object graph in the terms of an older loader."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Set, Tuple

from ..opdata.targets import Registry
from .specs import loses_keywords, lower_specs, make_positional, newer_specs

__all__ = ["CAPTURES", "essential", "lower", "needs_lowering", "take_away"]

# Kinds of SavedObject that TF 1.15's loader recreates (load.py, _recreate).
_KINDS = frozenset(
    [
        "asset",
        "bare_concrete_function",
        "constant",
        "function",
        "resource",
        "user_object",
        "variable",
    ]
)
# From here on, a loader knows what the functions of custom gradients capture, and
# registers them.
CAPTURES = (2, 5)
# Functions without which an object cannot be made or restored.
_OWN = ("_create_resource", "_initialize", "_destroy_resource")


def needs_lowering(meta_graph: Any, registry: Registry) -> bool:
    """Whether there is an object that an older loader stops at."""
    if newer_specs(meta_graph.object_graph_def, registry):
        return True
    if registry.version >= CAPTURES:
        return False
    objects = meta_graph.object_graph_def
    if any(node.WhichOneof("kind") not in _KINDS for node in objects.nodes):
        return True
    return registry.version < (2, 0) and any(
        (node.slot_variables and not _is_optimizer(node, objects))
        or _has_short_signature(node, objects)
        or loses_keywords(node, objects)
        for node in objects.nodes
    )


# From the newest to the oldest target: each step is for loaders below a version, and
# returns before the next where the target is not that old.
#
#     all          specs of composite tensors
#     < CAPTURES   functions of custom gradients go; unknown kinds become empty objects
#     < 2.0        optimizers, short signatures, keyword-only arguments
#
# Numbers of objects stay: nodes are changed to generic ones and never removed, since
# children, bound inputs and slots name them by number.
def lower(
    meta_graph: Any,
    registry: Registry,
    done: Dict[str, int],
    left_out: List[Tuple[str, str]],
) -> None:
    """Makes objects that the target's loader can make.

    Args:
      meta_graph: the model.
      registry: of the target.
      done: counts what was done.
      left_out: where signatures that go away are noted, with the reason.
    """
    objects = meta_graph.object_graph_def
    lower_specs(objects, registry, done)
    if registry.version >= CAPTURES:
        return
    _drop_gradient_functions(meta_graph, done)
    for node in objects.nodes:
        if node.WhichOneof("kind") not in _KINDS:
            generic(node)
            done["an object of an unknown kind becomes an empty one"] += 1
    if registry.version >= (2, 0):
        return
    _take_optimizers(meta_graph, done, left_out)
    _keep_optimizers(objects, done)
    for node in objects.nodes:
        if loses_keywords(node, objects):
            make_positional(node, objects)
            done["a keyword-only argument becomes an ordinary one"] += 1
        if _has_short_signature(node, objects):
            node.function.function_spec.input_signature.none_value.SetInParent()
            done["a signature leaves no argument out"] += 1
        if node.WhichOneof("kind") == "user_object":
            if node.user_object.identifier == "optimizer" and not node.slot_variables:
                node.user_object.identifier = "_generic_user_object"


def _has_short_signature(node: Any, objects: Any) -> bool:
    """Whether a function's input_signature leaves out arguments that have defaults.

    TF 1.15 then calls it without these, and finds no trace that takes so few;
    without the signature it adds the defaults.
    """
    spec = node.function.function_spec
    # Where a program gave none, None is there.
    if spec.input_signature.WhichOneof("kind") not in ("tuple_value", "list_value"):
        return False
    given = len(_elements(spec.input_signature))
    for name in node.function.concrete_functions:
        canonical = _elements(
            objects.concrete_functions[name].canonicalized_input_signature
        )
        if canonical and len(_elements(canonical[0])) > given:
            return True
    return False


def _elements(value: Any) -> Any:
    """The elements of a StructuredValue that is a tuple or a list."""
    kind = value.WhichOneof("kind")
    return getattr(value, kind).values if kind in ("tuple_value", "list_value") else ()


def _keep_optimizers(objects: Any, done: Dict[str, int]) -> None:
    """Makes optimizers with slot variables those that TF 1.15 has for loaded models.

    It asks the object that the checkpoint calls the optimizer for the slots of each
    variable that it restores. One of Keras' has them, with the shape of the variable.
    """
    for node in objects.nodes:
        if node.slot_variables and not _is_optimizer(node, objects):
            version = node.user_object.version
            node.user_object.identifier = "optimizer"
            version.producer = version.min_consumer = 1
            done["an optimizer is one of Keras 2"] += 1


def _is_optimizer(node: Any, objects: Any) -> bool:
    """Whether TF 1.15 makes an optimizer of an object with slots, and all of them."""
    return node.user_object.identifier == "optimizer" and _slots_fit(node, objects)


def _slots_fit(optimizer: Any, objects: Any) -> bool:
    """Whether all slots of an optimizer are variables like those that they are for."""
    for slot in optimizer.slot_variables:
        one = objects.nodes[slot.slot_variable_node_id]
        other = objects.nodes[slot.original_variable_node_id]
        if any(node.WhichOneof("kind") != "variable" for node in (one, other)):
            return False
        if (one.variable.dtype, one.variable.shape) != (
            other.variable.dtype,
            other.variable.shape,
        ):
            return False
    return True


def _take_optimizers(
    meta_graph: Any, done: Dict[str, int], left_out: List[Tuple[str, str]]
) -> None:
    """Takes the other optimizers with slots away from whatever holds them.

    Where TF 1.15 comes across none, it forgets the slots. Variables that nothing leads
    to any more would have no value, and no initializer in a graph. Functions that use
    one go with them.
    """
    objects = meta_graph.object_graph_def
    optimizers = {
        i
        for i, node in enumerate(objects.nodes)
        if node.slot_variables and not _slots_fit(node, objects)
    }
    if not optimizers:
        return
    for i in optimizers:
        del objects.nodes[i].slot_variables[:]
    for node in objects.nodes:
        kept = [child for child in node.children if child.node_id not in optimizers]
        if len(kept) < len(node.children):
            kept = [(child.node_id, child.local_name) for child in kept]
            del node.children[:]
            for node_id, name in kept:
                node.children.add(node_id=node_id, local_name=name)
    held = _reachable(objects)
    for node in objects.nodes:
        held.update(slot.slot_variable_node_id for slot in node.slot_variables)
    lost = set()
    for i, node in enumerate(objects.nodes):
        if i not in held and node.WhichOneof("kind") == "variable":
            generic(node)
            lost.add(i)
    reason = "its optimizer keeps variables of other shapes than TensorFlow 1.15 can"
    gone = {
        name: reason
        for name, function in objects.concrete_functions.items()
        if lost.intersection(function.bound_inputs)
    }
    take_away(meta_graph, gone, left_out)
    done["an optimizer with slot variables is removed"] += len(optimizers)


def _reachable(objects: Any) -> Set[int]:
    """The objects that the root leads to."""
    found, stack = {0}, [0]
    while stack:
        for child in objects.nodes[stack.pop()].children:
            if child.node_id not in found:
                found.add(child.node_id)
                stack.append(child.node_id)
    return found


# Before unknown kinds become generic objects: captured tensors are told by their kind.
def _drop_gradient_functions(meta_graph: Any, done: Dict[str, int]) -> None:
    """Drops the functions of custom gradients, which an older loader cannot register.

    They capture tensors of other functions, which it cannot represent.
    """
    objects, library = meta_graph.object_graph_def, meta_graph.graph_def.library
    captured = {
        i
        for i, node in enumerate(objects.nodes)
        if node.WhichOneof("kind") not in _KINDS
    }
    gone = {
        name
        for name, function in objects.concrete_functions.items()
        if captured.intersection(function.bound_inputs)
    }
    # TF < 2.5 does not have the field, and so drops it unread.
    for gradient in getattr(library, "registered_gradients", ()):
        gone.add(gradient.gradient_func)
    if hasattr(library, "registered_gradients"):
        del library.registered_gradients[:]
    if not gone:
        return
    done["the functions of custom gradients are dropped"] += 1
    kept = [f for f in library.function if f.signature.name not in gone]
    del library.function[:]
    library.function.extend(kept)
    for name in gone:
        if name in objects.concrete_functions:
            del objects.concrete_functions[name]


def generic(node: Any) -> None:
    """Makes an object one that only has children."""
    children = [(child.node_id, child.local_name) for child in node.children]
    node.Clear()
    for node_id, name in children:
        node.children.add(node_id=node_id, local_name=name)
    node.user_object.identifier = "_generic_user_object"
    node.user_object.version.producer = 1
    node.user_object.version.min_consumer = 1


def essential(meta_graph: Any, gone: Mapping[str, str]) -> bool:
    """Whether an object cannot be made without functions that are gone."""
    nodes = meta_graph.object_graph_def.nodes
    for node in nodes:
        for child in node.children:
            if child.local_name in _OWN:
                function = nodes[child.node_id].function
                if gone.keys() & set(function.concrete_functions):
                    return True
    return False


def take_away(
    meta_graph: Any, gone: Mapping[str, str], left_out: List[Tuple[str, str]]
) -> bool:
    """Takes functions from the objects and signatures that have them.

    Args:
      meta_graph: the model.
      gone: functions, with the reason.
      left_out: where the signatures that go away are noted, with the reason.

    Returns:
      Whether anything is left that can be called.
    """
    objects = meta_graph.object_graph_def
    for name in gone:
        if name in objects.concrete_functions:
            del objects.concrete_functions[name]
    lost = {}
    for i, node in enumerate(objects.nodes):
        kind = node.WhichOneof("kind")
        if kind == "function":
            names = list(node.function.concrete_functions)
            kept = [name for name in names if name not in gone]
            if len(kept) < len(names):
                del node.function.concrete_functions[:]
                node.function.concrete_functions.extend(kept)
            if names and not kept:
                lost[i] = gone[names[0]]
                generic(node)
        elif kind == "bare_concrete_function":
            name = node.bare_concrete_function.concrete_function_name
            if name in gone:
                lost[i] = gone[name]
                generic(node)
    usable = False
    for node in objects.nodes:
        is_map = node.user_object.identifier == "signature_map"
        kept = []
        for child in node.children:
            if child.node_id not in lost:
                kept.append((child.node_id, child.local_name))
            elif is_map:
                left_out.append((child.local_name, lost[child.node_id]))
        if len(kept) < len(node.children):
            del node.children[:]
            for node_id, name in kept:
                node.children.add(node_id=node_id, local_name=name)
        usable = usable or (is_map and bool(kept))
    usable = usable or any(
        child.local_name not in _OWN
        and objects.nodes[child.node_id].function.concrete_functions
        for child in (objects.nodes[0].children if objects.nodes else ())
    )
    _take_from_graph(meta_graph, gone)
    return usable


def _take_from_graph(meta_graph: Any, gone: Mapping[str, str]) -> None:
    """Drops calls of functions that are gone, and what needs them."""
    graph = meta_graph.graph_def
    dead = {
        node.name
        for node in graph.node
        if any(attr.func.name in gone for attr in node.attr.values())
    }
    changed = bool(dead)
    while changed:
        more = {
            node.name
            for node in graph.node
            if node.name not in dead
            and any(name.lstrip("^").split(":")[0] in dead for name in node.input)
        }
        dead |= more
        changed = bool(more)
    if not dead:
        return
    kept = [node for node in graph.node if node.name not in dead]
    del graph.node[:]
    graph.node.extend(kept)
    for name in list(meta_graph.signature_def):
        outputs = meta_graph.signature_def[name].outputs.values()
        if any(output.name.split(":")[0] in dead for output in outputs):
            del meta_graph.signature_def[name]
