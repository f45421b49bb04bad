"""Training without privacy, in this process, for comparison. No setting of a federation can turn any of it on.

train_on            ordinary training: central (on the code of all members together), or one member alone
own_adapter         a member's own adapter on top of a model: low rank, of its own code, never released
pulled_adapter      the same, pulled towards the model; the strength is chosen on the member's own code
average_members_without_any_privacy_for_comparison
                    the federation's plan and arithmetic without clip and noise: what the privacy costs
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sordino_client.training.job import Tokens
from sordino_client.training.loop import window_losses, window_matrix
from sordino_client.training.muon import Muon, Rates
from sordino_client.training.pull import Chosen, choose_pull, held_out_every, penalty
from sordino_platform.architecture import (
    ModelConfig,
    Parameters,
    Vector,
    add_adapters,
    flatten,
    merged,
    unflatten,
    with_adapters,
)
from sordino_platform.model import Decoder, build_decoder, parameters_of

BATCH_TOKENS = 2048
WARMUP_STEPS = 20
OWN_RANK, OWN_RATE = 8, 4e-3
MOST_HELD_OUT = 128  # windows on which the pull of an adapter is chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """All windows of some units. They are drawn with a seed, without replacement within an epoch."""

    windows: tuple[Tokens, ...]
    window: int
    config: ModelConfig

    @classmethod
    def of(cls, units: Sequence[Sequence[Tokens]], *, window: int, config: ModelConfig) -> Windows:
        return cls(windows=tuple(w for unit in units for w in unit), window=window, config=config)

    def batches(self, tokens: int, seed: int) -> list[torch.Tensor]:
        """Batches of about BATCH_TOKENS each, `tokens` in total."""
        draw, rows = np.random.default_rng(seed), max(1, BATCH_TOKENS // self.window)
        count = max(1, tokens // (rows * self.window))
        order: list[int] = []
        while len(order) < count * rows:
            order += draw.permutation(len(self.windows)).tolist()
        return [
            window_matrix(
                [self.windows[i] for i in order[at * rows : (at + 1) * rows]], self.config, self.window
            )
            for at in range(count)
        ]

    def all_batches(self) -> list[torch.Tensor]:
        """At most MOST_HELD_OUT of the windows, evenly spread, in their order."""
        rows, chosen = (
            max(1, BATCH_TOKENS // self.window),
            self.windows[:: -(-len(self.windows) // MOST_HELD_OUT)],
        )
        return [
            window_matrix(chosen[at : at + rows], self.config, self.window)
            for at in range(0, len(chosen), rows)
        ]


def train_on(
    data: Windows, parameters: Parameters, *, tokens: int, seed: int, forgetful: float = 0.25
) -> dict[str, Vector]:
    """Trains every parameter with Muon, on the rate schedule of `sordino train`, and returns the parameters.

    `forgetful` is the fraction of pretraining's rates: at the full rates a trained model forgets what it learnt.
    """
    model, full = build_decoder(data.config, parameters).train(), Rates()
    rates = Rates(matrix=full.matrix * forgetful, other=full.other * forgetful)
    optimiser = Muon(model.named_parameters(), rates)
    batches = data.batches(tokens, seed)
    for step, windows in enumerate(batches):
        _backward(model, windows)
        optimiser.step(_schedule(step, len(batches)))
    return parameters_of(model)


def own_adapter(data: Windows, parameters: Parameters, *, tokens: int, seed: int) -> dict[str, Vector]:
    """Trains an adapter, the norms and the output bias with Adam; returns plain parameters, the adapter folded in."""
    model = _with_own_adapter(data.config, parameters, seed)
    _train_own(model, data.batches(tokens, seed), pull=0.0)
    return merged(parameters_of(model))


def pulled_adapter(
    units: Sequence[Sequence[Tokens]],
    parameters: Parameters,
    *,
    window: int,
    config: ModelConfig,
    tokens: int,
    seed: int,
) -> tuple[dict[str, Vector], Chosen]:
    """Like `own_adapter`, but pulled towards `parameters`. The pull is chosen on units held out of the training.

    If no adapter predicts these units better than the model, the model is returned unchanged.
    """
    every = held_out_every(len(units))
    apart = [unit for number, unit in enumerate(units) if number % every == 0]
    rest = [unit for number, unit in enumerate(units) if number % every]
    data = Windows.of(rest, window=window, config=config)
    heldout = Windows.of(apart, window=window, config=config).all_batches()
    model = _with_own_adapter(config, parameters, seed)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    batches = data.batches(tokens, seed)
    before = _heldout_loss(model, heldout)
    chosen = choose_pull(
        trained,
        train=lambda pull: _train_own(model, batches, pull=pull),
        heldout=lambda: _heldout_loss(model, heldout),
    )
    helps = chosen.loss < before
    return (merged(parameters_of(model)) if helps else dict(parameters)), chosen


def _with_own_adapter(config: ModelConfig, parameters: Parameters, seed: int) -> Decoder:
    adapted = with_adapters(config, OWN_RANK)
    return build_decoder(adapted, add_adapters(adapted, parameters, seed=seed)).train()


def _train_own(model: Decoder, batches: Sequence[torch.Tensor], *, pull: float) -> None:
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], betas=(0.9, 0.98))
    factors = {n: p for n, p in model.named_parameters() if n.endswith((".down", ".up"))}
    for step, windows in enumerate(batches):
        if pull:
            penalty(factors, pull).backward()  # type: ignore[no-untyped-call]
        _backward(model, windows)
        for group in optimiser.param_groups:
            group["lr"] = OWN_RATE * _schedule(step, len(batches))
        optimiser.step()
        optimiser.zero_grad()


@torch.no_grad()
def _heldout_loss(model: Decoder, batches: Sequence[torch.Tensor]) -> float:
    return float(torch.cat([window_losses(model, windows) for windows in batches]).mean())


def average_members_without_any_privacy_for_comparison(
    members: Mapping[str, Windows],
    config: ModelConfig,
    parameters: Parameters,
    *,
    rounds: int,
    tokens_per_round: int,
    rate: float,
    seed: int,
) -> list[Vector]:
    """Federated averaging (McMahan et al. 2017) of the federation's parameters. Returns the vector after each round.

    No clipping, no noise, no secure sum: each member trains on its own windows with Adam, and the plain mean is taken.
    """
    vector = flatten(config, parameters)
    releases = []
    for number in range(rounds):
        updates = []
        for place, data in enumerate(members.values()):
            model = build_decoder(config, unflatten(config, parameters, vector)).train()
            optimiser = torch.optim.Adam(
                [p for p in model.parameters() if p.requires_grad], lr=rate, betas=(0.9, 0.98)
            )
            for windows in data.batches(tokens_per_round, seed + 1000 * number + place):
                _backward(model, windows)
                optimiser.step()
                optimiser.zero_grad()
            updates.append(flatten(config, parameters_of(model)) - vector)
        vector = (vector + np.mean(updates, axis=0)).astype(np.float32)
        releases.append(vector)
    return releases


def _backward(model: Decoder, windows: torch.Tensor) -> None:
    loss = window_losses(model, windows).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def _schedule(step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / min(WARMUP_STEPS, max(1, steps // 4)))
    return rise * (0.55 + 0.45 * math.cos(math.pi * step / steps))
