"""Events folded into what the demo and the console show, and told as sentences."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console as Terminal

from sordino_platform.demo.view import screen
from sordino_platform.progress import SENTENCES, FederationProgress, sentence

ROUND: list[dict[str, Any]] = [
    {"event": "console", "address": "http://127.0.0.1:9467/"},
    {"event": "model", "release": 0, "loss": None},
    {"event": "member_connected", "member": "alder"},
    {"event": "round_started", "round": 1, "members": ["alder", "birch"], "cohort": 2, "timestamp": "t"},
    {"event": "phase_started", "round": 1, "attempt": 0, "phase": "train", "count": 2},
    {"event": "member_answered", "round": 1, "phase": "train", "member": "alder"},
    {"event": "member_dropped", "round": 1, "phase": "train", "member": "birch", "reason": "timeout"},
    {"event": "phase_finished", "round": 1, "phase": "train", "seconds": 2.0, "count": 1},
    {"event": "attempt_failed", "round": 1, "attempt": 0, "reason": "too few"},
]


def told(*events: dict[str, Any]) -> FederationProgress:
    progress = FederationProgress()
    for event in (*ROUND, *events):
        progress.apply(event)
    return progress


def test_the_last_attempt_of_an_aborted_round_stays_to_be_looked_at() -> None:
    one = told().rounds[1]
    assert (one.asked, one.answered, one.dropped) == (
        {"train": 2},
        {"train": {"alder"}},
        {"birch": "timeout in train"},
    )
    assert one.reason == "too few"


def test_a_new_attempt_begins_with_nobody_dropped_and_keeps_the_time_that_was_spent() -> None:
    one = told({"event": "phase_started", "round": 1, "attempt": 1, "phase": "train", "count": 2}).rounds[1]
    assert (one.attempt, one.asked, one.answered, one.dropped) == (1, {"train": 2}, {}, {})
    assert one.phases == {"train": 2.0}


def test_an_event_of_no_round_changes_nothing() -> None:
    """What is not of a round, or not of a round that can be, must not keep the console from reading on."""
    before = told()
    after = told(
        {"event": "release", "round": None, "release": 0, "member": "alder"},
        {"event": "round_started", "round": "2", "members": [], "timestamp": "t"},
        {"event": "round_started", "round": True, "members": [], "timestamp": "t"},
    )
    after.forget(keep=1)
    assert after == before


def test_only_the_newest_rounds_are_kept() -> None:
    progress = FederationProgress()
    for number in range(1, 11):
        progress.apply({"event": "round_started", "round": number, "members": [], "timestamp": "t"})
    progress.forget(keep=3)
    assert sorted(progress.rounds) == [8, 9, 10]
    assert progress.current is not None
    assert progress.current.number == 10


@pytest.mark.parametrize(
    "event", [{}, {"event": "of a later version"}, {"event": "epsilon"}, {"event": "release"}]
)
def test_an_event_that_cannot_be_told_is_left_out(event: dict[str, Any]) -> None:
    assert sentence(event) is None


def test_how_a_round_ended_is_said_with_its_reason_or_its_loss() -> None:
    ended = {"event": "round_finished", "round": 3}
    assert sentence({**ended, "outcome": "aborted_dropouts", "reason": "too few", "loss": 2.0}) == (
        "round 3 aborted dropouts: too few"
    )
    assert sentence({**ended, "outcome": "completed", "reason": "", "loss": 2.0}) == (
        "round 3 completed: held-out loss 2.0000 nats per token"
    )
    assert set(SENTENCES) >= {event["event"] for event in ROUND} - {
        "model",
        "member_answered",
        "phase_finished",
    }


def test_the_demo_s_screen_says_where_the_console_is() -> None:
    written = StringIO()
    terminal = Terminal(width=160, file=written)
    terminal.print(screen(told(), doing="training", started=0.0, rounds=1, budget=8.0))
    assert "console is at http://127.0.0.1:9467/" in written.getvalue()
