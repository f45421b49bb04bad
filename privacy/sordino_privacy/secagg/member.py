"""A member's side of one attempt: bytes in, bytes out, and every check the member owes itself.

    session = MemberSession(me, signing_key, membership, context, journal, entropy)
    session.advertise()                    -> advertisement
    session.share(roster)                  -> sealed shares
    session.upload(delivery, quantised)    -> frames of the masked update, header first, signature last
    session.muster(claim)                  -> presence    } of a large cohort, before it signs;
    session.sound(draw, quantised)         -> sketch      } and again without those who did not answer
    session.survivors(claim)               -> assent
    session.unmask(opening, quantised)     -> shares and a sketch of the upload; then every secret is gone
    session.opened                         -> what shows later that a published sum is the opened one

Rules that hold throughout:
* Nothing is taken from the coordinator that the member can compute itself; what it claims is compared.
* What must be remembered is durable (journal) before its effect leaves.
* A message for another phase is refused and changes nothing; any other refusal ends the session and erases its
  secrets, for no later message could make the attempt trustworthy again.
* The request last answered, sent again after a broken link, is answered with the same bytes, except for the reveal,
  which happens once.

Erasure drops the only references to the secrets; Python cannot promise that no copy stays in freed memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sordino_privacy.secagg import keys, merkle, shamir
from sordino_privacy.secagg.complaint import Complaint
from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.encoding import HASH_BYTES, KEY_BYTES, digest
from sordino_privacy.secagg.evidence import Opened, challenge_of, drawn
from sordino_privacy.secagg.journal import Journal, JournalEntry, Step, bound, require_follows
from sordino_privacy.secagg.masks import Mask
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.muster import MOST_MUSTERS, Draw, MusterAnswer, sketch_of, sounding
from sordino_privacy.secagg.quantise import Quantised
from sordino_privacy.secagg.refusals import (
    AbortedError,
    BadParcelError,
    ContextError,
    FloorError,
    IdentityError,
    OrderError,
    QuorumError,
    ReplayError,
    RevealError,
    RosterError,
    ShareError,
    SurvivorError,
    ThresholdError,
    UploadSignatureError,
)
from sordino_privacy.secagg.roster import Advertisement, Roster, seed_commitment
from sordino_privacy.secagg.sampling import sampled
from sordino_privacy.secagg.session import SessionPhase, SessionState
from sordino_privacy.secagg.shares import (
    Delivery,
    Leaf,
    Parcel,
    Shares,
    Statement,
    open_parcel,
    share_commitment,
)
from sordino_privacy.secagg.sketch import Sketch, length_sketch, upload_digest
from sordino_privacy.secagg.survivors import (
    Assent,
    Claim,
    Opening,
    Reveal,
    require_signers,
    require_survivors,
)
from sordino_privacy.secagg.upload import UploadHeader, UploadReceipt, masked_slices, u2_digest, vector_digest
from sordino_privacy.signing import Signer

Frame = bytes | memoryview
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
        self._journal, self._entropy = journal, entropy
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
            entry = self._entry(Step.ADVERTISED, b"", self._context.digest())
            require_follows(self._journal.entries(entry.federation, entry.run, entry.round), entry)

    def advertise(self) -> bytes:
        """Phase 1: fresh keys, seeds and nonce. Raises ReplayError when the round is spent or the attempt outdated."""
        with self._step((SessionPhase.READY,), SessionPhase.ADVERTISED):
            ctx = self._context.digest()
            self._record(Step.ADVERTISED, b"", ctx)
            state = self._state
            state.exchange_key = self._entropy(KEY_BYTES)
            state.pair_seed = shamir.field_element(self._entropy).to_bytes(KEY_BYTES, "big")
            state.self_seed = shamir.field_element(self._entropy).to_bytes(KEY_BYTES, "big")
            advertisement = Advertisement(
                ctx=ctx,
                name=self._me,
                exchange=keys.public_key(state.exchange_key),
                masking=keys.public_key(keys.mask_private_key(state.pair_seed, ctx, self._me)),
                commitment=seed_commitment(ctx, self._me, state.self_seed),
                nonce=self._entropy(HASH_BYTES),
            )
            state.advertisement = advertisement.signed(self._signing_key).encode()
        return self._state.advertisement

    def share(self, roster: bytes) -> bytes:
        """Phase 2: checks the roster (refusals 1 to 5), then shares both seeds among the holders."""
        if self._answered(SessionPhase.SHARED, roster):
            return self._state.reply
        with self._step((SessionPhase.ADVERTISED,), SessionPhase.SHARED):
            self._admit_roster(roster)
            self._state.answer(roster, self._shares())
        return self._state.reply

    def _admit_roster(self, message: bytes) -> None:
        roster = Roster.decode(message, self._membership, self._context, reader=self._me)
        if self._me not in roster.positions:
            raise RosterError("this member is missing from the roster")
        if roster.entry(self._me).encode() != self._state.advertisement:
            raise RosterError("this member's entry in the roster was altered")
        if roster.numbers.threshold > roster.holders_each:
            raise ThresholdError("the roster has too few members to share a secret among")
        self._state.roster, self._roster = message, roster

    def _shares(self) -> bytes:
        roster, state = self._known_roster(), self._state
        holders = roster.holders(self._me)
        indices = [roster.positions[holder] + 1 for holder in holders]
        seeds = (state.self_seed, state.pair_seed)
        split = [
            shamir.split(int.from_bytes(seed, "big"), roster.numbers.threshold, indices, self._entropy)
            for seed in seeds
        ]
        mine, private = (self._me, roster.entry(self._me).exchange), keys.exchange_key(state.exchange_key)
        leaves, agreed = [], []
        for holder, self_share, pair_share in zip(holders, *split, strict=True):
            if holder == self._me:
                state.held[self._me] = (self_share, pair_share)
                sealed = bytes(keys.SEALED_BYTES)
                agreed.append(bytes(KEY_BYTES))
            else:
                peer = roster.entry(holder).exchange
                agreed.append(keys.agree(private, peer))
                key = keys.seal_key(agreed[-1], roster.hash, mine, (holder, peer))
                pair = self_share.to_bytes(KEY_BYTES, "big") + pair_share.to_bytes(KEY_BYTES, "big")
                sealed = keys.seal(key, pair, roster.hash, self._me, holder)
            leaves.append(
                Leaf(
                    recipient=holder,
                    sealed=sealed,
                    self_commitment=share_commitment(roster.hash, self._me, holder, "b", self_share),
                    pair_commitment=share_commitment(roster.hash, self._me, holder, "s", pair_share),
                )
            )
        state.agreed = b"".join(agreed)
        root = merkle.root([leaf.digest() for leaf in leaves])
        statement = Statement.signed(self._signing_key, roster.hash, self._me, root)
        return Shares(roster_hash=roster.hash, statement=statement, leaves=tuple(leaves)).encode()

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
        self._require_attempt(delivery.roster_hash)
        u2 = tuple(statement.sender for statement in delivery.statements)
        in_u2 = set(u2)
        if not in_u2 <= roster.positions.keys():
            raise SurvivorError("U2 names a member that is not in the roster")
        if self._me not in u2:
            raise SurvivorError("this member is missing from U2")
        if len(u2) < roster.numbers.quorum:
            raise SurvivorError(f"U2 has {len(u2)} members, below the quorum of {roster.numbers.quorum}")
        vouched, neighbours = roster.vouched(self._me), roster.neighbours(self._me)
        for statement in delivery.statements:
            if statement.sender in vouched:
                statement.verify(self._membership, roster.hash)
        statements = {statement.sender: statement for statement in delivery.statements}
        owed = tuple(name for name in neighbours if name in in_u2)
        if tuple(parcel.sender for parcel in delivery.parcels) != owed:
            raise ShareError("the delivered shares are not those of U2 that this member holds")
        if len(owed) + roster.graph.complete < roster.numbers.threshold:
            raise SurvivorError("too few of this member's neighbours are in U2")
        # One point seals both directions of a pair: it was agreed on when this member shared.
        points = {
            holder: state.agreed[KEY_BYTES * place :][:KEY_BYTES]
            for place, holder in enumerate(roster.holders(self._me))
        }
        for parcel in delivery.parcels:
            statement, shared = statements[parcel.sender], points[parcel.sender]
            try:
                state.held[parcel.sender] = open_parcel(parcel, statement, roster, self._me, shared)
            except BadParcelError as error:
                error.complaint = self._complaint(parcel, statement)
                raise
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
        self._record(Step.UPLOADED, quantised.identity, self._bound(self._u2_hash))
        self._state.update = quantised.identity

    def _frames(self, quantised: Quantised, threads: int) -> Iterator[Frame]:
        roster = self._known_roster()
        yield self._header().encode()
        hashes = []
        for piece, piece_hash in masked_slices(quantised.vector, self._masks(), threads=threads):
            hashes.append(piece_hash)
            yield piece
        receipt = UploadReceipt.signed(
            self._signing_key, roster.hash, self._me, self._u2_hash, vector_digest(hashes)
        )
        self._state.receipt = receipt.encode()
        yield self._state.receipt

    def _masks(self) -> list[Mask]:
        """The self mask, and one pairwise mask per neighbour in U2: the lower name adds, the higher subtracts."""
        roster, state = self._known_roster(), self._state
        in_u2 = set(state.u2)
        peers = [peer for peer in roster.neighbours(self._me) if peer in in_u2]
        if not state.masks:
            state.masks = b"".join(self._mask_keys(roster, peers))
        own, *pairs = (state.masks[at : at + KEY_BYTES] for at in range(0, len(state.masks), KEY_BYTES))
        masks = [Mask(key=own, add=True)]
        masks += [Mask(key=key, add=self._me < peer) for key, peer in zip(pairs, peers, strict=True)]
        return masks

    def _mask_keys(self, roster: Roster, peers: Sequence[str]) -> Iterator[bytes]:
        """K_self, and K_pair with each of `peers`."""
        private = self._mask_key()
        mine = (self._me, roster.entry(self._me).masking)
        yield keys.self_key(self._state.self_seed, roster.hash, self._me)
        for peer in peers:
            theirs = (peer, roster.entry(peer).masking)
            low, high = sorted((mine, theirs))
            yield keys.pair_key(private, roster.hash, self._context.ring_bits, low, high, theirs[1])

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

    def sound(self, draw: bytes, quantised: Quantised, *, threads: int = 1) -> bytes:
        """Says what this member uploaded, under the challenge of a muster that its own nonce is part of. Raises
        SurvivorError, QuorumError, ReplayError."""
        if self._answered(SessionPhase.SOUNDED, draw):
            return self._state.reply
        with self._step((SessionPhase.MUSTERED,), SessionPhase.SOUNDED):
            roster, state = self._known_roster(), self._state
            claim, parsed = self._known_claim(), Draw.decode(draw)
            self._require_attempt(parsed.roster_hash)
            if not {name for name, _ in parsed.nonces} <= set(claim.survivors):
                raise SurvivorError("the muster names a member that is not in U3")
            if (self._me, state.nonce) not in parsed.nonces:
                raise QuorumError("this member's own nonce is missing: the challenge would not be its own")
            if quantised.identity != state.update:
                raise ReplayError("this is not the update that this session uploaded")
            said = self._sketch(quantised, challenge_of(roster, claim, parsed.nonces), threads)
            state.sounding = sounding(said)
            state.answer(draw, state.sounding)
        return self._state.reply

    def _take_claim(self, claim: bytes) -> Claim:
        """The claim, admitted, with this member's nonce: drawn only now that the coordinator has committed to the sum.
        The claim of the last muster was admitted then, and keeps its nonce and what was said under it."""
        state = self._state
        if claim != state.claim:
            parsed = Claim.decode(claim)
            self._admit_claim(parsed)
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
            self._record(Step.SPENT, state.update, self._bound(self._u2_hash, u3_hash, parsed.total_hash))
            assent = Assent.signed(
                self._signing_key,
                self._known_roster().hash,
                self._me,
                self._u2_hash,
                u3_hash,
                parsed.total_hash,
                state.nonce,
            )
            # The seeds are kept for one more message: the upload is masked once more, to be digested.
            state.exchange_key = b""
            state.answer(claim, assent.encode())
        return self._state.reply

    def _admit_claim(self, claim: Claim) -> None:
        roster = self._known_roster()
        self._require_attempt(claim.roster_hash)
        u2, u3, dropped = set(self._state.u2), set(claim.survivors), set(claim.dropped)
        if self._me in dropped:
            raise SurvivorError("the coordinator lists this member as dropped")
        if self._me not in u3:
            raise SurvivorError("this member is missing from U3")
        if not u3 <= u2:
            raise SurvivorError("U3 names a member that is not in U2")
        if u3 & dropped:
            raise SurvivorError("one member is listed as surviving and as dropped")
        if dropped != u2 - u3:
            raise SurvivorError("the dropped members are not U2 without U3")
        require_survivors(roster, self._membership, self._context, u3)
        vouched = roster.vouched(self._me)
        for receipt in claim.receipts:
            if receipt.u2_hash != self._u2_hash:
                raise UploadSignatureError(
                    f"{receipt.sender!r} masked over another U2", culprit=receipt.sender
                )
            if receipt.sender in vouched:
                receipt.verify(self._membership, roster.hash)
            if receipt.sender == self._me and receipt.encode() != self._state.receipt:
                raise SurvivorError("the claim holds another upload of this member than the one it sent")

    def unmask(self, opening: bytes, quantised: Quantised, *, threads: int = 1) -> bytes:
        """Phase 5: with a quorum of assents, reveals one share per owner and says what it uploaded; then erases every
        secret. `opened` is kept.

        Raises QuorumError, RevealError, ReplayError (another update). A second request is refused for ever, across
        restarts.
        """
        if self.phase is SessionPhase.DONE:
            raise RevealError("this member has already revealed its shares of this attempt")
        with self._step((SessionPhase.AGREED,), SessionPhase.DONE):
            roster, state = self._known_roster(), self._state
            claim, request = self._known_claim(), Opening.decode(opening)
            self._require_attempt(request.roster_hash)
            self._require_quorum(request, claim)
            alive, dropped = self._admit_request(request, claim)
            if quantised.identity != state.update:
                raise ReplayError("this is not the update that this session uploaded")
            if state.sounding:
                sketch = sketch_of(state.sounding)
            else:
                sketch = self._sketch(quantised, challenge_of(roster, claim, drawn(request, ())), threads)
            self._record(
                Step.REVEALED, state.update, self._bound(self._u2_hash, claim.u3_hash(), claim.total_hash)
            )
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

    def _sketch(self, quantised: Quantised, seed: bytes, threads: int) -> Sketch:
        """Of the upload: masked once more for its digest; and of the plain update, where the charter asks for it."""
        pieces = masked_slices(quantised.vector, self._masks(), threads=threads)
        masked = (np.frombuffer(piece, quantised.vector.dtype) for piece, _ in pieces)
        rows, length = upload_digest(masked, seed), ()
        if self._membership.checks_lengths:
            length = length_sketch(quantised.vector, self._context.quantiser, seed).tolist()
        return Sketch.signed(self._signing_key, self._known_roster().hash, seed, self._me, rows, length)

    def _require_quorum(self, request: Opening, claim: Claim) -> None:
        """Whether a quorum signed this set, and the floors hold for those that did: known for certain, or of a large
        cohort but for a chance of 2^-64 (`sampling`)."""
        roster, u3, u3_hash = self._known_roster(), set(claim.survivors), claim.u3_hash()
        for assent in request.assents:
            if assent.sender not in u3:
                raise QuorumError(
                    f"{assent.sender!r} signed as a survivor but is none", culprit=assent.sender
                )
        if len(request.assents) < roster.numbers.quorum:
            raise QuorumError(
                f"{len(request.assents)} survivor signatures are below the quorum of {roster.numbers.quorum}"
            )
        try:
            signers = {assent.sender for assent in request.assents}
            spare = require_signers(roster, self._membership, self._context, u3, signers)
        except (SurvivorError, FloorError) as error:
            raise QuorumError(f"the survivor signatures do not meet the floors: {error.message}") from error
        for place in sampled(len(request.assents), spare, self._entropy):
            assent = request.assents[place]
            try:
                assent.verify(self._membership, roster.hash, self._u2_hash, u3_hash, claim.total_hash)
            except IdentityError as error:
                raise QuorumError(
                    f"the survivor signature of {assent.sender!r} is not over this set"
                ) from error
        if not any((a.sender, a.nonce) == (self._me, self._state.nonce) for a in request.assents):
            raise QuorumError("this member's own assent is missing: the challenge would not be its own")

    def _admit_request(self, request: Opening, claim: Claim) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The owners whose b share and whose s share may be revealed: exactly what the member computes itself."""
        held = self._state.held
        both = set(request.alive) & set(request.dropped)
        if both:
            raise RevealError(f"both shares of {min(both)!r} were requested")
        strangers = (set(request.alive) | set(request.dropped)) - held.keys()
        if strangers:
            raise RevealError(
                f"a share of {min(strangers)!r} was requested, who is no neighbour of this member"
            )
        alive = tuple(name for name in claim.survivors if name in held)
        dropped = tuple(name for name in claim.dropped if name in held)
        if (request.alive, request.dropped) != (alive, dropped):
            raise RevealError(
                "the requested shares are not those of the agreed survivors and dropped members"
            )
        return alive, dropped

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

    def _mask_key(self) -> X25519PrivateKey:
        raw = keys.mask_private_key(self._state.pair_seed, self._context.digest(), self._me)
        return keys.exchange_key(raw)

    def _known_roster(self) -> Roster:
        if self._roster is None:
            raise OrderError("no roster was accepted yet")
        return self._roster

    def _known_claim(self) -> Claim:
        if self._claim is None:
            self._claim = Claim.decode(self._state.claim)
        return self._claim

    def _require_attempt(self, roster_hash: bytes) -> None:
        if roster_hash != self._known_roster().hash:
            raise ReplayError("the message belongs to another attempt or roster")

    def _bound(self, *hashes: bytes) -> bytes:
        return bound(self._known_roster().hash, *hashes)

    def _entry(self, step: Step, update: bytes, what: bytes) -> JournalEntry:
        context = self._context
        return JournalEntry(
            federation=context.federation,
            epoch=context.epoch,
            run=context.run,
            round=context.round,
            attempt=context.attempt,
            step=step,
            update=update,
            digest=what,
        )

    def _record(self, step: Step, update: bytes, what: bytes) -> None:
        entry = self._entry(step, update, what)
        existing = self._journal.entries(entry.federation, entry.run, entry.round)
        # Asked here too, so that a journal that only stores cannot weaken the rule.
        require_follows(existing, entry)
        if entry not in existing:
            self._journal.record(entry)

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
