"""Secure federated averaging as a Flower `Strategy`: `start` is one visible list of phases around the pure session.

FedAvg (McMahan et al. 2017) over secure sums: what is averaged is opened only as a sum of at least the survivor floor
of members. The strategy decides nothing about security: each phase hands opaque bytes to the protocol's session, which
raises when a member's answer cannot be accepted; that member is then left out of the round, and named.

A round that loses too many members, or whose sum is not usable, keeps the old model and says why.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from sordino_coordinator.boundary import Accept, LostMember, MemberReply
from sordino_coordinator.cohorts import drawn_cohort, rounds_that_count, turns_taken
from sordino_coordinator.control.audit import Action
from sordino_coordinator.control.live import Doing
from sordino_coordinator.exchange import GivenUpError, exchange, never
from sordino_coordinator.federation import Federation
from sordino_coordinator.gathering import gather
from sordino_coordinator.metrics import WORDS, Dropped, RejectionReason
from sordino_coordinator.release_gate import TaughtError, UnusableSumError
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.standing import MemberStanding
from sordino_platform.flower.codec import ENVELOPE_BYTES
from sordino_platform.flower.phases import Phase, Scalar, pack
from sordino_platform.link import Direction
from sordino_platform.proposal import (
    Proposal,
    quantiser_for,
    require_honest_lengths,
    require_honest_mean,
)
from sordino_platform.telemetry import timed
from sordino_platform.tracing import UNTRACED, TracedSpan, TracedStep
from sordino_platform.uploads import UploadFolder, forget_uploads
from sordino_privacy.errors import SordinoError, StorageError, UsageError
from sordino_privacy.secagg import (
    SILENT_LIMIT,
    AggregateSum,
    CheatError,
    CoordinatorSession,
    FloorError,
    Lengths,
    NormError,
    RoundContext,
    SecaggError,
    Totals,
)

T = TypeVar("T")
THREADS = 2
LONGEST_BACK_OFF = 3600.0  # seconds


class RoundAbortedError(Exception):
    """A round that ends without a release. `outcome` is its label."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


class RoundsFailedError(SordinoError):
    """Round after round ended without a release."""

    exit_code = 11


@dataclass(slots=True)
class OngoingRound:
    """What is known of a round while it runs."""

    number: int
    nodes: dict[str, int]
    held: dict[str, MemberStanding]
    asked: frozenset[str] = frozenset()
    cohort: tuple[str, ...] = ()  # of the present attempt, once its roster is closed
    started: float = field(default_factory=time.monotonic)
    attempt: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    span: TracedSpan = UNTRACED

    @property
    def roster(self) -> Collection[str]:
        """Who an epoch must leave as they are for the round to go on."""
        return self.cohort or self.nodes


