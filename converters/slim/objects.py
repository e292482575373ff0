"""Which objects of a SavedModel a user of the model can reach or needs.

Keras 2 hangs four functions on each layer, and an object ``keras_api`` with more. Its
own loader makes layers of them. The functions of the whole model call what they need.
"""

from __future__ import annotations

import heapq
import re
from typing import Any, Dict, Iterator, List, Set, Tuple

from .library import Library

__all__ = ["HELD", "NotUnderstood", "Selection", "rebuild", "select"]


class NotUnderstood(Exception):
    """A model that is better left as it is; says why."""


_KERAS = "_tf_keras_"
_MODELS = ("_tf_keras_model", "_tf_keras_network", "_tf_keras_sequential")
_BOOKKEEPING = frozenset(
    [
        "_adapt_function",
        "_default_save_signature",
        "_jit_compiled_convolution_op",
        "activity_regularizer_fn",
        "call_and_return_all_conditional_losses",
        "call_and_return_conditional_losses",
        "keras_api",
    ]
)
_NUMBERED = re.compile(r"layer(_with_weights)?-\d+$")
# Kinds of SavedObject of which it is known what they refer to.
_KINDS = frozenset(
    [
        "asset",
        "bare_concrete_function",
        "captured_tensor",
        "constant",
        "function",
        "resource",
        "user_object",
        "variable",
    ]
)
# Kinds that a loaded object must hold, for them to live and to be restored.
HELD = frozenset(["asset", "resource", "user_object", "variable"])


def _is_bookkeeping(owner: Any, name: str) -> bool:
    """Whether Keras put an edge there, for its own loader only."""
    identifier = owner.user_object.identifier
    if not identifier.startswith(_KERAS):
        return False
    if name == "optimizer":
        return identifier in _MODELS
    return name in _BOOKKEEPING or _NUMBERED.match(name) is not None


class Selection:
    """What stays of a model.

    Attributes:
      nodes: the ids of its objects.
      edges: by id, the positions of the children that stay.
      functions: the names of its functions.
      concrete: those of which the object graph says how to call them.
      lost: the names of the edges of the root that go.
    """

    def __init__(self, meta_graph: Any, library: Library) -> None:
        self._objects = meta_graph.object_graph_def
        self._library = library
        self.nodes: Set[int] = set()
        self.edges: Dict[int, List[int]] = {}
        self.functions: Set[str] = set()
        self.concrete: Set[str] = set()
        self.lost: Tuple[str, ...] = ()
        # A slot variable is made, and restored, by its optimizer.
        self._makers = {
            slot.slot_variable_node_id: number
            for number, node in enumerate(self._objects.nodes)
            for slot in node.slot_variables
        }

    # ---- what is needed

    def add(self, number: int) -> None:
        """Adds an object, and all that it leads to without Keras' bookkeeping."""
        pending = [number]
        while pending:
            number = pending.pop()
            if number in self.nodes:
                continue
            self.nodes.add(number)
            pending.extend(self._needed_by(number))

    def _needed_by(self, number: int) -> Iterator[int]:
        node = self._node(number)
        kept = [
            i
            for i, child in enumerate(node.children)
            if not _is_bookkeeping(node, child.local_name)
        ]
        self.edges[number] = kept
        for i in kept:
            yield node.children[i].node_id
        for reference in getattr(node, "dependencies", ()):
            yield reference.node_id
        for saveable in getattr(node, "saveable_objects", {}).values():
            yield saveable.save_function
            yield saveable.restore_function
        if number in self._makers:
            yield self._makers[number]
        for slot in node.slot_variables:
            yield slot.slot_variable_node_id
            yield slot.original_variable_node_id
        kind = node.WhichOneof("kind")
        if kind == "function":
            for name in node.function.concrete_functions:
                yield from self._needed_by_concrete(name)
        elif kind == "bare_concrete_function":
            name = node.bare_concrete_function.concrete_function_name
            yield from self._needed_by_concrete(name)
        elif kind == "captured_tensor":
            yield from self._needed_by_function(node.captured_tensor.concrete_function)

    def _node(self, number: int) -> Any:
        if not 0 <= number < len(self._objects.nodes):
            raise NotUnderstood("object {} is not there".format(number))
        node = self._objects.nodes[number]
        kind = node.WhichOneof("kind")
        # Of TF 1.15, a node may have none: a root without attributes.
        if kind is not None and kind not in _KINDS:
            raise NotUnderstood("an object is of the kind {!r}".format(kind))
        return node

    def _needed_by_concrete(self, name: str) -> Iterator[int]:
        if name in self.concrete:
            return
        if name not in self._objects.concrete_functions:
            raise NotUnderstood("the function {!r} is not described".format(name))
        self.concrete.add(name)
        yield from self._objects.concrete_functions[name].bound_inputs
        yield from self._needed_by_function(name)

    def _needed_by_function(self, name: str) -> Iterator[int]:
        if name not in self._library.functions:
            raise NotUnderstood("the function {!r} is not there".format(name))
        gradients = set(self._library.gradients.values())
        pending = [name]
        while pending:
            name = pending.pop()
            if name in self.functions:
                continue
            self.functions.add(name)
            pending.extend(self._library.called_by(name))
            # Its captures are tensors of the functions that it is a gradient of.
            if name in gradients and name in self._objects.concrete_functions:
                yield from self._needed_by_concrete(name)

    # ---- what must hang on the root

    def hold(self) -> None:
        """Keeps a path to each object with state that is used by functions only."""
        lost = self._lost_state(self._reached())
        if not lost:
            return
        parents = self._shortest_paths()
        for number in lost:
            while number:
                if number not in parents:
                    raise NotUnderstood("nothing leads to object {}".format(number))
                parent, position = parents[number]
                if parent not in self.nodes:
                    self.nodes.add(parent)
                    self.edges[parent] = []
                if position not in self.edges[parent]:
                    self.edges[parent] = sorted(self.edges[parent] + [position])
                number = parent
        if self._lost_state(self._reached()):
            raise NotUnderstood("nothing leads to some variables or tables")

    def _reached(self) -> Set[int]:
        found, stack = {0}, [0]
        while stack:
            number = stack.pop()
            children = self._objects.nodes[number].children
            for position in self.edges[number]:
                child = children[position].node_id
                if child not in found:
                    found.add(child)
                    stack.append(child)
        return found

    def _lost_state(self, reached: Set[int]) -> List[int]:
        nodes = self._objects.nodes
        return [
            number
            for number in sorted(self.nodes - reached)
            if nodes[number].WhichOneof("kind") in HELD and number not in self._makers
        ]

    def _shortest_paths(self) -> Dict[int, Tuple[int, int]]:
        """For each object, one that leads to it, and by which of its edges."""
        best = {0: 0}
        parents: Dict[int, Tuple[int, int]] = {}
        heap = [(0, 0)]
        while heap:
            length, number = heapq.heappop(heap)
            if length > best[number]:
                continue
            for position, child in enumerate(self._objects.nodes[number].children):
                # A detour is better than "keras_api", whatever it is called.
                cost = length + (1000 if child.local_name == "keras_api" else 1)
                if cost < best.get(child.node_id, cost + 1):
                    best[child.node_id] = cost
                    parents[child.node_id] = (number, position)
                    heapq.heappush(heap, (cost, child.node_id))
        return parents


