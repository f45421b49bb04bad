"""The opened sum is exactly the sum of those who uploaded, whoever drops out and whenever; else nothing opens."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.federation import PHASES, Federation, membership, names, quantiser

from sordino_privacy.secagg import Floors, Stage
from sordino_privacy.secagg.refusals import AbortedError

GAMMA_ZERO = Floors(cohort=3, organisations=1, organisation_share_permille=1000, honest=2, gamma_permille=0)


def outcome(count: int, drop: dict[str, str], floors: Floors, seed: object = 0) -> None:
    """Runs one attempt and checks it against the rule: it opens exactly when every phase had enough members."""
    federation = Federation(membership(count, floors=floors), quantiser=quantiser(11), seed=seed)

    def left(phase: str) -> list[str]:
        gone = PHASES[: PHASES.index(phase) + 1]
        return [name for name in federation.names if drop.get(name) not in gone]

    u1, u2, u3, signed, revealed = (left(phase) for phase in PHASES)
    n = len(u1)
    corrupt = floors.gamma_permille * n // 1000
    quorum = (n + corrupt) // 2 + 1
    enough = (
        n >= floors.cohort
        and len(u2) >= quorum
        and len(u3) >= max(quorum, corrupt + floors.honest)
        and len(signed) >= quorum
        and len(revealed) >= quorum
    )
    if enough:
        opened = federation.complete(drop)
        assert opened.survivors == tuple(u3)
        assert np.array_equal(opened.vector, federation.expected(u3))
        assert opened.totals.weight == 0.5 * len(u3)
        assert opened.totals.examples == 1024 * len(u3)
    else:
        with pytest.raises(AbortedError):
            federation.complete(drop)
        assert federation.coordinator.stage is Stage.ABORTED


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_every_subset_dropping_out_at_one_phase_leaves_an_exact_sum_or_a_clean_abort(
    count: int, phase: str
) -> None:
    for size in range(count + 1):
        for gone in itertools.combinations(names(count), size):
            outcome(
                count,
                dict.fromkeys(gone, phase),
                Floors(cohort=3, organisations=1, honest=2, gamma_permille=200),
            )


def test_every_assignment_of_three_members_to_dropout_phases_leaves_an_exact_sum_or_a_clean_abort() -> None:
    for phases in itertools.product((*PHASES, "never"), repeat=3):
        outcome(3, dict(zip(names(3), phases, strict=True)), GAMMA_ZERO)


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 5, 6])
def test_every_assignment_of_members_to_dropout_phases_leaves_an_exact_sum_or_a_clean_abort(
    count: int,
) -> None:
    for phases in itertools.product((*PHASES, "never"), repeat=count):
        outcome(count, dict(zip(names(count), phases, strict=True)), GAMMA_ZERO)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), count=st.integers(3, 8), seed=st.integers(0, 1 << 32))
def test_any_mix_of_dropouts_leaves_an_exact_sum_or_a_clean_abort(
    data: st.DataObject, count: int, seed: int
) -> None:
    phases = data.draw(st.lists(st.sampled_from((*PHASES, *["never"] * 8)), min_size=count, max_size=count))
    floors = Floors(cohort=3, organisations=1, organisation_share_permille=1000, honest=2, gamma_permille=200)
    drop = dict(zip(names(count), phases, strict=True))
    outcome(count, drop, floors, seed)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cohort_limit", [5, 100])
def test_vectors_longer_than_a_slice_add_up_in_both_rings_on_any_number_of_threads(
    threads: int, cohort_limit: int
) -> None:
    federation = Federation(membership(3), quantiser=quantiser(1_300_003, cohort_limit), threads=threads)
    opened = federation.complete({"member-0001": "survivors"})
    assert np.array_equal(opened.vector, federation.expected(federation.names))
