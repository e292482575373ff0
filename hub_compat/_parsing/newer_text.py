"""Text-format protos of a newer TensorFlow than the one at hand.

In the binary format a field that a proto does not have is passed over. In the text
format it is an error, as a damaged name is; here it is one only where TensorFlow up to
2.21 has no field of that name.
"""

from __future__ import annotations

import re
from typing import Any, Set

__all__ = ["FIELDS", "parse"]

# Names in a SavedModel that TensorFlow 2.21 has, and 1.15 has not.
FIELDS = frozenset(
    "args bounded_tensor_spec_value captured_tensor code col concrete_function "
    "debug_info defaults dependencies experimental_distributed_variable_components "
    "experimental_full_type experimental_type file_index file_line_cols files "
    "float8_val frame_id frames_by_id function_aliases handle_data "
    "is_distributed_communication jit_compile line maximum name_to_trace_id "
    "num_flat_components numpy_value registered_gradients registered_name "
    "registered_op_type registered_saver resource_arg_unique_id restore_function "
    "save_function saveable_objects serialized_user_proto tensor_value traces "
    "traces_by_id type_id".split()
)
# A printed message has a field on each line, and no line end within a string.
_FIELD = re.compile(r"^\s*([A-Za-z_][A-Za-z0-9_]*)\s*[:{<]", re.MULTILINE)


def parse(text: str, message: Any) -> Any:
    """Parses a text-format proto, and passes over what only newer versions know.

    Args:
      text: as ``str(message)`` is.
      message: an empty message.

    Returns:
      The message.

    Raises:
      ParseError: (of protobuf) it is no such text, or has a field of another name.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, message)
    except text_format.ParseError:
        known: Set[str] = set()
        _collect(message.DESCRIPTOR, known, set())
        unknown = set(_FIELD.findall(text)) - known
        if not unknown or not unknown <= FIELDS:
            raise
    message.Clear()
    return text_format.Parse(text, message, allow_unknown_field=True)


def _collect(descriptor: Any, names: Set[str], seen: Set[str]) -> None:
    """Adds the names of all fields in a message, and in those within."""
    if descriptor.full_name in seen:
        return
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        names.add(field.name)
        if field.message_type is not None:
            _collect(field.message_type, names, seen)
