"""Rotates activations that do not come out of a norm, so that they are even: the output of the attention heads, and the
inner activations of a layer's network.

A few places of these are far larger than all others, so rounding a row by its largest value leaves few levels to the
rest. An orthogonal matrix spreads such an outlier over all places, and the next matrix rotates back: the product is the
same (QuaRot, Ashkboos et al. 2024). The numbers are then distributed like a bell curve, whatever the text. Values are
turned within each head when a base is loaded, at no cost. Inner activations are turned while a token is read, because a
product of two numbers stands before them.

The orthogonal matrix is a Hadamard matrix of up to BLOCK places in each block, and cosines over the blocks: two small
products instead of a large one.
"""

from __future__ import annotations

import math

import numpy as np

from sordino_client.completion.bases.form import Form
from sordino_client.completion.bundle import Array

BLOCK = 64


def factors(size: int) -> tuple[Array, Array]:
    """The two orthogonal matrices, over the blocks `(n, n)` and within one `(m, m)`, of `size = n * m` places."""
    within = math.gcd(size, BLOCK)
    if within == size:  # one row alone would be multiplied in another order than several
        within = max(within // 2, 1)
    return _cosines(size // within), _hadamard(within)


def turned(x: Array) -> Array:
    """Rows `(..., size)`, each times the orthogonal matrix of its size."""
    over, within = factors(x.shape[-1])
    blocks = x.reshape(*x.shape[:-1], len(over), len(within))
    found: Array = (over @ (blocks @ within)).reshape(x.shape)
    return found


def turned_layer(form: Form, layer: dict[str, Array]) -> dict[str, Array]:
    """One layer (`Weights.layer`) with its values turned, and matrices that read them and turned inner activations."""
    found = dict(layer)
    heads, size = form.shape.heads, form.shape.size
    for part in ("query_key_value.weight", "query_key_value.bias"):
        if part in found:
            rows = found[part].copy()
            values = rows[-heads * size :].reshape(heads, size, -1).swapaxes(1, 2)
            rows[-heads * size :] = turned(values).swapaxes(1, 2).reshape(heads * size, *rows.shape[1:])
            found[part] = rows
    out = found["attention_out.weight"]
    found["attention_out.weight"] = turned(out.reshape(len(out), -1, size)).reshape(out.shape)
    found["contract.weight"] = turned(found["contract.weight"])
    return found


def _hadamard(size: int) -> Array:
    found = np.ones((1, 1))
    while len(found) < size:
        found = np.block([[found, found], [found, -found]])
    result: Array = (found / size**0.5).astype(np.float32)
    return result


def _cosines(size: int) -> Array:
    at = np.arange(size)
    found = np.cos(np.pi * np.outer(at, at + 0.5) / size) * (2 / size) ** 0.5
    found[0] = size**-0.5
    result: Array = found.astype(np.float32)
    return result
