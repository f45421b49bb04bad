"""The opened sum is exactly the sum of those who uploaded, whoever drops out and whenever; else nothing opens."""

from __future__ import annotations

import copy
import copyreg
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.federation import PHASES, Federation, membership, names, quantiser

from sordino_privacy.secagg import AggregateSum, Floors, Stage
from sordino_privacy.secagg.refusals import AbortedError

# A coordinator is copied here with the uploads that it holds, which are views of what came.
copyreg.pickle(memoryview, lambda view: (memoryview, (bytes(view),)))
GAMMA_ZERO = Floors(cohort=3, organisations=1, organisation_share_permille=1000, honest=2, gamma_permille=0)


def enough(floors: Floors, members: int, left: Sequence[Sequence[str]]) -> bool:
    """Whether an attempt must open, from the members left in each phase: the rule, written down a second time.
    `members` is the charter's whole membership."""
    u1, u2, u3, signed, revealed = (len(names) for names in left)
    corrupt = floors.gamma_permille * members // 1000
    quorum = max((u1 + corrupt) // 2 + 1, corrupt + floors.honest)
    return u1 >= floors.cohort and min(u2, u3, signed, revealed) >= quorum


def check(federation: Federation, drop: Mapping[str, str], run: Callable[[], AggregateSum]) -> None:
    """`run` ends the attempt: exactly the sum of U3 when there are enough members, else an abort with no sum."""

    def left(phase: str) -> list[str]:
        gone = PHASES[: PHASES.index(phase) + 1]
        return [name for name in federation.names if drop.get(name) not in gone]

    if enough(federation.membership.floors, len(federation.names), [left(phase) for phase in PHASES]):
        opened = run()
        assert opened.survivors == tuple(left("upload"))
        assert np.array_equal(opened.vector, federation.expected(opened.survivors))
        assert opened.totals.weight == 0.5 * len(opened.survivors)
        assert opened.totals.examples == 1024 * len(opened.survivors)
    else:
        with pytest.raises(AbortedError):
            run()
        assert federation.coordinator.stage is Stage.ABORTED


def outcome(count: int, drop: Mapping[str, str], floors: Floors, seed: object = 0) -> None:
    federation = Federation(membership(count, floors=floors), quantiser=quantiser(11), seed=seed)
    check(federation, drop, lambda: federation.complete(drop))


def branches(federation: Federation, phases: Sequence[str], drop: dict[str, str], message: object) -> None:
    """Every assignment of dropouts to `phases`, sharing the work of common beginnings by copying the federation."""
    if not phases:
        return
    phase, *later = phases
    present = [name for name in federation.names if name not in drop]
    for size in range(len(present) + 1):
        for gone in itertools.combinations(present, size):
            branch, dropped = copy.deepcopy(federation), drop | dict.fromkeys(gone, phase)
            staying = [name for name in present if name not in gone]
            answers: list[object] = []
            try:
                answers.append(branch.step(phase, message, staying))
            except AbortedError:
                # No later dropout can change it; the rule must agree that it had to end here.
                check(branch, dropped, branch.coordinator.open)
                continue
            if later:
                branches(branch, later, dropped, answers[0])
            else:
                check(branch, dropped, lambda opened=answers[0]: opened)  # type: ignore[misc]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_every_subset_dropping_out_at_one_phase_leaves_an_exact_sum_or_a_clean_abort(
    count: int, phase: str
) -> None:
    floors = Floors(cohort=3, organisations=1, honest=2, gamma_permille=200)
    start = Federation(membership(count, floors=floors), quantiser=quantiser(11))
    message, present = start.until(phase)
    for size in range(count + 1):
        for gone in itertools.combinations(present, size):
            federation, drop = copy.deepcopy(start), dict.fromkeys(gone, phase)
            check(federation, drop, functools.partial(federation.finish, phase, message, drop))


@pytest.mark.parametrize(
    "count", [3, pytest.param(4, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
)
def test_every_assignment_of_dropouts_to_phases_leaves_an_exact_sum_or_a_clean_abort(count: int) -> None:
    branches(Federation(membership(count, floors=GAMMA_ZERO), quantiser=quantiser(11)), PHASES, {}, None)


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
