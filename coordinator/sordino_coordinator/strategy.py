"""Secure federated averaging as a Flower `Strategy`: rounds one after the other, each until it has a release or an end.

FedAvg (McMahan et al. 2017) over secure sums: what is averaged is opened only as a sum of at least the survivor floor
of members. The strategy decides nothing about security: the phases of an attempt are `sordino_coordinator.attempt`,
each is held by `sordino_coordinator.holding`, and the protocol's session raises when a member's answer cannot be
accepted; that member is then left out of the round, and named.

A round that loses too many members, or whose sum is not usable, keeps the old model and says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from sordino_coordinator.attempt import Attempt
from sordino_coordinator.beginning import begin_round
from sordino_coordinator.boundary import LostMember, MemberReply
from sordino_coordinator.cohorts import can_hold_round, drawn_cohort, rounds_that_count, turns_taken
from sordino_coordinator.ending import RoundEnd, attributed, record_end
from sordino_coordinator.federation import Federation
from sordino_coordinator.gathering import gather
from sordino_coordinator.holding import PhaseStep, RoundPhases
from sordino_coordinator.ongoing import OngoingRound, RoundAbortedError
from sordino_coordinator.release_gate import TaughtError, UnusableSumError
from sordino_coordinator.releasing import commit_release
from sordino_coordinator.rounds import Outcome
from sordino_platform.flower.codec import ENVELOPE_BYTES
from sordino_platform.flower.phases import Phase
from sordino_platform.tracing import TracedStep
from sordino_platform.uploads import forget_uploads
from sordino_privacy.errors import SordinoError, StorageError, UsageError
from sordino_privacy.secagg import AggregateSum, CoordinatorSession

LONGEST_BACK_OFF = 3600.0  # seconds


class RoundsFailedError(SordinoError):
    """Round after round ended without a release."""

    exit_code = 11


class SecureFedAvg(Strategy):
    """See the module. One object runs one federation's rounds."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.metrics = federation.metrics
        self.log = federation.log

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: object = None,
    ) -> Result:
        """Runs rounds until `num_rounds` have completed (0: until asked to stop); returns Flower's result.

        Models, plans and deadlines come from the federation's own settings and charter, so Flower's generic arguments
        beside `num_rounds` must be absent. Raises StorageError when a round cannot be recorded, RoundsFailedError when
        `give_up_after` is reached, UsageError for those arguments.
        """
        if train_config or evaluate_config or evaluate_fn:
            raise UsageError("this strategy takes its configuration from the charter, not from Flower's run")
        self.summary()
        federation, result = self.federation, Result(arrays=initial_arrays)
        completed = failed = 0
        while not federation.stopping.is_set() and (num_rounds == 0 or completed < num_rounds):
            released = self.one_round(grid)
            if released is None:
                continue
            if released:
                completed, failed = completed + 1, 0
                federation.live.update(completed=completed)
                result.evaluate_metrics_serverapp[completed] = MetricRecord({"loss": federation.loss or 0.0})
            elif not federation.stopping.is_set():
                failed += 1
                self.log.warning("backing_off", count=failed, seconds=self.back_off(failed))
            if 0 < federation.settings.give_up_after <= failed:
                raise RoundsFailedError(
                    f"{failed} rounds in a row ended without a release; the last one: "
                    f"{federation.rounds.last_reason()}",
                    hint="`sordino coordinator rounds` says why each ended; give_up_after is a setting",
                )
            federation.desk.rest(self.back_off(failed))
            num_rounds = federation.desk.settings().rounds or num_rounds
        result.arrays = ArrayRecord([federation.weights()])
        return result

    def back_off(self, failed: int) -> float:
        """Seconds to wait after so many rounds in a row without a release, beyond the pause between two rounds."""
        first = self.federation.settings.backoff_seconds
        return min(first * 2.0 ** (failed - 1), LONGEST_BACK_OFF) if failed else 0.0

    def one_round(self, grid: Grid) -> bool | None:
        """One round to its end; True when it made a release, None when none may begin now."""
        federation = self.federation
        begin_round(federation)
        nodes, held = gather(federation, grid, yielding=True)
        if federation.stopping.is_set() or not nodes:
            return None
        federation.tenancy.settle()  # as many answered as make any other machine's round impossible
        nodes = self.asked(nodes)
        round = OngoingRound(federation.rounds.open_round(federation.run), nodes, held, frozenset(nodes))
        federation.traffic.clear()
        with federation.traces.round(grid.run.run_id, round.number) as round.span:
            return self.to_its_end(grid, round)

    def asked(self, nodes: dict[str, int]) -> dict[str, int]:
        """The ready members that this round asks: all of them, or as many as the operator wants, in turn."""
        federation, sample = self.federation, self.federation.settings.sample
        if not sample:
            return nodes
        size, head = max(sample, federation.quorum()), federation.releases.head()
        recent = rounds_that_count(len(federation.membership.members), size=size)
        chosen = drawn_cohort(
            nodes,
            size=size,
            spare=federation.settings.spare,
            turns=turns_taken(federation.rounds.rounds(last=recent)),
            seed=f"{federation.run}/{federation.rounds.next_round()}/{head.vector_hash.hex()}".encode(),
            possible=lambda names: can_hold_round(federation.membership, names),
        )
        return {name: nodes[name] for name in chosen}

    def to_its_end(self, grid: Grid, round: OngoingRound) -> bool:
        """Runs a round that is open; True when it made a release."""
        federation, nodes = self.federation, round.nodes
        self.log.info("round_started", round=round.number, members=sorted(nodes), cohort=len(nodes))
        try:
            session, opened = self.attempts(grid, round)
            with federation.traces.step(TracedStep.RELEASE):
                release = commit_release(federation, round.number, session, opened)
        except StorageError:
            self.metrics.write_errors.inc()
            raise
        except RoundAbortedError as aborted:
            record_end(federation, round, RoundEnd(outcome=aborted.outcome, reason=aborted.reason))
            return False
        except UnusableSumError as error:
            if isinstance(error, TaughtError):
                self.metrics.taught.inc()
            why = attributed(federation, round, error)
            record_end(federation, round, RoundEnd(outcome=Outcome.ABORTED_ERROR, reason=why))
            return False
        finally:
            forget_uploads(federation.folder / "uploads")
        included = opened.survivors
        record_end(federation, round, RoundEnd(outcome=Outcome.COMPLETED, release=release, included=included))
        # Told to stop: members learn the release with their next round.
        with contextlib.suppress(RoundAbortedError):
            self.announce(grid, round)
        return True

    def attempts(self, grid: Grid, round: OngoingRound) -> tuple[CoordinatorSession, AggregateSum]:
        """Tries the exchange until an attempt succeeds. Members keep their update, so only the keys are new in the next
        attempt.

        Raises RoundAbortedError when no further attempt may follow, UnusableSumError.
        """
        federation, failed = self.federation, 0
        while True:
            excluded = len(federation.cheaters)
            try:
                return self.one_attempt(grid, round)
            except RoundAbortedError as aborted:
                self.log.warning(
                    "attempt_failed", round=round.number, attempt=round.attempt, reason=aborted.reason
                )
                # Cheaters could use up all attempts, but each of them only one: a member that was named does not come
                # back.
                failed += len(federation.cheaters) == excluded
                honest = {member.name for member in federation.membership.members} - federation.cheaters
                if failed >= federation.settings.attempts or len(honest) < federation.quorum():
                    raise
                if federation.stopping.is_set() or federation.superseded():
                    raise
            round.attempt, round.cohort = round.attempt + 1, ()
            nodes, round.held = gather(federation, grid, number=round.number)
            # Who was not asked before has no update yet; it is asked only where those that have are too few.
            again = {name: node for name, node in nodes.items() if name in round.asked}
            enough = len(again) >= federation.quorum() and can_hold_round(federation.membership, again)
            round.nodes = again if enough else nodes
            round.dropped = {
                name: reason for name, reason in round.dropped.items() if name in federation.cheaters
            }

    def one_attempt(self, grid: Grid, round: OngoingRound) -> tuple[CoordinatorSession, AggregateSum]:
        """One attempt, phase by phase. Raises RoundAbortedError when too few members are left, UnusableSumError."""
        phases, attempt = self.phases(grid, round), Attempt(self.federation, round)
        for step in attempt.phases():
            if isinstance(step, LostMember):
                phases.drop(Phase.UPLOAD, step)
            else:
                phases.hold(step)
        return attempt.session, attempt.open()

    def phases(self, grid: Grid, round: OngoingRound) -> RoundPhases:
        """What holds the phases of a round."""
        return RoundPhases(self.federation, grid, round)

    def announce(self, grid: Grid, round: OngoingRound) -> None:
        """Sends the round's members the opened sum, the proof that it is the sum of their uploads, and the release. A
        member that misses this gets the release with its next round. Raises RoundAbortedError."""
        content = self.federation.records.announcement()
        here = set(grid.get_node_ids())

        def taken(answer: MemberReply) -> None:
            release = answer.fields.integer("release")
            self.log.info("release_taken", member=answer.member, release=release)

        self.phases(grid, round).hold(
            PhaseStep(
                phase=Phase.RESULT,
                members=[name for name, node in round.nodes.items() if node in here],
                content=lambda _: content,
                accept=taken,
                reply_bytes=lambda _: ENVELOPE_BYTES,
            )
        )

    # ------------------------------------------------------------------- what Flower's abstract class asks for beside

    def summary(self) -> None:
        """Logs what runs."""
        self.log.info("strategy", federation=self.federation.membership.federation, run=self.federation.run)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A secure round is more than one exchange: see `start`. Raises UsageError."""
        raise UsageError("SecureFedAvg runs its own phases: call start()")

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Members are never asked for a loss: it would be data. Raises UsageError."""
        raise UsageError("SecureFedAvg evaluates at the coordinator only")

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """There are no plain updates to aggregate. Raises UsageError."""
        raise UsageError("SecureFedAvg opens sums only")

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """There are no plain metrics to aggregate. Raises UsageError."""
        raise UsageError("SecureFedAvg opens sums only")
