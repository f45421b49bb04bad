"""One attempt of a round: fresh keys, one session of the protocol, and the phases that lead to one opened sum.

The phases are a generator. The caller holds each yielded `PhaseStep` with the members (`sordino_coordinator.holding`);
when the generator goes on, the session has their answers. So this module sends nothing and waits for nobody, and a test
can hold the phases as it likes. It decides nothing about security either: an answer is opaque bytes to it, and the
session raises when it cannot be accepted.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from flwr.app import RecordDict

from sordino_coordinator.boundary import LostMember, MemberReply
from sordino_coordinator.cohorts import enough_trained
from sordino_coordinator.exchange import never, nothing_shared
from sordino_coordinator.federation import Federation
from sordino_coordinator.holding import PhaseStep
from sordino_coordinator.metrics import Dropped, RejectionReason
from sordino_coordinator.noted import keep_ledger_head, note_epsilon
from sordino_coordinator.ongoing import OngoingRound, RoundAbortedError
from sordino_coordinator.release_gate import UnusableSumError
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.standing import MemberStanding
from sordino_platform.flower.codec import CONTENTS, ENVELOPE_BYTES
from sordino_platform.flower.phases import Phase, Scalar, pack
from sordino_platform.proposal import Proposal, quantiser_for, require_honest_lengths, require_honest_mean
from sordino_platform.telemetry import timed
from sordino_platform.tracing import TracedStep
from sordino_platform.uploads import UploadFolder
from sordino_privacy.secagg import (
    SILENT_LIMIT,
    AggregateSum,
    CheatError,
    CoordinatorSession,
    Lengths,
    NormError,
    PerMember,
    RoundContext,
    SecaggError,
    Totals,
)

T = TypeVar("T")
THREADS = 2


class Attempt:
    """One attempt of `round`. `phases` come first, each of them held; then `open`."""

    def __init__(self, federation: Federation, round: OngoingRound) -> None:
        self._federation, self._round = federation, round
        self._context, self._tenure = attempt_context(federation, round), federation.tenure()
        self._proposals: dict[MemberStanding, RecordDict] = {}
        self._epochs: tuple[bytes, ...] = ()
        self._oldest = 0  # the epoch before the first of them
        self._trained: set[str] = set()
        self.session = CoordinatorSession(
            federation.membership, self._context, keeper=UploadFolder(federation.folder / "uploads")
        )

    def phases(self) -> Iterator[PhaseStep | LostMember]:
        """Yields the phases in order. Between two of them it removes every member that the others' answers prove to
        have cheated.

        Raises RoundAbortedError when too few members are left for an attempt, UnusableSumError when nothing can come of
        the round any more.
        """
        session = self.session
        # They follow each other without a gap. Each is encoded once, however many epochs members say that they hold.
        self._oldest = max(0, min((held.epoch for held in self._round.held.values()), default=0))
        self._epochs = self._federation.epochs(after=self._oldest)
        yield self._step(
            Phase.TRAIN,
            self._round.nodes,
            self._proposal,
            self._advertised,
            enough=self._enough,
            shared=lambda member: self._lacked(self._round.held[member].epoch),
        )
        self._proposals.clear()
        self._epochs = ()
        roster = closing(session.close_advertisements, Outcome.ABORTED_COHORT)
        self._round.cohort = session.cohort
        yield self._step(Phase.SHARE, session.awaiting(), alike({"roster": roster}), self._shared)
        # Neither deliveries nor openings get a name here: what they are made of is let go with their phase.
        yield self._step_each(Phase.UPLOAD, "delivery", closing(session.close_shares), self._uploaded)
        yield from self._cheaters()
        claim = closing(session.close_uploads)
        while session.must_muster:
            session.begin_muster()
            yield self._step(Phase.MUSTER, session.awaiting(), alike({"claim": claim}), self._present)
            draw = closing(session.close_muster)
            yield self._step(Phase.SOUND, session.awaiting(), alike({"draw": draw}), self._sounded)
            claim = closing(session.close_soundings)
        yield self._step(Phase.SURVIVORS, session.awaiting(), alike({"claim": claim}), self._signed)
        yield self._step_each(Phase.UNMASK, "opening", closing(session.close_survivors), self._revealed)

    def open(self) -> AggregateSum:
        """The sum, opened and within its bounds. Raises RoundAbortedError, UnusableSumError."""
        metrics = self._federation.metrics
        expansion = timed(metrics.mask_expansion_seconds)
        with timed(metrics.reconstruction_seconds), self._federation.traces.step(TracedStep.OPEN):
            return closing(lambda: self.session.open(threads=THREADS, admit=self._admit, expansion=expansion))

    # --------------------------------------------------------------------------------------- what members are told

    def _step(
        self,
        phase: Phase,
        members: Collection[str],
        content: Callable[[str], RecordDict],
        accept: Callable[[MemberReply], None],
        *,
        enough: Callable[[], bool] = never,
        shared: Callable[[str], Sequence[bytes]] = nothing_shared,
    ) -> PhaseStep:
        return PhaseStep(
            phase=phase,
            members=members,
            content=content,
            accept=accept,
            reply_bytes=lambda member: self.session.largest_answer(member) + ENVELOPE_BYTES,
            enough=enough,
            shared=shared,
        )

    def _step_each(
        self, phase: Phase, name: str, values: PerMember, accept: Callable[[MemberReply], None]
    ) -> PhaseStep:
        """A message for each member, with its own of `values` as the field `name`."""
        return self._step(
            phase,
            values,
            lambda member: pack({name: values[member]}),
            accept,
            shared=lambda _: (values.head,),
        )

    def _proposal(self, member: str) -> RecordDict:
        """Made once for all that hold the same: what each of a thousand members lacks may be a megabyte."""
        federation, held = self._federation, self._round.held[member]
        if held not in self._proposals:
            while len(self._proposals) >= CONTENTS:
                del self._proposals[next(iter(self._proposals))]
            self._proposals[held] = Proposal(
                context=self._context,
                plan=federation.plan,
                provenance=federation.records.provenance(after=held.release, known=held.manifests),
                charters=self._lacked(held.epoch),
                tenure=self._tenure,
            ).pack()
        return self._proposals[held]

    def _lacked(self, epoch: int) -> tuple[bytes, ...]:
        """The signed epochs after this one."""
        return self._epochs[max(0, epoch - self._oldest) :]

    def _enough(self) -> bool:
        federation = self._federation
        return enough_trained(
            federation.membership,
            self._trained,
            sample=federation.settings.sample,
            quorum=federation.quorum(),
        )

    # ---------------------------------------------------------------------------------------- what members answer

    def _advertised(self, answer: MemberReply) -> None:
        advertisement, epsilon = answer.fields.blob("advertisement"), answer.fields.number("epsilon")
        head, alone = answer.fields.blob("head"), None
        if "epsilon_if_others_collude" in answer.fields:
            alone = answer.fields.number("epsilon_if_others_collude")
        answer.fields.done()
        self.session.accept_advertisement(answer.member, advertisement)
        self._trained.add(answer.member)
        note_epsilon(self._federation, answer.member, epsilon, alone)
        keep_ledger_head(self._federation, answer.member, head)

    def _shared(self, answer: MemberReply) -> None:
        self.session.accept_shares(answer.member, answer.only("shares"))

    def _uploaded(self, answer: MemberReply) -> None:
        if "complaint" in answer.fields:
            self.session.accept_complaint(answer.member, answer.only("complaint"))
            return
        upload = answer.fields.raw("upload")
        answer.fields.done()
        self.session.accept_upload(answer.member, [upload], threads=THREADS)

    def _present(self, answer: MemberReply) -> None:
        self.session.accept_presence(answer.member, answer.only("presence"))

    def _sounded(self, answer: MemberReply) -> None:
        self.session.accept_sounding(answer.member, answer.only("sounding"))

    def _signed(self, answer: MemberReply) -> None:
        self.session.accept_survivors(answer.member, answer.only("signature"))

    def _revealed(self, answer: MemberReply) -> None:
        self.session.accept_reveal(answer.member, answer.only("reveal"))

    # ------------------------------------------------------------------------------------------- what is judged here

    def _cheaters(self) -> Iterator[LostMember]:
        for cheater, proof in self.session.cheaters.items():
            yield LostMember(
                member=cheater,
                reason=Dropped.INVALID,
                error="its signed shares do not open, or not to what it committed to",
                rejected=RejectionReason.SIGNATURE,
                cheated=True,
                proof=proof,
            )

    def _admit(self, totals: Totals, lengths: Lengths) -> None:
        """Raises NormError for a sum that is longer than honest members can make it."""
        plan = self._federation.plan
        require_honest_mean(plan, totals, survivors=len(self.session.survivors))
        require_honest_lengths(plan, totals.quantiser, lengths)
        if len(lengths.silent) > SILENT_LIMIT:
            raise NormError(f"{len(lengths.silent)} survivors went silent before they signed what they sent")


def attempt_context(federation: Federation, round: OngoingRound) -> RoundContext:
    """The context of this attempt, with the charter's floors. Its nonce is fresh: no two attempts share a context."""
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


def alike(fields: Mapping[str, Scalar]) -> Callable[[str], RecordDict]:
    """The same message for everyone, made once."""
    content = pack(fields)
    return lambda _: content


def closing(close: Callable[[], T], outcome: Outcome = Outcome.ABORTED_DROPOUTS) -> T:
    """Ends a phase of the session. Raises RoundAbortedError with `outcome` if too few members are left for the attempt,
    UnusableSumError for a lie or a sum that is too long, which ends the round."""
    try:
        return close()
    except (CheatError, NormError) as error:
        # The members have signed this sum: no other attempt of the round can follow.
        raise UnusableSumError(error.message, culprit=error.culprit or "") from error
    except SecaggError as error:
        raise RoundAbortedError(outcome, error.message) from error
