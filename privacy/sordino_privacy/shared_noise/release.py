"""`SharedNoise`: a vector of bounded sensitivity as integers with one member's share of the noise, and its cost.

    x, in units of the sensitivity: neighbouring data sets move it by at most 1 (L2)
    -> times `scale`, into the box of +-`levels` (moves no two vectors apart)
    -> floor(x + u), u uniform in [0, 1): rounding by a dither that depends on no data
    -> plus a discrete Gaussian of variance (noise_multiplier * scale)^2 / honest in each coordinate

A sum with the shares of `honest` members has, up to a factor of 1 +- 10^-24 in every probability, the distribution of a
randomised rounding of a Gaussian mechanism. So the accountant of the Gaussian (privacy loss distributions) bounds its
cost, with the multiplier `federation()`. Where a member has only its own share, the multiplier is `alone()`. Both
already include what rounding and discreteness cost. The proofs are in docs/distributed-noise.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sordino_privacy.accounting import SampledGaussian
from sordino_privacy.errors import ConfigurationError, UsageError
from sordino_privacy.keystream import Keystream
from sordino_privacy.shared_noise.discrete import MOST_DEVIATION, DiscreteGaussian, Integers

RING_BITS = 32
# Half of the ring's signed range is for the values, half for the noise of all members.
ROOM = (1 << (RING_BITS - 2)) - 1
# Integer steps per unit of sensitivity, where the ring has room: rounding then costs 10^-4 of the noise at 10^5
# coordinates.
LARGEST_SCALE = 1 << 14
MOST_MEMBERS = 256
WRAP_BITS = 40
# With this probability the rounding of one step moves two neighbours further apart than the bound. `accounting.epsilon`
# takes twice as much off its delta in every step; the other half is for the sampler.
ROUNDING_BITS = 60
# The dither has this many bits; the vector is first rounded to the same number of fractional bits.
DITHER_BITS = 20
# Sums of gradients are float32: a contribution may be this much longer than the clip (selfcheck.TOLERANCE is 1e-4).
FLOAT_SLACK = 2.0**-11
# Subtracted from the variance for randomised rounding: (2 steps)^2.
SMOOTHING = 4.0
_PIECE = 1 << 16


def levels(members: int) -> int:
    """The largest magnitude of one member's coordinate before noise, so that `members` of them leave room for noise."""
    return ROOM // members


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedNoise:
    """What all members of a round share. Public: it follows from charter and plan.

    noise_multiplier  standard deviation of the noise of `honest` members together, in units of the sensitivity
    honest            fewest honest members in any sum that is opened (a sum below that is never opened), 1 to 256;
                      with 1 each member carries the whole noise
    members           most members of a sum, for the room in the ring
    dimension         coordinates of the vector

    Raises ConfigurationError for numbers outside their bounds, and for noise that the ring has no room for.
    """

    noise_multiplier: float
    honest: int
    members: int
    dimension: int
    scale: int = field(init=False)
    """Integer steps per unit of sensitivity: a power of two."""
    sensitivity: float = field(init=False)
    """L2 norm, in integer steps, by which neighbours differ at most after rounding (except with probability 2^-60)."""
    _gaussian: DiscreteGaussian = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and 0.05 <= self.noise_multiplier <= 1e4):
            raise ConfigurationError("shared noise needs a multiplier between 0.05 and 10000")
        if not 1 <= self.honest <= self.members <= MOST_MEMBERS:
            raise ConfigurationError(
                f"shared noise is for 1 to {MOST_MEMBERS} members, the honest among them"
            )
        if not 1 <= self.dimension <= 1 << 30:
            raise ConfigurationError("shared noise is for 1 to 2^30 coordinates")
        scale = LARGEST_SCALE
        while scale > 1 and not self._fits(scale):
            scale //= 2
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "sensitivity", _rounded_sensitivity(scale, self.dimension))
        object.__setattr__(self, "_gaussian", DiscreteGaussian(self._share(scale) ** 2))

    @property
    def step(self) -> float:
        """What one integer stands for, in units of the sensitivity."""
        return 1.0 / self.scale

    @property
    def levels(self) -> int:
        """The magnitude at which one member's coordinates saturate, before noise, in integer steps."""
        return levels(self.members)

    @property
    def share_variance(self) -> float:
        """Variance of one member's noise in a coordinate, in integer steps squared."""
        return self._gaussian.variance

    def federation(self) -> float:
        """The Gaussian multiplier that bounds what a sum with `honest` shares reveals."""
        return self._multiplier(self.honest)

    def alone(self) -> float:
        """The Gaussian multiplier that bounds what is revealed when everyone else colludes with the coordinator."""
        return self._multiplier(1)

    def event(self, *, sampling_rate: float, steps: int = 1) -> SampledGaussian:
        """The cost of `steps` releases while at least `honest` members are honest, for `accounting.epsilon`."""
        return SampledGaussian.at_most(sampling_rate, self.federation(), steps)

    def event_alone(self, *, sampling_rate: float, steps: int = 1) -> SampledGaussian:
        """The same, if everyone else colludes with the coordinator."""
        return SampledGaussian.at_most(sampling_rate, self.alone(), steps)

    def release(self, vector: npt.NDArray[np.floating], keystream: Keystream) -> Integers:
        """This member's noised integers, int64, shape `(dimension,)`, each within +-2^31 except with probability 2^-40.

        `vector`: in units of the sensitivity, shape `(dimension,)`. Raises UsageError for another shape, or for what is
        not finite. Randomness is drawn from `keystream`: one stream, and no other use of it is ever revealed.
        """
        if vector.shape != (self.dimension,):
            raise UsageError(f"shared noise is for a vector of {self.dimension} coordinates")
        out = self._gaussian.draw(keystream, self.dimension)
        for start in range(0, self.dimension, _PIECE):
            piece = vector[start : start + _PIECE].astype(np.float64)
            if not np.isfinite(piece).all():
                raise UsageError("a vector that is not finite is never released")
            out[start : start + _PIECE] += self._round(piece, keystream)
        return out

    def _round(self, piece: npt.NDArray[np.float64], keystream: Keystream) -> Integers:
        """Scales, clips into the box, and rounds with a dither: exact in 51 bits."""
        piece *= float(self.scale)
        np.clip(piece, -self.levels, self.levels, out=piece)
        piece *= float(1 << DITHER_BITS)
        fixed = np.rint(piece, out=piece).astype(np.int64)
        dither = keystream.words((len(piece) + 1) // 2).view(np.uint32)[: len(piece)]
        fixed += dither >> np.uint32(32 - DITHER_BITS)
        return np.right_shift(fixed, DITHER_BITS, out=fixed)

    def _multiplier(self, shares: int) -> float:
        return math.sqrt(shares * self.share_variance - SMOOTHING) / self.sensitivity

    def _share(self, scale: int) -> float:
        """The deviation of one member's share, in integer steps."""
        return self.noise_multiplier * scale / math.sqrt(self.honest)

    def _fits(self, scale: int) -> bool:
        """Whether the sampler supports this scale, and the noise of all members stays within its half of the ring
        except with probability 2^-40.
        """
        deviation = 1.0001 * self._share(scale)
        tail = math.sqrt(2 * self.members * (math.log(2 * self.dimension) + WRAP_BITS * math.log(2)))
        return deviation <= MOST_DEVIATION and deviation * tail <= ROOM


def _rounded_sensitivity(scale: int, dimension: int) -> float:
    """Bounds the L2 norm of a stochastically rounded vector of norm `scale`, except with probability 2^-ROUNDING_BITS
    (Hoeffding).

    |R|^2 <= |x|^2 + d/4 + sqrt(2 ln(1/beta)) (|x| + sqrt(d)/2), with the float's and the grid's slack in |x|.
    """
    root = math.sqrt(dimension)
    longest = scale * (1 + FLOAT_SLACK) + root / (1 << DITHER_BITS)
    tail = math.sqrt(2 * ROUNDING_BITS * math.log(2))
    return math.sqrt(longest**2 + dimension / 4 + tail * (longest + root / 2)) * (1 + 1e-12)
