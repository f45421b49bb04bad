"""Clipped sums are equal to brute force, and the traps of Opacus 1.6 that spoil one cannot happen here."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.optimizers import DPOptimizer
from tests.dpsgd.small_models import (
    CONFIG,
    MODELS,
    OURS,
    Positions,
    Tied,
    Untied,
    added,
    clipped_sum,
    decoder,
    tokens,
)
from torch import Tensor, nn

from sordino_client.training.loop import window_losses
from sordino_privacy.dpsgd.engine import Mode, gradients_for
from sordino_privacy.dpsgd.gradients import trainable_parameters
from sordino_privacy.dpsgd.one_pass import OnePassGradients
from sordino_privacy.dpsgd.opacus_layer import HookGradients
from sordino_privacy.dpsgd.per_unit import PerUnitGradients
from sordino_privacy.dpsgd.selfcheck import SelfCheckError, self_check

# Equality with brute force


@pytest.mark.parametrize("mode", OURS)
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
def test_clipped_sums_equal_brute_force(build: Callable[[], nn.Module], mode: Mode) -> None:
    model = build()
    units = [tokens(1), tokens(3), tokens(2), tokens(1, seed=5), tokens(3, seed=5), tokens(2, length=5)]
    for clip_norm in (1e-3, 0.3, 1e3):
        expected = clipped_sum(model, units, clip_norm)
        found = added(gradients_for(mode, model, window_losses), model, units, clip_norm)
        assert torch.dist(found, expected) < 1e-5 * (1 + float(expected.norm()))


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
def test_workers_that_share_a_step_add_up_to_brute_force_and_agree_on_what_happened(
    build: Callable[[], nn.Module],
) -> None:
    model = build()
    units = [tokens(1), tokens(3), tokens(2), tokens(1, seed=5), tokens(2, length=5)]
    alone, shared = (gradients_for("one-pass", model, window_losses, workers=n) for n in (1, 2))
    for count in (0, 1, 5):
        expected = clipped_sum(model, units[:count], 0.3)
        total = torch.zeros_like(expected)
        outcome = shared.add(units[:count], 0.3, total)
        assert torch.dist(total, expected) < 1e-5 * (1 + float(expected.norm()))
        single = alone.add(units[:count], 0.3, torch.zeros_like(expected))
        assert sorted(outcome.norms) == pytest.approx(sorted(single.norms), rel=1e-4)
        assert (outcome.clipped, outcome.nonfinite) == (single.clipped, single.nonfinite)


def test_what_one_of_several_workers_finds_wrong_is_raised_after_all_of_them_stopped() -> None:
    def losses(model: nn.Module, windows: Tensor) -> Tensor:
        if int(windows[0, 0]) == 0:
            raise ValueError("this worker's unit")
        return window_losses(model, windows)

    good, bad = tokens(1), tokens(1, length=5)
    good[:, 0], bad[:, 0] = 1, 0
    mode = gradients_for("one-pass", decoder(), losses, workers=2)
    with pytest.raises(ValueError, match="this worker's unit"):
        mode.add([good, bad], 0.1, torch.zeros(sum(p.numel() for p in decoder().parameters())))


def test_a_mode_that_keeps_gradients_in_the_shared_parameters_has_one_worker() -> None:
    with pytest.raises(ValueError, match="has one worker"):
        gradients_for("per-unit", decoder(), window_losses, workers=2)


class LookedUpTwice(Untied):
    """One embedding for two inputs: its rows of the first use must not be lost to the second."""

    def forward(self, x: Tensor) -> Tensor:
        both = self.embed(x) + self.embed((x + 1) % CONFIG.vocabulary)
        result: Tensor = self.head(F.relu(self.hidden(self.norm(both))))
        return result


class UsedBeforeItIsLookedUp(Untied):
    """The backward pass meets the lookup first, and the product with the whole matrix after it."""

    def forward(self, x: Tensor) -> Tensor:
        looked_up = self.embed(x)
        scores = F.linear(looked_up.detach(), self.embed.weight).softmax(dim=-1)
        mixed = looked_up * scores.sum(dim=-1, keepdim=True) + scores[..., :12]
        result: Tensor = self.head(F.relu(self.hidden(self.norm(mixed))))
        return result


@pytest.mark.parametrize("build", [LookedUpTwice, UsedBeforeItIsLookedUp, Tied])
def test_rows_of_an_embedding_and_products_with_all_of_it_add_up(build: Callable[[], nn.Module]) -> None:
    model = build()
    units = [tokens(1), tokens(2), tokens(1, seed=5)]
    expected = clipped_sum(model, units, 0.3)
    found = added(OnePassGradients(model, window_losses), model, units, 0.3)
    assert torch.dist(found, expected) < 1e-5 * (1 + float(expected.norm()))


def test_a_unit_that_is_not_finite_adds_no_row_of_an_embedding() -> None:
    def losses(model: nn.Module, windows: Tensor) -> Tensor:
        return window_losses(model, windows) * torch.where(windows[:, 0] == 0, math.nan, 1.0)

    model = Untied()
    good, bad = tokens(1), tokens(1, seed=3)
    good[:, 0], bad[:, 0] = 1, 0
    total = torch.zeros(sum(p.numel() for p in model.parameters()))
    assert OnePassGradients(model, losses).add([good, bad], 0.1, total).nonfinite == 1
    assert torch.dist(total, clipped_sum(model, [good], 0.1)) < 1e-6


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 3), st.integers(2, 10)), min_size=1, max_size=6),
    buffer=st.sampled_from([1, 1 << 16, 1 << 20]),
    limit=st.sampled_from([1, 40, 4096]),
    clip_norm=st.sampled_from([0.01, 0.5, 100.0]),
)
def test_how_units_are_grouped_into_passes_changes_nothing(
    shapes: list[tuple[int, int]], buffer: int, limit: int, clip_norm: float
) -> None:
    model = decoder()
    units = [tokens(rows, length, seed=index) for index, (rows, length) in enumerate(shapes)]
    expected = added(PerUnitGradients(model, window_losses), model, units, clip_norm)
    mode = OnePassGradients(model, window_losses, buffer=buffer, tokens=limit)
    assert torch.dist(added(mode, model, units, clip_norm), expected) < 1e-4 * (1e-3 + float(expected.norm()))


@pytest.mark.parametrize("mode", OURS)
def test_padding_of_short_windows_changes_nothing(mode: Mode) -> None:
    model = decoder()
    short = tokens(1, 6)
    padded = torch.cat([short, torch.full((1, 5), -1, dtype=torch.int32)], dim=1)
    gradients = gradients_for(mode, model, window_losses)
    assert torch.allclose(
        added(gradients, model, [short], 1e3), added(gradients, model, [padded], 1e3), atol=1e-6
    )


@pytest.mark.parametrize("functorch", [False, True])
def test_both_modes_equal_opacus_hooks_where_those_are_right(functorch: bool) -> None:
    model = Untied()
    units = [tokens(2), tokens(2, seed=7), tokens(1)]
    oracle = added(HookGradients(model, window_losses, functorch=functorch), model, units, 0.05)
    for mode in OURS:
        assert torch.dist(added(gradients_for(mode, model, window_losses), model, units, 0.05), oracle) < 1e-6


def test_opacus_own_optimiser_takes_our_per_sample_gradients() -> None:
    model = Untied()
    parameters = trainable_parameters(model)
    units = [tokens(1, seed=seed) for seed in range(4)]
    mode = OnePassGradients(model, window_losses)
    mode.per_sample(units)
    stock = DPOptimizer(
        torch.optim.SGD(parameters, lr=0.1), noise_multiplier=0.0, max_grad_norm=0.05, expected_batch_size=4
    )
    for parameter, sample in zip(parameters, mode.samples(), strict=True):
        parameter.grad_sample = sample  # type: ignore[attr-defined]
    stock.clip_and_accumulate()
    summed = torch.cat([p.summed_grad.reshape(-1) for p in parameters])  # type: ignore[attr-defined]
    assert torch.dist(summed, added(mode, model, units, 0.05)) < 1e-5


# The clip


@pytest.mark.parametrize("mode", OURS)
def test_no_unit_contributes_more_than_the_clip(mode: Mode) -> None:
    model = decoder()
    gradients = gradients_for(mode, model, window_losses)
    for seed in range(5):
        norm = added(gradients, model, [tokens(2, seed=seed)], 0.07).double().norm()
        assert norm <= 0.07 * (1 + 1e-4)


@pytest.mark.parametrize("mode", OURS)
def test_a_unit_is_clipped_once_over_all_its_windows(mode: Mode) -> None:
    model = decoder()
    window = tokens(1)
    once = added(gradients_for(mode, model, window_losses), model, [window], 0.05)
    eight = added(gradients_for(mode, model, window_losses), model, [window.repeat(8, 1)], 0.05)
    assert torch.dist(once, eight) < 1e-6


# Opacus trap: functional tying. Trap: broadcast positions. Trap: unknown module.


def test_opacus_hooks_are_silently_wrong_on_a_tied_weight_and_the_self_check_says_so() -> None:
    model = Tied()
    hooks = HookGradients(model, window_losses)
    expected = clipped_sum(model, [tokens(1)], 1e3)
    assert torch.dist(added(hooks, model, [tokens(1)], 1e3), expected) > 0.05 * expected.norm()
    with pytest.raises(SelfCheckError, match="differs from brute force"):
        self_check(model, window_losses, hooks, [tokens(1), tokens(2)])


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("mode", OURS)
def test_the_self_check_passes_where_the_engine_is_right(build: Callable[[], nn.Module], mode: Mode) -> None:
    model = build()
    self_check(model, window_losses, gradients_for(mode, model, window_losses), [tokens(1), tokens(2)])


@pytest.mark.parametrize("shape", [(-1,), (1, -1)])
def test_broadcast_positions_are_refused_in_one_pass_and_right_per_unit(shape: tuple[int, ...]) -> None:
    model = Positions(shape)
    with pytest.raises(TypeError, match="one row per window"):
        added(OnePassGradients(model, window_losses), model, [tokens(2)], 1.0)
    units = [tokens(2), tokens(1)]
    expected = clipped_sum(model, units, 0.1)
    assert torch.dist(added(PerUnitGradients(model, window_losses), model, units, 0.1), expected) < 1e-6


class Unknown(Untied):
    def __init__(self, use: Callable[[Tensor, nn.Parameter], Tensor]) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.ones(12))
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(F.relu(self.hidden(self.use(self.embed(x), self.extra))))
        return result


@pytest.mark.parametrize(
    "use",
    [
        lambda x, extra: x * extra,
        lambda x, extra: torch.addcmul(x, x, extra),
        lambda x, extra: x + torch.stack([extra, extra]).sum(0),
        lambda x, extra: F.layer_norm(x, (12,), extra),
        lambda x, extra: x + extra.data * extra[0],
    ],
)
def test_a_use_of_a_parameter_without_a_rule_is_an_error(
    use: Callable[[Tensor, nn.Parameter], Tensor],
) -> None:
    model = Unknown(use)
    with pytest.raises(TypeError, match=r"no per-unit gradient rule for .* of extra"):
        added(OnePassGradients(model, window_losses), model, [tokens(2)], 1.0)


def test_a_product_with_a_parameter_on_the_left_or_a_vector_on_the_right_is_an_error() -> None:
    for use in (
        lambda x, extra: x + torch.matmul(extra, x.transpose(1, 2)).unsqueeze(-1),
        lambda x, extra: x + torch.matmul(x, extra).unsqueeze(-1),
    ):
        model = Unknown(use)
        with pytest.raises(TypeError, match="only with a trainable matrix on its right"):
            added(OnePassGradients(model, window_losses), model, [tokens(2)], 1.0)


def test_a_gradient_that_takes_another_path_is_an_error() -> None:
    model = Unknown(lambda x, extra: x)
    outside = model.extra * 2.0  # computed before the engine watches
    model.use = lambda x, extra: x * outside
    with pytest.raises(TypeError, match="past the clip"):
        added(OnePassGradients(model, window_losses), model, [tokens(2)], 1.0)
    assert model.extra.grad is None


def test_a_parameter_that_takes_no_part_is_an_error() -> None:
    model = Unknown(lambda x, extra: x)
    with pytest.raises(TypeError, match="no part"):
        added(OnePassGradients(model, window_losses), model, [tokens(2)], 1.0)
    with pytest.raises(SelfCheckError, match="no part"):
        self_check(model, window_losses, PerUnitGradients(model, window_losses), [tokens(1)])
