"""Names that mean something in every SavedModel."""

from __future__ import annotations

__all__ = ["ATTACHMENTS", "INIT_SIGNATURE", "INTERNAL_SIGNATURES", "OBJECT_GRAPH"]

# TensorFlow's own signatures begin so; nobody calls them.
INTERNAL_SIGNATURES = "__saved_model_"
# The one that names the init op, and its output.
INIT_SIGNATURE = INTERNAL_SIGNATURES + "init_op"
# The collection of what a publisher attached (tensorflow_hub/native_module.py).
ATTACHMENTS = "hub_module_attachments"
# The key in a checkpoint of the graph of its objects (trackable/base.py).
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
