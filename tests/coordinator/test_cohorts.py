"""Whom a round asks: by turns, by a lot that anybody can draw again, with room for the floors; and the slowest of those
that were asked do not set the pace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation import inprocess

from sordino_coordinator.cohorts import drawn_cohort, lot, rounds_that_count
from sordino_coordinator.federation import Federation
from sordino_coordinator.metrics import Dropped
from sordino_coordinator.rounds import Outcome, RoundRecord
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.flower.phases import Phase


def always(_: object) -> bool:
    return True


@settings(max_examples=60, deadline=None)
@given(members=st.integers(5, 60), data=st.data())
def test_everybody_is_asked_as_often_as_everybody_else_whoever_was_away_in_between(
    members: int, data: st.DataObject
) -> None:
    names = [f"m{number:02d}" for number in range(members)]
    size = data.draw(st.integers(1, members))
    asked, available = Counter[str](), Counter[str]()
    for round in range(rounds_that_count(members, size=size)):
        ready = [name for name in names if data.draw(st.integers(0, 9), label="here") > 0]
        chosen = drawn_cohort(ready, size=size, spare=0.0, turns=asked, seed=b"%d" % round, possible=always)
        assert len(chosen) == min(size, len(ready))
        waiting = set(ready) - set(chosen)
        if waiting and chosen:
            assert max(asked[name] for name in chosen) <= min(asked[name] for name in waiting)
        asked.update(chosen)
        available.update(ready)
    assert asked <= available


def test_between_equals_a_lot_decides_that_nobody_prefers() -> None:
    names = [f"m{number}" for number in range(10)]
    first = Counter[str]()
    for round in range(2000):
        first.update(
            drawn_cohort(names, size=1, spare=0.0, turns=Counter(), seed=str(round).encode(), possible=always)
        )
    # 2000 draws of 10: a standard deviation of 13.4 each.
    assert all(abs(first[name] - 200) < 6 * 13.4 for name in names)
    assert lot(b"1", "23") != lot(b"12", "3")


def test_a_spare_share_is_asked_too_and_as_many_more_as_the_floors_need() -> None:
    names = [f"m{number:02d}" for number in range(20)]
    arguments = {"ready": names, "turns": Counter[str](), "seed": b"", "size": 10}
    assert len(drawn_cohort(**arguments, spare=0.25, possible=always)) == 13  # type: ignore[arg-type]
    wanted = set(names[:18])
    chosen = drawn_cohort(**arguments, spare=0.0, possible=lambda some: len(wanted & set(some)) >= 15)  # type: ignore[arg-type]
    assert len(wanted & set(chosen)) == 15
    assert drawn_cohort(names, size=30, spare=1.0, turns=Counter(), seed=b"", possible=always) == tuple(names)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "federation"
    inprocess.found_in(folder, sample=4, spare=0.0)
    return folder


def rounds_of(place: Path, rounds: int, *, silent: str = "", **changed: object) -> list[RoundRecord]:
    """So many rounds of five members; `silent` never ends its training."""
    federation = Federation.open(place / "coordinator")
    federation.desk.defaults = federation.settings.model_copy(update=changed)
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        grid.absent = {(Phase.TRAIN.message_type, silent)} if silent else set()
        for number in range(1, rounds + 1):
            for member in members.values():
                inprocess.store_update(member, federation, number, 0.001)
            SecureFedAvg(federation).one_round(grid)
    return federation.rounds.rounds()


def test_a_round_of_four_of_five_leaves_out_another_one_each_time(place: Path) -> None:
    rows = rounds_of(place, 5)
    assert [row.outcome for row in rows] == [Outcome.COMPLETED] * 5
    left_out = [set(inprocess.NAMES) - set(row.members) for row in rows]
    assert all(len(names) == 1 for names in left_out)
    assert set().union(*left_out) == set(inprocess.NAMES)
    assert all(not row.dropped for row in rows)


def test_the_slowest_of_those_asked_does_not_set_the_pace(place: Path) -> None:
    """Its training would take an hour: the round ends without it as soon as the cohort has trained."""
    (row,) = rounds_of(place, 1, silent="elm", spare=0.25)
    assert row.outcome is Outcome.COMPLETED
    assert set(row.members) == set(inprocess.NAMES) - {"elm"}
    assert row.dropped == {"elm": Dropped.SPARE.value}
    assert (row.finished or 0) - row.started < Federation.open(
        place / "coordinator"
    ).settings.train_seconds / 10


def test_a_smaller_sample_than_the_charters_cohort_is_none(place: Path) -> None:
    (row,) = rounds_of(place, 1, sample=1)
    assert (row.outcome, len(row.members)) == (Outcome.COMPLETED, 4)
