"""The only file of the package that imports TensorFlow; of Keras, it is _tf/keras.py.

The rest says ``from hub_compat._tf import tf``. Every symbol below that is
not public in all supported versions has a probe and a note on who needs it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import weakref
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from hub_compat.errors import MissingDependencyError, OptionsError

try:
    import tensorflow as tf
except ImportError as error:
    raise MissingDependencyError(
        "This function needs TensorFlow, which cannot be imported. So do paths on "
        "file systems such as gs://, which you can copy first. Install one that "
        "fits this Python: pip install 'hub-compat[tf2]' (Python 3.9 or newer), or "
        "'hub-compat[tf1]' (Python 3.7). Received: {}".format(error)
    ) from error

# The message classes of the SavedModel format. They are not in the `tf`
# namespace, but their module paths are the same from 1.15 to 2.21.
from tensorflow.core.framework import (
    attr_value_pb2,
    function_pb2,
    node_def_pb2,
    op_def_pb2,
    tensor_pb2,
    tensor_shape_pb2,
    types_pb2,
    variable_pb2,
)
from tensorflow.core.protobuf import (
    control_flow_pb2,
    meta_graph_pb2,
    saved_model_pb2,
    saved_object_graph_pb2,
    struct_pb2,
    trackable_object_graph_pb2,
)

__all__ = [
    "LOAD_ERRORS",
    "OWN_GRADIENTS",
    "attr_value_pb2",
    "call_arguments",
    "call_by_tensors",
    "called_graphs",
    "can_stop_gradients",
    "carries_gradients",
    "control_flow_pb2",
    "drop_missing_variables",
    "explain_missing_signatures",
    "function_pb2",
    "gradient_kind",
    "guard_results",
    "has_op",
    "in_control_flow",
    "in_tf1_graph",
    "is_newer",
    "keep_inner_control_flow",
    "keep_order",
    "keep_resource",
    "keyword_names",
    "lacks_gradients",
    "lazy_attribute",
    "load_saved_model",
    "loads_alone",
    "mark_slice",
    "meta_graph_pb2",
    "name_slots",
    "name_uncallable",
    "node_def_pb2",
    "op_def_pb2",
    "own_call",
    "prepare_gradients",
    "recording_stopped",
    "register_control_flow_gradients",
    "registered_op",
    "rename_variable",
    "restore_parts",
    "saved_model_pb2",
    "saved_object_graph_pb2",
    "settle_shape",
    "stop_gradient_at",
    "struct_pb2",
    "takes_no_gradients",
    "tell_handles",
    "tensor_pb2",
    "tensor_shape_pb2",
    "tf",
    "traces_of",
    "traces_or_self",
    "trackable_children",
    "trackable_object_graph_pb2",
    "tracked_objects",
    "tracks_attributes",
    "types_pb2",
    "used_variables",
    "variable_pb2",
    "watch_accessed",
    "wrap_call",
]


# What TensorFlow's loader raises for a graph that it does not take: 2.21 says with a
# RuntimeError what 1.15 says with a NotFoundError.
LOAD_ERRORS: Tuple[Any, ...] = (
    tf.errors.OpError,
    ValueError,
    RuntimeError,
    # TF >= 2.1, where the weights are not there.
    FileNotFoundError,
)


def load_saved_model(path: str, tags: Any = None, options: Any = None) -> Any:
    """Loads a SavedModel with TensorFlow's object loader.

    Raises:
      OptionsError: ``options`` were given, and this TensorFlow has none.
    """
    # The one name that exists in TF 1.15 and in every TF 2.
    load: Any = tf.compat.v1.saved_model.load_v2
    if options is None:
        with _functions_released():
            return load(path, tags=tags)
    # TF < 2.3 has no LoadOptions; drop the branch with TF 1.15.
    if load_options_class() is None:
        raise OptionsError(
            "TensorFlow {} has no tf.saved_model.LoadOptions (2.3 is the first that "
            "has it): call load() without options. Received: {!r}".format(
                tf.__version__, options
            )
        )
    with _functions_released():
        return load(path, tags=tags, options=options)


def loads_alone(path: str) -> bool:
    """Whether TensorFlow loads a SavedModel into a graph where nothing else is.

    No value is read. What fails elsewhere, and not there, the program is to blame for.
    """
    try:
        with tf.Graph().as_default():
            load_saved_model(path)
    except Exception:
        return False
    return True


def drop_missing_variables(loaded: Any) -> None:
    """Takes None out of the lists of variables of a loaded object.

    Keras lists what keeps a vocabulary among a model's weights; a SavedModel does not
    have it, and TensorFlow's loaders (1.15 to 2.21) leave a hole in the list, which
    breaks optimizers.
    """
    for name in ("variables", "trainable_variables", "non_trainable_variables"):
        listed = vars(loaded).get(name) if hasattr(loaded, "__dict__") else None
        if listed is None or not isinstance(listed, (list, tuple)):
            continue
        if any(item is None for item in listed):
            # Not tracked: the checkpoint knows the list with its hole.
            object.__setattr__(loaded, name, [v for v in listed if v is not None])


def explain_missing_signatures(
    loaded: Any, explain: Callable[[Any], Exception]
) -> None:
    """Makes ``loaded.signatures[name]`` raise our error for an unknown name.

    Private: the dict inside the read-only mapping (signature_serialization.py, 1.15
    to 2.21). Without it, the error is TensorFlow's KeyError.

    Args:
      loaded: what a loader returned.
      explain: the error for a name; it must be a KeyError, which mappings expect.
    """
    signatures: Any = getattr(loaded, "signatures", None)
    held = getattr(signatures, "_signatures", None)
    if type(held) is dict:
        explained = _Explained(held)
        explained.explain = explain
        signatures._signatures = explained


class _Explained(Dict[str, Any]):
    explain: Callable[[Any], Exception]

    def __missing__(self, name: Any) -> Any:
        raise self.explain(name)


def keyword_names(function: Any) -> Optional[List[str]]:
    """The names of a signature's inputs, in the order of its arguments.

    Private: ``_arg_keywords``, which the loader sets (1.15 to 2.21). Without it, None.
    """
    names = getattr(function, "_arg_keywords", None)
    if names is None or not hasattr(function, "inputs"):
        return None
    return [tf.compat.as_str(name) for name in names]


class _Placed(str):
    """A name that sorts by its place."""

    place = 0

    def __lt__(self, other: Any) -> bool:
        return self.place < getattr(other, "place", self.place)


def keep_order(function: Any, names: Sequence[str]) -> None:
    """Sorts the specs of a signature's inputs as its arguments.

    ``tf.saved_model.save(..., signatures=...)`` pairs the names with the specs as
    tf.nest sorts them, and TensorFlow 2.12 and newer orders arguments by other names.
    Private: ``structured_input_signature`` of a FuncGraph, which the loader sets (1.15
    to 2.21). Without it, nothing is done.
    """
    found: Any = getattr(function.graph, "structured_input_signature", None)
    specs: Dict[str, Any] = found[1] if found else {}
    if list(names) == sorted(names) or set(specs) != set(names):
        return
    placed = {}
    for place, name in enumerate(names):
        key = _Placed(name)
        key.place = place
        placed[key] = specs[name]
    function.graph.structured_input_signature = ((), placed)


_BLOCKED = "hub_compat_blocked"


def guard_results(function: Any, blocked: Sequence[Dict[int, str]]) -> bool:
    """Makes some results of a loaded function raise when a gradient reaches them.

    That must happen outside of all functions, whose gradients are built whole. Which
    trace a function took, its result says: the trace adds a level to it, with what is
    to be guarded, and the function takes that away again. Private: ``_call_flat``
    (1.15 to 2.21). Without it, nothing is done.

    Args:
      function: a loaded function, or a trace.
      blocked: for each of its traces the reasons, by the number of the result.

    Returns:
      Whether it was done.
    """
    traces = traces_or_self(function)
    if not all(hasattr(trace, "_call_flat") for trace in traces):
        return False
    for trace, reasons in zip(traces, blocked):
        if reasons and not hasattr(trace, "_hub_compat_blocked"):
            trace._hub_compat_blocked = _BLOCKED + json.dumps(
                {str(number): reason for number, reason in reasons.items()}
            )
            kind: Any = type(trace)
            trace.__class__ = _marking(kind)
    if function not in traces:
        kind = type(function)
        function.__class__ = _guarding(kind)
    return True


@functools.lru_cache(maxsize=None)
def _marking(kind: Any) -> type:
    """A class of traces whose results say what to guard, but to who calls them."""

    def _call_flat(self: Any, *args: Any, **keywords: Any) -> Any:
        found = kind._call_flat(self, *args, **keywords)
        return {self._hub_compat_blocked: found}

    guarding = _guarding(kind)
    members = {"_call_flat": _call_flat, "__module__": kind.__module__}
    return type(kind.__name__, (guarding,), members)


@functools.lru_cache(maxsize=None)
def _guarding(kind: Any) -> type:
    """A class of functions that guard what the traces behind them mark."""
    if getattr(kind, "_hub_compat_guarding", False):
        guarding_already: type = kind
        return guarding_already

    # An input may be called "self".
    def __call__(*args: Any, **keywords: Any) -> Any:  # noqa: N807
        return _guarded(kind.__call__(*args, **keywords))

    def get_concrete_function(self: Any, *args: Any, **keywords: Any) -> Any:
        found = kind.get_concrete_function(self, *args, **keywords)
        made: Any = type(found)
        found.__class__ = _guarding(made)
        return found

    def structured_outputs(self: Any) -> Any:
        return _marked(kind.structured_outputs.fget(self))[1]

    members: Dict[str, Any] = {
        "__call__": __call__,
        "__module__": kind.__module__,
        "_hub_compat_guarding": True,
    }
    if hasattr(kind, "get_concrete_function"):
        members["get_concrete_function"] = get_concrete_function
    if isinstance(getattr(kind, "structured_outputs", None), property):
        members["structured_outputs"] = property(structured_outputs)
    return type(kind.__name__, (kind,), members)


def _marked(found: Any) -> Tuple[Dict[str, str], Any]:
    """What of a result is to be guarded, and the result without that."""
    if isinstance(found, dict) and len(found) == 1:
        ((key, value),) = found.items()
        if isinstance(key, str) and key.startswith(_BLOCKED):
            return json.loads(key[len(_BLOCKED) :]), value
    return {}, found


def _guarded(found: Any) -> Any:
    reasons, found = _marked(found)
    if not reasons:
        return found
    flat = tf.nest.flatten(found, expand_composites=True)
    number = 0
    for i, value in enumerate(flat):
        if not tf.is_tensor(value):
            continue
        reason = reasons.get(str(number))
        if reason is not None:
            flat[i] = tf.raw_ops.PreventGradient(input=value, message=reason)
        number += 1
    return tf.nest.pack_sequence_as(found, flat, expand_composites=True)


def own_call(function: Any, call: Callable[..., Any]) -> bool:
    """Routes calls of a ConcreteFunction to ``call(function, args, keywords)``.

    Its class becomes one of ours, derived from the one that it had: Python looks for
    ``__call__`` there, and to hold a function of ours would be a cycle. Private:
    ``_call_flat`` (1.15 to 2.21). Without it, nothing is done.

    Returns:
      Whether it was done.
    """
    if not hasattr(function, "_call_flat"):
        return False
    kind: Any = type(function)
    function.__class__ = _called_by(kind, call)
    return True


@functools.lru_cache(maxsize=None)
def _called_by(kind: Any, call: Callable[..., Any]) -> type:
    # An input may be called "self".
    def __call__(*args: Any, **keywords: Any) -> Any:  # noqa: N807
        return call(args[0], args[1:], keywords)

    members = {"__call__": __call__, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


def lazy_attribute(found: Any, name: str, make: Callable[[], Any]) -> None:
    """Gives a loaded object an attribute that is made when it is asked for.

    Private: TensorFlow's loader gives each object a class of its own, ``_UserObject``
    (load.py, 1.15 to 2.21). Objects of other classes are left alone.
    """
    kind: Any = type(found)
    # Not by its own name, which name_uncallable() changes.
    if not kind.__qualname__.endswith("_UserObject") or hasattr(kind, "__getattr__"):
        return
    # Not in the class: it is part of a cycle, and would keep what the object holds.
    object.__setattr__(found, _LAZY, {name: make})
    kind.__getattr__ = _made_when_asked


_LAZY = "_hub_compat_lazy"


def _made_when_asked(self: Any, name: str) -> Any:
    make = self.__dict__.get(_LAZY, {}).get(name)
    if make is None:
        raise AttributeError(
            "{!r} object has no attribute {!r}".format(type(self).__name__, name)
        )
    return make()


def watch_accessed(variables: Sequence[Any]) -> None:
    """Tells gradient tapes of variables whose handles are passed on.

    Private: ``variable_accessed`` (resource_variable_ops, 1.15 to 2.21). Without it,
    they are read.
    """
    from tensorflow.python.ops import resource_variable_ops

    accessed = getattr(resource_variable_ops, "variable_accessed", None)
    for variable in variables:
        if accessed is not None:
            accessed(variable)
        else:
            variable.read_value()


def call_by_tensors(function: Any, tensors: Sequence[Any]) -> Any:
    """Calls a ConcreteFunction with a tensor for each argument, captures aside.

    Private: ``_call_flat``, for which ``own_call`` looks.
    """
    return _guarded(function._call_flat(list(tensors), function.captured_inputs))


def is_newer(producer: Any) -> bool:
    """Whether the running TensorFlow is older than what wrote a model.

    Args:
      producer: a ``hub_compat.formats.Producer``.
    """
    return bool(producer.is_newer_than(tf.__version__, tf.version.GRAPH_DEF_VERSION))


def trackable_children(trackable: Any) -> Dict[str, Any]:
    """The objects that an object tracks for checkpoints, by name.

    Private: ``_trackable_children`` from TF 2.8 on, ``_checkpoint_dependencies``
    before, and ``_maybe_initialize_trackable`` in all. Without them, an object's
    attributes.
    """
    # TF 2.4 to 2.8: a model of Keras that tracks nothing yet has no list to ask for.
    if hasattr(trackable, "_maybe_initialize_trackable"):
        trackable._maybe_initialize_trackable()
    if hasattr(trackable, "_trackable_children"):
        try:
            return dict(trackable._trackable_children())
        except TypeError:
            # TF 2.12: of a resource that a loader made, the argument has no default.
            return dict(trackable._trackable_children("checkpoint"))
    if hasattr(trackable, "_checkpoint_dependencies"):
        return dict(trackable._checkpoint_dependencies)
    return dict(getattr(trackable, "__dict__", {}))


def tracked_objects(trackable: Any) -> Iterator[Any]:
    """An object and all that it tracks, directly or not, each once; no variables."""
    seen = set()
    pending = [trackable]
    while pending:
        found = pending.pop()
        if id(found) not in seen and not isinstance(found, tf.Variable):
            seen.add(id(found))
            yield found
            pending.extend(trackable_children(found).values())


def tracks_attributes(found: Any) -> bool:
    """Whether an object is one that tracks its attributes, as tf.Module does.

    Private: AutoTrackable and its ``_setattr_tracking`` (1.15 to 2.21). Without it, no.
    """
    return hasattr(found, "_setattr_tracking")


def wrap_call(
    loaded: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Wraps the function behind ``loaded(...)`` in another one.

    Private: TensorFlow's loader gives each object that has a ``__call__`` a class of
    its own with this method, which calls the attribute (load.py, 1.15 to 2.21).
    Objects of other classes are left alone.
    """
    call = vars(type(loaded)).get("__call__")
    if getattr(call, "__name__", "") == "_call_attribute":
        setattr(type(loaded), "__call__", wrap(call))  # noqa: B010


