"""Models small enough for brute force, and what they must add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sordino_client.training.loop import window_losses
from sordino_platform.architecture import ModelConfig, with_adapters
from sordino_platform.model import Decoder
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import Mode
from sordino_privacy.dpsgd.gradients import UnitGradients, trainable_parameters
from sordino_privacy.dpsgd.selfcheck import brute_force
from sordino_privacy.keystream import Keystream

CONFIG = ModelConfig(vocabulary=61, context=16, layers=2, heads=2, width=12, hidden=20)
PLAN = TrainingPlan(
    sampling_rate=0.5,
    noise_multiplier=1.0,
    clip_norm=0.1,
    steps=2,
    windows_per_unit=2,
    window=16,
    learning_rate=0.1,
    optimiser="sgd",
    delta=1e-6,
    expected_units=8,
)
# Tiny matrices: a second thread only waits.
torch.set_num_threads(1)

OURS: list[Mode] = ["one-pass", "per-unit"]


def key(number: int = 0) -> Keystream:
    return Keystream(bytes([number]) * 32)


def tokens(rows: int, length: int = 9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100 * rows)
    return torch.randint(0, CONFIG.vocabulary, (rows, length), generator=generator, dtype=torch.int32)


def decoder(config: ModelConfig = CONFIG) -> Decoder:
    torch.manual_seed(1)
    model = Decoder(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".up", ".bias")):
                parameter.normal_(std=0.1)  # at zero, half of an adapter has no gradient to be wrong about
    return model


class Untied(nn.Module):
    """Every parameterised module owns its parameters and is called once: what Opacus' hooks are right about."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.embed = nn.Embedding(CONFIG.vocabulary, 12)
        self.norm = nn.RMSNorm(12, eps=1e-6)
        self.hidden = nn.Linear(12, 20)
        self.head = nn.Linear(20, CONFIG.vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(F.relu(self.hidden(self.norm(self.embed(x)))))
        return result


class Tied(Untied):
    """The output layer uses the embedding's weight functionally: Opacus' hooks never see it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(20, 12)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.head(F.relu(self.hidden(self.norm(self.embed(x)))))
        return F.linear(hidden, self.embed.weight)


class Positions(Untied):
    """Learned positions, looked up once for the whole batch and broadcast over it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.positions = nn.Embedding(16, 12)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        where = torch.arange(x.shape[1]).view(self.shape)
        result: Tensor = self.head(F.relu(self.hidden(self.norm(self.embed(x) + self.positions(where)))))
        return result


def clipped_sum(model: nn.Module, units: list[Tensor], clip_norm: float) -> Tensor:
    """What the engine must add up to: brute force."""
    total = torch.zeros(sum(p.numel() for p in trainable_parameters(model)))
    for unit in units:
        gradient = brute_force(model, window_losses, unit)
        total += gradient * min(1.0, clip_norm / float(gradient.norm()))
    return total


def added(mode: UnitGradients, model: nn.Module, units: list[Tensor], clip_norm: float) -> Tensor:
    """What a mode adds up to."""
    total = torch.zeros(sum(p.numel() for p in trainable_parameters(model)))
    mode.add(units, clip_norm, total)
    return total


MODELS: dict[str, Callable[[], nn.Module]] = {
    "tied decoder": decoder,
    "adapters": lambda: decoder(with_adapters(CONFIG, 3)),
    "adapters of the embedding too": lambda: decoder(with_adapters(CONFIG, 3, embedding_rank=2)),
    "all parameters of an adapted decoder": lambda: decoder(replace(CONFIG, adapter_rank=3)),
    "untied": Untied,
    "functionally tied": Tied,
}
