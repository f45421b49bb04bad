"""What a round's opened sum makes: the next model, or a shared memory beside the model that stays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sordino_coordinator.release_gate import ReleaseGate, UnusableSumError
from sordino_platform.architecture import Vector
from sordino_platform.following import memory_of
from sordino_platform.release import Manifest, ServerOptimiser, next_model
from sordino_platform.release.optimiser import Moments
from sordino_privacy.counts import CountPlan, SharedMemory
from sordino_privacy.secagg import AggregateSum


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRelease:
    """What the next release holds. `norm` is the L2 norm of the mean, `loss` in nats per token on held-out code."""

    vector: Vector = field(repr=False)
    optimiser: ServerOptimiser
    moments: Moments = field(repr=False)
    loss: float | None
    norm: float
    memory: SharedMemory | None = None


def stepped(
    opened: AggregateSum,
    *,
    head: Manifest,
    model: Vector,
    optimiser: ServerOptimiser,
    moments: Moments,
    gate: ReleaseGate | None,
) -> NextRelease:
    """One step of the server's optimiser from `model`. Raises UnusableSumError: the old model stays."""
    mean = opened.totals.mean()
    vector, after = next_model(head, optimiser, model, mean, moments)
    if not all(np.isfinite(values).all() for values in (mean, vector, *after)):
        raise UnusableSumError("the opened sum is not finite")
    return NextRelease(
        vector=vector,
        optimiser=optimiser,
        moments=after,
        loss=None if gate is None else gate.admit(vector),
        norm=float(np.linalg.norm(mean.astype(np.float64))),
    )


def release_of_counts(
    opened: AggregateSum, plan: CountPlan, *, head: Manifest, model: Vector, moments: Moments
) -> NextRelease:
    """The memory of a count. Model, loss and `moments`, those of `head`, stay as they are."""
    return NextRelease(
        vector=model,
        optimiser=head.optimiser,
        moments=moments,
        loss=head.heldout_loss,
        norm=float(np.linalg.norm(opened.totals.mean().astype(np.float64))),
        memory=memory_of(opened.totals, plan, survivors=len(opened.survivors)),
    )
