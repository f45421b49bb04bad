"""The audit passes the engine that trains, and catches every planted bug."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sordino_client.training.loop import window_losses
from sordino_platform.architecture import ModelConfig
from sordino_platform.model import Decoder
from sordino_privacy.audit import AuditCheck, AuditReport
from sordino_privacy.audit.canaries import area, judge_canaries, lower_bound, p_value
from sordino_privacy.audit.mechanism import Engine, audit_mechanism
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import Mode, PrivateTraining
from sordino_privacy.dpsgd.gradients import Clipped, WindowLosses
from sordino_privacy.keystream import Keystream

torch.set_num_threads(1)
CONFIG = ModelConfig(vocabulary=61, context=16, layers=1, heads=2, width=12, hidden=20)
PLAN = TrainingPlan(
    sampling_rate=0.1,
    noise_multiplier=1.0,
    clip_norm=0.5,
    steps=4,
    windows_per_unit=2,
    window=16,
    learning_rate=0.5,
    optimiser="sgd",
    delta=1e-6,
    expected_units=32,
)


def sound(mode: Mode) -> Engine:
    def make(model: nn.Module, plan: TrainingPlan, losses: WindowLosses) -> PrivateTraining:
        return PrivateTraining(
            model, plan, window_losses=losses, keystream=Keystream.from_system(), mode=mode
        )

    return make


def audited(engine: Engine) -> AuditReport:
    torch.manual_seed(0)
    probes = [torch.randint(0, CONFIG.vocabulary, (rows, 9), dtype=torch.int32) for rows in (1, 2)]
    return audit_mechanism(engine, PLAN, Decoder(CONFIG), window_losses, probes)


@pytest.mark.parametrize("mode", ["one-pass", "per-unit"])
def test_the_engine_passes_its_audit(mode: Mode) -> None:
    report = audited(sound(mode))
    assert [f.name for f in report.findings if not f.passed] == []
    assert len(report.findings) == 8
    assert report.as_json()["passed"] is True


def weakened(change: str) -> Engine:
    """The engine with one planted bug."""

    def make(model: nn.Module, plan: TrainingPlan, losses: WindowLosses) -> PrivateTraining:
        training = sound("one-pass")(model, BUGGY_PLAN[change](plan), losses)
        if change == "no clip":
            add = training._gradients.add
            training._gradients.add = lambda units, clip_norm, total: add(units, 1e9, total)  # type: ignore[method-assign]
        elif change == "double batch":
            add = training._gradients.add
            training._gradients.add = lambda units, clip_norm, total: add([*units, *units], clip_norm, total)  # type: ignore[method-assign]
        elif change == "fixed batches":
            every = int(plan.sampling_rate * 200)
            training._sample = lambda units: list(units[:every] if len(units) > every else units)  # type: ignore[method-assign]
        elif change == "repeated noise":
            training._optimizer._keystream = Repeating()
        elif change == "clip by window":
            training._gradients = ClipByWindow(training)
        return training

    return make


BUGGY_PLAN = {
    "no noise": lambda plan: replace(plan, noise_multiplier=0.05),
    "noise / 10": lambda plan: replace(plan, noise_multiplier=plan.noise_multiplier / 10),
    "half noise": lambda plan: replace(plan, noise_multiplier=plan.noise_multiplier / 2),
    "noise 1 % too small": lambda plan: replace(plan, noise_multiplier=plan.noise_multiplier * 0.99),
    "double sampling": lambda plan: replace(plan, sampling_rate=min(1.0, 2 * plan.sampling_rate)),
    "private divisor": lambda plan: replace(plan, expected_units=plan.expected_units // 2),
    "double clip": lambda plan: replace(
        plan, clip_norm=2 * plan.clip_norm, noise_multiplier=plan.noise_multiplier / 2
    ),
    "no clip": lambda plan: plan,
    "double batch": lambda plan: plan,
    "fixed batches": lambda plan: plan,
    "repeated noise": lambda plan: plan,
    "clip by window": lambda plan: plan,
}


class Repeating(Keystream):
    """Draws the same bits for every release."""

    __slots__ = ()
    KEY: ClassVar[bytes] = bytes(32)

    def __init__(self) -> None:
        super().__init__(self.KEY)

    def words(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return Keystream(self.KEY).words(count)


class ClipByWindow:
    """Clips each window instead of each unit: a unit of k windows contributes k times the clip."""

    def __init__(self, training: PrivateTraining) -> None:
        self._inner = training._gradients

    def add(self, units: Sequence[Tensor], clip_norm: float, total: Tensor) -> Clipped:
        return self._inner.add([row.unsqueeze(0) for unit in units for row in unit], clip_norm, total)


CAUGHT_BY = {
    "no noise": "noise_scale",
    "noise / 10": "noise_scale",
    "half noise": "noise_scale",
    "noise 1 % too small": "noise_scale",
    "double sampling": "sampling_rate",
    "private divisor": "canary_signal",
    "double clip": "clip_norm",
    "no clip": "clip_norm",
    "double batch": "canary_signal",
    "fixed batches": "sampling_variance",
    "repeated noise": "noise_repetition",
    "clip by window": "clip_error",
}


@pytest.mark.parametrize("bug", CAUGHT_BY)
def test_a_planted_bug_is_caught(bug: str) -> None:
    report = audited(weakened(bug))
    failed = {finding.name for finding in report.findings if not finding.passed}
    assert not report.passed
    assert CAUGHT_BY[bug] in failed


def test_an_attacker_on_an_engine_without_noise_proves_far_more_than_the_claim() -> None:
    (finding,) = [f for f in audited(weakened("no noise")).findings if f.name == "canary_epsilon"]
    assert finding.measured > 1.3 * finding.high


# The bound itself


def test_chance_refutes_nothing_and_certainty_refutes_much() -> None:
    assert lower_bound(1000, 1000, 500, 0.0, 0.05) == 0.0
    right = 0.05 ** (1 / 1000)  # coins that all come up right with probability 5 %
    assert lower_bound(1000, 1000, 1000, 0.0, 0.05) == pytest.approx(math.log(right / (1 - right)), abs=1e-3)


def test_a_larger_delta_or_confidence_proves_less() -> None:
    base = lower_bound(1000, 200, 190, 1e-6, 0.05)
    assert lower_bound(1000, 200, 190, 1e-3, 0.05) < base
    assert lower_bound(1000, 200, 190, 1e-6, 0.001) < base
    assert 0 < p_value(1000, 200, 190, base, 1e-6) <= 0.0501


def test_the_bound_holds_for_randomised_response_of_a_known_epsilon() -> None:
    generator = np.random.default_rng(7)
    true = 2.0
    lowers = []
    for _ in range(80):
        inserted = generator.random(1000) < 0.5
        told = np.where(generator.random(1000) < 1 / (1 + math.exp(-true)), inserted, ~inserted)
        scores = told + 1e-3 * generator.random(1000)
        lowers.append(judge_canaries(scores, inserted, delta=0.0).lower)
    assert sum(lower > true for lower in lowers) <= 8  # 4 are expected at 95 % confidence
    assert np.mean(lowers) > 1.6


def test_scores_without_signal_have_area_one_half() -> None:
    generator = np.random.default_rng(3)
    inserted = generator.random(4000) < 0.5
    assert area(generator.random(4000), inserted) == pytest.approx(0.5, abs=0.03)
    assert area(inserted.astype(float), inserted) == 1.0
    assert area(np.ones(4000), inserted) == 0.5
    assert judge_canaries(generator.random(4000), inserted, delta=1e-6).lower < 0.3


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="guesses"):
        p_value(10, 5, 6, 1.0, 0.0)


def test_a_finding_that_could_not_be_measured_is_not_passed() -> None:
    finding = AuditCheck(name="x", what="y", measured=math.nan, low=0.0, high=1.0)
    assert not finding.passed
    assert not AuditReport(findings=(finding,)).passed
    assert not AuditReport(findings=()).passed
