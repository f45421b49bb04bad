"""The baseline for private training: plain SGD on the same windows, and the plan for both steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sordino_privacy.dpsgd import TrainingPlan

if TYPE_CHECKING:
    from torch import Tensor, nn

WINDOW = 256


def measured_plan(units: int) -> TrainingPlan:
    """The plan of one step, for `units` units on average. Its privacy cost does not matter here."""
    return TrainingPlan(
        sampling_rate=0.1,
        noise_multiplier=1.0,
        clip_norm=0.1,
        steps=1,
        windows_per_unit=1,
        window=WINDOW,
        learning_rate=1e-4,
        optimiser="sgd",
        delta=1e-6,
        expected_units=units,
    )


def random_windows(batch: int) -> Tensor:
    """Random windows, int32, `(batch, WINDOW + 1)`."""
    import torch

    return torch.randint(0, 4096, (batch, WINDOW + 1), dtype=torch.int32)


def plain_step(
    model: nn.Module, parameters: Iterable[nn.Parameter], *, learning_rate: float
) -> Callable[[Tensor], None]:
    """SGD on the mean loss of a batch, for these parameters of the model."""
    import torch

    from sordino_client.training.loop import window_losses

    optimizer = torch.optim.SGD(parameters, lr=learning_rate)

    def step(windows: Tensor) -> None:
        window_losses(model, windows).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
