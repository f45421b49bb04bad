"""The order of the phases at a member: what it answers to each message, what it remembers, and what ends a session."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np

from sordino_privacy.secagg.complaint import Complaint
from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.encoding import HASH_BYTES, digest
from sordino_privacy.secagg.evidence import Opened, challenge_of, drawn
from sordino_privacy.secagg.journal import Journal, Step, bound
from sordino_privacy.secagg.masks import Mask
from sordino_privacy.secagg.member.consent import (
    OwnUpload,
    owners_to_reveal,
    require_assents,
    require_claim,
    require_signers_named,
)
from sordino_privacy.secagg.member.masking import (
    Frame,
    mask_keys,
    masking_peers,
    masks_of_keys,
    upload_frames,
)
from sordino_privacy.secagg.member.receiving import admitted_u2, opened_shares, require_attempt
from sordino_privacy.secagg.member.recording import StepRecorder
from sordino_privacy.secagg.member.sent import Sent, digest_of_sent
from sordino_privacy.secagg.member.sharing import AttemptSecrets, admitted_roster, shared_seeds
from sordino_privacy.secagg.member.state import SessionPhase, SessionState
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.muster import MOST_MUSTERS, Draw, MusterAnswer, sketch_of, sounding
from sordino_privacy.secagg.quantised import Quantised
from sordino_privacy.secagg.refusals import (
    AbortedError,
    ContextError,
    IdentityError,
    OrderError,
    QuorumError,
    ReplayError,
    RevealError,
    SurvivorError,
)
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shares import Delivery, Parcel, Statement
from sordino_privacy.secagg.sketch import Sketch, length_sketch, upload_digest
from sordino_privacy.secagg.survivors import Assent, Claim, Opening, Reveal
from sordino_privacy.secagg.upload import UploadHeader, UploadReceipt, masked_slices, u2_digest
from sordino_privacy.signing import Signer

UNSIGNED = (SessionPhase.UPLOADED, SessionPhase.MUSTERED, SessionPhase.SOUNDED)
"""Where a session stands that has uploaded and signed no set of survivors yet."""


class MemberSession:
    """One member, one attempt. Not thread-safe. Raises the refusals of `refusals`; see the module's rules."""

    def __init__(
        self,
        me: str,
        signing_key: Signer,
        membership: Membership,
        context: RoundContext,
        journal: Journal,
        entropy: Callable[[int], bytes],
    ) -> None:
        """`context` is the member's *own* expected one. `signing_key` signs as it.

        `entropy(n)` returns n fresh random bytes from the operating system. Raises IdentityError (unknown or retired
        identity, another key than the charter's, another charter, an epoch that went back), ThresholdError, FloorError.
        """
        if membership.member(me).public_key != signing_key.public_key:
            raise IdentityError(f"the signing key is not the one the charter names for {me!r}")
        if membership.epoch < journal.highest_epoch(membership.federation):
            raise IdentityError(
                f"charter epoch {membership.epoch} is older than one this member has acted under"
            )
        context.require_floors(membership)
        self._me, self._signing_key = me, signing_key
        self._membership, self._context = membership, context
        self._steps, self._entropy = StepRecorder(journal=journal, context=context), entropy
        self._state = SessionState()
        self._roster: Roster | None = None
        # What follows from the state, so that it is not made again in each phase; none of it is secret.
        self._u2_hash = b""
        self._claim: Claim | None = None
        self._opened: Opened | None = None

    def __repr__(self) -> str:
        return f"MemberSession(me={self._me!r}, phase={self.phase.name}, <secrets withheld>)"

    @property
    def phase(self) -> SessionPhase:
        return self._state.phase

    @property
    def cohort(self) -> tuple[str, ...]:
        """The members of the roster that was accepted, sorted; empty before there is one."""
        return self._roster.names if self._roster else ()

    def propose(self, proposal: bytes) -> None:
        """Phase 0: compares the coordinator's encoded context with the member's own. Called *before* training: what
        would be refused afterwards must not cost any privacy budget.

        Raises MalformedError, DowngradeError, ContextError, ReplayError (a spent round, an outdated attempt); and what
        `RoundContext.require_floors` raises. Records nothing.
        """
        with self._step((SessionPhase.READY,), SessionPhase.READY):
            proposed = RoundContext.decode(proposal)
            proposed.require_floors(self._membership)
            self._context.require_same(proposed)
            self._steps.require_possible(Step.ADVERTISED, b"", self._context.digest())

    def advertise(self) -> bytes:
        """Phase 1: fresh keys, seeds and nonce. Raises ReplayError when the round is spent or the attempt outdated."""
        with self._step((SessionPhase.READY,), SessionPhase.ADVERTISED):
            ctx = self._context.digest()
            self._steps.record(Step.ADVERTISED, b"", ctx)
            state, secrets = self._state, AttemptSecrets.drawn(self._entropy)
            advertisement = secrets.advertisement(ctx, self._me, self._entropy, self._signing_key)
            state.exchange_key, state.pair_seed = secrets.exchange_key, secrets.pair_seed
            state.self_seed, state.advertisement = secrets.self_seed, advertisement.encode()
        return self._state.advertisement

    def share(self, roster: bytes) -> bytes:
        """Phase 2: checks the roster (refusals 1 to 5), then shares both seeds among the holders."""
        if self._answered(SessionPhase.SHARED, roster):
            return self._state.reply
        with self._step((SessionPhase.ADVERTISED,), SessionPhase.SHARED):
            mine = self._state.advertisement
            self._roster = admitted_roster(roster, self._me, mine, self._membership, self._context)
            self._state.roster = roster
            self._state.answer(roster, self._shares())
        return self._state.reply

    def _shares(self) -> bytes:
        state = self._state
        secrets = AttemptSecrets(
            exchange_key=state.exchange_key, pair_seed=state.pair_seed, self_seed=state.self_seed
        )
        made = shared_seeds(self._known_roster(), self._me, secrets, self._signing_key)
        if made.kept is not None:
            state.held[self._me] = made.kept
        state.agreed = made.agreed
        return made.message.encode()

    def upload(self, delivery: bytes, quantised: Quantised, *, threads: int = 1) -> Iterator[Frame]:
        """Phase 3: opens every share, records the upload, and masks while it sends.

        All checks and the journal entry happen in this call; the iterator it returns yields the header, slices of
        `SLICE_BYTES`, and the signed trailer (their concatenation is the upload; the receiver accepts any
        re-chunking). Nothing is recorded as uploaded for `survivors` until the iterator is exhausted.
        Raises SurvivorError (U2), ShareError, ReplayError (another update, or a spent round); BadParcelError, whose
        `complaint` is to be sent instead of the upload.
        """
        if self._answered(SessionPhase.UPLOADED, delivery):
            self._admit_update(quantised)
        else:
            with self._step((SessionPhase.SHARED,), SessionPhase.UPLOADED):
                self._admit_delivery(delivery)
                self._admit_update(quantised)
                self._state.answer(delivery, b"")
        return self._frames(quantised, threads)

    def upload_again(self, quantised: Quantised, *, threads: int = 1) -> Iterator[Frame]:
        """The same frames as `upload` gave, for a link that broke or that sends them later, on any thread.

        Raises OrderError before `upload` and after the next phase, ReplayError for another update.
        """
        if self.phase is not SessionPhase.UPLOADED:
            raise OrderError(f"the session is in phase {self.phase.name}, not UPLOADED")
        if quantised.identity != self._state.update:
            raise ReplayError("this is not the update that this session uploads")
        return self._frames(quantised, threads)

    @property
    def upload_bytes(self) -> int:
        """Bytes in all frames of this session's upload. Raises OrderError before `upload`."""
        if self.phase is not SessionPhase.UPLOADED:
            raise OrderError(f"the session is in phase {self.phase.name}, not UPLOADED")
        return self._header().upload_bytes

    def _header(self) -> UploadHeader:
        return UploadHeader(
            roster_hash=self._known_roster().hash,
            sender=self._me,
            u2_hash=self._u2_hash,
            elements=self._context.dimension,
            ring_bits=self._context.ring_bits,
        )

    def _admit_delivery(self, message: bytes) -> None:
        roster, state = self._known_roster(), self._state
        delivery = Delivery.decode(message, self._me)
        u2 = admitted_u2(delivery, roster, self._me, self._membership)
        state.held |= opened_shares(
            delivery, roster, self._me, state.agreed, self._membership, self._complaint
        )
        state.u2, state.agreed, self._u2_hash = u2, b"", u2_digest(u2)

    def _complaint(self, parcel: Parcel, statement: Statement) -> bytes:
        """Shows everybody the one parcel that this member was cheated with. Its session ends with it."""
        complaint = Complaint.of(
            parcel, statement, self._known_roster(), self._me, self._state.exchange_key, self._entropy
        )
        return complaint.signed(self._signing_key).encode()

    def _admit_update(self, quantised: Quantised) -> None:
        quantiser = self._context.quantiser
        if quantised.quantiser_hash != quantiser.digest() or quantised.vector.shape != (quantiser.length,):
            raise ContextError("the update was not quantised for this context")
        self._steps.record(Step.UPLOADED, quantised.identity, self._bound(self._u2_hash))
        self._state.update = quantised.identity

    def _frames(self, quantised: Quantised, threads: int) -> Iterator[Frame]:
        def keep(receipt: bytes) -> None:
            self._state.receipt = receipt

        # Nothing is made before the first frame is asked for: a session that ended meanwhile has no masks to give.
        masks, signer = self._masks(), self._signing_key
        yield from upload_frames(self._header(), quantised.vector, masks, signer, keep, threads=threads)

    def _masks(self) -> list[Mask]:
        roster, state = self._known_roster(), self._state
        peers = masking_peers(roster, self._me, state.u2)
        if not state.masks:
            state.masks = mask_keys(
                roster, self._me, peers, state.self_seed, state.pair_seed, self._context.ring_bits
            )
        return masks_of_keys(state.masks, self._me, peers)

    def muster(self, claim: bytes) -> bytes:
        """Before phase 4, of a large cohort: checks the claimed U3 as phase 4 does, and draws the nonce. Binds to
        nothing: another claim may follow. Raises what `survivors` raises, and OrderError beyond MOST_MUSTERS."""
        if self._answered(SessionPhase.MUSTERED, claim):
            return self._state.reply
        with self._step(UNSIGNED, SessionPhase.MUSTERED):
            state = self._state
            if state.musters >= MOST_MUSTERS:
                raise OrderError(f"this member was mustered {MOST_MUSTERS} times in this attempt")
            self._take_claim(claim)
            state.musters += 1
            state.answer(claim, MusterAnswer(sender=self._me, nonce=state.nonce).encode())
        return self._state.reply

    def sound(self, draw: bytes, quantised: Quantised, *, sent: Sent = b"", threads: int = 1) -> bytes:
        """Says what this member uploaded, under the challenge of a muster that its own nonce is part of.

        `sent`: the frames that `upload` gave, one after the other, if they were kept. If they are not what was signed,
        the update is masked again. Raises SurvivorError, QuorumError, ReplayError.
        """
        if self._answered(SessionPhase.SOUNDED, draw):
            return self._state.reply
        with self._step((SessionPhase.MUSTERED,), SessionPhase.SOUNDED):
            roster, state = self._known_roster(), self._state
            claim, parsed = self._known_claim(), Draw.decode(draw)
            require_attempt(roster, parsed.roster_hash)
            if not {name for name, _ in parsed.nonces} <= set(claim.survivors):
                raise SurvivorError("the muster names a member that is not in U3")
            if (self._me, state.nonce) not in parsed.nonces:
                raise QuorumError("this member's own nonce is missing: the challenge would not be its own")
            if quantised.identity != state.update:
                raise ReplayError("this is not the update that this session uploaded")
            said = self._sketch(quantised, sent, challenge_of(roster, claim, parsed.nonces), threads)
            state.sounding = sounding(said)
            state.answer(draw, state.sounding)
        return self._state.reply

    def _take_claim(self, claim: bytes) -> Claim:
        """The claim, admitted, with this member's nonce: drawn only now that the coordinator has committed to the sum.
        The claim of the last muster was admitted then, and keeps its nonce and what was said under it."""
        state = self._state
        if claim != state.claim:
            parsed = Claim.decode(claim)
            require_claim(parsed, self._own(), self._known_roster(), self._membership, self._context)
            state.claim, state.nonce, state.sounding = claim, self._entropy(HASH_BYTES), b""
            self._claim = parsed
        return self._known_claim()

    def survivors(self, claim: bytes) -> bytes:
        """Phase 4: checks the claimed U3 (refusals 2, 8 and 9), marks the round as spent, signs."""
        if self._answered(SessionPhase.AGREED, claim):
            return self._state.reply
        with self._step(UNSIGNED, SessionPhase.AGREED):
            state, parsed = self._state, self._take_claim(claim)
            u3_hash = parsed.u3_hash()
            self._steps.record(
                Step.SPENT, state.update, self._bound(self._u2_hash, u3_hash, parsed.total_hash)
            )
            assent = Assent.signed(
                self._signing_key,
                self._known_roster().hash,
                self._me,
                self._u2_hash,
                u3_hash,
                parsed.total_hash,
                state.nonce,
            )
            # The seeds are kept for one more message: the upload may have to be masked once more, to be digested.
            state.exchange_key = b""
            state.answer(claim, assent.encode())
        return self._state.reply

    def _own(self) -> OwnUpload:
        state = self._state
        return OwnUpload(me=self._me, u2=state.u2, u2_hash=self._u2_hash, receipt=state.receipt)

    def unmask(self, opening: bytes, quantised: Quantised, *, sent: Sent = b"", threads: int = 1) -> bytes:
        """Phase 5: with a quorum of assents, reveals one share per owner and says what it uploaded; then erases every
        secret. `opened` is kept. `sent` as for `sound`.

        Raises QuorumError, RevealError, ReplayError (another update). A second request is refused for ever, across
        restarts.
        """
        if self.phase is SessionPhase.DONE:
            raise RevealError("this member has already revealed its shares of this attempt")
        with self._step((SessionPhase.AGREED,), SessionPhase.DONE):
            roster, state = self._known_roster(), self._state
            claim, request = self._known_claim(), Opening.decode(opening)
            require_attempt(roster, request.roster_hash)
            own, members = self._own(), self._membership
            spare = require_signers_named(request, claim, own, state.nonce, roster, members, self._context)
            alive, dropped = owners_to_reveal(request, claim, state.held)
            if quantised.identity != state.update:
                raise ReplayError("this is not the update that this session uploaded")
            # Before a signature is looked at: of many it is a sample that is drawn, and whoever asked twice (of a
            # session that was put away, by a process that was killed) would be given another draw.
            self._steps.record(
                Step.REVEALED, state.update, self._bound(self._u2_hash, claim.u3_hash(), claim.total_hash)
            )
            require_assents(request, claim, own, spare, roster, members, self._entropy)
            if state.sounding:
                sketch = sketch_of(state.sounding)
            else:
                seed = challenge_of(roster, claim, drawn(request, ()))
                sketch = self._sketch(quantised, sent, seed, threads)
            reply = Reveal(
                roster_hash=roster.hash,
                sender=self._me,
                self_shares=tuple((owner, state.held[owner][0]) for owner in alive),
                pair_shares=tuple((owner, state.held[owner][1]) for owner in dropped),
                sketch=sketch,
            ).encode_signed(self._signing_key)
            opened = Opened(roster=state.roster, claim=state.claim, opening=opening)
        self._erase(SessionPhase.DONE)
        self._opened = opened
        return reply

    @property
    def opened(self) -> Opened:
        """What this member keeps of the attempt that it helped to open. Raises OrderError before `unmask`."""
        if self._opened is None:
            raise OrderError("this session has not revealed")
        return self._opened

    def _sketch(self, quantised: Quantised, sent: Sent, seed: bytes, threads: int) -> Sketch:
        """Of the upload, masked once more if `sent` is not it; and of the plain update, where the charter asks for
        it."""
        rows = digest_of_sent(sent, self._header(), UploadReceipt.decode(self._state.receipt), seed)
        if rows is None:
            pieces = masked_slices(quantised.vector, self._masks(), threads=threads)
            rows = upload_digest((np.frombuffer(piece, quantised.vector.dtype) for piece, _ in pieces), seed)
        length = ()
        if self._membership.checks_lengths:
            length = length_sketch(quantised.vector, self._context.quantiser, seed).tolist()
        return Sketch.signed(self._signing_key, self._known_roster().hash, seed, self._me, rows, length)

    def abort(self) -> None:
        """Ends the session and erases its secrets."""
        self._erase(SessionPhase.ABORTED)

    def snapshot_with_secrets(self) -> bytes:
        """The whole session, this attempt's private keys, seeds and held shares included, for moving it between
        processes of the *same* member. Treat the bytes like a private key. The identity's key is not among them. The
        journal still allows each step only once."""
        return self._state.encode()

    @classmethod
    def restore(
        cls,
        snapshot: bytes,
        me: str,
        signing_key: Signer,
        membership: Membership,
        context: RoundContext,
        journal: Journal,
        entropy: Callable[[int], bytes],
    ) -> Self:
        """The session of `snapshot_with_secrets`; all other arguments as for the constructor. Raises MalformedError."""
        session = cls(me, signing_key, membership, context, journal, entropy)
        session._state = SessionState.decode(snapshot)
        session._u2_hash = u2_digest(session._state.u2)
        if session._state.roster:
            session._roster = Roster.accepted(session._state.roster, membership, context)
        return session

    def _known_roster(self) -> Roster:
        if self._roster is None:
            raise OrderError("no roster was accepted yet")
        return self._roster

    def _known_claim(self) -> Claim:
        if self._claim is None:
            self._claim = Claim.decode(self._state.claim)
        return self._claim

    def _bound(self, *hashes: bytes) -> bytes:
        return bound(self._known_roster().hash, *hashes)

    def _answered(self, phase: SessionPhase, request: bytes) -> bool:
        return self.phase is phase and self._state.request == digest("request", request)

    @contextmanager
    def _step(self, before: Collection[SessionPhase], after: SessionPhase) -> Iterator[None]:
        """Runs one phase: refused unless the session is in one of `before`; `after` when it succeeds, else aborted."""
        if self.phase is SessionPhase.ABORTED:
            raise AbortedError("this session has ended")
        if self.phase not in before:
            wanted = " or ".join(phase.name for phase in before)
            raise OrderError(f"the session is in phase {self.phase.name}, not {wanted}")
        try:
            yield
        except BaseException:
            self._erase(SessionPhase.ABORTED)
            raise
        self._state.phase = after

    def _erase(self, phase: SessionPhase) -> None:
        self._state = SessionState(phase=phase)
        self._roster, self._claim = None, None
