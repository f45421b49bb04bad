"""The audit of noise in shares passes what is honest, and catches what one member of a sum at its floor leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from sordino_client.training.loop import window_losses
from sordino_platform.architecture import ModelConfig
from sordino_platform.model import Decoder
from sordino_privacy.audit.mechanism import Engine
from sordino_privacy.audit.shares import (
    CountRelease,
    audit_shared_counts,
    audit_shared_run,
    audit_shares,
    released,
)
from sordino_privacy.counts import CountPlan
from sordino_privacy.counts.cells import Cells
from sordino_privacy.counts.counting import counted
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import PrivateTraining
from sordino_privacy.dpsgd.gradients import Clipped, WindowLosses
from sordino_privacy.keystream import Keystream
from sordino_privacy.shared_noise import Integers, SharedNoise

torch.set_num_threads(1)
FLOOR = 3
COUNT = CountPlan(bits=16, phrases=50, noise_multiplier=1.0, largest_count=40, delta=1e-6, salt=11)
PLAN = TrainingPlan(
    sampling_rate=1.0,
    noise_multiplier=1.0,
    clip_norm=0.5,
    steps=20,
    windows_per_unit=1,
    window=32,
    learning_rate=1.0,
    optimiser="sgd",
    delta=1e-6,
    expected_units=32,
)
CONFIG = ModelConfig(vocabulary=128, context=32, layers=1, heads=2, width=32, hidden=64)


def honest(model: torch.nn.Module, plan: TrainingPlan, losses: WindowLosses) -> PrivateTraining:
    return PrivateTraining(model, plan, window_losses=losses, keystream=Keystream.from_system())


class Fainter(PrivateTraining):
    """Adds a part of its share: half of it, or none to speak of."""

    part = 0.5

    def release(self, sample: Sequence[torch.Tensor], noise: SharedNoise) -> tuple[Integers, Clipped]:
        integers, outcome = super().release(sample, noise)
        # What it released, less most of a share that it knows.
        other = replace(noise, noise_multiplier=max(0.05, noise.noise_multiplier * self.part))
        assert other.scale == noise.scale
        again, _ = super().release(sample, other)
        return (again if self.part else integers * 0), outcome


class Silent(Fainter):
    """Leaves its share out."""

    part = 0.0


def engine_of(kind: type[PrivateTraining]) -> Engine:
    def made(model: torch.nn.Module, plan: TrainingPlan, losses: WindowLosses) -> PrivateTraining:
        return kind(model, plan, window_losses=losses, keystream=Keystream.from_system())

    return made


def half_a_share(units: Sequence[Cells], plan: CountPlan, noise: SharedNoise) -> Integers:
    fainter = replace(noise, noise_multiplier=noise.noise_multiplier / 2)
    assert fainter.scale == noise.scale
    return fainter.release(counted(units, plan) / plan.sensitivity(), Keystream.from_system())


def no_share(units: Sequence[Cells], plan: CountPlan, noise: SharedNoise) -> Integers:
    return np.rint(counted(units, plan) / plan.sensitivity() * noise.scale).astype(np.int64)


def the_same_share(units: Sequence[Cells], plan: CountPlan, noise: SharedNoise) -> Integers:
    return noise.release(counted(units, plan) / plan.sensitivity(), Keystream(bytes(32)))


def twice_the_count(units: Sequence[Cells], plan: CountPlan, noise: SharedNoise) -> Integers:
    return noise.release(2 * counted(units, plan) / plan.sensitivity(), Keystream.from_system())


def test_honest_members_pass_and_an_attacker_proves_less_than_is_claimed() -> None:
    findings = {one.name: one for one in audit_shares([honest] * FLOOR, PLAN)}
    findings |= {one.name: one for one in audit_shared_counts([released] * FLOOR, COUNT)}
    assert all(one.passed for one in findings.values()), findings
    for kind in ("shares", "counts_shares"):
        together, alone = findings[f"{kind}_epsilon"], findings[f"{kind}_alone"]
        assert 0 < together.measured < together.high < alone.high
        assert together.measured < alone.measured < alone.high


@pytest.mark.parametrize("fault", [Fainter, Silent])
def test_a_member_that_adds_half_a_share_or_none_is_caught_where_only_the_floor_survives(
    fault: type[PrivateTraining],
) -> None:
    failed = {one.name for one in audit_shares([honest, honest, engine_of(fault)], PLAN) if not one.passed}
    assert {"shares_each", "shares_floor"} <= failed


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        (half_a_share, "counts_shares_floor"),
        (no_share, "counts_shares_floor"),
        (the_same_share, "counts_shares_repetition"),
        (twice_the_count, "counts_shares_signal"),
    ],
)
def test_a_planted_fault_in_a_count_is_caught(fault: CountRelease, caught_by: str) -> None:
    failed = {one.name for one in audit_shared_counts([fault, released, released], COUNT) if not one.passed}
    assert caught_by in failed


def test_canaries_of_a_training_in_shares_are_plain_to_see_without_noise_and_hidden_with_it() -> None:
    stream = Keystream(bytes([9]) * 32)
    words = stream.words(64 * 33) % np.uint64(CONFIG.vocabulary)
    canaries = list(torch.from_numpy(words.astype(np.int32)).view(64, 1, 33))

    def attacked(plan: TrainingPlan) -> tuple[float, float, float]:
        torch.manual_seed(0)
        verdict, _, _, claimed = audit_shared_run(
            [honest] * FLOOR, plan, Decoder(CONFIG), window_losses, canaries, stream
        )
        return verdict.area, verdict.lower, claimed

    area, lower, claimed = attacked(replace(PLAN, noise_multiplier=0.2, clip_norm=4.0))
    assert area > 0.9
    assert lower < claimed
    assert abs(attacked(replace(PLAN, noise_multiplier=8.0))[0] - 0.5) < 0.2
