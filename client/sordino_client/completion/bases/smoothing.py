"""Evens out a matrix's inputs, so that eight bits are enough for activations with a few very large places.

A row of activations is rounded by its largest magnitude, so one outlier leaves few levels to all others. The outliers
of a trained decoder stand in the same places for every text. So each place is divided by a factor, and the matrix's
column for it is multiplied by the same: the product does not change, and the matrix, whose columns are even, can bear
it (SmoothQuant, Xiao et al. 2023). The division is folded into the norm before, so it costs nothing. Activations that
do not come out of a norm are rotated instead (rotation.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sordino_client.completion.bundle import Array

# The share of the unevenness that moves into the matrix.
SHARE = 0.5
# The quantile of a place's magnitudes that is used. The largest of all belongs to one token, and another text has
# another (ADR 43).
USUAL = 0.98
# The first tokens are left out: heads with nothing to attend to look at them, so they are unlike all others.
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
