"""The plan of one count: every number that decides what is counted, what it costs and what is believed.

Like a training plan it is public and never made from the data. A unit adds at most 1 to at most `2 * phrases` cells, so
one unit changes the vector by at most sqrt(2 * phrases) in L2 norm. The standard deviation of the noise is that, times
the noise multiplier. Each member adds all of it, or one of `shares` shares (sordino_privacy.shared_noise). In
the first case `shares` is 1.

    >>> plan = CountPlan(phrases=100, noise_multiplier=0.75, largest_count=30, delta=1e-6, salt=7)
    >>> CountPlan.parse(json.loads(plan.canonical())) == plan
    True
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final, Literal, Self, get_args

from sordino_privacy.errors import ConfigurationError

KIND: Final = "count"
Choice = Literal["turn", "surprise"]
LEAST_BITS: Final = 12
# Noise exceeds this many standard deviations in one cell out of 10^15.
NOISE_DEVIATIONS: Final = 8.0

# Whole-number settings: the smallest and the largest value of each.
_WHOLE: Final = {
    "bits": (LEAST_BITS, 22),
    "phrases": (1, 4096),
    "shortest": (2, 16),
    "longest": (2, 16),
    "largest_count": (1, 1 << 15),
    "witnesses": (2, 1024),
    "expected_units": (1, 1 << 24),
    "window": (2, 1 << 16),
    "windows_per_unit": (1, 1024),
    "salt": (0, (1 << 63) - 1),
}
_POSITIVE: Final = ("surprise", "noise_multiplier", "deviations", "delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountPlan:
    """What a member does in one count.

    bits              the vector has 2^bits cells, half of them in each row
    phrases           at most this many phrases of one unit are counted
    choice            which ones, where it has more: by "surprise" those whose last tokens surprised the model most; by
                      "turn" those that a public hash ranks first, as in all plans from before this setting existed
    shortest, longest lengths of a phrase in tokens; its last token is the one that is predicted
    surprise          in nats: a phrase is counted only if the public base model gave its last token a probability of at
                      most e^-surprise
    noise_multiplier  standard deviation of the noise in a cell, in units of sqrt(2 * phrases): of one member, or of
                      those together whose shares are enough
    deviations        a cell is believed only at or above this many standard deviations of the sum's noise
    largest_count     no member gives a cell more than this, however many of its units hold the phrase
    witnesses         and only at or above `witnesses * largest_count`
    expected_units    bounds the length of one member's counts: a public constant, never a count of the data
    window, windows_per_unit  as in training: the units are the same ones
    delta             the delta at which costs are reported; the ledger's own delta decides
    salt              seed of the hashes: it decides which phrases come first by turn, and which phrases share a cell

    Raises ConfigurationError for a number outside its bounds.
    """

    bits: int = 20
    phrases: int = 200
    choice: Choice = "surprise"
    shortest: int = 3
    longest: int = 3
    surprise: float = 1.5
    noise_multiplier: float
    deviations: float = 4.0
    largest_count: int
    witnesses: int = 3
    expected_units: int = 1000
    window: int = 256
    windows_per_unit: int = 4
    delta: float
    salt: int

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigurationError(f"count plan: {name} must be a number above 0")
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigurationError(f"count plan: {name} must be a whole number from {least} to {most}")
        if self.choice not in get_args(Choice):
            raise ConfigurationError('count plan: choice must be "turn" or "surprise"')
        if self.shortest > self.longest:
            raise ConfigurationError("count plan: the shortest phrase is longer than the longest")
        if self.delta >= 0.1:
            raise ConfigurationError("count plan: delta must be far below 0.1", hint="1e-6 is usual")
        if not 0.05 <= self.noise_multiplier <= 1e4:
            raise ConfigurationError("count plan: noise_multiplier must lie between 0.05 and 10000")
        if not (1 <= self.deviations <= 100 and self.surprise <= 20):
            raise ConfigurationError("count plan: deviations or surprise is out of any useful range")

    @classmethod
    def parse(cls, raw: Mapping[str, object]) -> Self:
        """A plan from decoded JSON. Without `choice` it is "turn". Raises ConfigurationError on an unknown, missing or
        impossible field.
        """
        raw = {"choice": "turn", **raw}
        names = {field.name for field in fields(cls)} | {"kind"}
        if set(raw) != names or raw["kind"] != KIND:
            wrong = ", ".join(sorted(set(raw) ^ names)) or "kind"
            raise ConfigurationError(f"count plan: unknown or missing settings: {wrong}")
        return cls(**{name: value for name, value in raw.items() if name != "kind"})  # type: ignore[arg-type]

    def canonical(self) -> bytes:
        """The canonical bytes of this plan: JSON with sorted keys, numbers in the shortest exact form.

        `choice` is left out where it is "turn", so that plans and memories from before this setting existed keep their
        bytes.
        """
        settings = asdict(self)
        choice = {} if settings.pop("choice") == "turn" else {"choice": self.choice}
        numbers: dict[str, object] = {
            name: value if name in _WHOLE else float(value) for name, value in settings.items()
        }
        return json.dumps(
            {"kind": KIND, **choice, **numbers}, sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()

    def digest(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes. Members that agree on it count alike."""
        return hashlib.sha256(b"sordino-count-plan/1\n" + self.canonical()).digest()

    @property
    def sampling_rate(self) -> float:
        """Every unit takes part: 1."""
        return 1.0

    @property
    def steps(self) -> int:
        """One release of a Gaussian mechanism."""
        return 1

    @property
    def cells(self) -> int:
        """Length of the vector: both rows."""
        return 1 << self.bits

    def sensitivity(self) -> float:
        """The L2 norm by which one unit can change a member's counts: 2 * `phrases` cells by at most 1 each."""
        return math.sqrt(2 * self.phrases)

    def deviation(self) -> float:
        """Standard deviation of one member's noise in one cell, in counts; with noise in shares, of `shares` members
        together.
        """
        return self.noise_multiplier * self.sensitivity()

    def threshold(self, *, survivors: int, shares: int = 1) -> float:
        """The smallest count at which a cell of a sum over `survivors` members is believed.

        A member adds at most `largest_count` to a cell, which is at most a `witnesses`-th part of this count. So a
        phrase that only one member counts is believed only if the noise in both of its cells is at least
        `deviations * (1 - 1 / witnesses)` standard deviations.
        """
        noise = self.deviations * self.deviation() * math.sqrt(survivors / shares)
        return max(noise, float(self.witnesses * self.largest_count))

    def longest_counts(self) -> float:
        """The largest L2 norm of one member's counts before noise. Longer counts are scaled down to it."""
        return math.sqrt(self.largest_count * self.expected_units * 2 * self.phrases)

    def update_range(self, groups: Mapping[str, int]) -> dict[str, float]:
        """Bounds one member's value in a cell, for the quantiser: its largest count and eight deviations of noise."""
        return dict.fromkeys(groups, self.largest_count + NOISE_DEVIATIONS * self.deviation())

    def update_norm(self, groups: Mapping[str, int], *, members: float = 1.0, shares: int = 1) -> float:
        """Bounds the L2 norm of the mean of honest members' counts. `members` is their effective number (1: of one
        member).

        The L2 norm of the noise in d cells is at most `sqrt(d) + 8` standard deviations, except in one case in 10^13.
        """
        deviation = self.deviation() / math.sqrt(members * shares)
        return self.longest_counts() + deviation * (math.sqrt(sum(groups.values())) + NOISE_DEVIATIONS)