def select(meta_graph: Any, library: Library) -> Selection:
    """Finds out what stays.

    Raises:
      NotUnderstood: it is unlike any model that TensorFlow writes.
    """
    objects = meta_graph.object_graph_def
    if not objects.nodes:
        raise NotUnderstood("it has no objects")
    selection = Selection(meta_graph, library)
    selection.add(0)
    selection.hold()
    root = objects.nodes[0]
    kept = set(selection.edges[0])
    lost = [c.local_name for i, c in enumerate(root.children) if i not in kept]
    for child in root.children:
        if child.local_name == "keras_api" and "keras_api" in lost:
            inner = objects.nodes[child.node_id].children
            own = {c.local_name for c in root.children}
            lost += [c.local_name for c in inner if c.local_name not in own]
    selection.lost = tuple(sorted(set(lost)))
    return selection


def rebuild(objects: Any, selection: Selection) -> Dict[int, int]:
    """Leaves what stays, under new ids in the old order.

    Args:
      objects: a SavedObjectGraph.
      selection: what stays.

    Returns:
      The new ids by the old ones.
    """
    numbers = {old: new for new, old in enumerate(sorted(selection.nodes))}
    nodes = [
        _copied(objects.nodes[old], selection.edges[old], numbers) for old in numbers
    ]
    del objects.nodes[:]
    objects.nodes.extend(nodes)
    for name in list(objects.concrete_functions):
        if name not in selection.concrete:
            del objects.concrete_functions[name]
            continue
        concrete = objects.concrete_functions[name]
        bound = [numbers[number] for number in concrete.bound_inputs]
        del concrete.bound_inputs[:]
        concrete.bound_inputs.extend(bound)
    return numbers


def _copied(node: Any, edges: List[int], numbers: Dict[int, int]) -> Any:
    """An object with its edges by new ids."""
    made = type(node)()
    made.CopyFrom(node)
    # Ids among them would be old ones; this TensorFlow's loader reads none.
    made.DiscardUnknownFields()
    del made.children[:]
    for position in edges:
        child = node.children[position]
        made.children.add(node_id=numbers[child.node_id], local_name=child.local_name)
    for reference in getattr(made, "dependencies", ()):
        reference.node_id = numbers[reference.node_id]
    for saveable in getattr(made, "saveable_objects", {}).values():
        saveable.save_function = numbers[saveable.save_function]
        saveable.restore_function = numbers[saveable.restore_function]
    for slot in made.slot_variables:
        slot.slot_variable_node_id = numbers[slot.slot_variable_node_id]
        slot.original_variable_node_id = numbers[slot.original_variable_node_id]
    if made.user_object.identifier.startswith(_KERAS):
        # Keras before TF 2.5 makes a layer of it, which is no longer whole.
        made.user_object.ClearField("metadata")
    return made