def name_uncallable(loaded: Any, name: str) -> None:
    """Names an object for Python's error that "'...' object is not callable".

    Private: TensorFlow's loader gives each object a class of its own (load.py, 1.15 to
    2.21). Objects of other classes are left alone.
    """
    if type(loaded).__name__ == "_UserObject":
        type(loaded).__name__ = name[:190]


def settle_shape(variable: Any) -> None:
    """Gives a variable that is declared without a shape the shape of its value.

    Keras has no weights of unknown shape. Private: ``_shape`` of a variable (1.15 to
    2.21); without it, and in graphs, where nobody knows the value, nothing is done.
    """
    shape = getattr(variable, "_shape", None)
    if isinstance(shape, tf.TensorShape) and not shape.is_fully_defined():
        with tf.init_scope():
            if tf.executing_eagerly():
                variable._shape = tf.convert_to_tensor(variable).shape


def name_slots(variable: Any, name: Callable[[str], str]) -> None:
    """Names the slots that optimizers of Keras 2 make for a variable.

    Private: ``_shared_name``, a property that slots are named by (1.15 to 2.21), so the
    variable becomes one of a sub-class. Without it, and in graphs, where names are
    unique, nothing is done.

    Args:
      variable: the variable; its own name stays.
      name: from what they would be called by to what they are called by.
    """
    with tf.init_scope():
        if not tf.executing_eagerly() or not hasattr(variable, "_shared_name"):
            return
    own = variable._shared_name
    wanted = name(own)
    if wanted != own:
        # Not tracked: a string is no part of a variable's state.
        object.__setattr__(variable, "_hub_compat_slots", wanted)
        kind: Any = type(variable)
        variable.__class__ = _with_named_slots(kind)


