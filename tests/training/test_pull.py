"""The pull of a personal adapter: what it costs, and that held-out code chooses it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sordino_client.training.pull import choose_pull, penalty


def factors(rank: int, inputs: int, outputs: int, seed: int) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "layer.down": nn.Parameter(torch.randn(rank, inputs, generator=generator)),
        "layer.up": nn.Parameter(torch.randn(outputs, rank, generator=generator)),
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.floats(0, 10), st.integers(0, 99))
def test_the_penalty_is_half_the_squared_length_of_what_changes(
    rank: int, inputs: int, outputs: int, pull: float, seed: int
) -> None:
    two = factors(rank, inputs, outputs, seed) | {
        f"other{name}": value for name, value in factors(rank, outputs, inputs, seed + 1).items()
    }
    changes = [two["layer.up"] @ two["layer.down"], two["otherlayer.up"] @ two["otherlayer.down"]]
    expected = pull / 2 * sum(float(change.detach().square().sum()) for change in changes)
    assert float(penalty(two, pull).detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def drawn(seed: int, around: float, spread: float, count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(around, spread, count).astype(np.float32))


def chosen_for(truth: float, spread: float, count: int) -> tuple[float, float]:
    """A model of one number that says 0 before; the member's numbers lie around `truth`."""
    two = {"x.down": nn.Parameter(torch.ones(1, 1)), "x.up": nn.Parameter(torch.zeros(1, 1))}
    seen, apart = drawn(3, truth, spread, count), drawn(4, truth, 0.01, 400)

    def value() -> torch.Tensor:
        return (two["x.up"] @ two["x.down"]).squeeze()

    def train(pull: float) -> None:
        optimiser = torch.optim.SGD([two["x.up"]], lr=0.05)
        for _ in range(300):
            optimiser.zero_grad()
            loss = (value() - seen).square().mean() / 2 + penalty(two, pull)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    chosen = choose_pull(
        two,
        train=train,
        heldout=lambda: float((value() - apart).square().mean().detach()),
        pulls=(0.0, 0.1, 10.0),
    )
    assert (
        chosen.loss
        == min(chosen.each.values())
        == pytest.approx(float((value() - apart).square().mean().detach()))
    ), "the factors stand as the best pull made them"
    return chosen.pull, float(value().detach())


def test_much_code_of_its_own_kind_chooses_no_pull_and_little_code_like_all_others_a_strong_one() -> None:
    assert chosen_for(truth=2.0, spread=0.01, count=500)[0] == 0.0
    pull, value = chosen_for(truth=0.0, spread=2.0, count=3)
    assert pull == 10.0
    assert abs(value) < 0.2


def test_every_pull_begins_where_the_factors_stood() -> None:
    two, seen = factors(1, 2, 2, 0), list[float]()
    start = {name: value.detach().clone() for name, value in two.items()}

    def train(pull: float) -> None:
        assert all(torch.equal(two[name], start[name]) for name in two)
        seen.append(pull)
        with torch.no_grad():
            two["layer.up"].add_(1 + pull)

    choose_pull(two, train=train, heldout=lambda: 1.0, pulls=(0.5, 0.0))
    assert seen == [0.0, 0.5]
