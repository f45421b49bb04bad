"""Weights in eight bits: blocks of 32 along a row share one scale, as in llama.cpp's Q8_0.

A token is read at the speed at which the weights come from memory, so a quarter of the bytes is most of the gain.
The activations are rounded in the same blocks by the kernel (`MatMulNBits`, accuracy level 4). Whether a model bears
it is not assumed but measured on each model when it is loaded (selftest.py), on this machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sordino_client.completion.bundle import Array

BLOCK = 32
LEVELS = 127
ZERO_POINT = 128  # what the kernel takes a byte without a zero point of its own to mean


def by_blocks(matrix: Array) -> tuple[npt.NDArray[np.uint8], Array]:
    """A matrix `(n, k)` as bytes `(n, blocks, BLOCK)` and scales `(n * blocks,)`; the last block is padded with zeros.

    value = (byte - ZERO_POINT) * scale. Rounding moves no value by more than half a scale, that is by more than
    1/254 of the largest magnitude of its block.
    """
    rows, columns = matrix.shape
    blocks = -(-columns // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :columns] = matrix
    grouped = padded.reshape(rows, blocks, BLOCK)
    scales: Array = np.abs(grouped).max(axis=-1) / np.float32(LEVELS)
    divisor = np.where(scales > 0, scales, np.float32(1))
    rounded = np.rint(grouped / divisor[..., None]) + ZERO_POINT
    return rounded.astype(np.uint8), scales.reshape(-1)
