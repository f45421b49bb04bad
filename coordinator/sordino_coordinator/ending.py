"""Records how a round ended, in all places at once: durable state, audit log, trace, metrics, log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sordino_coordinator.control.audit import Action
from sordino_coordinator.federation import Federation
from sordino_coordinator.noted import exclude_cheater
from sordino_coordinator.ongoing import OngoingRound
from sordino_coordinator.release_gate import UnusableSumError
from sordino_coordinator.rounds import Outcome
from sordino_platform.link import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEnd:
    """`release` and `included`, the members whose updates are in it, are those of a completed round; `reason` is that
    of any other."""

    outcome: Outcome
    reason: str = ""
    release: int | None = None
    included: Sequence[str] = ()


def record_end(federation: Federation, round: OngoingRound, end: RoundEnd) -> None:
    """Records the end of the round; for a completed one, this commits its release. Raises StorageError."""
    seconds, completed = time.monotonic() - round.started, end.outcome is Outcome.COMPLETED
    federation.rounds.close_round(
        round.number,
        end.outcome,
        reason=end.reason,
        attempts=round.attempt + 1,
        release=end.release,
        loss=federation.loss if completed else None,
        members=end.included,
        dropped=round.dropped,
        phases=round.phases,
        bytes_in=federation.traffic[Direction.RECEIVED],
        bytes_out=federation.traffic[Direction.SENT],
    )
    federation.audit.append(
        Action.ROUND_COMPLETED if completed else Action.ROUND_ABORTED,
        f"round {round.number}: {f'release {end.release}' if completed else end.reason}",
    )
    federation.live.update(phase=None, phase_since=None)
    round.span.note(outcome=end.outcome, attempt=round.attempt, dropouts=len(round.dropped))
    metrics = federation.metrics
    metrics.rounds.labels(end.outcome.value).inc()
    metrics.round_seconds.observe(seconds)
    if completed:
        metrics.last_success.set_to_current_time()
    federation.log.info(
        "round_finished",
        round=round.number,
        outcome=end.outcome.value,
        reason=end.reason,
        seconds=seconds,
        release=end.release,
        loss=federation.loss,
        members=list(end.included),
        dropouts=len(round.dropped),
    )


def attributed(federation: Federation, round: OngoingRound, error: UnusableSumError) -> str:
    """Logs why a sum is not used and whether a member can be named. Records a member that is proven to have spoiled
    it."""
    if error.culprit:
        exclude_cheater(federation, error.culprit, error.message, round=round.number)
    if error.culprit or not error.of_members:
        return error.message
    federation.metrics.unattributable.inc()
    federation.log.warning("sum_unattributable", round=round.number, reason=error.message)
    return f"{error.message}; nobody can be named, for only the sum is known"