@functools.lru_cache(maxsize=None)
def _with_named_slots(kind: Any) -> Any:
    if "_hub_compat_slots_of" in vars(kind):
        return kind
    names = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "_hub_compat_slots_of": kind,
        "_shared_name": property(lambda variable: variable._hub_compat_slots),
    }
    return type(kind)(kind.__name__, (kind,), names)


def rename_variable(variable: Any, name: str) -> None:
    """Gives a variable another name, which its slots in optimizers have as well.

    Private: ``_handle_name`` (1.15 to 2.21). Without it, and in graphs, where names are
    unique, nothing is done.
    """
    with tf.init_scope():
        if tf.executing_eagerly() and hasattr(variable, "_handle_name"):
            variable._handle_name = name


def mark_slice(variable: Any, whole: str, shape: Sequence[int], part: Any) -> None:
    """Makes a Saver treat a variable as a part of a partitioned one.

    Private: ``_set_save_slice_info`` (1.15 to 2.21), which ``get_variable()`` calls for
    the parts that a partitioner makes. Without it, nothing is done.

    Args:
      variable: the part.
      whole: the name of the partitioned variable: its key in a checkpoint.
      shape: of the whole.
      part: (offset, length) per dimension.
    """
    if hasattr(variable, "_set_save_slice_info"):
        offset = [start for start, _ in part]
        lengths = [length for _, length in part]
        variable._set_save_slice_info(
            tf.Variable.SaveSliceInfo(whole, list(shape), offset, lengths)
        )


