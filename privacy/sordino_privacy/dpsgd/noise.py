"""Gaussian noise in float64: Box-Muller (1958) on AES-CTR words, added before the one rounding to float32.

The sum of gradients is widened to float64, the noise is added there, and only the result is rounded. The float32 grid
that an observer sees then depends only on the size of the result, not on how noise and signal were rounded separately
(Mironov 2012). The quantiser of the aggregation protocol rounds once more, to a public grid.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sordino_privacy.keystream import Keystream

# Coordinates per piece: large enough for vector units, small enough to stay in the cache.
PIECE = 1 << 16
_UNIT = 2.0**-53


def standard_normal(keystream: Keystream, count: int, *, deviation: float = 1.0) -> Tensor:
    """`count` independent normal float64 values; the largest that can occur is 8.6 deviations."""
    half = (count + 1) // 2
    # The top 53 bits of a word, which float64 holds exactly; as signed integers, which convert faster.
    bits = torch.from_numpy((keystream.words(2 * half) >> np.uint64(11)).view(np.int64)).double()
    # (0, 1], so that the logarithm is finite.
    radius = bits[:half].add_(1.0).mul_(_UNIT).log_().mul_(-2.0 * deviation**2).sqrt_()
    angle = bits[half:].mul_(2 * math.pi * _UNIT)
    normal = torch.empty(2 * half, dtype=torch.float64)
    torch.cos(angle, out=normal[:half]).mul_(radius)
    torch.sin(angle, out=normal[half:]).mul_(radius)
    return normal[:count]


def add_noise(total: Tensor, deviation: float, divisor: float, keystream: Keystream, out: Tensor) -> None:
    """Writes `(total + N(0, deviation^2)) / divisor` into `out`; float32 vectors of one length, may be the same.

    For vectors on any device, the noise is drawn from the keystream and added on the CPU, in float64: no device's own
    generator is cryptographic, and some devices have no float64. One float32 vector is copied each way.
    """
    if not math.isfinite(deviation) or deviation <= 0:
        raise ValueError("noise needs a finite deviation above 0")
    for start in range(0, total.numel(), PIECE):
        piece = total[start : start + PIECE]
        noise = standard_normal(keystream, piece.numel(), deviation=deviation)
        out[start : start + PIECE] = noise.add_(piece.cpu()).div_(divisor).float()
