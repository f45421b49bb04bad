"""Weights as small integers: each row of a matrix shares one scale, and so does each token's row of activations.

Reading one token takes as long as the weights take to come from memory, so most of the gain is that they are a quarter
as large. A long prompt takes as long as the multiplications, and a processor has several times more multipliers for
bytes. The products are summed as integers, exactly: a token gives the same bits alone and among others. The activations
get their scales while the graph runs (graph.py). Whether a model stays good enough is measured when it is loaded, on
this machine (selftest.py).

`int7` keeps a bit free: processors without VNNI add two products of bytes in sixteen bits, where eight-bit weights
overflow. The self-test finds that out, too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import Precision

LEVELS: dict[Precision, int] = {"int8": 127, "int7": 63}


def by_rows(matrix: Array, levels: int) -> tuple[npt.NDArray[np.int8], Array]:
    """A matrix `(n, k)` as integers `(k, n)`, as the kernel multiplies them, and scales `(n,)`.

    value = integer * scale, magnitudes up to `levels`. Rounding moves no value by more than half its row's scale.
    """
    scales: Array = np.abs(matrix).max(axis=1) / np.float32(levels)
    divisor = np.where(scales > 0, scales, np.float32(1))
    rounded = np.rint(matrix / divisor[:, None]).astype(np.int8)
    return np.ascontiguousarray(rounded.T), scales


def rows(matrix: Array, levels: int) -> tuple[npt.NDArray[np.int8], Array]:
    """A table `(n, k)` as integers `(n, k)` and scales `(n,)`, to be looked up by rows; as `by_rows` otherwise."""
    integers, scales = by_rows(matrix, levels)
    return np.ascontiguousarray(integers.T), scales
