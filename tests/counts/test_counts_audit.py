"""The audit of a count passes what is honest, and catches what is planted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from sordino_privacy.audit.counts import Release, audit_counts, released
from sordino_privacy.counts import CountPlan
from sordino_privacy.counts.cells import Cells
from sordino_privacy.counts.counting import counted, noised
from sordino_privacy.keystream import Keystream

PLAN = CountPlan(bits=16, phrases=50, noise_multiplier=1.0, largest_count=40, delta=1e-6, salt=11)
Vector = npt.NDArray[np.floating]


def half_the_noise(units: Sequence[Cells], plan: CountPlan) -> Vector:
    total = counted(units, plan)
    return total + (released([], plan).astype(np.float64) / 2)


def counts_thrice(units: Sequence[Cells], plan: CountPlan) -> Vector:
    return noised(3 * counted(units, plan), plan, Keystream.from_system())


def no_cap(units: Sequence[Cells], plan: CountPlan) -> Vector:
    total = np.zeros(plan.cells)
    for cells in units:
        total[cells] += 1
    return noised(total, plan, Keystream.from_system())


def test_an_honest_count_passes_and_an_attacker_proves_less_than_is_claimed() -> None:
    findings = {finding.name: finding for finding in audit_counts(PLAN)}
    assert all(finding.passed for finding in findings.values()), findings
    assert 0 < findings["counts_epsilon"].measured < findings["counts_epsilon"].high


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        (half_the_noise, "counts_noise"),
        (counts_thrice, "counts_signal"),
        (no_cap, "counts_alone"),
    ],
)
def test_a_planted_fault_is_caught(fault: Release, caught_by: str) -> None:
    failed = {finding.name for finding in audit_counts(PLAN, fault) if not finding.passed}
    assert caught_by in failed
