"""All test modules, in the order in which they are written.

``LARGE`` are not in the repository: the tests that need them have them written.
"""

from __future__ import annotations

from typing import Tuple

import large
import modules_decoding
import modules_graphs
import modules_loops
import modules_signatures
import modules_text
import modules_variables
import saved_models
from define import Definition

# Modules that others are made of come first.
DEFINITIONS: Tuple[Definition, ...] = (
    modules_text.DEFINITIONS
    + modules_variables.DEFINITIONS
    + modules_signatures.DEFINITIONS
    + modules_graphs.DEFINITIONS
    + modules_loops.DEFINITIONS
    + modules_decoding.DEFINITIONS
    + saved_models.DEFINITIONS
)
LARGE: Tuple[Definition, ...] = large.DEFINITIONS
