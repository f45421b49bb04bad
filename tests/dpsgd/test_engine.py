"""The engine is equal to brute force, and every trap that was reproduced in Opacus 1.6 cannot happen here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from scipy import stats
from torch import Tensor, nn

from sordino_client.training.loop import window_losses
from sordino_platform.architecture import ModelConfig, with_adapters
from sordino_platform.model import Decoder
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import Mode, PrivateTraining, gradients_for
from sordino_privacy.dpsgd.gradients import UnitGradients, trainable_parameters
from sordino_privacy.dpsgd.keystream import Keystream
from sordino_privacy.dpsgd.noise import standard_normal
from sordino_privacy.dpsgd.one_pass import OnePassGradients
from sordino_privacy.dpsgd.opacus_layer import HookGradients, PrivateOptimizer
from sordino_privacy.dpsgd.per_unit import PerUnitGradients
from sordino_privacy.dpsgd.sampling import choose, poisson_sample
from sordino_privacy.dpsgd.selfcheck import SelfCheckError, brute_force, self_check

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
    total = torch.zeros(sum(p.numel() for p in trainable_parameters(model)))
    for unit in units:
        gradient = brute_force(model, window_losses, unit)
        total += gradient * min(1.0, clip_norm / float(gradient.norm()))
    return total


def added(mode: UnitGradients, model: nn.Module, units: list[Tensor], clip_norm: float) -> Tensor:
    total = torch.zeros(sum(p.numel() for p in trainable_parameters(model)))
    mode.add(units, clip_norm, total)
    return total


# Equality with brute force

MODELS: dict[str, Callable[[], nn.Module]] = {
    "tied decoder": decoder,
    "adapters": lambda: decoder(with_adapters(CONFIG, 3)),
    "adapters of the embedding too": lambda: decoder(with_adapters(CONFIG, 3, embedding_rank=2)),
    "all parameters of an adapted decoder": lambda: decoder(replace(CONFIG, adapter_rank=3)),
    "untied": Untied,
    "functionally tied": Tied,
}


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
    for count in (2, 20):
        model = decoder()
        before = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
        plan = replace(PLAN, steps=1, sampling_rate=1.0, noise_multiplier=0.05, clip_norm=1e-6)
        training = PrivateTraining(model, plan, window_losses=window_losses, keystream=key())
        training.run([tokens(1)] * count)
        changes.append((torch.cat([p.detach().reshape(-1) for p in model.parameters()]) - before).double())
    # Same noise in both (one key, as many words drawn for noise after different samples) is not assumed: what is
    # compared is the signal, twenty units against two.
    direction = clipped_sum(decoder(), [tokens(1)], 1.0).double()
    small, large = (float(change @ direction) for change in changes)
    assert large / small == pytest.approx(10, rel=0.3)


def test_the_released_gradient_is_the_noised_sum_over_the_divisor() -> None:
    model = decoder()
    optimizer = PrivateOptimizer(trainable_parameters(model), PLAN, key(3))
    optimizer.total.fill_(2.0)
    seen = []
    optimizer.attach_step_hook(lambda o: seen.append(o.total.clone()))
    optimizer.step()
    noise = standard_normal(key(3), optimizer.total.numel()).float()
    expected = (2.0 + noise * PLAN.noise_multiplier * PLAN.clip_norm) / PLAN.expected_units
    assert torch.allclose(seen[0], expected, atol=1e-6)
    assert float(optimizer.total.abs().max()) == 0.0
    assert all(p.grad is None for p in model.parameters())


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


# Sampling and noise. Keys are fixed, so each check has one outcome; the thresholds are far in the tail.


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.999])
def test_poisson_samples_have_the_right_rate_size_and_independence(rate: float) -> None:
    stream, units, draws = key(1), 400, 500
    chosen = np.zeros((draws, units), dtype=bool)
    for row in chosen:
        row[poisson_sample(stream, units, rate)] = True
    sizes = chosen.sum(axis=1)
    assert abs(chosen.mean() - rate) < 4.5 * math.sqrt(rate * (1 - rate) / chosen.size)
    # Fixed-size batches would have no variance here.
    assert sizes.var() == pytest.approx(units * rate * (1 - rate), rel=0.35)
    per_unit = chosen.sum(axis=0)
    assert stats.chisquare(per_unit, np.full(units, per_unit.mean())).pvalue > 1e-4 or rate > 0.9
    neighbours = np.corrcoef(chosen[:, :-1].ravel(), chosen[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(chosen.size)


def test_a_rate_of_one_takes_everything() -> None:
    assert poisson_sample(key(), 100, 1.0).size == 100


def test_windows_of_a_unit_are_chosen_uniformly_without_repetition() -> None:
    stream, counts = key(2), np.zeros(10)
    for _ in range(3000):
        chosen = choose(stream, 10, 3)
        assert len(set(chosen.tolist())) == 3
        counts[chosen] += 1
    assert stats.chisquare(counts).pvalue > 1e-4
    assert choose(stream, 3, 8).tolist() == [0, 1, 2]


def test_noise_is_standard_normal_to_the_tails() -> None:
    sample = standard_normal(key(4), 400_001).numpy()
    assert sample.dtype == np.float64
    assert sample.size == 400_001
    assert stats.kstest(sample, "norm").pvalue > 1e-4
    assert sample.std() == pytest.approx(1.0, abs=0.006)
    assert 4 < np.abs(sample).max() < 8.6
    assert abs(np.corrcoef(sample[:200_000], sample[200_001:])[0, 1]) < 0.012


def test_two_streams_differ_and_a_stream_never_repeats() -> None:
    a, b = Keystream.from_system(), Keystream.from_system()
    assert not np.array_equal(a.words(8), b.words(8))
    assert not np.array_equal(a.words(8), a.words(8))
    assert np.array_equal(key().words(300_000)[-4:], np.concatenate([key().words(300_000)])[-4:])
    assert "withheld" in repr(a)