def restore_parts(found: Any) -> None:
    """Restores the parts of a variable when the graph's variables are initialized.

    Of a variable that a strategy mirrors, TF 1.15 gives the whole what restores all
    of it, and the parts, which are those in the graph's collections, nothing. Private:
    ``_initializer_op``, and ``values`` of such a variable; without them, nothing is
    done. It can go with TF 1.15.
    """
    restore = getattr(found, "_initializer_op", None)
    if isinstance(restore, list):
        # A VariableDef has the name of one op. One of the list may be a variable as it
        # is after its assignment, which is none.
        restore = tf.group(*restore)
        found._initializer_op = restore
    parts = None if restore is None else getattr(found, "values", None)
    for part in parts or ():
        if getattr(part, "_initializer_op", restore) is None:
            part._initializer_op = tf.group(restore)


def run_with_initializers(op: Any, variables: Sequence[Any]) -> bool:
    """Runs an op of a graph whenever variables were initialized.

    Private: ``_initializer_op`` of variables, ``_add_control_inputs`` of operations
    (1.15 to 2.21); without them, nothing is done, and the answer is False.
    """
    add = getattr(op, "_add_control_inputs", None)
    if add is None or getattr(variables[-1], "_initializer_op", None) is None:
        return False
    add(tf.nest.flatten([variable.initializer for variable in variables]))
    variables[-1]._initializer_op = op
    return True


