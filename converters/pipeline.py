"""The passes, in their order: from a MetaGraphDef as a file has it to one of functions.

A pass is a function of the graph and its ``Context``. It changes the graph in one
respect, and sets the fields of the context that say so. With
``HUB_COMPAT_CHECK_PASSES=1`` what a pass ensures is checked after it, as in the tests.
"""

from __future__ import annotations

import os
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from hub_compat.errors import ConversionError, HubCompatError

from .frontend import initializers, metagraph, registration
from .ir.context import Context, Source
from .ir.graph import Graph
from .ir.model import Model, VariantGraph
from .passes import (
    call_order,
    control_flow,
    control_outputs,
    counters,
    custom_gradients,
    defun_calls,
    dropped_ops,
    gradient_guards,
    handle_shapes,
    invariants,
    iterators,
    made_tables,
    resource_tables,
    resource_variables,
    stopped_loops,
    switch_case,
    temporaries,
    variable_values,
)
from .request import Exclusions

__all__ = ["PASSES", "Pass", "add_variant"]


class Pass(NamedTuple):
    """One step.

    Attributes:
      name: as errors and this list call it.
      run: the pass.
      ensures: what holds from here on; says what does not, or gives None.
    """

    name: str
    run: Callable[[Graph, Context], None]
    ensures: Optional[Callable[[Graph, Context], Optional[str]]] = None


PASSES: Tuple[Pass, ...] = (
    # The init op may fill tables that only a function makes.
    Pass("tables made in functions", made_tables.run),
    # Its new initializers are among what "initial values" finds.
    Pass("iterators", iterators.run),
    # Reads the graph as the session runs it: no op may have been replaced by now.
    Pass("initial values", initializers.find),
    # All later passes see nodes that something wants, and no optimizer's.
    Pass("nodes that nothing needs", initializers.drop_unneeded),
    Pass("loops without gradient", stopped_loops.run),
    # May bring in reference variables and TF1 control flow.
    Pass("dropped ops", dropped_ops.run),
    # A temporary variable is a reference that no resource can be.
    Pass("temporary variables", temporaries.run),
    Pass("variables", resource_variables.run, invariants.no_references),
    # Takes the handle that the pass on variables has made.
    Pass("counters", counters.run),
    Pass("tables", resource_tables.run),
    # A loss may be a reference to a variable.
    Pass("values of losses", resource_variables.read_losses),
    # From here on, a function is called by PartitionedCall and nothing else.
    Pass("calls of Defuns", defun_calls.run),
    Pass("tf.switch_case", switch_case.run),
    # Before loops are inlined, as it is about functions that have them.
    Pass("variables passed by value", variable_values.run),
    # Functions with a custom gradient are not inlined: it would go with them.
    Pass("custom gradients", custom_gradients.find_lost),
    Pass("inlined calls", control_flow.inline),
    Pass("custom gradients of nodes", custom_gradients.settle),
    # Before its loops become While: a gradient's loop needs the forward one as it is.
    Pass("forward copies", control_flow.copy_forward),
    Pass("control flow", control_flow.run, invariants.no_control_flow),
    # The functions that it describes are all there now.
    Pass("shapes of handles", handle_shapes.run),
    Pass("control outputs", control_outputs.run),
    Pass("order of calls", call_order.run),
    # Last: it guards what none of the others could rewrite.
    Pass("gradient guards", gradient_guards.run, invariants.no_loose_ends),
)


def add_variant(
    model: Model,
    meta_graph: Any,
    source: Source,
    exclusions: Exclusions,
) -> VariantGraph:
    """Adds one MetaGraphDef, which it takes apart, to the model.

    Args:
      model: takes it.
      meta_graph: the proto.
      source: where it is from, and what becomes of the result.
      exclusions: what to leave out.

    Raises:
      ConversionError, CorruptModuleError: it cannot be converted.
    """
    graph, context = metagraph.read_variant(model, meta_graph, source, exclusions)
    run(PASSES, graph, context)
    return registration.register(graph, context)


def run(passes: Tuple[Pass, ...], graph: Graph, context: Context) -> None:
    """Runs passes over a graph.

    Raises:
      ConversionError: a pass failed, or left what it should not.
    """
    check = bool(os.environ.get("HUB_COMPAT_CHECK_PASSES"))
    done: List[str] = []
    for step in passes:
        try:
            step.run(graph, context)
        except HubCompatError:
            # It says what it is about.
            raise
        except Exception as error:
            raise _failed(step, context, done, repr(error)) from error
        if check and step.ensures is not None:
            problem = step.ensures(graph, context)
            if problem:
                raise _failed(step, context, done, problem)
        done.append(step.name)


def _failed(step: Pass, context: Context, done: List[str], what: str) -> Exception:
    return ConversionError(
        "The conversion failed in the pass {!r}, over the variant {}, after {}. This "
        "is a defect of hub_compat: please report it, with the model. "
        "Received: {}".format(
            step.name,
            list(context.tags),
            ", ".join(map(repr, done)) or "no other",
            what,
        )
    )
