"""The sizes of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from sordino_platform.demo.plans import plan_for
from sordino_privacy.dpsgd import TrainingPlan

# The factor on the clip norm that earlier releases allowed for a step's averaged gradient, before it was projected.
FORMER_SIGNAL_PEAK = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisoningProfile:
    """Sizes of one run.

    members, rounds   of the federation; one member is malicious
    units             most units of each honest member, one per file cluster of its share of installed packages
    window            tokens per window: shorter than a federation's, only to make training cheap
    seeds             federations, each with its own noise, sampling and attack
    prompts           held-out prompts on which the backdoor is measured
    attack_prompts    prompts on which the backdoor is trained
    attack_steps      training steps of the liar in each round
    heldout_tokens    tokens of honest held-out code per measurement
    """

    name: str
    members: int = 8
    rounds: int = 14
    units: int = 320
    window: int = 16
    seeds: int = 2
    prompts: int = 40
    attack_prompts: int = 24
    attack_steps: int = 12
    heldout_tokens: int = 3000

    def plan(self) -> TrainingPlan:
        """The demo's plan with the smallest noise that the rounds can afford, and this profile's window."""
        raw = plan_for(self.rounds) | {"window": self.window}
        return TrainingPlan.parse(raw)


FULL = PoisoningProfile(name="full")
QUICK = PoisoningProfile(
    name="quick",
    rounds=3,
    units=40,
    seeds=1,
    prompts=8,
    attack_prompts=8,
    attack_steps=4,
    heldout_tokens=1000,
)
PROFILES = {profile.name: profile for profile in (FULL, QUICK)}
