"""Trains the personal adapter: plain AdamW, no noise, low rank, on the units that private training reads too.

It starts from the model that completes now, and is kept only when it predicts held-out units better than that model
does: a sixteenth of the units (of fewer than 32, a quarter) is never trained on. How strongly it is pulled towards that
model, the same units choose. Nothing is charged, because nothing is released. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sordino_client.completion import bundle as bundles
from sordino_client.completion import personal
from sordino_client.training.job import read_units
from sordino_client.training.loop import window_losses, window_matrix
from sordino_client.training.pull import FEWEST_UNITS, PULLS, choose, held_out_every, penalty
from sordino_platform.architecture import ModelConfig, add_adapters, with_adapters
from sordino_platform.machine.processes import give_way
from sordino_platform.model import Decoder, build_decoder
from sordino_privacy.errors import DataError, UsageError

MAX_HELD_OUT_WINDOWS = 128
BATCH = 8
LEARNING_RATE = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What came of it. Losses in nats per token on held-out units, before and after; `kept` when it got better.

    `pull` is how strongly it was pulled towards the model (pull.py).
    """

    before: float
    after: float
    pull: float
    kept: bool
    steps: int
    parameters: int
    release: str


def adapt(
    state: Path,
    units: Path,
    *,
    rank: int,
    steps: int,
    seed: int | None = None,
    on_step: Callable[[int, int], None] = lambda step, of: None,
) -> Adapted:
    """Trains an adapter of `rank` for the model in the completion folder `state` and stores it there, if it helps.

    It is trained once for each of PULLS, `steps` steps each; `on_step` is told which step of all of them is done.
    Raises UsageError, StorageError (no model, no units), DataError when there is too little code.
    """
    if not 1 <= rank <= 64 or not 1 <= steps <= 100_000:
        raise UsageError("an adapter has a rank from 1 to 64, and at least one step of training")
    give_way()
    torch.set_num_threads(1)
    folder = bundles.current(state / "serving")
    model_bundle = bundles.shipped() if folder is None else bundles.load(folder)
    config = with_adapters(model_bundle.config, rank)
    model = build_decoder(config, add_adapters(config, model_bundle.weights))
    factors = {name: p for name, p in model.named_parameters() if name.endswith((".down", ".up"))}
    for p in model.parameters():
        p.requires_grad_(False)
    for p in factors.values():
        p.requires_grad_(True)
    training, heldout = _split(units, config)
    before, done = _loss(model, heldout), 0
    drawn = np.random.default_rng(seed).integers(0, len(training), (steps, BATCH))

    def train(pull: float) -> None:
        """Under every pull the same windows in the same order: only the pull differs."""
        nonlocal done
        optimiser = torch.optim.AdamW(factors.values(), lr=LEARNING_RATE, weight_decay=0.01)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 20) * (1 - 0.9 * step / steps)
            loss = window_losses(model, _together([training[index] for index in drawn[step]])).mean()
            (loss + penalty(factors, pull)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            optimiser.zero_grad()
            done += 1
            on_step(done, steps * len(PULLS))

    chosen = choose(factors, train=train, heldout=lambda: _loss(model, heldout))
    kept = chosen.loss < before
    if kept:
        personal.store(
            personal.place(state), {name: p.detach().numpy().copy() for name, p in factors.items()}
        )
    return Adapted(
        before=before,
        after=chosen.loss,
        pull=chosen.pull,
        kept=kept,
        steps=steps,
        parameters=sum(p.numel() for p in factors.values()),
        release=model_bundle.name,
    )


def _split(path: Path, config: ModelConfig) -> tuple[list[Tensor], list[Tensor]]:
    """Windows to train on and to hold out, each `(1, tokens + 1)`; a unit's windows stay together."""
    units = read_units(path)
    if len(units) < FEWEST_UNITS:
        raise DataError(
            f"{len(units)} units of code are too few for an adapter of their own",
            hint="name more repositories in member.toml",
        )
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for number, unit in enumerate(units):
        rows = window_matrix(unit, config, config.context)
        parts[number % held_out_every(len(units)) == 0].extend(torch.split(rows, 1))
    return parts[0], parts[1][:: max(1, len(parts[1]) // MAX_HELD_OUT_WINDOWS)]


def _together(windows: Sequence[Tensor]) -> Tensor:
    """Windows of several lengths as one matrix, padded as `window_matrix` pads."""
    width = max(w.shape[1] for w in windows)
    return torch.cat([torch.nn.functional.pad(w, (0, width - w.shape[1]), value=-1) for w in windows])


@torch.no_grad()
def _loss(model: Decoder, windows: Sequence[Tensor]) -> float:
    groups = [windows[start : start + BATCH] for start in range(0, len(windows), BATCH)]
    return float(torch.cat([window_losses(model, _together(group)) for group in groups]).mean())
