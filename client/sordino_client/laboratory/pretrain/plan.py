"""The settings that fix a pretraining run, and those that may change from one session to the next."""

from __future__ import annotations

from dataclasses import dataclass, field

from sordino_client.laboratory.pretrain.compute import Compute
from sordino_client.training.muon import Rates
from sordino_client.training.stream import MIXTURE

# Stages (tokens seen, context, windows per step): each applies from that number of tokens on. On a CPU, many small
# steps beat few large ones while the loss falls fast. Short windows cost a fifth less and teach local context, so the
# full context comes last. An accelerator would be idle in small steps, and Muon works with large ones: 500M tokens are
# 8,200 steps, always in passes of 64 windows, so that the step is compiled only once. `onward` continues a base that
# was trained before.
PLANS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "processor": ((0, 256, 8), (3_000_000, 256, 16), (18_000_000, 256, 32), (24_000_000, 512, 16)),
    "accelerator": ((0, 512, 64), (40_000_000, 512, 128)),
    "onward": ((0, 512, 16),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingSettings:
    """The settings that fix a run. They are stored with the run, and resuming with other settings is refused.

    `rate` multiplies all rates. `goal_tokens`: where the run ends, its rates falling to zero over the last
    `decay_tokens`; 0 means that the run has no end, and a decay branch of it ships.
    """

    size: str = "3.4m"
    stages: tuple[tuple[int, int, int], ...] = PLANS["processor"]
    warmup_steps: int = 50
    seed: int = 20261122
    rates: Rates = field(default_factory=Rates)
    rate: float = 1.0
    mixture: tuple[float, ...] = MIXTURE
    goal_tokens: int = 0
    decay_tokens: int = 0

    def factor(self, step: int, tokens: int) -> float:
        """The factor on the full rates at a step: a linear rise over `warmup_steps`, then `rate`, then the decay."""
        factor = self.rate * min(1.0, (step + 1) / self.warmup_steps)
        if self.goal_tokens and self.decay_tokens:
            factor *= max(0.0, min(1.0, (self.goal_tokens - tokens) / self.decay_tokens))
        return factor


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPace:
    """The settings that may change from one session to the next.

    `pass_windows` is the most windows that one pass holds in memory. A step's gradient is summed over its passes, so a
    run is reproducible bit for bit only while `pass_windows` stays the same.
    """

    threads: int = 2
    checkpoint_seconds: float = 300.0
    log_steps: int = 10
    stop_tokens: int | None = None
    stop_seconds: float | None = None
    pass_windows: int | None = None
    compute: Compute | None = None  # None: the fastest on this machine
