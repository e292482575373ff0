"""A module in a graph: its state, and each application of a signature."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from hub_compat._tf import tf
from hub_compat._tf.array_gradients import keep_array_gradients
from hub_compat._tf.gradients import register_control_flow_gradients
from hub_compat._tf.graphs import (
    capture,
    import_into,
    is_function,
    names_in_use,
    restore_names,
    slice_of,
)
from hub_compat._tf.loading import LOAD_ERRORS
from hub_compat.converters.checkpoint.writer import Typed
from hub_compat.converters.ir.graph import split_tensor
from hub_compat.errors import CorruptModuleError, HubCompatError, UnknownOpError

from . import colocation, tensor_info
from .graph_parts import GraphParts, Part

__all__ = ["ModuleImpl", "recover_partitioned_variable_map"]


# What is in the graph, for Module(spec, name="module") that is applied twice:
#
#     module/...              state_part: variables, tables, assets, initializers
#     module_apply_default/   signature_part, fed with the inputs and the state above
#     module_apply_default_1/ the same again
#
#     _state: tensor of a state node in the module -> the tensor in this graph
class ModuleImpl:
    """A module that was imported into the graph at hand.

    Args:
      parts: the variant's graph.
      checkpoint: the prefix of the checkpoint with the variables' values; None for
        their own initializers.
      keys: keys in it of variables that are there under other names than their own.
      trainable: whether its variables are trained.
      name: of the scope in the one that is open; no other may have it.

    Attributes:
      variable_map: variables by their names in the module; a partitioned one is a list
        of its parts.
    """

    def __init__(
        self,
        parts: GraphParts,
        checkpoint: Optional[str],
        keys: Mapping[str, str],
        trainable: bool,
        name: str,
    ) -> None:
        register_control_flow_gradients()
        self._parts = parts
        self._trainable = trainable
        graph = tf.compat.v1.get_default_graph()
        self._scope = graph.unique_name(name, mark_as_used=False)
        part = parts.state_part(trainable, valued=checkpoint is not None)
        _share_in_scope(part, self._scope)
        _import(part, name, {})
        self._state = {
            node + ":0": graph.get_tensor_by_name("{}/{}:0".format(self._scope, node))
            for node in parts.state
        }
        self.variable_map = _variable_map(self._scope)
        if checkpoint is not None and self.variable_map:
            self._restore(checkpoint, keys)

    def _restore(self, checkpoint: str, keys: Mapping[str, str]) -> None:
        """Makes the variables' initializers read the checkpoint."""
        wanted = {
            keys.get(name, name): variable
            for name, variable in self.variable_map.items()
        }
        try:
            tf.compat.v1.train.init_from_checkpoint(checkpoint, wanted)
        except LOAD_ERRORS as error:
            raise CorruptModuleError(
                "The module's checkpoint has not the values of its variables. It was "
                "exported or fetched in part; get the module again ({}). Received: "
                "{!r}".format(" ".join(str(error).split())[:400], checkpoint)
            ) from error

    # Twice tried: with all that depends on the inputs, for programs that fetch tensors
    # between; then with what the outputs need alone. Names that the first attempt took
    # are given back, so that the scope has the name that a program expects.
    def create_apply_graph(
        self, signature: str, input_tensors: Mapping[str, Any], name: str
    ) -> Dict[str, Any]:
        """Applies a signature.

        Args:
          signature: its name.
          input_tensors: tensors or composite tensors by name.
          name: of the scope.

        Returns:
          The outputs by name.
        """
        graph = tf.compat.v1.get_default_graph()
        definition = self._parts.signatures[signature]
        # A copy without what the outputs do not need: functions run all of their ops.
        in_function = is_function(graph)
        given = tensor_info.feeds(definition.inputs, input_tensors)
        feeds: Dict[str, Any] = {}
        scope = graph.unique_name(name, mark_as_used=False)
        taken = names_in_use(graph)
        for more in (True, False):
            part = self._parts.signature_part(
                definition, self._trainable, in_function, more
            )
            for tensor in sorted(part.fed):
                if tensor not in feeds:
                    value = given[tensor] if tensor in given else self._state[tensor]
                    feeds[tensor] = capture(value)
            used = {tensor: feeds[tensor] for tensor in part.fed}
            _share_in_scope(part, scope)
            try:
                _import(part, scope.rsplit("/", 1)[-1], _with_awaited(part, used))
                break
            except UnknownOpError:
                # What the outputs do not need may not fit these inputs.
                if not more:
                    raise
                restore_names(graph, taken)
        if not in_function:
            colocation.follow_inputs(scope, used, part.colocated)

        arrays = ["{}/{}".format(scope, name) for name in part.arrays]
        keep_array_gradients(graph.get_operation_by_name(name) for name in arrays)

        def find(tensor: str) -> Any:
            node, index = split_tensor(tensor)
            whole = "{}:{}".format(node, index)
            if whole in used:
                # An output that is an input has no op in the scope.
                return used[whole]
            return graph.get_tensor_by_name("{}/{}".format(scope, whole))

        return tensor_info.fetches(definition.outputs, find)

    def values(self, session: Any) -> Dict[str, Any]:
        """The values of the variables in a session, by their names in the module."""
        fetched = _run(session, self.variable_map)
        return {
            name: _typed(self.variable_map[name], value)
            for name, value in fetched.items()
        }


