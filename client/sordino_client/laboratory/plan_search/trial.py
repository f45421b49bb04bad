"""Tries one plan in this process on public projects: estimates the gain for a federation of a given number of clusters.

The sum of a round is computed directly. A federation of N clusters draws q N of them in a step and adds noise of `sigma
C` to the sum. A trial draws only R clusters and scales the noise so that the *mean* has the same noise as the
federation's: `sigma C / (q N)` in each coordinate. So a trial costs R gradients per step for any N. The sampling
variance of R clusters is larger than that of q N, so a trial tends to understate the gain of a large federation.

Its results need no privacy, since the projects are public. The engine is the product's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from sordino_client.laboratory.federation_benchmark.private import private_rounds
from sordino_client.training.job import Tokens
from sordino_platform.architecture import Vector, flatten, merged, unflatten
from sordino_platform.charter import ModelTerms, shipped_model
from sordino_platform.founding_model import founding_parameters
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_platform.suggested import NOISE_STEP, PLANNED_SHARE, affordable_noise
from sordino_privacy.dpsgd import TrainingPlan

DELTA = 1e-6
LEAST_NOISE = 6 * NOISE_STEP  # the smallest value that is tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plan to try.

    rank, embedding_rank, scale   of the adapters
    window, windows   tokens per window, windows of a unit that are read in a step
    server            the server's step; its `rate` and `momentum` are of the whole step, x' = x - rate * m',
                      m' = momentum * m + g, where g is the mean of the clipped gradients and its noise
    clip              L2 bound on a unit's gradient
    sampling, rounds  which share of the clusters a round draws, and how many rounds the budget is spread over
    """

    rank: int = 4
    embedding_rank: int = 8
    scale: float = 6.0
    window: int = 128
    windows: int = 1
    server: Literal["fedavgm", "fedadam"] = "fedavgm"
    rate: float = 0.4
    momentum: float = 0.8
    clip: float = 0.2
    sampling: float = 0.1
    rounds: int = 30

    @property
    def model(self) -> ModelTerms:
        """The parameters that are trained."""
        return shipped_model(
            adapter_rank=self.rank, embedding_rank=self.embedding_rank, adapter_scale=self.scale
        )

    def noise(self, epsilon: float) -> float:
        """The noise multiplier of the sum at which all rounds fit into `epsilon` (delta 1e-6)."""
        return affordable_noise(
            self.sampling, self.rounds, within=PLANNED_SHARE * epsilon, least=LEAST_NOISE, delta=DELTA
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The setting of a trial: a budget, the federation's number of clusters, and how many clusters a step reads."""

    epsilon: float | None  # None: no noise
    clusters: int
    read: int = 64


Measure = Callable[[dict[str, Vector]], float]


def gain(
    candidate: Candidate,
    setting: Setting,
    units: Sequence[Sequence[Tokens]],
    measure: Measure,
    *,
    seed: int,
    at: Sequence[int] = (),
) -> dict[str, Any]:
    """Trains with the plan and measures bits per byte after the rounds in `at` and after the last round.

    `units` are windows of the candidate's length by cluster; `measure` takes plain parameters, adapters folded in.
    """
    torch.manual_seed(seed)
    terms = candidate.model
    config, founding = terms.config(), founding_parameters(terms)
    read = min(setting.read, len(units) // 2)
    sigma = 0.0 if setting.epsilon is None else candidate.noise(setting.epsilon)
    # Noise of the mean: sigma C / (q N). The engine's own is noise_multiplier C / read.
    multiplier = max(0.05, sigma * read / (candidate.sampling * setting.clusters))
    plan = TrainingPlan(
        sampling_rate=read / len(units),
        noise_multiplier=multiplier,
        clip_norm=candidate.clip,
        steps=1,
        windows_per_unit=candidate.windows,
        window=candidate.window,
        learning_rate=1.0,
        optimiser="sgd",
        delta=DELTA,
        expected_units=read,
    )
    server = ServerOptimiser(name=candidate.server, learning_rate=candidate.rate, beta1=candidate.momentum)
    curve: list[tuple[int, float]] = []
    vector = flatten(config, founding)
    rounds = private_rounds(units, config, founding, plan, server, rounds=candidate.rounds)
    for number, vector in enumerate(rounds, start=1):
        if number in at or number == candidate.rounds:
            curve.append((number, measure(merged(unflatten(config, founding, vector)))))
    return {
        "candidate": asdict(candidate),
        "epsilon": setting.epsilon,
        "clusters": setting.clusters,
        "noise_multiplier": sigma,
        "parameters": int(vector.size),
        "curve": curve,
        "bits_per_byte": curve[-1][1],
    }