def keep_resource(found: Any) -> None:
    """Keeps Python from destroying the resource of an object with the object.

    Private: ``_resource_deleter`` and its ``_destroy_resource`` (1.15); without them,
    nothing is done. It can go with TF 1.15.
    """
    deleter: Any = getattr(found, "_resource_deleter", None)
    if getattr(deleter, "_destroy_resource", None) is not None:
        deleter._destroy_resource = None


def in_control_flow(op: Any) -> bool:
    """Whether an op of a graph is inside of a conditional or loop.

    Private: the op's control flow context, and the graphs of branches and of bodies
    where control flow is made of functions (both 1.15 to 2.21). Without them, no.
    """
    context = getattr(op, "_get_control_flow_context", None)
    if context is not None and context() is not None:
        return True
    return isinstance(op.graph, _control_flow_graphs())


@functools.lru_cache(maxsize=None)
def _control_flow_graphs() -> Tuple[type, ...]:
    try:
        from tensorflow.python.ops import control_flow_v2_func_graphs as graphs
    except ImportError:
        return ()
    names = ("CondBranchFuncGraph", "WhileBodyFuncGraph", "WhileCondFuncGraph")
    found = [getattr(graphs, name, None) for name in names]
    return tuple(graph for graph in found if graph is not None)


def has_op(name: str) -> bool:
    """Whether an op is registered, by TensorFlow itself or by a library it loaded.

    tf.raw_ops has only TensorFlow's own; it answers where ``registered_op`` cannot.
    """
    if _op_def_registry() is None:
        return hasattr(tf.raw_ops, name)
    return registered_op(name) is not None


def registered_op(name: str) -> Any:
    """The OpDef of an op of TensorFlow, or of a library it loaded; None without one.

    Private: op_def_registry, with ``get`` from TF 2.0 on, and all ops in one dict in
    1.15. Without it, no op is known.
    """
    registry = _op_def_registry()
    if registry is None:
        return None
    if hasattr(registry, "get"):
        return registry.get(name)
    return registry.get_registered_ops().get(name)


def _op_def_registry() -> Any:
    try:
        from tensorflow.python.framework import op_def_registry
    except ImportError:
        return None
    return op_def_registry


def register_control_flow_gradients() -> None:
    """Adds gradients of While and If in loaded functions, which TF 1.15 lacks.

    There they come with the modules that write such loops, which nothing imports that
    only loads them. Private: while_v2 and cond_v2, in all versions; a version without
    them has the gradients elsewhere.
    """
    with contextlib.suppress(ImportError):
        from tensorflow.python.ops import cond_v2, while_v2  # noqa: F401


_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOP = {"cond": "_cond_graph", "body": "_body_graph"}
_CONDITIONAL = {"then_branch": "_true_graph", "else_branch": "_false_graph"}
# By op, its functions, and the attributes in which TensorFlow looks for their graphs.
_FUNCTIONS_OF = {
    "While": _LOOP,
    "StatelessWhile": _LOOP,
    "If": _CONDITIONAL,
    "StatelessIf": _CONDITIONAL,
}


