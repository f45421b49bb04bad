"""A private step from its sample to its release, and the traps of Opacus 1.6 on that way."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from tests.dpsgd.small_models import CONFIG, OURS, PLAN, Untied, added, clipped_sum, decoder, key, tokens
from torch import Tensor, nn

from sordino_client.training.loop import window_losses
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import Mode, PrivateTraining, gradients_for
from sordino_privacy.dpsgd.gradients import trainable_parameters
from sordino_privacy.dpsgd.noise import standard_normal
from sordino_privacy.dpsgd.opacus_layer import PrivateOptimizer
from sordino_privacy.dpsgd.per_unit import PerUnitGradients

# Opacus trap: an empty batch. Trap: a sample that is not finite. Trap: a private divisor.


@pytest.mark.parametrize("mode", OURS)
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_an_empty_batch_releases_noise(mode: Mode, optimiser: str) -> None:
    model = decoder()
    before = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
    plan = TrainingPlan.parse({**asdict(PLAN), "optimiser": optimiser})
    training = PrivateTraining(model, plan, window_losses=window_losses, keystream=key(), mode=mode)
    training.step([])
    change = torch.cat([p.detach().reshape(-1) for p in model.parameters()]) - before
    if optimiser == "sgd":
        assert float(change.std()) == pytest.approx(PLAN.learning_rate * PLAN.noise_deviation(), rel=0.03)
    else:
        assert float(change.abs().mean()) == pytest.approx(PLAN.learning_rate, rel=0.03)


@pytest.mark.parametrize("mode", OURS)
def test_a_unit_that_is_not_finite_is_zeroed_and_counted_and_poisons_nobody(mode: Mode) -> None:
    def losses(model: nn.Module, windows: Tensor) -> Tensor:
        # Units that start with token 0 are poisoned.
        return window_losses(model, windows) * torch.where(windows[:, 0] == 0, math.inf, 1.0)

    model = decoder()
    good, bad = tokens(2), tokens(2, seed=3)
    good[:, 0], bad[:, 0] = 1, 0
    total = torch.zeros(sum(p.numel() for p in model.parameters()))
    outcome = gradients_for(mode, model, losses).add([good, bad], 0.1, total)
    assert outcome.nonfinite == 1
    assert outcome.clipped == 1
    assert torch.dist(total, clipped_sum(model, [good], 0.1)) < 1e-6


def test_the_divisor_is_the_plans_constant_whatever_the_data() -> None:
    changes = []
    for count in (2, 8):
        model = decoder()
        before = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
        plan = replace(PLAN, steps=1, sampling_rate=1.0, noise_multiplier=0.05, clip_norm=1e-6)
        training = PrivateTraining(model, plan, window_losses=window_losses, keystream=key())
        training.run([tokens(1)] * count)
        changes.append((torch.cat([p.detach().reshape(-1) for p in model.parameters()]) - before).double())
    # Same noise in both (one key, as many words drawn for noise after different samples) is not assumed: what is
    # compared is the signal, eight units against two.
    direction = clipped_sum(decoder(), [tokens(1)], 1.0).double()
    small, large = (float(change @ direction) for change in changes)
    assert large / small == pytest.approx(4, rel=0.3)


def test_the_released_gradient_is_the_noised_sum_over_the_divisor() -> None:
    model = decoder()
    optimizer = PrivateOptimizer(trainable_parameters(model), PLAN, key(3))
    optimizer.total.fill_(1e-3)
    seen = []
    optimizer.attach_step_hook(lambda o: seen.append(o.total.clone()))
    optimizer.step()
    noise = standard_normal(key(3), optimizer.total.numel()).float()
    expected = (1e-3 + noise * PLAN.noise_multiplier * PLAN.clip_norm) / PLAN.expected_units
    assert torch.allclose(seen[0], expected, atol=1e-6)
    assert float(optimizer.total.abs().max()) == 0.0
    assert all(p.grad is None for p in model.parameters())


def released(sum_of_units: Tensor) -> Tensor:
    """What a step with next to no noise releases of this sum of clipped gradients."""
    optimizer = PrivateOptimizer(
        trainable_parameters(decoder()), replace(PLAN, noise_multiplier=0.05, clip_norm=1.0), key(3)
    )
    optimizer.total.copy_(sum_of_units)
    seen: list[Tensor] = []
    optimizer.attach_step_hook(lambda o: seen.append(o.total.clone()))
    optimizer.step()
    noise = standard_normal(key(3), sum_of_units.numel()).float() * 0.05
    return seen[0] * PLAN.expected_units - noise


def test_a_steps_signal_is_never_longer_than_the_plans_signal_norm_and_no_units_influence_grows() -> None:
    """The projection is what lets strangers bound an honest update; it must not stretch what one unit changes."""
    size = sum(p.numel() for p in decoder().parameters())
    random = torch.Generator().manual_seed(7)
    for length in (0.5, 7.9, 8.0, 8.5, 40.0):
        whole = torch.randn(size, generator=random)
        whole *= length / whole.norm()
        unit = torch.randn(size, generator=random)
        unit /= unit.norm()  # one unit's clipped gradient, clip 1
        first, second = released(whole), released(whole + unit)
        assert float(first.norm()) <= PLAN.expected_units * (1 + 1e-4)
        assert float((first - second).norm()) <= 1 + 1e-3
        if length <= PLAN.expected_units:
            assert torch.allclose(first, whole, atol=1e-5)


def test_a_private_step_takes_no_closure() -> None:
    with pytest.raises(TypeError, match="closure"):
        PrivateOptimizer(trainable_parameters(decoder()), PLAN, key()).step(lambda: 0.0)


@pytest.mark.parametrize("mode", [*OURS, "opacus-hooks"])
def test_no_gradient_stays_behind(mode: Mode) -> None:
    model = Untied()
    added(gradients_for(mode, model, window_losses), model, [tokens(2), tokens(1)], 1.0)
    assert all(p.grad is None for p in model.parameters())
    assert not any(hasattr(p, "grad_sample") for p in model.parameters())
    assert not isinstance(model, GradSampleModule)


def test_only_float32_parameters_on_the_cpu_are_trained() -> None:
    with pytest.raises(TypeError, match="float32"):
        PerUnitGradients(Untied().double(), window_losses)
    with pytest.raises(TypeError, match="no trainable"):
        PerUnitGradients(Untied().requires_grad_(False), window_losses)


# A round


def test_a_round_reads_at_most_the_planned_windows_of_each_unit_and_counts_what_it_did() -> None:
    plan = replace(PLAN, sampling_rate=1.0, steps=3)
    training = PrivateTraining(decoder(), plan, window_losses=window_losses, keystream=key())
    steps: list[int] = []
    record = training.run([tokens(5), tokens(1)], on_step=lambda step: steps.append(step.step))
    assert steps == [1, 2, 3]
    assert (record.units, record.windows, record.nonfinite) == (6, 9, 0)
    assert record.clipped_share == 1.0
    assert record.mean_loss == pytest.approx(math.log(CONFIG.vocabulary), rel=0.2)


def test_a_round_that_read_nothing_still_changes_the_model() -> None:
    model = decoder()
    before = model.embed.weight.detach().clone()
    training = PrivateTraining(
        model, replace(PLAN, sampling_rate=1e-9), window_losses=window_losses, keystream=key()
    )
    record = training.run([tokens(1)])
    assert math.isnan(record.mean_loss)
    assert record.units == 0
    assert not torch.equal(model.embed.weight, before)


def test_training_learns_when_the_noise_is_small() -> None:
    model = decoder()
    plan = replace(
        PLAN,
        noise_multiplier=0.05,
        clip_norm=1.0,
        steps=40,
        sampling_rate=1.0,
        learning_rate=2.0,
        windows_per_unit=4,
    )
    units = [torch.arange(9, dtype=torch.int32).repeat(2, 1) + start for start in range(8)]
    first = float(window_losses(model, units[0]).detach().mean())
    PrivateTraining(model, plan, window_losses=window_losses, keystream=key()).run(units)
    assert float(window_losses(model, units[0]).detach().mean()) < first - 1.0
