"""Private training alone: one member with the federation's plan and engine, who adds all the noise alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from sordino_client.training.job import Tokens
from sordino_client.training.loop import window_losses, window_matrix
from sordino_platform.architecture import ModelConfig, Parameters, Vector, flatten, unflatten
from sordino_platform.model import build_decoder, parameters_of
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import PrivateTraining
from sordino_privacy.keystream import Keystream


def train_alone(
    units: Sequence[Sequence[Tokens]],
    config: ModelConfig,
    parameters: Parameters,
    plan: TrainingPlan,
    server: ServerOptimiser,
    *,
    rounds: int,
) -> dict[str, Vector]:
    """Every parameter after `rounds` rounds of `plan` on one member's units. Raises the errors of the engine."""
    *_, last = private_rounds(units, config, parameters, plan, server, rounds=rounds)
    return unflatten(config, parameters, last)


def private_rounds(
    units: Sequence[Sequence[Tokens]],
    config: ModelConfig,
    parameters: Parameters,
    plan: TrainingPlan,
    server: ServerOptimiser,
    *,
    rounds: int,
) -> Iterator[Vector]:
    """The model's vector after each of the `rounds` rounds of `plan`. Raises the errors of the engine.

    `server` computes the next model from each round's update, as a coordinator does from the members' mean.
    """
    matrices: list[torch.Tensor] = [window_matrix(unit, config, plan.window) for unit in units]
    vector, keystream = flatten(config, parameters), Keystream.from_system()
    moments = server.fresh(vector.size)
    for _ in range(rounds):
        model = build_decoder(config, unflatten(config, parameters, vector))
        PrivateTraining(model, plan, window_losses=window_losses, keystream=keystream).run(matrices)
        update = flatten(config, parameters_of(model)) - vector
        vector, moments = server.step(vector, update, moments)
        yield vector