def keep_inner_control_flow(functions: Sequence[Any]) -> None:
    """Makes nested loops and conditionals keep what a gradient adds to them.

    A higher-order tape asks a function for its gradient until that needs nothing new.
    TensorFlow makes new graphs of a loaded loop's body each time, in which each time
    shapes are new; of one loop it knows that they are no floats, of a loop in a loop
    it does not, and so never ends. With graphs that stay, it does.

    Private: get_func_graph and the attributes ``_cond_graph``, ``_body_graph``,
    ``_true_graph`` and ``_false_graph``, which are there where a loop or conditional
    was traced (1.15 to 2.21). Without them, nothing is kept.

    Args:
      functions: ConcreteFunctions.
    """
    try:
        from tensorflow.python.ops.control_flow_util_v2 import get_func_graph
    except ImportError:
        return
    seen = set()
    graphs = [function.graph for function in functions]
    while graphs:
        graph = graphs.pop()
        for op in graph.get_operations():
            if op.type in _CALLS:
                name = op.get_attr("f").name
                called = getattr(graph._get_function(name), "graph", None)
                if called is not None and name not in seen:
                    seen.add(name)
                    graphs.append(called)
            elif op.type in _FUNCTIONS_OF and _holds_control_flow(op):
                _keep_functions(op, get_func_graph)


def _holds_control_flow(op: Any) -> bool:
    for attr in _FUNCTIONS_OF[op.type]:
        function = op.graph._get_function(op.get_attr(attr).name)
        definition = getattr(function, "cached_definition", None)
        if any(
            node.op in _FUNCTIONS_OF for node in getattr(definition, "node_def", ())
        ):
            return True
    return False


def _keep_functions(op: Any, get_func_graph: Callable[..., Any]) -> None:
    functions = _FUNCTIONS_OF[op.type]
    if functions is _LOOP:
        shapes = [tf.TensorShape(shape) for shape in op.get_attr("output_shapes")]
    else:
        shapes = [tensor.shape for tensor in list(op.inputs)[1:]]
    for attr, kept in functions.items():
        graph = get_func_graph(op, shapes, op.get_attr(attr).name)
        setattr(op, kept, graph)
        for inner in graph.get_operations():
            if inner.type in _FUNCTIONS_OF:
                _keep_functions(inner, get_func_graph)


def gradients_of_functions() -> Set[str]:
    """The names under which gradients of functions are registered in the process.

    Private: ``gradient_registry``, or ``_gradient_registry`` before TF 2.5. From TF 2.2
    on functions have their gradients themselves, and there are none.
    """
    return {name for name in _gradient_entries() if name.startswith("PartitionedCall-")}


def _gradient_entries() -> Dict[str, Any]:
    from tensorflow.python.framework import ops

    registry: Any = getattr(ops, "gradient_registry", None)
    if registry is None:
        registry = getattr(ops, "_gradient_registry", None)
    return getattr(registry, "_registry", {})


@contextlib.contextmanager
def _functions_released() -> Iterator[None]:
    """Makes functions that are loaded in it go with their last user.

    TF 1.15 registers a gradient for each function that it loads, and has the default
    graph hold it, also in eager execution. It never lets go of either, nor of the
    graphs behind them. A graph that calls a function holds that function's gradient;
    a graph for sessions holds its functions.

    Private: the entries of the registry, ``_func_graph`` of what makes a gradient, and
    ``_functions`` of a graph; without them, nothing is done. It can go with TF 1.15.
    """
    known = gradients_of_functions()
    default: Any = tf.compat.v1.get_default_graph() if tf.executing_eagerly() else None
    held = getattr(default, "_functions", {})
    names = set(held)
    try:
        yield
    finally:
        found = gradients_of_functions() - known
        for name in found:
            _release_gradient(name)
        # Where functions have their gradients themselves, none is held for ever.
        for name in set(held) - names if found else ():
            del held[name]


def _release_gradient(name: str) -> None:
    entries = _gradient_entries()
    gradient = entries[name].get("type")
    for cell in getattr(gradient, "__closure__", None) or ():
        graph = getattr(cell.cell_contents, "_func_graph", None)
        if graph is not None:
            graph._hub_compat_gradient = gradient
            entries[name]["type"] = _held_elsewhere(weakref.ref(gradient))
            forget = functools.partial(entries.pop, name, None)
            weakref.finalize(gradient, forget).atexit = False


def _held_elsewhere(found: Callable[[], Any]) -> Callable[..., Any]:
    def gradient(op: Any, *upstream: Any) -> Any:
        return found()(op, *upstream)

    return gradient


