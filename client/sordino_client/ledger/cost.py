"""What one round costs, in the two numbers that are kept apart: the epsilon as long as the federation keeps its honest
floor ("as the federation holds"), and the epsilon if all others collude.

Under local noise they are equal. Under noise in shares (docs/distributed-noise.md) the first counts the shares of the
fewest honest members that a sum may hold, the second only this member's own share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from sordino_platform.plans import Plan
from sordino_privacy.accounting import SampledGaussian
from sordino_privacy.shared_noise import SharedNoise


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCost:
    """`event` is the round as the federation holds; `alone` is the same round if all others collude with the
    coordinator, and is `event` where the member adds the whole noise itself."""

    event: SampledGaussian
    alone: SampledGaussian

    @classmethod
    def of(
        cls,
        *,
        sampling_rate: float,
        noise_multiplier: float,
        steps: int,
        own_noise_multiplier: float | None = None,
    ) -> Self:
        """From the numbers of a row; without `own_noise_multiplier` the noise is all the member's own."""
        event, alone = (
            SampledGaussian(sampling_rate=sampling_rate, noise_multiplier=noise, steps=steps)
            for noise in (noise_multiplier, own_noise_multiplier or noise_multiplier)
        )
        return cls(event=event, alone=alone)

    @classmethod
    def of_round(cls, plan: Plan, noise: SharedNoise | None = None) -> Self:
        """The cost of one round of `plan`; `noise` where the charter has it in shares."""
        if noise is None:
            event = SampledGaussian.of(plan)
            return cls(event=event, alone=event)
        return cls(
            event=noise.event(sampling_rate=plan.sampling_rate, steps=plan.steps),
            alone=noise.event_alone(sampling_rate=plan.sampling_rate, steps=plan.steps),
        )

    @property
    def shared(self) -> bool:
        """Whether the two differ."""
        return self.alone != self.event


def events(costs: Iterable[RoundCost]) -> list[SampledGaussian]:
    """As the federation holds."""
    return [cost.event for cost in costs]


def events_alone(costs: Iterable[RoundCost]) -> list[SampledGaussian]:
    """If all others collude with the coordinator."""
    return [cost.alone for cost in costs]
