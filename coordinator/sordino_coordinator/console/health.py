"""What the state means for the person on call: one verdict, and for each finding what to read.

The rules and their limits are those of the alerts in deploy/prometheus/rules; each names the same runbook. They are
decided here from the state alone, so they hold with no Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from sordino_coordinator.console.state import HOLDING, ConsoleState
from sordino_coordinator.control.live import Doing
from sordino_coordinator.control.view import SHOWN_NAMES, some
from sordino_coordinator.rounds import Outcome, RoundRecord
from sordino_platform.flower.phases import Phase
from sordino_platform.offer import STEPS

ROUND_OVERDUE: Final = timedelta(hours=2)
CERTIFICATE_SOON: Final = timedelta(days=7)  # by then a renewal that was asked for in time was not approved
CHARTER_SOON: Final = timedelta(days=14)
TOO_FEW: Final = timedelta(minutes=10)
BUDGET_SHARE: Final = 0.9
ABORTED_SHARE: Final = 0.2
BURNING: Final = 2  # rounds in a row: one is a laptop that was closed
ABORTED: Final = frozenset(outcome for outcome in Outcome if outcome.value.startswith("aborted"))


class Level(IntEnum):
    """How urgent, in order."""

    HEALTHY = 0
    WATCH = 1
    ACT = 2


HELD: Final = {
    Doing.PAUSED: "Rounds are paused by the operator's order",
    Doing.CLOSED: "No round may begin: the schedule is closed",
    Doing.RESTING: "The coordinator rests between two rounds",
    Doing.STOPPING: "The coordinator is stopping",
}
TITLE: Final = {
    Level.HEALTHY: "Healthy: nothing to do",
    Level.WATCH: "Running: look at this by day",
    Level.ACT: "Act now",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFinding:
    """One thing that somebody should know, and the runbook that says what to do."""

    level: Level
    text: str
    runbook: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthVerdict:
    """The worst level, a sentence on the present, and the findings, the worst first."""

    level: Level
    title: str
    now: str
    findings: tuple[HealthFinding, ...]


def verdict(state: ConsoleState) -> HealthVerdict:
    """Judges a state."""
    found = sorted((one for rule in RULES for one in rule(state)), key=lambda one: -one.level)
    level = found[0].level if found else Level.HEALTHY
    return HealthVerdict(level=level, title=TITLE[level], now=present(state), findings=tuple(found))


def unreadable_records(problem: str) -> HealthVerdict:
    """The verdict when the records on disk cannot be read."""
    finding = HealthFinding(
        level=Level.ACT, text=f"The coordinator's records cannot be read: {problem}.", runbook="LedgerFailing"
    )
    return HealthVerdict(level=Level.ACT, title=TITLE[Level.ACT], now="", findings=(finding,))


def present(state: ConsoleState) -> str:
    """What happens at the moment, in one or two sentences."""
    done, running = state.completed, state.running
    last = (
        f"Round {done.round} completed {ago(state.at, done.finished or done.started)} with {done.included} members."
        if done
        else "No round has completed yet."
    )
    if running is not None and state.doing is Doing.WAITING:
        return f"{last} Round {running.number} waits for members before its next attempt."
    if running is not None:
        return f"{last} Round {running.number} is running with {len(running.members)} members."
    newest = state.rounds[-1] if state.rounds else None
    if newest is not None and newest.outcome not in (Outcome.COMPLETED, Outcome.OPEN):
        last += (
            f" Round {newest.round}, the newest, made no release: {newest.outcome.value.replace('_', ' ')}."
        )
    if state.doing in HELD:
        until = f" until {state.until:%Y-%m-%d %H:%M} UTC" if state.until else ""
        return f"{last} {HELD[state.doing]}{until}."
    return f"{last} {state.connected} of {len(state.members)} members are connected; no round is running."


# ------------------------------------------------------------------------------------------------------------ rules


def ledger(state: ConsoleState) -> Iterator[HealthFinding]:
    """Durable writes must not fail."""
    if state.write_errors:
        text = f"{state.write_errors} durable write(s) failed in the last 15 minutes: what happens may not be recorded."
        yield HealthFinding(level=Level.ACT, text=text, runbook="LedgerFailing")


def forged(state: ConsoleState) -> Iterator[HealthFinding]:
    """A message that only a forger can have sent."""
    if state.forged:
        counts = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in state.forged.items())
        text = f"Messages that look forged were refused in the last 15 minutes ({counts})."
        yield HealthFinding(level=Level.ACT, text=text, runbook="ForgedMessages")


def endings(state: ConsoleState) -> Iterator[HealthFinding]:
    """Certificates and the charter end one day."""
    for one in state.endings:
        left = one.ends - state.at
        if left <= timedelta(0):
            text = (
                f"{one.what}: ended on {one.ends:%Y-%m-%d}. Members cannot connect, or refuse to take part."
            )
            yield HealthFinding(level=Level.ACT, text=text, runbook="CertificateExpiring")
        elif left < (CHARTER_SOON if one.what == "Charter" else CERTIFICATE_SOON):
            text = f"{one.what}: ends in {span(left.total_seconds())}, on {one.ends:%Y-%m-%d}."
            yield HealthFinding(level=Level.WATCH, text=text, runbook="CertificateExpiring")


def members(state: ConsoleState) -> Iterator[HealthFinding]:
    """A member whose certificate has ended is refused. It asks for a new one by itself; the approver must approve
    it."""
    ending = [
        (one.name, (one.certificate_ends - state.at).total_seconds())
        for one in state.members
        if one.certificate_ends is not None and one.certificate_ends - state.at < CERTIFICATE_SOON
    ]
    for name, left in ending[:SHOWN_NAMES]:
        what = "ended" if left <= 0 else f"ends in {span(left)}"
        text = f"The certificate of member {name} {what}. Approve what waits: sordino identity pending."
        yield HealthFinding(level=Level.WATCH, text=text, runbook="CertificateExpiring")
    if len(ending) > SHOWN_NAMES:
        text = f"So do, or did, those of {len(ending) - SHOWN_NAMES} more members."
        yield HealthFinding(level=Level.WATCH, text=text, runbook="CertificateExpiring")


def cohort(state: ConsoleState) -> Iterator[HealthFinding]:
    """With fewer members than the charter's smallest cohort no round can begin."""
    connected, needed = state.connected, state.smallest_cohort
    if state.too_few_since is not None:
        long = state.at - state.too_few_since >= TOO_FEW
        text = f"{connected} member(s) are connected and a round needs {needed}: no round can begin."
        if not long:
            text += f" They come back by themselves; act when this lasts longer than {span(TOO_FEW.total_seconds())}."
        yield HealthFinding(level=Level.ACT if long else Level.WATCH, text=text, runbook="CohortNearMinimum")
    elif connected == needed < len(state.members):
        text = f"{connected} members are connected, no more than a round needs: one fewer and no round can begin."
        yield HealthFinding(level=Level.WATCH, text=text, runbook="CohortNearMinimum")


