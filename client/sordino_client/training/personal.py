"""Trains the personal adapter: plain AdamW, no noise, low rank, on the units that private training reads too. On a
base, it lies on top of the federation's adapters.

It starts from the model that completes now, and is kept only when it predicts held-out units better than that model
does: a sixteenth of the units (of fewer than 32, a quarter) is never trained on. How strongly it is pulled towards that
model, the same units choose. Nothing is charged, because nothing is released. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sordino_client.completion import bundle as bundles
from sordino_client.completion import personal
from sordino_client.completion.bases import served
from sordino_client.training.job import Tokens, read_units
from sordino_client.training.loop import window_losses, window_matrix
from sordino_client.training.on_base import Means, OnBase
from sordino_client.training.pull import FEWEST_UNITS, PULLS, choose_pull, held_out_every, penalty
from sordino_platform.architecture import Architecture, add_adapters, with_adapters
from sordino_platform.machine.processes import give_way
from sordino_platform.model import build_decoder
from sordino_platform.release.bundle import BEGINS
from sordino_privacy.errors import ConfigurationError, DataError, UsageError

MAX_HELD_OUT_WINDOWS = 128
BATCH = 8
LEARNING_RATE = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """The result.

    Losses in nats per token on held-out units, before and after; `kept` if it got better. `pull` is how strongly it was
    pulled towards the model (pull.py).
    """

    before: float
    after: float
    pull: float
    kept: bool
    steps: int
    parameters: int
    release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adapting:
    """The model that completes now, with fresh factors that are trained; `at_once` windows fit into one pass."""

    name: str
    model: nn.Module = field(repr=False)
    factors: Mapping[str, nn.Parameter] = field(repr=False)
    config: Architecture
    device: torch.device
    at_once: int


def adapt(
    state: Path,
    units: Path,
    *,
    rank: int,
    steps: int,
    alone: bool = False,
    seed: int | None = None,
    means: Means | None = None,
    on_step: Callable[[int, int], None] = lambda step, of: None,
) -> Adapted:
    """Trains an adapter of `rank` for the model in the completion folder `state` and stores it there, if it helps.

    `alone`: not for the release, but for the model that releases begin with. It is trained once for each of PULLS,
    `steps` steps each; `on_step` is told which step of all of them is done.
    `means` are what training on a base may use. Raises UsageError, StorageError (no model, no units), DataError when
    there is too little code, ConfigurationError for a base that is not here or too large.
    """
    if not 1 <= rank <= 64 or not 1 <= steps <= 100_000:
        raise UsageError("an adapter has a rank from 1 to 64, and at least one step of training")
    give_way()
    torch.set_num_threads(1)
    read = _read(units)
    window = max(window.size for unit in read for window in unit) - 1
    folder = bundles.current(state / "serving")
    if folder is not None and served.of_base(folder):
        adapting = _on_base(folder, rank, window, means or Means(), alone=alone)
    else:
        folder = bundles.current(state / BEGINS) if alone else folder
        adapting = _on_our_own(folder, rank)
    factors = adapting.factors
    training, heldout = _split(read, adapting.config)
    before, done = _loss(adapting, heldout), 0
    drawn = np.random.default_rng(seed).integers(0, len(training), (steps, BATCH))

    def train(pull: float) -> None:
        """Every pull sees the same windows in the same order, so that only the pull differs."""
        nonlocal done
        optimiser = torch.optim.AdamW(factors.values(), lr=LEARNING_RATE, weight_decay=0.01)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 20) * (1 - 0.9 * step / steps)
            for part in _passes([training[index] for index in drawn[step]], adapting):
                (window_losses(adapting.model, part).sum() / BATCH).backward()  # type: ignore[no-untyped-call]
            penalty(factors, pull).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            optimiser.zero_grad()
            done += 1
            on_step(done, steps * len(PULLS))

    chosen = choose_pull(factors, train=train, heldout=lambda: _loss(adapting, heldout))
    kept = chosen.loss < before
    if kept:
        personal.store(
            personal.place(state, alone=alone),
            {name: p.detach().cpu().numpy().copy() for name, p in factors.items()},
        )
    return Adapted(
        before=before,
        after=chosen.loss,
        pull=chosen.pull,
        kept=kept,
        steps=steps,
        parameters=sum(p.numel() for p in factors.values()),
        release=adapting.name,
    )


def _on_our_own(folder: Path | None, rank: int) -> _Adapting:
    bundle = bundles.shipped() if folder is None else bundles.load(folder)
    config = with_adapters(bundle.config, rank)
    model = build_decoder(config, add_adapters(config, bundle.weights))
    factors = {name: p for name, p in model.named_parameters() if name.endswith((".down", ".up"))}
    for p in model.parameters():
        p.requires_grad_(False)
    for p in factors.values():
        p.requires_grad_(True)
    return _Adapting(
        name=bundle.name,
        model=model,
        factors=factors,
        config=config,
        device=torch.device("cpu"),
        at_once=BATCH,
    )


def _on_base(folder: Path, rank: int, window: int, means: Means, *, alone: bool) -> _Adapting:
    bundle = served.read(folder)
    assert bundle.base.place is not None
    released = {} if alone else served.factors(bundle)
    on = OnBase.load(bundle.base.place, rank=rank, window=window, means=means, merged=released)
    if on.config.base_sha256 != bundle.base.digest:
        raise ConfigurationError(
            f"{bundle.base.place} is not the base any more that completes here",
            hint="put its files back, or fetch them again",
        )
    return _Adapting(
        name=bundle.base.name if alone else bundle.name,
        model=on.model,
        factors=on.factors,
        config=on.config,
        device=on.device,
        at_once=on.at_once,
    )


def _read(path: Path) -> list[list[Tokens]]:
    """The units. Raises DataError where they are too few."""
    units = read_units(path)
    if len(units) < FEWEST_UNITS:
        raise DataError(
            f"{len(units)} units of code are too few for an adapter of their own",
            hint="name more repositories in member.toml",
        )
    return units


def _split(units: Sequence[Sequence[Tokens]], config: Architecture) -> tuple[list[Tensor], list[Tensor]]:
    """Windows to train on and to hold out, each `(1, tokens + 1)`; a unit's windows stay together."""
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for number, unit in enumerate(units):
        rows = window_matrix(unit, config, config.context)
        parts[number % held_out_every(len(units)) == 0].extend(torch.split(rows, 1))
    return parts[0], parts[1][:: max(1, len(parts[1]) // MAX_HELD_OUT_WINDOWS)]


def _together(windows: Sequence[Tensor]) -> Tensor:
    """Windows of several lengths as one matrix, padded as `window_matrix` pads."""
    width = max(w.shape[1] for w in windows)
    return torch.cat([torch.nn.functional.pad(w, (0, width - w.shape[1]), value=-1) for w in windows])


def _passes(windows: Sequence[Tensor], adapting: _Adapting) -> Iterator[Tensor]:
    """The windows, as many together as one pass may read."""
    for start in range(0, len(windows), adapting.at_once):
        yield _together(windows[start : start + adapting.at_once]).to(adapting.device)


@torch.no_grad()
def _loss(adapting: _Adapting, windows: Sequence[Tensor]) -> float:
    parts = [window_losses(adapting.model, part) for part in _passes(windows, adapting)]
    return float(torch.cat(parts).mean())