def _run(session: Any, fetches: Any) -> Any:
    """Runs a session; one that is monitored, without its hooks."""
    if hasattr(session, "run_step_fn"):
        return session.run_step_fn(lambda context: context.session.run(fetches))
    return session.run(fetches)


def _typed(variable: Any, value: Any) -> Typed:
    if isinstance(variable, list):
        first = slice_of(variable[0])
        whole = np.zeros(first.full_shape, value[0].dtype)
        for part, array in zip(variable, value):
            place = slice_of(part)
            whole[
                tuple(
                    slice(start, start + length)
                    for start, length in zip(place.var_offset, place.var_shape)
                )
            ] = array
        variable, value = variable[0], whole
    array = np.asarray(value)
    if array.dtype.names:
        # Quantized values are of a dtype with one field.
        array = array.view(array.dtype[0])
    return Typed(variable.dtype.base_dtype.as_datatype_enum, array)


def _import(part: Part, name: str, input_map: Mapping[str, Any]) -> None:
    try:
        import_into(part.meta_graph, name, input_map)
    except HubCompatError:
        raise
    except LOAD_ERRORS + (KeyError, TypeError) as error:
        raise UnknownOpError(
            "TensorFlow {} does not import the module's graph, which TensorFlow {} "
            "wrote. Use that TensorFlow, or import the packages first whose ops the "
            "module has ({}). Received: {!r}".format(
                tf.__version__,
                part.meta_graph.meta_info_def.tensorflow_version
                or "of unknown version",
                " ".join(str(error).split())[:600],
                name,
            )
        ) from error


def _with_awaited(part: Part, feeds: Mapping[str, Any]) -> Dict[str, Any]:
    """Adds that what runs after a replaced node runs after what replaces it."""
    found = dict(feeds)
    for tensor, value in feeds.items():
        node, _ = split_tensor(tensor)
        if node in part.awaited:
            found.setdefault("^" + node, value)
    return found


def _share_in_scope(part: Part, scope: str) -> None:
    """Gives resources that are found by name one for each instance of the module."""
    for node in part.meta_graph.graph_def.node:
        if "shared_name" in node.attr and node.attr["shared_name"].s:
            name = node.attr["shared_name"].s.decode("utf-8", "replace")
            shared = "{}/{}".format(scope, name)
            node.attr["shared_name"].s = shared.encode("utf-8")


def _variable_map(scope: str) -> Dict[str, Any]:
    """The variables of a scope by their names in it; a list for a partitioned one."""
    prefix = scope + "/"
    return recover_partitioned_variable_map(
        {
            variable.op.name[len(prefix) :]: variable
            for variable in tf.compat.v1.global_variables()
            if variable.op.name.startswith(prefix)
        }
    )


def recover_partitioned_variable_map(variables: Mapping[str, Any]) -> Dict[str, Any]:
    """Gathers the parts of partitioned variables, in their order.

    Args:
      variables: by name; ``{"w/part_0": ..., "w/part_1": ..., "b": ...}``.

    Returns:
      The variables by name, with a list of its parts for one that has parts.
    """
    found: Dict[str, Any] = {}
    parts: Dict[str, List[Any]] = {}
    for name, variable in variables.items():
        place = slice_of(variable)
        if place is None:
            found[name] = variable
        else:
            scope = len(variable.op.name) - len(name)
            parts.setdefault(place.full_name[scope:], []).append(variable)
    for name, own in parts.items():
        found[name] = sorted(own, key=lambda part: list(slice_of(part).var_offset))
    return found
