"""Holds one phase of a round: sends the members their messages, takes their answers, and counts, logs and traces them.

Nothing here knows what a phase means: a `PhaseStep` says what each member is sent and what accepts its answer
(`sordino_coordinator.attempt`). A member that gives no acceptable answer leaves the round, and its name and the reason
are noted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from flwr.app import RecordDict
from flwr.serverapp import Grid

from sordino_coordinator.boundary import Accept, Answered, LostMember
from sordino_coordinator.control.live import Doing
from sordino_coordinator.exchange import GivenUpError, exchange, never, nothing_shared
from sordino_coordinator.federation import Federation
from sordino_coordinator.metrics import WORDS
from sordino_coordinator.noted import exclude_cheater
from sordino_coordinator.ongoing import OngoingRound, RoundAbortedError
from sordino_coordinator.rounds import Outcome
from sordino_platform.flower.phases import Phase
from sordino_platform.tracing import TracedStep


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStep:
    """One phase that is to be held. `content` makes what a member is told, `accept` takes its answer, `reply_bytes` is
    the most that its whole reply can have. Once `enough()` is true, no further answer is waited for. `shared` are long
    parts of a member's content that others have too."""

    phase: Phase
    members: Collection[str]
    content: Callable[[str], RecordDict]
    accept: Accept
    reply_bytes: Callable[[str], int]
    enough: Callable[[], bool] = never
    shared: Callable[[str], Sequence[bytes]] = nothing_shared


class RoundPhases:
    """The phases of one round, over one grid."""

    def __init__(self, federation: Federation, grid: Grid, round: OngoingRound) -> None:
        self._federation, self._grid, self._round = federation, grid, round

    def hold(self, step: PhaseStep) -> None:
        """Holds one phase to its end.

        A member whose answer `accept` refuses leaves the round. Raises RoundAbortedError if the coordinator was told to
        stop, if too few members are left to train, or if a new epoch of the charter touches the round: its sum could
        not be released, so members are asked for no more.
        """
        federation, round, phase = self._federation, self._round, step.phase
        if phase is not Phase.RESULT and (why := federation.ended_by(round.roster)) is not None:
            raise RoundAbortedError(Outcome.ABORTED_ERROR, f"{why}; the next round is held under it")
        nodes = {name: round.nodes[name] for name in sorted(step.members)}
        self._show(phase, asked=len(nodes))
        started = time.monotonic()
        with federation.traces.step(
            TracedStep(phase.value), attempt=round.attempt, asked=len(nodes)
        ) as traced:
            answered = self._answers(phase, self._exchanged(step, nodes))
            traced.note(answered=answered)
        self._note(phase, answered=answered, seconds=time.monotonic() - started)

    def drop(self, phase: Phase, lost: LostMember) -> None:
        """Notes that a member left the round, and when."""
        federation, round = self._federation, self._round
        round.dropped[lost.member] = lost.reason.value
        federation.metrics.dropouts.labels(phase.value, lost.reason.value).inc()
        if lost.rejected is not None:
            federation.metrics.rejected.labels(lost.rejected.value).inc()
        if lost.cheated:
            exclude_cheater(federation, lost.member, lost.error, round=round.number, proof=lost.proof)
        federation.log.warning(
            "member_dropped",
            round=round.number,
            phase=phase.value,
            member=lost.member,
            reason=lost.reason.value,
            error=lost.error or WORDS[lost.reason],
        )

    def _exchanged(self, step: PhaseStep, nodes: dict[str, int]) -> Iterator[Answered | LostMember]:
        federation, settings = self._federation, self._federation.settings
        training = step.phase is Phase.TRAIN
        return exchange(
            self._grid,
            nodes,
            step.content,
            step.accept,
            message_type=step.phase.message_type,
            round=self._round.number,
            seconds=settings.train_seconds if training else settings.exchange_seconds,
            reply_bytes=step.reply_bytes,
            given_up=federation.gives_up,
            # Before the keys are used, a restarted member can do everything again: its finished update is stored and
            # its charge was made. Later it cannot, because its keys went with its process.
            rejoin=training,
            enough=step.enough,
            shared=step.shared,
        )

    def _answers(self, phase: Phase, arriving: Iterator[Answered | LostMember]) -> int:
        """Takes the answers as they arrive. Returns how many members answered."""
        federation, answered = self._federation, 0
        try:
            for item in arriving:
                if isinstance(item, LostMember):
                    self.drop(phase, item)
                    if phase is Phase.TRAIN:
                        self._require_possible()
                    continue
                answered += 1
                federation.live.update(answered=answered)
                federation.metrics.response_seconds.labels(phase.value).observe(item.seconds)
                federation.log.info(
                    "member_answered", round=self._round.number, phase=phase.value, member=item.member
                )
        except GivenUpError:
            raise RoundAbortedError(Outcome.INTERRUPTED, "the coordinator was told to stop") from None
        return answered

    def _require_possible(self) -> None:
        """Raises RoundAbortedError once too few members are left for the charter's floors: nobody else needs to
        train."""
        membership, round = self._federation.membership, self._round
        left = [membership.member(name) for name in round.nodes if name not in round.dropped]
        organisations = len({member.organisation for member in left})
        if len(left) < membership.floors.cohort or organisations < membership.floors.organisations:
            why = ", ".join(f"{name}: {reason}" for name, reason in sorted(round.dropped.items()))
            raise RoundAbortedError(
                Outcome.ABORTED_COHORT, f"{len(left)} members are too few to go on with ({why})"
            )

    def _show(self, phase: Phase, *, asked: int) -> None:
        """Says that the phase begins: in the status, and in the log."""
        federation, round = self._federation, self._round
        federation.live.update(
            doing=Doing.ROUND,
            round=round.number,
            attempt=round.attempt,
            phase=phase.value,
            phase_since=time.time(),
            asked=asked,
            answered=0,
        )
        federation.log.info(
            "phase_started", round=round.number, attempt=round.attempt, phase=phase.value, count=asked
        )

    def _note(self, phase: Phase, *, answered: int, seconds: float) -> None:
        """Notes that the phase has ended: in the round, the metrics and the log."""
        federation, round = self._federation, self._round
        federation.metrics.cohort.labels(phase.value).set(answered)
        federation.metrics.phase_seconds.labels(phase.value).observe(seconds)
        round.phases[phase.value] = round.phases.get(phase.value, 0.0) + seconds
        federation.log.info(
            "phase_finished", round=round.number, phase=phase.value, seconds=seconds, count=answered
        )
