"""A round while it runs: its members, why others left it, and the error that ends it without a release."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from sordino_coordinator.rounds import Outcome
from sordino_coordinator.standing import MemberStanding
from sordino_platform.tracing import UNTRACED, TracedSpan


class RoundAbortedError(Exception):
    """A round that ends without a release. `outcome` is its label."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


@dataclass(slots=True)
class OngoingRound:
    """What is known of a round while it runs.

    `nodes` are the Flower node ids of its members, `held` what each said it holds, `asked` whom its first attempt
    asked. `dropped` has the reason for each member that left, `phases` the seconds spent in each phase, over all
    attempts.
    """

    number: int
    nodes: dict[str, int]
    held: dict[str, MemberStanding]
    asked: frozenset[str] = frozenset()
    cohort: tuple[str, ...] = ()  # of the present attempt, once its roster is closed
    started: float = field(default_factory=time.monotonic)
    attempt: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    span: TracedSpan = UNTRACED

    @property
    def roster(self) -> Collection[str]:
        """The members that a new epoch must leave unchanged for the round to go on."""
        return self.cohort or self.nodes
