"""The one-run audit of a whole training: random canaries among the real units, then membership guessed from losses.

This is the black-box attack that an outsider with the model would make. It proves little about a sound engine and
misses small bugs (see `mechanism` for those). It shows what the numbers mean: without noise the canaries are easy to
detect.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sordino_privacy.audit.canaries import CanaryResult, Scores, judge_canaries
from sordino_privacy.audit.mechanism import Engine
from sordino_privacy.dpsgd.gradients import WindowLosses
from sordino_privacy.keystream import Keystream
from sordino_privacy.training_plan import TrainingPlan


def audit_run(
    engine: Engine,
    plan: TrainingPlan,
    model: nn.Module,
    window_losses: WindowLosses,
    units: Sequence[Tensor],
    canaries: Sequence[Tensor],
    keystream: Keystream,
) -> tuple[CanaryResult, Scores, npt.NDArray[np.bool_]]:
    """Trains `model` in place on `units` and a random half of `canaries` (units of random tokens), then attacks it.

    A canary's score is how much its loss fell. Returns the verdict, the scores and which canaries were in.
    """
    inserted = (keystream.words(len(canaries)) & np.uint64(1)).astype(np.bool_)
    before = mean_losses(model, window_losses, canaries)
    training = engine(model, plan, window_losses)
    training.run([*units, *(canary for canary, chosen in zip(canaries, inserted, strict=True) if chosen)])
    scores = before - mean_losses(model, window_losses, canaries)
    return judge_canaries(scores, inserted, delta=plan.delta), scores, inserted


@torch.no_grad()
def mean_losses(model: nn.Module, window_losses: WindowLosses, canaries: Sequence[Tensor]) -> Scores:
    """Each canary's mean loss over its windows, shape `(len(canaries),)`."""
    return np.array([float(window_losses(model, canary).mean()) for canary in canaries], dtype=np.float64)
