"""The caps on what a member spends, and the cost of a run in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sordino_privacy.errors import BudgetError, ConfigurationError


class DayCapError(BudgetError):
    """The member's own cap on 24 hours: training goes on by itself when older rounds leave them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The member's own caps on the local epsilon.

    A charter can only be stricter: it neither reads nor raises these. `epsilon` bounds what is spent as long as the
    federation keeps its honest floor. Where a charter's noise comes in shares, `epsilon_if_others_collude` bounds what
    is spent if all others collude with the coordinator; 0 refuses such a round. Under local noise the two numbers are
    equal, and the first decides.

    `epsilon_per_day`, if given, bounds what may be released in any 24 hours, and `rounds_per_day` how many rounds may
    begin in them, including those whose charge was given back. So a coordinator that proposes round after round can
    neither drain the budget nor keep the machine training before a person looks.

    Raises ConfigurationError for a cap that is no number of its kind.
    """

    epsilon: float
    delta: float
    epsilon_per_day: float | None = None
    rounds_per_day: int | None = None
    epsilon_if_others_collude: float = 0.0

    def __post_init__(self) -> None:
        caps = [self.epsilon] + ([] if self.epsilon_per_day is None else [self.epsilon_per_day])
        if not all(math.isfinite(cap) and cap > 0 for cap in caps):
            raise ConfigurationError("a privacy budget is a finite epsilon above 0")
        if not (math.isfinite(self.epsilon_if_others_collude) and self.epsilon_if_others_collude >= 0):
            raise ConfigurationError(
                "epsilon_if_others_collude is a finite epsilon, or 0 for no noise in shares"
            )
        if self.rounds_per_day is not None and self.rounds_per_day < 1:
            raise ConfigurationError("rounds_per_day is a whole number above 0")
        if not 0 < self.delta < 0.1:
            raise ConfigurationError(
                "the budget's delta must lie above 0 and far below 0.1", hint="1e-6 is usual"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run would cost: epsilon `spent` before it and `after` it, of `budget`, and how many such runs fit from now
    on. `alone` is the epsilon after it if all others collude with the coordinator; it equals `after` if all noise is
    the member's own."""

    spent: float
    after: float
    budget: float
    runs_left: int
    alone: float

    @property
    def run(self) -> float:
        """The epsilon that the run adds. Composition is not addition: a later run adds less than the first."""
        return self.after - self.spent

    def __str__(self) -> str:
        left = (
            "no such run" if not self.runs_left else f"{self.runs_left} such run{'s' * (self.runs_left > 1)}"
        )
        return f"this run: epsilon {self.run:.2f} of {self.budget:.2f}; {self.spent:.2f} is spent already, {left} left"
