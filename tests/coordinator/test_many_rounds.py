"""Ten thousand rounds of a thousand members: nothing that is asked reads the table of rounds from end to end."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sordino_coordinator.control.view import some
from sordino_coordinator.metrics import HIGHEST, NAMED_MEMBERS, CoordinatorMetrics
from sordino_coordinator.round_tables import MEMBERS, SCHEMA, STANDINGS
from sordino_coordinator.rounds import NAMED_ROUNDS, Outcome, RoundStore

NAMES = [f"member-{number:04d}" for number in range(1000)]


def filled(path: Path, *, rounds: int) -> RoundStore:
    """A store as a coordinator of a thousand members leaves it: every tenth round failed."""
    store = RoundStore(path)
    release = 0
    for number in range(1, rounds + 1):
        store.open_round("run")
        if number % 10 == 0:
            store.close_round(
                number,
                Outcome.ABORTED_DROPOUTS,
                reason="too few",
                dropped=dict.fromkeys(NAMES[700:], "timeout"),
            )
        else:
            release += 1
            store.close_round(
                number, Outcome.COMPLETED, release=release, members=NAMES, phases={"train": 1.0}
            )
    return store


ASKED: dict[str, Callable[[RoundStore], object]] = {
    "a page of rounds": lambda store: store.rounds(last=20, before=9_000),
    "the newest rounds, counted": lambda store: store.rounds(last=200, names=False),
    "the newest release": lambda store: store.committed_release(),
    "the newest completed round": lambda store: store.newest_completed(),
    "how rounds ended": lambda store: store.counts(),
    "the next number": lambda store: store.next_round(),
    "why the last one ended": lambda store: store.last_reason(),
    "what was cut short": lambda store: store.interrupted(),
    "a round's begin": lambda store: store.open_round("run"),
    "a round's end": lambda store: store.close_round(
        store.next_round() - 1, Outcome.COMPLETED, members=NAMES
    ),
}


def plans(path: Path, statements: list[str]) -> list[str]:
    """What SQLite does for each statement, step by step."""
    with closing(sqlite3.connect(path)) as database:
        return [
            str(row[3])
            for statement in statements
            if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")
            for row in database.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]


@pytest.mark.parametrize("asked", list(ASKED))
def test_no_statement_reads_all_rounds(tmp_path: Path, asked: str) -> None:
    store = filled(tmp_path / "state.sqlite", rounds=3)
    told: list[str] = []
    store._database.set_trace_callback(told.append)
    ASKED[asked](store)
    store._database.set_trace_callback(None)
    assert told, "nothing was asked"
    steps = plans(tmp_path / "state.sqlite", told)
    # An index alone is small; a row of the table may not be read where its neighbour is not wanted.
    walked = [step for step in steps if step.startswith("SCAN") and "COVERING INDEX" not in step]
    # The order of the table itself, ended by a LIMIT or a bound, is a SEARCH by its key.
    assert walked == [], steps
    store.close()


def test_names_are_kept_of_the_newest_rounds_and_counts_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sordino_coordinator.rounds.NAMED_ROUNDS", 4)
    store = filled(tmp_path / "state.sqlite", rounds=10)
    rows = store.rounds()
    assert [bool(row.members or row.dropped) for row in rows] == [False] * 6 + [True] * 4
    assert [row.included for row in rows] == [1000] * 9 + [0]
    assert (rows[-1].departed, rows[-1].dropped["member-0700"]) == (300, "timeout")
    assert {row.members for row in store.rounds(names=False)} == {()}
    store.close()


def test_rounds_come_in_pages_without_a_gap_or_a_row_twice(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.sqlite", rounds=11)
    pages, before = [], None
    while page := store.rounds(last=4, before=before):
        pages.append([row.round for row in page])
        before = page[0].round
    assert pages == [[8, 9, 10, 11], [4, 5, 6, 7], [1, 2, 3]]
    store.close()


def test_the_newest_completed_round_is_known_however_many_failed_since(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.sqlite", rounds=9)
    for _ in range(300):
        store.close_round(store.open_round("run"), Outcome.ABORTED_COHORT, reason="too few")
    newest = store.newest_completed()
    assert newest is not None
    assert (newest.round, newest.release) == (9, 9)
    store.close()


def test_a_store_of_the_version_before_keeps_its_rounds_their_names_and_their_counts(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(f"{SCHEMA} {MEMBERS} {STANDINGS} PRAGMA user_version=3;")
        database.execute(
            "INSERT INTO rounds (round, run, outcome, started, release, members, dropped, bytes_in)"
            " VALUES (7, 'r', 'completed', 1.0, 5, ?, ?, 9)",
            (json.dumps(["a", "b"]), json.dumps({"c": "timeout"})),
        )
        database.execute(
            "INSERT INTO rounds (round, run, outcome, started) VALUES (8, 'r', 'aborted_cohort', 2.0)"
        )
        database.commit()
    store = RoundStore(path)
    done, failed = store.rounds()
    assert (done.members, done.dropped, done.included, done.departed) == (("a", "b"), {"c": "timeout"}, 2, 1)
    assert (done.release, done.bytes_in, failed.included, failed.departed) == (5, 9, 0, 0)
    assert store.committed_release() == 5
    store.close()


def test_metrics_have_a_series_for_each_of_a_hundred_members_and_one_for_more() -> None:
    few, many = (
        CoordinatorMetrics(members=tuple(NAMES[:NAMED_MEMBERS])),
        CoordinatorMetrics(members=tuple(NAMES)),
    )
    for metrics in (few, many):
        for number, name in enumerate(NAMES[:200]):
            metrics.report_epsilon(name, number / 100)
    lines = [
        line
        for line in many.metrics.text().decode().splitlines()
        if line.startswith("sordino_privacy_epsilon_spent{")
    ]
    assert lines == [f'sordino_privacy_epsilon_spent{{client="{HIGHEST}"}} 1.99']
    sample = few.metrics.registry.get_sample_value
    assert sample("sordino_privacy_epsilon_spent", {"client": "member-0007"}) == 0.07
    assert len(few.metrics.text().splitlines()) < 1000
    assert len(many.metrics.text().splitlines()) < len(few.metrics.text().splitlines())


def test_a_list_of_a_thousand_names_says_five_and_how_many_more() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(NAMES).endswith("member-0004 and 995 more")
    assert some([], of=300) == "300"
    assert some(["a"], of=1) == "a"


def test_a_note_waits_for_no_disk_of_its_own_and_a_rounds_row_does(tmp_path: Path) -> None:
    store = RoundStore(tmp_path / "state.sqlite")
    synchronous = [
        database.execute("PRAGMA synchronous").fetchone()[0] for database in (store._database, store._noted)
    ]
    assert synchronous == [2, 1]  # FULL, NORMAL
    store.note_member("a", certificate_expires=1.0)
    with closing(RoundStore(tmp_path / "state.sqlite")) as other:
        assert [one.name for one in other.members()] == ["a"], "it is there for every other reader"
    store.close()


@pytest.mark.slow
def test_a_real_store_of_ten_thousand_rounds_stays_small(tmp_path: Path) -> None:
    """The whole life, a thousand names a round: what is kept is the newest thousand rounds' names."""
    path = tmp_path / "state.sqlite"
    store = filled(path, rounds=10_000)
    assert [row.round for row in store.rounds(last=3, before=5_000)] == [4_997, 4_998, 4_999]
    assert store.rounds(last=1, before=10_000 - NAMED_ROUNDS + 1)[0].members == ()
    assert store.committed_release() == 9_000
    store.close()
    assert path.stat().st_size < 40 << 20
