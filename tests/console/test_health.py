"""The verdict at the top of the page: every rule fires and stays silent, and leads to a runbook that exists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.ops.observed import read_rules

from sordino_coordinator.console.health import RULES, HealthFinding, Level, span, unreadable_records, verdict
from sordino_coordinator.console.runbooks import read_runbooks
from sordino_coordinator.console.state import ConsoleState, Expiry, MemberState
from sordino_coordinator.control.live import Doing
from sordino_coordinator.rounds import Outcome, RoundRecord
from sordino_platform.offer import STEPS, Unready
from sordino_platform.progress import RoundView

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
MEMBERS = tuple(
    MemberState(
        name=name, organisation=name, connected=True, epsilon=1.0, certificate_ends=NOW + timedelta(days=29)
    )
    for name in ("alder", "birch", "cedar", "dogwood")
)


def row(number: int, outcome: Outcome, *, minutes_ago: float = 5) -> RoundRecord:
    finished = NOW.timestamp() - 60 * minutes_ago
    return RoundRecord(
        round=number,
        run="r",
        outcome=outcome,
        reason="" if outcome is Outcome.COMPLETED else "too few",
        started=finished - 30,
        finished=finished,
        attempts=1,
        release=number if outcome is Outcome.COMPLETED else None,
        loss=None,
        phases={},
        bytes_in=0,
        bytes_out=0,
        included=len(MEMBERS) if outcome is Outcome.COMPLETED else 0,
        departed=0,
    )


GOOD = ConsoleState(
    at=NOW,
    began=NOW - timedelta(days=1),
    federation="orchard",
    coordinator="hub",
    software="0",
    epoch=1,
    charter_hash="00",
    smallest_cohort=3,
    epsilon_budget=8.0,
    delta=1e-6,
    noise_shares=1,
    pause_seconds=0.0,
    members=MEMBERS,
    endings=(Expiry(what="Coordinator's certificate", ends=NOW + timedelta(days=20)),),
    rounds=(row(1, Outcome.COMPLETED),),
    releases=(),
    running=None,
    latest=None,
    doing=Doing.WAITING,
    until=None,
    held_until=None,
    too_few_since=None,
    audit=(),
    events=(),
    write_errors=0,
    forged={},
)


def connected(count: int) -> tuple[MemberState, ...]:
    return tuple(replace(one, connected=index < count) for index, one in enumerate(MEMBERS))


def aborted(count: int, *, of: int) -> tuple[RoundRecord, ...]:
    outcomes = [Outcome.ABORTED_DROPOUTS] * count + [Outcome.COMPLETED] * (of - count)
    return tuple(row(number, outcome) for number, outcome in enumerate(outcomes, 1))


def burnt(count: int) -> tuple[RoundRecord, ...]:
    """A release, then rounds that members had uploaded to when they were aborted."""
    failed = (replace(one, phases={"train": 1.0, "masked_input": 2.0}) for one in aborted(count, of=count))
    return (row(1, Outcome.COMPLETED), *(replace(one, round=one.round + 1) for one in failed))


def ends(days: float) -> tuple[Expiry, ...]:
    return (Expiry(what="Charter", ends=NOW + timedelta(days=days)),)


def not_ready(**reasons: Unready) -> tuple[MemberState, ...]:
    return tuple(replace(one, unready=reasons.get(one.name)) for one in MEMBERS)


CASES: list[tuple[str, ConsoleState, Level, str]] = [
    (
        "too few ready",
        replace(GOOD, members=not_ready(alder=Unready.BUDGET, birch=Unready.DAY_CAP)),
        Level.ACT,
        "NoRoundCompleted",
    ),
    ("a write failed", replace(GOOD, write_errors=1), Level.ACT, "LedgerFailing"),
    ("forged", replace(GOOD, forged={"signature": 2}), Level.ACT, "ForgedMessages"),
    ("ended", replace(GOOD, endings=ends(-1)), Level.ACT, "CertificateExpiring"),
    ("ends soon", replace(GOOD, endings=ends(13.9)), Level.WATCH, "CertificateExpiring"),
    (
        "too few for long",
        replace(GOOD, members=connected(2), too_few_since=NOW - timedelta(minutes=10)),
        Level.ACT,
        "CohortNearMinimum",
    ),
    (
        "too few for a moment",
        replace(GOOD, members=connected(2), too_few_since=NOW - timedelta(minutes=1)),
        Level.WATCH,
        "CohortNearMinimum",
    ),
    ("none to spare", replace(GOOD, members=connected(3)), Level.WATCH, "CohortNearMinimum"),
    (
        "overdue",
        replace(GOOD, rounds=(row(1, Outcome.COMPLETED, minutes_ago=121),)),
        Level.ACT,
        "NoRoundCompleted",
    ),
    (
        "a member's certificate",
        replace(GOOD, members=(replace(MEMBERS[0], certificate_ends=NOW + timedelta(days=3)), *MEMBERS[1:])),
        Level.WATCH,
        "CertificateExpiring",
    ),
    (
        "overdue since it was resumed",
        replace(GOOD, rounds=(), held_until=NOW - timedelta(minutes=121)),
        Level.ACT,
        "NoRoundCompleted",
    ),
    ("never", replace(GOOD, rounds=()), Level.ACT, "NoRoundCompleted"),
    (
        "a round that began waits for members again",
        replace(GOOD, members=not_ready(alder=Unready.PAUSED, birch=Unready.DISK), running=RoundView(2)),
        Level.ACT,
        "NoRoundCompleted",
    ),
    ("burning", replace(GOOD, rounds=burnt(2)), Level.ACT, "RoundsAborting"),
    (
        "burning, and paused since",
        replace(GOOD, rounds=burnt(3), doing=Doing.PAUSED, held_until=NOW),
        Level.WATCH,
        "RoundsAborting",
    ),
    ("aborting", replace(GOOD, rounds=aborted(2, of=5)), Level.WATCH, "RoundsAborting"),
    (
        "spent",
        replace(GOOD, members=(replace(MEMBERS[0], epsilon=7.3), *MEMBERS[1:])),
        Level.WATCH,
        "PrivacyBudgetNearlySpent",
    ),
]
SILENT: list[tuple[str, ConsoleState]] = [
    ("as it should be", GOOD),
    ("15 days left", replace(GOOD, endings=ends(15))),
    ("all members and no spare", replace(GOOD, smallest_cohort=4)),
    ("a federation that has just begun", replace(GOOD, rounds=(), began=NOW - timedelta(minutes=119))),
    (
        "rounds once a day",
        replace(GOOD, pause_seconds=86400, rounds=(row(1, Outcome.COMPLETED, minutes_ago=1500),)),
    ),
    (
        "paused for days",
        replace(
            GOOD, doing=Doing.PAUSED, held_until=NOW, rounds=(row(1, Outcome.COMPLETED, minutes_ago=9000),)
        ),
    ),
    ("one round that was charged for nothing", replace(GOOD, rounds=burnt(1))),
    (
        "charged for nothing, and a release since",
        replace(
            GOOD,
            rounds=(
                *(replace(one, finished=0.0) for one in burnt(3)),
                row(9, Outcome.COMPLETED),
            ),
        ),
    ),
    (
        "some are not ready and enough are",
        replace(GOOD, members=not_ready(alder=Unready.BUDGET)),
    ),
    (
        "not ready while a round runs",
        replace(
            GOOD,
            doing=Doing.ROUND,
            running=RoundView(2),
            members=not_ready(alder=Unready.BUDGET, birch=Unready.PAUSED),
        ),
    ),
    ("one aborted round", replace(GOOD, rounds=aborted(1, of=2))),
    ("few of many aborted", replace(GOOD, rounds=aborted(2, of=10))),
    (
        "aborts of yesterday",
        replace(
            GOOD,
            rounds=(*(replace(one, finished=0.0) for one in aborted(3, of=3)), row(4, Outcome.COMPLETED)),
        ),
    ),
    ("no report yet", replace(GOOD, members=tuple(replace(one, epsilon=None) for one in MEMBERS))),
]


@pytest.mark.parametrize(("name", "state", "level", "runbook"), CASES, ids=lambda value: str(value)[:20])
def test_a_rule_fires_and_names_its_runbook(
    name: str, state: ConsoleState, level: Level, runbook: str
) -> None:
    found = verdict(state)
    assert (found.level, [one.runbook for one in found.findings]) == (level, [runbook]), name
    assert (
        found.findings[0].text[0].isupper()
        or found.findings[0].text[0].isdigit()
        or "alder" in found.findings[0].text
    )


@pytest.mark.parametrize(("name", "state"), SILENT, ids=lambda value: str(value)[:20])
def test_a_rule_stays_silent(name: str, state: ConsoleState) -> None:
    found = verdict(state)
    assert (found.level, found.findings) == (Level.HEALTHY, ()), name
    assert found.title == "Healthy: nothing to do"


@pytest.mark.parametrize(
    ("doing", "words"),
    [
        (Doing.PAUSED, "paused by the operator"),
        (Doing.CLOSED, "until 2026-11-25 05:00 UTC"),
        (Doing.WAITING, "4 of 4"),
    ],
)
def test_the_head_says_why_no_round_runs(doing: Doing, words: str) -> None:
    state = replace(GOOD, doing=doing, until=NOW + timedelta(hours=2) if doing is Doing.CLOSED else None)
    assert words in verdict(state).now


@pytest.mark.parametrize("reason", list(Unready))
def test_every_reason_of_a_member_is_said_in_words_with_what_to_do(reason: Unready) -> None:
    (found,) = verdict(replace(GOOD, members=not_ready(alder=reason, birch=reason))).findings
    means, step = STEPS[reason]
    assert f"alder: {means} ({step}); birch: {means} ({step})" in found.text
    assert "2 member(s) are ready and a round needs 3" in found.text


def test_budgets_that_burn_are_stopped_by_a_command_that_is_named() -> None:
    (found,) = verdict(replace(GOOD, rounds=burnt(2))).findings
    assert found.text.startswith("2 rounds since the newest release were charged")
    assert "sordino coordinator pause" in found.text
    (found,) = verdict(replace(GOOD, rounds=burnt(2), doing=Doing.PAUSED, held_until=NOW)).findings
    assert "nothing more is spent" in found.text


def test_a_round_between_two_attempts_says_that_it_waits() -> None:
    assert "Round 2 waits for members" in verdict(replace(GOOD, running=RoundView(2))).now


def test_the_worst_comes_first() -> None:
    found = verdict(replace(GOOD, endings=ends(1), write_errors=1))
    assert [one.level for one in found.findings] == [Level.ACT, Level.WATCH]
    assert found.title == "Act now"


def test_every_runbook_that_is_named_exists_and_is_an_alert_s() -> None:
    named = {one.runbook for one in findings()}
    assert named <= set(read_runbooks())
    assert named <= {rule.name for rule in read_rules() if rule.alert}
    assert len(RULES) <= len(CASES)


def findings() -> Iterator[HealthFinding]:
    for _, state, _, _ in CASES:
        yield from verdict(state).findings
    yield from unreadable_records("it is gone").findings


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 seconds"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (7199, "1 hour"),
        (90000, "1 day"),
    ],
)
def test_durations_are_said_in_their_largest_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text
