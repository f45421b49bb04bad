"""Even inputs: what makes eight bits enough for activations that have a few very large places.

A row of activations is rounded by its largest magnitude, so one outlying place leaves few levels to all others. The
outliers of a trained decoder stand in the same places for every text. So each place is divided by a factor, and the
column of the matrix that reads it multiplied: the product is the same, and the matrix, whose columns are even, bears it
(SmoothQuant, Xiao et al. 2023). The division is folded into the norm that made the input, so it costs nothing. What no
norm made is turned instead (rotation.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sordino_client.completion.bundle import Array

# How much of the unevenness the matrix takes over.
SHARE = 0.5
# Of a place's magnitudes, the one that so many stay below: the largest of all is one token's, and another text's is
# another (ADR 43).
USUAL = 0.98
# The first tokens of a text are where every head looks that has nothing to look at: not like any other.
SKIPPED = 4
NORMS = {"query_key_value": "norm_attention", "expand": "norm_network", "head": "norm_out"}


def factors(magnitudes: Array, matrix: Array) -> Array:
    """For each input, from its usual magnitude `(inputs)` and the matrix `(outputs, inputs)`; 1 in the middle."""
    columns = np.abs(matrix).max(axis=0)
    given = np.maximum(magnitudes, np.float32(1e-6)) ** np.float32(SHARE)
    found: Array = given / np.maximum(columns, np.float32(1e-6)) ** np.float32(1 - SHARE)
    found /= np.exp(np.log(found).mean())
    return np.clip(found, np.float32(1e-3), np.float32(1e3))


def fold(layer: dict[str, Array], by: Mapping[str, Array]) -> None:
    """Divides what the norms give to the matrices, and multiplies the columns that read it, in place."""
    for name, factor in by.items():
        layer[name + ".weight"] = layer[name + ".weight"] * factor
        for part in (".weight", ".bias"):
            if NORMS[name] + part in layer:
                layer[NORMS[name] + part] = layer[NORMS[name] + part] / factor
