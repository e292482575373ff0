"""What of the suite runs in every TensorFlow from 1.15 to 2.21: ``make test-versions``.

A test is part of it by the marker ``smoke``, whose argument is the column of README's
table of versions. It is counted there by its parameter ``module`` or ``name``.
"""

from __future__ import annotations

from typing import Any, List

import pytest

# Columns.
TF1 = "TF1 modules and SavedModels"
NEWER = "models of TensorFlow 2.21"
KERAS = "`KerasLayer`, `export_reusable`"

# Of testdata/, a module for each thing that TensorFlow's versions do in their own way:
# both formats; statistics, assets, tables, loops, conditionals, partitions.
MODULES = (
    "branches",
    "image_bn",
    "optional_inputs",
    "recurrent",
    "ref_partitioned",
    "sparse_ragged",
    "tables",
    "text_embedding",
    "tf1_estimator_modes",
    "tf1_moving_averages",
    "tf1_simple_save",
)


def marks(module: str, column: str) -> List[Any]:
    """The mark of a test of a module, where it is one of those."""
    return [pytest.mark.smoke(column)] if module in MODULES else []


def parameters(modules: List[str], column: str) -> List[Any]:
    """Names of modules as parameters, with the mark."""
    return [pytest.param(name, marks=marks(name, column)) for name in modules]