def in_tf1_graph() -> bool:
    """Whether ops go into a graph for sessions, rather than run or into a function.

    Public from TF 2.0 on; private in 1.15 (framework.ops). Without it, not eagerly.
    """
    found = getattr(tf.compat.v1, "executing_eagerly_outside_functions", None)
    if found is None:
        try:
            from tensorflow.python.framework import ops
        except ImportError:
            return not tf.executing_eagerly()
        found = getattr(
            ops, "executing_eagerly_outside_functions", tf.executing_eagerly
        )
    return not found()


def prepare_gradients(outputs: Any, variables: Sequence[Any]) -> None:
    """Makes the calls behind tensors of a TF1 graph return what gradients need.

    TF 1.15 changes a call when it is first differentiated, which is too late once a
    session has seen it ("Connecting to invalid output"). Not needed from TF 2.0 on.
    """
    if not tf.__version__.startswith("1.") or not variables:
        return
    floating = [t for t in tf.nest.flatten(outputs) if t.dtype.is_floating]
    if floating:
        # What has no gradient fails again, and with reason, when one is asked for.
        with contextlib.suppress(AssertionError, LookupError, TypeError, ValueError):
            tf.gradients(floating, list(variables))


def lacks_gradients(function: Any) -> bool:
    """Whether a loaded function has an op without gradient, between floats.

    Private: get_gradient_function and _get_function (1.15 to 2.21), and the graph of a
    trace. Without them, no.
    """
    seen: Set[str] = set()
    # Another callable has no graph: its ops are recorded one by one.
    found = [trace.graph for trace in traces_or_self(function)]
    while found:
        graph = found.pop()
        for op in graph.get_operations():
            called = [
                value.func.name
                for value in op.node_def.attr.values()
                if value.HasField("func")
            ]
            if called:
                for name in set(called) - seen:
                    seen.add(name)
                    inner = getattr(graph._get_function(name), "graph", None)
                    found.extend([] if inner is None else [inner])
            elif gradient_kind(op) == "missing":
                if any(map(carries_gradients, op.inputs)):
                    if any(map(carries_gradients, op.outputs)):
                        return True
    return False


def tell_handles(functions: Sequence[Any]) -> None:
    """Tells the graphs of loaded functions the dtypes and shapes of variables.

    The loaders of TF 2.4 and 2.5 leave them out, and a gradient of a variable that is
    handed on to a function is lost, or ends in "without handle data". Private:
    handle_data_util (2.4 to 2.21), ``_handle_data`` behind it, and the graphs of
    functions; without them, nothing is done. It can go with TF 2.5.

    Args:
      functions: traces.
    """
    if not tf.__version__.startswith(("2.4.", "2.5.")):
        return
    from tensorflow.python.ops import handle_data_util

    def tell(sources: Sequence[Any], targets: Sequence[Any]) -> None:
        for source, target in zip(sources, targets):
            if target.dtype == tf.resource:
                handle_data_util.copy_handle_data(source, target)

    seen: Set[int] = set()
    pending = []
    for function in functions:
        captured = list(function.captured_inputs)
        tell(captured, function.graph.inputs[len(function.inputs) - len(captured) :])
        pending.append(function.graph)
    while pending:
        graph = pending.pop()
        if id(graph) in seen:
            continue
        seen.add(id(graph))
        for op in graph.get_operations():
            if op.type == "Identity":
                tell(list(op.inputs), op.outputs)
            elif op.type in _CALLS:
                for inner in called_graphs(op):
                    tell(list(op.inputs), inner.inputs)
                    seen.discard(id(inner))
                    pending.append(inner)


def traces_or_self(function: Any) -> List[Any]:
    """The traces of a loaded function, or itself if it is one."""
    traces = _traces(function) or [function]
    return [trace for trace in traces if hasattr(trace, "captured_inputs")]


# Ops that a program may give a gradient of its own, which the type does not say.
OWN_GRADIENTS = ("IdentityN",)
# Registered gradients that give None for every input (math_grad.py, 1.15 to 2.21).
_GIVE_NONE = {"Ceil", "Floor", "FloorDiv", "Rint", "Round", "TruncateDiv"}
# The functions of an op through which gradients go.
_CALLED = {
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
    "While": ("body",),
    "StatelessWhile": ("body",),
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
}
_NO_GRADIENT = "hub_compat_no_gradient"


def gradient_kind(op: Any) -> str:
    """What TensorFlow does where a gradient reaches an op of a function.

    Private: get_gradient_function (1.15 to 2.21). Without it, all have a gradient.

    Returns:
      ``"missing"``: an error; ``"none"``: it goes no further; ``"calls"``: it goes
      through functions; ``"there"``: the op has a gradient.
    """
    try:
        from tensorflow.python.framework.ops import get_gradient_function
    except ImportError:
        return "there"
    if op.type == "PreventGradient":
        return "missing"
    try:
        gradient = get_gradient_function(op)
    except LookupError:
        return "missing"
    if gradient is _no_gradient:
        return "missing"
    if gradient is None or op.type in _GIVE_NONE:
        return "none"
    return "calls" if op.type in _CALLED else "there"


