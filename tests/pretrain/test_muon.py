"""Muon's update has one size in every direction, and its state survives a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sordino_client.training.muon import Muon, Rates, orthogonalise
from sordino_platform.architecture import ModelConfig
from sordino_platform.model import Decoder, loss
from sordino_privacy.errors import StorageError

TINY = ModelConfig(vocabulary=64, context=16, layers=1, heads=2, width=16, hidden=32)


def step(model: Decoder, optimiser: Muon, seed: int) -> float:
    tokens = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(seed)) // 8
    value = loss(model(tokens[:, :-1]), tokens[:, 1:])
    value.backward()  # type: ignore[no-untyped-call]
    optimiser.step(1.0)
    return float(value.detach())


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16)])
def test_the_orthogonalised_matrix_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 37
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_zero_matrix_stays_zero() -> None:
    assert not orthogonalise(torch.zeros(4, 6)).any()


def test_the_same_directions_are_kept() -> None:
    u, _, v = torch.linalg.svd(torch.randn(12, 12, generator=torch.Generator().manual_seed(2)))
    matrix = u @ torch.diag(torch.linspace(1, 3, 12)) @ v
    aligned = u.T @ orthogonalise(matrix) @ v.T
    assert (aligned - torch.diag(aligned.diag())).abs().max() < 1e-3


def test_the_size_of_the_gradient_does_not_matter_to_a_matrix() -> None:
    moved = []
    for scale in (1.0, 1000.0):
        parameter = nn.Parameter(torch.zeros(8, 8))
        optimiser = Muon([("blocks.0.expand.weight", parameter)], Rates())
        parameter.grad = torch.eye(8) * scale
        optimiser.step(1.0)
        moved.append(parameter.detach().clone())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-3, atol=1e-6)


def test_every_parameter_moves_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    model = Decoder(TINY)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = Muon(model.named_parameters(), Rates())
    losses = [step(model, optimiser, seed) for seed in range(30)]
    assert losses[-1] < 0.75 * losses[0]
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_matrices_orthogonalised_together_take_the_same_step_as_one_by_one() -> None:
    torch.manual_seed(0)
    model = Decoder(TINY)
    copy = Decoder(TINY)
    copy.load_state_dict(model.state_dict())
    step(model, Muon(model.named_parameters(), Rates()), 1)
    step(copy, Muon(copy.named_parameters(), Rates(), together=True), 1)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, copy.get_parameter(name), atol=1e-5, rtol=1e-4)


def test_a_restored_optimiser_takes_the_same_step() -> None:
    torch.manual_seed(0)
    model = Decoder(TINY)
    optimiser = Muon(model.named_parameters(), Rates())
    step(model, optimiser, 1)
    copy = Decoder(TINY)
    copy.load_state_dict(model.state_dict())
    restored = Muon(copy.named_parameters(), Rates())
    restored.load_state({n: t.clone() for n, t in optimiser.state().items()}, optimiser.steps)
    step(model, optimiser, 2)
    step(copy, restored, 2)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, copy.get_parameter(name))


def test_the_state_of_another_architecture_is_refused() -> None:
    optimiser = Muon(Decoder(TINY).named_parameters(), Rates())
    state = {n: t for n, t in optimiser.state().items() if "expand" not in n}
    with pytest.raises(StorageError, match="another architecture"):
        optimiser.load_state(state, 1)
