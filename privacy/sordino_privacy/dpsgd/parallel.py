"""Several workers of one thread each share a step: every unit is clipped by exactly one of them, and the sums add.

Threads of one process, not processes: the model exists once, and torch releases the interpreter lock while it computes.
Each worker is pinned to a processor of its own and computes with one thread. This wastes less than splitting one
computation between processors at every layer (`sordino bench dp` measures it).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from sordino_privacy.dpsgd.gradients import Clipped, UnitGradients


class ParallelGradients:
    """A gradient mode made of other modes, one per worker, each with buffers of its own. See
    `gradients.UnitGradients`.
    """

    def __init__(self, modes: Sequence[UnitGradients]) -> None:
        if len(modes) < 2:
            raise ValueError("working in parallel takes at least two workers")
        self._modes = list(modes)
        self._totals: list[Tensor] = []
        self._pools = [
            ThreadPoolExecutor(1, "unit-gradients", _settle, (number,)) for number in range(len(modes))
        ]

    def add(self, units: Sequence[Tensor], clip_norm: float, total: Tensor) -> Clipped:
        if not self._totals:
            self._totals = [torch.zeros_like(total) for _ in self._modes]
        # Longest units first, given to the workers in turn, so that they end at about the same time.
        ordered = sorted(units, key=Tensor.numel, reverse=True)
        count = len(self._modes)
        running = [
            pool.submit(mode.add, ordered[number::count], clip_norm, own.zero_())
            for number, (pool, mode, own) in enumerate(
                zip(self._pools, self._modes, self._totals, strict=True)
            )
        ]
        # All workers stop before an error is raised: none may still write while the caller cleans up.
        failures = [error for work in running if (error := work.exception()) is not None]
        if failures:
            raise failures[0]
        parts = [work.result() for work in running]
        for own in self._totals:
            total.add_(own)
        return Clipped(
            losses=tuple(loss for part in parts for loss in part.losses),
            norms=tuple(norm for part in parts for norm in part.norms),
            clipped=sum(part.clipped for part in parts),
            nonfinite=sum(part.nonfinite for part in parts),
        )


def _settle(number: int) -> None:
    if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere the system moves threads as it likes
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[number % len(processors)]})  # of this thread only
    torch.set_num_threads(1)
