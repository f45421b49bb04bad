"""Stochastic rounding of an update onto a grid of integers, and the way back.

A coordinate is rounded up with probability equal to its fraction. The expectation is exact on a grid of
2^-fraction_bits, so rounding adds no bias to the mean.

Stochastic rounding in aggregation: Suresh et al. 2017; Konečný et al. 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg.masks import MaskStream, RingVector
from sordino_privacy.secagg.refusals import NonFiniteError

FloatVector = npt.NDArray[np.float32]
IntegerVector = npt.NDArray[np.signedinteger[Any]]
MAX_DIMENSION = 1 << 30
CHUNK = 1 << 16  # elements: input, dither and output of a chunk together stay in a core's L2 cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A run of `length` coordinates that share one `range` (largest magnitude, in units of the update). Raises
    ConfigurationError for a name, a length or a range outside its bounds."""

    name: str
    length: int
    range: float

    def __post_init__(self) -> None:
        if not (1 <= len(self.name) <= 255 and self.name.isascii() and self.name.isprintable()):
            raise ConfigurationError("a tensor group's name must be 1 to 255 printable ASCII characters")
        if not 1 <= self.length <= MAX_DIMENSION:
            raise ConfigurationError(f"tensor group {self.name} must have 1 to 2^30 coordinates")
        if not (math.isfinite(self.range) and self.range > 0):
            raise ConfigurationError(f"the range of tensor group {self.name} must be positive and finite")


def round_into(
    out: RingVector,
    vector: FloatVector,
    groups: Sequence[Group],
    weight: float,
    levels: int,
    fraction_bits: int,
    dither: MaskStream,
) -> int:
    """Rounds `weight * vector`, group by group, into the first elements of `out`; returns how many were clipped.

    `vector`: float32, as long as all groups together; `levels`: what a group's range becomes; `fraction_bits`: bits of
    the grid that `dither` decides on. Raises NonFiniteError.
    """
    bits, saturated, start = fraction_bits, 0, 0
    limit = np.float32(levels << bits)
    signed = signed_view(out)
    scaled, fixed, noise = (
        np.empty(CHUNK, np.float32),
        np.empty(CHUNK, np.int32),
        np.empty(CHUNK, np.uint16),
    )
    for group in groups:
        # Weight, scale and the shift to fixed point are one float32 multiplication.
        factor = np.float32(weight * (levels << bits) / group.range)
        for low in range(start, start + group.length, CHUNK):
            high = min(low + CHUNK, start + group.length)
            t, q, r = scaled[: high - low], fixed[: high - low], noise[: high - low]
            with np.errstate(over="ignore"):
                np.multiply(vector[low:high], factor, out=t)
            largest, smallest = t.max(), t.min()  # both propagate NaN
            if not (largest <= limit and smallest >= -limit):
                if not np.isfinite(vector[low:high]).all():
                    raise NonFiniteError(f"the update is not finite in tensor group {group.name}")
                saturated += int(np.count_nonzero(np.abs(t) > limit))
                np.clip(t, -limit, limit, out=t)
            np.rint(t, out=t)
            np.copyto(q, t, casting="unsafe")
            dither.fill(r)
            if bits < 16:
                np.right_shift(r, 16 - bits, out=r)
            np.add(q, r, out=q)
            np.right_shift(q, bits, out=q)
            np.copyto(signed[low:high], q, casting="unsafe")
        start += group.length
    return saturated


def scaled_back(integers: IntegerVector, groups: Sequence[Group], levels: int, factor: float) -> FloatVector:
    """Integers, as long as all groups together, back to units of the update (float32), times `factor`."""
    out = np.empty(sum(group.length for group in groups), np.float32)
    start = 0
    for group in groups:
        end = start + group.length
        step = factor * group.range / levels
        np.multiply(integers[start:end], np.float32(step), out=out[start:end], casting="unsafe")
        start = end
    return out


def signed_view(vector: RingVector) -> IntegerVector:
    """The same memory read in two's complement: ring elements as the signed values they stand for."""
    return cast(IntegerVector, vector.view(f"<i{vector.itemsize}"))
