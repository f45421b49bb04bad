"""The plan of one private training round: every number that decides what is released and what it costs.

A plan is public. It comes from the charter and the member's own policy, never from the data: a divisor, a clip or a
number of steps that was tuned on private records would be a release that no budget was charged for.

    >>> plan = TrainingPlan(sampling_rate=0.1, noise_multiplier=1.0, clip_norm=0.5, steps=4, windows_per_unit=4,
    ...                     window=256, learning_rate=0.5, optimiser="sgd", delta=1e-6, expected_units=32)
    >>> plan.update_range({"embed.weight": 786_432})["embed.weight"] > 0
    True
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self

from sordino_privacy.errors import ConfigurationError

Optimiser = Literal["sgd", "adam"]

# Adam's two decay rates (Kingma and Ba 2015) are constants here: one setting less that could differ between members.
ADAM_BETAS = (0.9, 0.999)
# Noise exceeds this many standard deviations in one coordinate out of 10^15.
NOISE_DEVIATIONS = 8.0
# How much larger than an evenly spread gradient one coordinate may be before it saturates.
SIGNAL_PEAK = 4.0

# The whole-number settings and their largest values.
_WHOLE = {"steps": 100_000, "windows_per_unit": 1024, "window": 1 << 16, "expected_units": 1 << 24}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a member does in one round.

    sampling_rate     probability that a unit takes part in a step (Poisson), in (0, 1]
    noise_multiplier  standard deviation of the noise on the sum, in units of `clip_norm`, > 0
    clip_norm         L2 bound on one unit's contribution to a step, > 0
    steps             noisy steps in the round, each with its own sample
    windows_per_unit  at most this many windows of a unit are read in a step; their mean loss is clipped once
    window            tokens per window
    learning_rate     of the local optimiser
    optimiser         "sgd" or "adam" (fresh state every round)
    delta             the delta at which costs are reported; the ledger's own delta decides
    expected_units    the divisor of every step: a public constant, never a count of the data

    Raises ConfigurationError for a number outside its bounds.
    """

    sampling_rate: float
    noise_multiplier: float
    clip_norm: float
    steps: int
    windows_per_unit: int
    window: int
    learning_rate: float
    optimiser: Optimiser
    delta: float
    expected_units: int

    def __post_init__(self) -> None:
        for name in ("sampling_rate", "noise_multiplier", "clip_norm", "learning_rate", "delta"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not math.isfinite(value)
                or value <= 0
            ):
                raise ConfigurationError(f"training plan: {name} must be a number above 0")
        for name, most in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ConfigurationError(f"training plan: {name} must be a whole number from 1 to {most}")
        if self.sampling_rate > 1:
            raise ConfigurationError("training plan: sampling_rate is a probability, at most 1")
        if self.delta >= 0.1:
            raise ConfigurationError(
                "training plan: delta must be far below 0.1", hint="use about 1 / units^1.5"
            )
        if self.noise_multiplier < 0.05 or self.noise_multiplier > 1e4:
            # Below this, no accountant gives a meaningful bound. Training without privacy is a separate command.
            raise ConfigurationError("training plan: noise_multiplier must lie between 0.05 and 10000")
        if self.clip_norm > 1e6 or self.learning_rate > 1e3:
            raise ConfigurationError("training plan: clip_norm or learning_rate is out of any useful range")
        if self.optimiser not in ("sgd", "adam"):
            raise ConfigurationError("training plan: optimiser must be 'sgd' or 'adam'")

    @classmethod
    def parse(cls, raw: Mapping[str, object]) -> Self:
        """A plan from decoded JSON. Raises ConfigurationError on an unknown, missing or impossible field."""
        names = {field.name for field in fields(cls)}
        if set(raw) != names:
            wrong = ", ".join(sorted(set(raw) ^ names))
            raise ConfigurationError(f"training plan: unknown or missing settings: {wrong}")
        return cls(**raw)  # type: ignore[arg-type]  # __post_init__ checks every type

    def canonical(self) -> bytes:
        """The canonical bytes of this plan: JSON with sorted keys, numbers in the shortest exact form."""
        numbers = {
            name: float(value) if isinstance(value, int | float) and name not in _WHOLE else value
            for name, value in asdict(self).items()
        }
        return json.dumps(numbers, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def digest(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes. Members that agree on it train alike."""
        return hashlib.sha256(b"sordino-training-plan/1\n" + self.canonical()).digest()

    def noise_deviation(self) -> float:
        """Standard deviation of the noise in one coordinate of one step's averaged gradient."""
        return self.noise_multiplier * self.clip_norm / self.expected_units

    def signal_norm(self) -> float:
        """The largest L2 norm that the engine lets a step's averaged gradient have before noise.

        The sum of clipped gradients is projected onto the ball of radius `clip_norm * expected_units`. A projection
        onto a convex set moves no two points apart, so a unit's influence stays within `clip_norm`: it costs nothing.
        """
        return self.clip_norm

    def update_range(self, groups: Mapping[str, int]) -> dict[str, float]:
        """Bounds `|new - old|` of a coordinate in each tensor group, for the quantiser. Depends on no data.

        `groups` maps a group's name to its number of coordinates. Coordinates beyond the bound saturate, which is
        post-processing and costs no privacy.

        sgd   8 standard deviations of the round's accumulated noise, plus room for the signal: the mean of clipped
              gradients has norm `signal_norm` at most; spread evenly over the group's n coordinates that is
              `signal_norm / sqrt(n)`, and a coordinate may be 4 times that in every step.
        adam  a hard bound, whatever the gradients were (Cauchy-Schwarz on the two moving averages).

        Raises ConfigurationError for an empty group.
        """
        if any(size < 1 for size in groups.values()):
            raise ConfigurationError("a tensor group needs at least one coordinate")
        if self.optimiser == "adam":
            reach = self.learning_rate * sum(_adam_step_bound(step) for step in range(1, self.steps + 1))
            return dict.fromkeys(groups, reach)
        noise = NOISE_DEVIATIONS * math.sqrt(self.steps) * self.noise_deviation()
        return {
            name: self.learning_rate
            * (noise + min(SIGNAL_PEAK / math.sqrt(size), 1.0) * self.steps * self.signal_norm())
            for name, size in groups.items()
        }

    def update_norm(self, groups: Mapping[str, int], *, members: float = 1.0, shares: int = 1) -> float:
        """Bounds the L2 norm of the weighted mean of honest members' updates, each with one of `shares` of the noise
        (1: all of it). `members` is the effective number of members in the mean (1: one update). Depends on no data.

        sgd   the steps' averaged gradients, up to `signal_norm` each, and the accumulated noise, whose norm in d
              coordinates is at most `sqrt(d) + 8` times the standard deviation of one, except in one case in 10^13.
              Independent noise adds up by its squares: the mean of n members has 1/sqrt(n) of it.
        adam  the hard bound of every coordinate. Adam divides the noise, so no smaller bound is claimed for means.
        """
        dimension = sum(groups.values())
        if self.optimiser == "adam":
            reach = self.update_range(groups)
            return math.sqrt(sum(size * reach[name] ** 2 for name, size in groups.items()))
        deviation = math.sqrt(self.steps / (members * shares)) * self.noise_deviation()
        noise = deviation * (math.sqrt(dimension) + NOISE_DEVIATIONS)
        return self.learning_rate * (self.steps * self.signal_norm() + noise)


def _adam_step_bound(step: int) -> float:
    """The largest `|m / sqrt(v)|` (both bias-corrected) that any gradients can cause at this step, counted from 1.

    m = (1-a) sum a^j g_j and v = (1-b) sum b^j g_j^2, so m^2 <= (1-a)^2 v/(1-b) sum (a^2/b)^j.
    """
    a, b = ADAM_BETAS
    ratio = a * a / b
    series = (1 - ratio**step) / (1 - ratio)
    return (1 - a) / (1 - a**step) * math.sqrt((1 - b**step) / (1 - b) * series)