class SecureFedAvg(Strategy):
    """See the module. One object runs one federation's rounds."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.metrics = federation.metrics
        self.log = federation.log

    # ------------------------------------------------------------------------------------------ the round, as a list

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
        `give_up_after` is reached.
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
        federation.begin()
        nodes, held = gather(federation, grid, yielding=True)
        if federation.stopping.is_set() or not nodes:
            return None
        federation.tenancy.settle()  # as many answered as make any other machine's round impossible
        nodes = self.asked(nodes)
        round = OngoingRound(federation.rounds.open_round(federation.run), nodes, held, frozenset(nodes))
        federation.traffic.clear()
        with federation.traces.round(grid.run.run_id, round.number) as round.span:
            return self.to_its_end(grid, round)

    def to_its_end(self, grid: Grid, round: OngoingRound) -> bool:
        """Runs a round that is open; True when it made a release."""
        federation, nodes = self.federation, round.nodes
        self.log.info("round_started", round=round.number, members=sorted(nodes), cohort=len(nodes))
        try:
            session, opened = self.attempts(grid, round)
            with federation.traces.step(TracedStep.RELEASE):
                release = federation.commit(round.number, session, opened)
        except StorageError:
            self.metrics.write_errors.inc()
            raise
        except RoundAbortedError as aborted:
            self.close(round, aborted.outcome, aborted.reason)
            return False
        except UnusableSumError as error:
            if isinstance(error, TaughtError):
                self.metrics.taught.inc()
            self.close(round, Outcome.ABORTED_ERROR, self.attributed(round, error))
            return False
        finally:
            forget_uploads(federation.folder / "uploads")
        self.close(round, Outcome.COMPLETED, "", release=release, included=opened.survivors)
        with contextlib.suppress(
            RoundAbortedError
        ):  # told to stop: members learn the release with their next round
            self.announce(grid, round)
        return True

    def attributed(self, round: OngoingRound, error: UnusableSumError) -> str:
        """Why the sum is not used, and whether anybody can be named: books who is proven to have spoiled it."""
        if error.culprit:
            self.federation.exclude(error.culprit, error.message, round=round.number)
        if error.culprit or not error.of_members:
            return error.message
        self.metrics.unattributable.inc()
        self.log.warning("sum_unattributable", round=round.number, reason=error.message)
        return f"{error.message}; nobody can be named, for only the sum is known"

    def attempts(self, grid: Grid, round: OngoingRound) -> tuple[CoordinatorSession, AggregateSum]:
        """Tries the exchange; members keep their update, so only the keys are new in the next attempt."""
        federation, failed = self.federation, 0
        while True:
            excluded = len(federation.cheaters)
            try:
                return self.exchange_keys_and_sum(grid, round)
            except RoundAbortedError as aborted:
                self.log.warning(
                    "attempt_failed", round=round.number, attempt=round.attempt, reason=aborted.reason
                )
                # A cheater could use all attempts up, and each only once: who is named does not come back.
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
            round.nodes = again if len(again) >= federation.quorum() and self.possible(again) else nodes
            round.dropped = {
                name: reason for name, reason in round.dropped.items() if name in federation.cheaters
            }

    def exchange_keys_and_sum(
        self, grid: Grid, round: OngoingRound
    ) -> tuple[CoordinatorSession, AggregateSum]:
        """The phases of one attempt, in order. Raises RoundAbortedError when too few members are left for one."""
        federation, context = self.federation, self.context(round)
        keeper, trained = UploadFolder(federation.folder / "uploads"), set[str]()
        session = CoordinatorSession(federation.membership, context, keeper=keeper)
        tenure = federation.tenure()

        def proposal(member: str) -> RecordDict:
            held = round.held[member]
            return Proposal(
                context=context,
                plan=federation.plan,
                provenance=federation.provenance(after=held.release, known=held.manifests),
                charters=federation.epochs(after=held.epoch),
                tenure=tenure,
            ).pack()

        def advertised(answer: MemberReply) -> None:
            advertisement, epsilon = answer.fields.blob("advertisement"), answer.fields.number("epsilon")
            head, alone = answer.fields.blob("head"), None
            if "epsilon_if_others_collude" in answer.fields:
                alone = answer.fields.number("epsilon_if_others_collude")
            answer.fields.done()
            session.accept_advertisement(answer.member, advertisement)
            trained.add(answer.member)
            federation.note_epsilon(answer.member, epsilon, alone)
            federation.keep_head(answer.member, head)

        def shared(answer: MemberReply) -> None:
            session.accept_shares(answer.member, answer.only("shares"))

        def uploaded(answer: MemberReply) -> None:
            if "complaint" in answer.fields:
                session.accept_complaint(answer.member, answer.only("complaint"))
                return
            upload = answer.fields.raw("upload")
            answer.fields.done()
            session.accept_upload(answer.member, [upload], threads=THREADS)

        def present(answer: MemberReply) -> None:
            session.accept_presence(answer.member, answer.only("presence"))

        def sounded(answer: MemberReply) -> None:
            session.accept_sounding(answer.member, answer.only("sounding"))

        def signed(answer: MemberReply) -> None:
            session.accept_survivors(answer.member, answer.only("signature"))

        def revealed(answer: MemberReply) -> None:
            session.accept_reveal(answer.member, answer.only("reveal"))

        def bound(member: str) -> int:
            return session.largest_answer(member) + ENVELOPE_BYTES

        def phase(
            which: Phase, members: Iterable[str], content: Callable[[str], RecordDict], accept: Accept
        ) -> None:
            self.phase(grid, round, which, members, content, accept, reply_bytes=bound)

        self.phase(
            grid,
            round,
            Phase.TRAIN,
            round.nodes,
            proposal,
            advertised,
            reply_bytes=bound,
            enough=lambda: self.complete(trained),
        )
        roster = closing(session.close_advertisements, Outcome.ABORTED_COHORT)
        round.cohort = session.cohort
        phase(Phase.SHARE, session.awaiting(), alike({"roster": roster}), shared)
        parcels = closing(session.close_shares, Outcome.ABORTED_DROPOUTS)
        phase(Phase.UPLOAD, parcels, lambda name: pack({"delivery": parcels[name]}), uploaded)
        for cheater, proof in session.cheaters.items():
            why = "its signed shares do not open, or not to what it committed to"
            self.drop(
                round,
                Phase.UPLOAD,
                LostMember(
                    member=cheater,
                    reason=Dropped.INVALID,
                    error=why,
                    rejected=RejectionReason.SIGNATURE,
                    cheated=True,
                    proof=proof,
                ),
            )
        claim = closing(session.close_uploads, Outcome.ABORTED_DROPOUTS)
        while session.must_muster:
            session.begin_muster()
            phase(Phase.MUSTER, session.awaiting(), alike({"claim": claim}), present)
            draw = closing(session.close_muster, Outcome.ABORTED_DROPOUTS)
            phase(Phase.SOUND, session.awaiting(), alike({"draw": draw}), sounded)
            claim = closing(session.close_soundings, Outcome.ABORTED_DROPOUTS)
        phase(Phase.SURVIVORS, session.awaiting(), alike({"claim": claim}), signed)
        openings = closing(session.close_survivors, Outcome.ABORTED_DROPOUTS)
        phase(Phase.UNMASK, openings, lambda name: pack({"opening": openings[name]}), revealed)

        def admit(totals: Totals, lengths: Lengths) -> None:
            require_honest_mean(federation.plan, totals, survivors=len(session.survivors))
            require_honest_lengths(federation.plan, totals.quantiser, lengths)
            if len(lengths.silent) > SILENT_LIMIT:
                raise NormError(
                    f"{len(lengths.silent)} survivors went silent before they signed what they sent"
                )

        expansion = timed(self.metrics.mask_expansion_seconds)
        with timed(self.metrics.reconstruction_seconds), federation.traces.step(TracedStep.OPEN):
            opened = closing(
                lambda: session.open(threads=THREADS, admit=admit, expansion=expansion),
                Outcome.ABORTED_DROPOUTS,
            )
        return session, opened

    # -------------------------------------------------------------------------------------------------- its steps

    def asked(self, nodes: dict[str, int]) -> dict[str, int]:
        """Of the members that are ready those that this round asks: all, or as many as the operator wants, by turns."""
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
            possible=self.possible,
        )
        return {name: nodes[name] for name in chosen}

    def possible(self, names: Collection[str]) -> bool:
        """Whether exactly these members can hold a round, by the charter's floors."""
        membership = self.federation.membership
        floors = membership.floors
        try:
            membership.require_cohort(
                names,
                cohort=floors.cohort,
                organisations=floors.organisations,
                corrupt=floors.corrupt(len(membership.members)),
            )
        except FloorError:
            return False
        return True

    def complete(self, trained: Collection[str]) -> bool:
        """Whether so many of those that were asked have trained that the others need not be waited for."""
        sample = self.federation.settings.sample
        if not sample or len(trained) < max(sample, self.federation.quorum()):
            return False
        return self.possible(trained)

    def context(self, round: OngoingRound) -> RoundContext:
        """The context of this attempt, with the charter's floors."""
        federation = self.federation
        membership = federation.membership
        return RoundContext.under(
            membership,
            run=federation.run,
            round=round.number,
            attempt=round.attempt,
            server_nonce=secrets.token_bytes(32),
            model_hash=federation.model_hash(),
            train_config_hash=federation.plan.digest(),
            quantiser=quantiser_for(
                federation.config,
                federation.plan,
                members=len(membership.members),
                shares=membership.shares,
            ),
        )

    def phase(
        self,
        grid: Grid,
        round: OngoingRound,
        phase: Phase,
        members: Iterable[str],
        content: Callable[[str], RecordDict],
        accept: Accept,
        *,
        reply_bytes: Callable[[str], int],
        enough: Callable[[], bool] = never,
    ) -> None:
        """Runs one exchange. An answer that `accept` refuses costs its member the round. `reply_bytes` is the most
        that a member's whole reply can have. Raises RoundAbortedError when a new epoch of the charter touches the
        round: what comes of it could not be released, so nobody is asked for more."""
        federation, settings = self.federation, self.federation.settings
        if phase is not Phase.RESULT and (why := federation.ended_by(round.roster)) is not None:
            raise RoundAbortedError(Outcome.ABORTED_ERROR, f"{why}; the next round is held under it")
        seconds = settings.train_seconds if phase is Phase.TRAIN else settings.exchange_seconds
        nodes = {name: round.nodes[name] for name in sorted(members)}
        started, answered = time.monotonic(), 0
        federation.live.update(
            doing=Doing.ROUND,
            round=round.number,
            attempt=round.attempt,
            phase=phase.value,
            phase_since=time.time(),
            asked=len(nodes),
            answered=0,
        )
        self.log.info(
            "phase_started", round=round.number, attempt=round.attempt, phase=phase.value, count=len(nodes)
        )
        answers = exchange(
            grid,
            nodes,
            content,
            accept,
            message_type=phase.message_type,
            round=round.number,
            seconds=seconds,
            reply_bytes=reply_bytes,
            given_up=federation.gives_up,
            # Later, a restarted member's keys are gone with its process; before, it has nothing that it could not do
            # again: a finished update is stored, and the charge was made.
            rejoin=phase is Phase.TRAIN,
            enough=enough,
        )
        with federation.traces.step(TracedStep(phase.value), attempt=round.attempt, asked=len(nodes)) as step:
            try:
                for item in answers:
                    if isinstance(item, LostMember):
                        self.drop(round, phase, item)
                        if phase is Phase.TRAIN:
                            self.require_possible(round)
                        continue
                    answered += 1
                    federation.live.update(answered=answered)
                    self.metrics.response_seconds.labels(phase.value).observe(item.seconds)
                    self.log.info(
                        "member_answered", round=round.number, phase=phase.value, member=item.member
                    )
            except GivenUpError:
                raise RoundAbortedError(Outcome.INTERRUPTED, "the coordinator was told to stop") from None
            step.note(answered=answered)
        took = time.monotonic() - started
        self.metrics.cohort.labels(phase.value).set(answered)
        self.metrics.phase_seconds.labels(phase.value).observe(took)
        round.phases[phase.value] = round.phases.get(phase.value, 0.0) + took
        self.log.info("phase_finished", round=round.number, phase=phase.value, seconds=took, count=answered)

    def require_possible(self, round: OngoingRound) -> None:
        """Raises RoundAbortedError once too few members are left for the charter's floors: nobody else need train."""
        membership = self.federation.membership
        left = [membership.member(name) for name in round.nodes if name not in round.dropped]
        organisations = len({member.organisation for member in left})
        if len(left) < membership.floors.cohort or organisations < membership.floors.organisations:
            why = ", ".join(f"{name}: {reason}" for name, reason in sorted(round.dropped.items()))
            raise RoundAbortedError(
                Outcome.ABORTED_COHORT, f"{len(left)} members are too few to go on with ({why})"
            )

    def drop(self, round: OngoingRound, phase: Phase, lost: LostMember) -> None:
        """Notes that a member left the round, and when."""
        round.dropped[lost.member] = lost.reason.value
        self.metrics.dropouts.labels(phase.value, lost.reason.value).inc()
        if lost.rejected is not None:
            self.metrics.rejected.labels(lost.rejected.value).inc()
        if lost.cheated:
            self.federation.exclude(lost.member, lost.error, round=round.number, proof=lost.proof)
        self.log.warning(
            "member_dropped",
            round=round.number,
            phase=phase.value,
            member=lost.member,
            reason=lost.reason.value,
            error=lost.error or WORDS[lost.reason],
        )

    def announce(self, grid: Grid, round: OngoingRound) -> None:
        """Tells the round's members the opened sum, what shows that it is theirs, and the release. Who misses it learns
        the release with its next round."""
        federation = self.federation
        content = federation.announcement()
        here = set(grid.get_node_ids())
        present = [name for name, node in round.nodes.items() if node in here]

        def taken(answer: MemberReply) -> None:
            release = answer.fields.integer("release")
            self.log.info("release_taken", member=answer.member, release=release)

        self.phase(
            grid, round, Phase.RESULT, present, lambda _: content, taken, reply_bytes=lambda _: ENVELOPE_BYTES
        )

    def close(
        self,
        round: OngoingRound,
        outcome: Outcome,
        reason: str,
        *,
        release: int | None = None,
        included: Sequence[str] = (),
    ) -> None:
        """Records the end of the round; for a completed one, this commits its release."""
        federation, took = self.federation, time.monotonic() - round.started
        federation.rounds.close_round(
            round.number,
            outcome,
            reason=reason,
            attempts=round.attempt + 1,
            release=release,
            loss=federation.loss if outcome is Outcome.COMPLETED else None,
            members=included,
            dropped=round.dropped,
            phases=round.phases,
            bytes_in=federation.traffic[Direction.RECEIVED],
            bytes_out=federation.traffic[Direction.SENT],
        )
        done = outcome is Outcome.COMPLETED
        federation.audit.append(
            Action.ROUND_COMPLETED if done else Action.ROUND_ABORTED,
            f"round {round.number}: {f'release {release}' if done else reason}",
        )
        federation.live.update(phase=None, phase_since=None)
        round.span.note(outcome=outcome, attempt=round.attempt, dropouts=len(round.dropped))
        self.metrics.rounds.labels(outcome.value).inc()
        self.metrics.round_seconds.observe(took)
        if done:
            self.metrics.last_success.set_to_current_time()
        self.log.info(
            "round_finished",
            round=round.number,
            outcome=outcome.value,
            reason=reason,
            seconds=took,
            release=release,
            loss=federation.loss,
            members=list(included),
            dropouts=len(round.dropped),
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


def alike(fields: Mapping[str, Scalar]) -> Callable[[str], RecordDict]:
    """The same message for everyone."""
    content = pack(fields)
    return lambda _: content


def closing(close: Callable[[], T], outcome: Outcome) -> T:
    """Ends a phase of the session; what it refuses for lack of members ends the attempt, a lie or a sum too long the
    round."""
    try:
        return close()
    except (CheatError, NormError) as error:
        # The members have signed this sum: no other attempt of the round can follow.
        raise UnusableSumError(error.message, culprit=error.culprit or "") from error
    except SecaggError as error:
        raise RoundAbortedError(outcome, error.message) from error
