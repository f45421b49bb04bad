"""The child's part in a job that counts: it reads each unit beside the model, chooses its phrases, adds them up and
adds the noise.

The model is the one that the round begins with, which every member holds. Phrases that it predicts already need not be
counted, and asking it reveals nothing about anybody's code. The noise is added here, so that a count without noise is
never on a disk.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from sordino_client.training.job import LocalMetrics, Tokens, TrainingJob, as_ring, finish
from sordino_privacy.counts import CountPlan, Phrases
from sordino_privacy.counts.cells import Cells
from sordino_privacy.counts.counting import chosen, counted, marked, noised, noised_in_shares
from sordino_privacy.keystream import Keystream

BATCH = 8  # windows that are read at once


def surprises(model: nn.Module, windows: Sequence[Tokens], *, end: int) -> list[npt.NDArray[np.float32]]:
    """The surprise of each token of each window, in nats: minus the log-probability that the model gives it after the
    tokens before it in the window. One array `(tokens,)` for each window."""
    found = []
    with torch.no_grad():
        for at in range(0, len(windows), BATCH):
            group = windows[at : at + BATCH]
            tokens = torch.full((len(group), max(map(len, group))), end, dtype=torch.long)
            for row, window in enumerate(group):
                tokens[row, : len(window)] = torch.from_numpy(window.astype(np.int64))
            before = torch.cat([torch.full((len(group), 1), end), tokens[:, :-1]], dim=1)
            logits = model(before).float()
            nats = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(
                tokens.shape
            )
            found += [nats[row, : len(window)].numpy() for row, window in enumerate(group)]
    return found


def cells_of(
    unit: Sequence[Tokens], model: nn.Module, plan: CountPlan, *, vocabulary: int, end: int
) -> Cells:
    """The cells to which one unit adds 1.

    It reads `plan.windows_per_unit` windows, spread evenly over the unit. Which ones depends only on how many the unit
    has, so that copies of a file at two members give the same cells.
    """
    kept = np.linspace(0, len(unit) - 1, min(len(unit), plan.windows_per_unit)).round().astype(int)
    read = [unit[place] for place in kept]
    costs = surprises(model, read, end=end)
    found = [
        Phrases.of(window, nats, plan, vocabulary=vocabulary, end=end)
        for window, nats in zip(read, costs, strict=True)
    ]
    return marked(chosen(found, plan), plan)


def count(
    units: Sequence[Sequence[Tokens]],
    model: nn.Module,
    plan: CountPlan,
    job: TrainingJob,
    keystream: Keystream,
) -> None:
    """Counts and stores the noised vector: float32, or ring elements where the noise comes in shares. Raises what
    storing raises."""
    started, config = time.monotonic(), job.config
    model.eval()
    total = counted(
        (cells_of(unit, model, plan, vocabulary=config.vocabulary, end=config.end) for unit in units), plan
    )
    local = LocalMetrics(
        mean_loss=math.nan,
        clipped_share=0.0,
        units=len(units),
        windows=sum(map(len, units)),
        nonfinite=0,
        steps=plan.steps,
        seconds=time.monotonic() - started,
    )
    if job.noise is None:
        finish(job, noised(total, plan, keystream), local)
    else:
        finish(job, as_ring(noised_in_shares(total, plan, job.noise, keystream)), local)