def called_graphs(op: Any) -> List[Any]:
    """The graphs of the functions that a gradient of an op goes through.

    Private: _get_function, and the graph of what it returns (1.15 to 2.21). Without
    them, none.
    """
    names = [op.get_attr(attr).name for attr in _CALLED.get(op.type, ())]
    find = getattr(op.graph, "_get_function", None)
    found = [getattr(find(name), "graph", None) for name in names if find is not None]
    return [graph for graph in found if graph is not None]


def stop_gradient_at(op: Any) -> None:
    """Stops gradients at an op of a function.

    Private: ``_gradient_function`` of an op (2.4 to 2.21), which no file holds; and
    ``_set_attr`` for 1.15, whose files hold no gradients.
    """
    if hasattr(op, "_gradient_function"):
        op._gradient_function = _no_gradient
        return
    value = attr_value_pb2.AttrValue(s=_NO_GRADIENT.encode())
    op._set_attr("_gradient_op_type", value)


def _no_gradient(op: Any, *upstream: Any) -> Any:
    return [None] * len(op.inputs)


def takes_no_gradients() -> bool:
    """Whether a function may have no gradient of any input (not in TF 1.15)."""
    return not tf.__version__.startswith("1.")


def can_stop_gradients() -> bool:
    """Registers, once, what ``stop_gradient_at`` needs; says whether that works."""
    if not hasattr(tf.Operation, "_set_attr"):
        return False
    with contextlib.suppress(KeyError):
        tf.RegisterGradient(_NO_GRADIENT)(_no_gradient)
    return True


def carries_gradients(tensor: Any) -> bool:
    """Whether TensorFlow passes a gradient on to, or through, a tensor."""
    dtype = tensor.dtype.base_dtype
    return bool(
        dtype.is_floating or dtype.is_complex or dtype in (tf.resource, tf.variant)
    )


def recording_stopped(tensors: Sequence[Any]) -> Any:
    """A context in which tapes do not record, where none of them watches the tensors.

    Private: tape.py of TensorFlow's eager execution, whose functions are in record.py
    from 2.12 on; for forward-mode gradients, forwardprop_util (from 2.1 on). Without
    them, tapes go on.
    """
    try:
        from tensorflow.python.eager import record
    except ImportError:
        from tensorflow.python.eager import tape as record
    asks = getattr(record, "should_record_backprop", None) or record.should_record
    if not record.could_possibly_record() or asks(tensors):
        return contextlib.nullcontext()
    with contextlib.suppress(ImportError):
        from tensorflow.python.eager import forwardprop_util

        if forwardprop_util.pack_tangents(tensors).tangents:
            return contextlib.nullcontext()
    return record.stop_recording()


def call_arguments(function: Any) -> Sequence[str]:
    """Names of the arguments that a callable can be called with.

    Private: tf_inspect, which sees through TensorFlow's decorators (1.15 to 2.21);
    Python's own inspect otherwise, which does so from TF 2.12 on.
    """
    try:
        from tensorflow.python.util import tf_inspect as inspector
    except ImportError:
        inspector = inspect
    if not inspect.isroutine(function) and not hasattr(
        function, "get_concrete_function"
    ):
        function = function.__call__
    try:
        found = inspector.getfullargspec(function)
    except TypeError:
        return ()
    return tuple(found.args) + tuple(found.kwonlyargs)


def traces_of(function: Any) -> List[Any]:
    """For each trace of a loaded function, its positional arguments: nests of specs."""
    return [
        trace.structured_input_signature[0]
        for trace in _traces(function)
        if trace.structured_input_signature is not None
    ]


def used_variables(function: Any, candidates: Sequence[Any]) -> List[Any]:
    """Those of some objects that are variables which a loaded function uses."""
    traces = _traces(function) or [function]
    handles = {id(c) for t in traces for c in getattr(t, "captured_inputs", ())}
    variables = [found for found in candidates if isinstance(found, tf.Variable)]
    return [variable for variable in variables if id(variable.handle) in handles]


def _traces(function: Any) -> Sequence[Any]:
    if not hasattr(function, "concrete_functions") and callable(function):
        function = function.__call__
    return getattr(function, "concrete_functions", None) or ()


def load_options_class() -> Optional[type]:
    """``tf.saved_model.LoadOptions``, or None where TensorFlow has none."""
    return getattr(tf.saved_model, "LoadOptions", None)