def unready(state: ConsoleState) -> Iterator[HealthFinding]:
    """Enough members are connected, but too few of them can take part: the round waits, and the finding names those
    that it waits for."""
    away = [(one.name, STEPS[one.unready]) for one in state.members if one.unready is not None]
    ready = state.connected - len(away)
    if state.doing is Doing.WAITING and ready < state.smallest_cohort <= state.connected:
        reasons = some([f"{name}: {means} ({step})" for name, (means, step) in away], between="; ")
        text = f"{ready} member(s) are ready and a round needs {state.smallest_cohort}: none can begin. {reasons}."
        yield HealthFinding(level=Level.ACT, text=text, runbook="NoRoundCompleted")


def spent_for_nothing(state: ConsoleState) -> list[RoundRecord]:
    """The newest rounds in a row that made no release after members had begun to upload. The charges of such a round
    stand. The newest comes first."""
    charged = []
    for row in reversed(state.rounds):
        if row.outcome is Outcome.COMPLETED:
            break
        if row.outcome in ABORTED and Phase.UPLOAD.value in row.phases:
            charged.append(row)
    return charged


def burning(state: ConsoleState) -> Iterator[HealthFinding]:
    """Budgets are spent for nothing: more urgent than rounds that abort before any member is charged."""
    rows = spent_for_nothing(state)
    if len(rows) >= BURNING:
        text = (
            f"{len(rows)} rounds since the newest release were charged to members' budgets and made none; the last: "
            f"{rows[0].reason or rows[0].outcome.value.replace('_', ' ')}."
        )
        if state.doing in HOLDING:
            text += " Rounds are held back now: nothing more is spent."
        else:
            text += " Until the cause is mended, stop it: sordino coordinator pause."
        level = Level.WATCH if state.doing in HOLDING else Level.ACT
        yield HealthFinding(level=level, text=text, runbook="RoundsAborting")


def overdue(state: ConsoleState) -> Iterator[HealthFinding]:
    """Rounds must go on completing."""
    limit = max(ROUND_OVERDUE, timedelta(seconds=3 * state.pause_seconds))
    done = state.completed
    since = state.at.timestamp() - max(
        state.began.timestamp(),
        (done.finished or done.started) if done is not None else 0.0,
        state.held_until.timestamp() if state.held_until is not None else 0.0,
    )
    if since > limit.total_seconds():
        text = (
            f"No round has completed for {span(since)}; one was expected every {span(limit.total_seconds())}."
        )
        yield HealthFinding(level=Level.ACT, text=text, runbook="NoRoundCompleted")


def aborting(state: ConsoleState) -> Iterator[HealthFinding]:
    """One aborted round is a laptop that was closed; several are a pattern."""
    if len(spent_for_nothing(state)) >= BURNING:
        return  # said there, with what it costs
    hour = [row for row in state.rounds if row.finished and state.at.timestamp() - row.finished < 3600]
    aborted = [row for row in hour if row.outcome in ABORTED]
    if len(aborted) >= 2 and len(aborted) > ABORTED_SHARE * len(hour):
        text = f"{len(aborted)} of the {len(hour)} rounds of the last hour were aborted; the last: {aborted[-1].reason}"
        yield HealthFinding(level=Level.WATCH, text=text, runbook="RoundsAborting")


def budgets(state: ConsoleState) -> Iterator[HealthFinding]:
    """Members whose budget is spent refuse, and the cohort shrinks."""
    limit = BUDGET_SHARE * state.epsilon_budget
    spent = [one.name for one in state.members if one.epsilon is not None and one.epsilon > limit]
    if spent:
        text = f"{some(spent)}: more than {BUDGET_SHARE:.0%} of the epsilon budget is spent."
        yield HealthFinding(level=Level.WATCH, text=text, runbook="PrivacyBudgetNearlySpent")


RULES: Final[tuple[Callable[[ConsoleState], Iterator[HealthFinding]], ...]] = (
    ledger,
    forged,
    endings,
    members,
    cohort,
    unready,
    burning,
    overdue,
    aborting,
    budgets,
)


def ago(now: datetime, moment: float) -> str:
    """How long ago a Unix time was."""
    return f"{span(now.timestamp() - moment)} ago"


def span(seconds: float) -> str:
    """A duration in its largest fitting unit, whole."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    count = max(0, int(seconds))
    return f"{count} second{'s' if count != 1 else ''}"
