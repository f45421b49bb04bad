"""The coordinator's side of one attempt: it relays, checks, adds up, and opens the sum. It is trusted with nothing.

    session = CoordinatorSession(membership, context)
    session.accept_advertisement(name, message) ...   session.close_advertisements()  -> roster, for every member of U1
    session.accept_shares(name, message) ...          session.close_shares()          -> a delivery per member of U2
    session.accept_upload(name, frames) ...           session.close_uploads()         -> claim, for every member of U3
    while session.must_muster:                        of a large cohort, before it signs (muster.py)
        session.begin_muster()
        session.accept_presence(name, message) ...    session.close_muster()          -> draw, for all present
        session.accept_sounding(name, message) ...    session.close_soundings()       -> claim, without many silent
    session.accept_survivors(name, message) ...       session.close_survivors()       -> an opening per signer
    session.accept_reveal(name, message) ...          session.open()                  -> AggregateSum, with its evidence
                                                      session.record(head, hash)      -> transcript record

`name` is the sender as the link authenticated it. A refused message leaves the session as it was, and the error's
`culprit` names who is at fault. Whoever has not been accepted when a phase closes has dropped out. When too few are
left, `close_*` and `open` raise AbortedError naming the phase, and the session is over: no partial sum exists.

An honest coordinator runs these checks to name cheaters early. The members do not rely on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sordino_privacy.secagg.complaint import MAX_COMPLAINT_BYTES, Complaint, complaint_proof
from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.evidence import Evidence, Lengths, challenge_of, lengths_of
from sordino_privacy.secagg.intake import Data, Intake, Keeper, MemoryKeeper, UploadReceiver
from sordino_privacy.secagg.masks import RingVector, apply
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.muster import (
    MAX_PRESENCE_BYTES,
    MAX_SOUNDING_BYTES,
    MOST_MUSTERS,
    SILENT_LIMIT,
    Draw,
    MusterAnswer,
    Nonces,
    sketch_of,
)
from sordino_privacy.secagg.quantise import Totals
from sordino_privacy.secagg.reconstruction import masks_of_seeds, opened_seeds
from sordino_privacy.secagg.refusals import (
    AbortedError,
    CheatError,
    FloorError,
    IdentityError,
    NormError,
    OrderError,
    QuorumError,
    ReplayError,
    RosterError,
    SecaggError,
    ShareError,
    SurvivorError,
)
from sordino_privacy.secagg.roster import MAX_ADVERTISEMENT_BYTES, Advertisement, Roster, require_roster
from sordino_privacy.secagg.shares import (
    Parcel,
    Shares,
    delivery_head,
    largest_shares,
    share_commitment,
    with_parcels,
)
from sordino_privacy.secagg.sketch import Digest, Sketch, upload_digest
from sordino_privacy.secagg.survivors import (
    MAX_ASSENT_BYTES,
    Assent,
    Claim,
    Reveal,
    largest_reveal,
    opening_head,
    require_signers,
    require_survivors,
    with_owners,
)
from sordino_privacy.secagg.total import Total
from sordino_privacy.secagg.transcript import Record, sum_digest
from sordino_privacy.secagg.upload import UploadHeader, u2_digest

MUSTERED_ABOVE = 3 * SILENT_LIMIT
"""Survivors. Of fewer, a third may be silent and be stood in for by their uploads."""


class Stage(IntEnum):
    """What the coordinator waits for."""

    ADVERTISEMENTS = 1
    SHARES = 2
    UPLOADS = 3
    MUSTER = 4
    SOUNDINGS = 5
    SURVIVORS = 6
    REVEALS = 7
    OPENED = 8
    ABORTED = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateSum:
    """The opened sum. `vector` is the raw ring sum, extra limbs included; `totals` is what it means.

    For those who must believe it: `evidence` (a message), `carries` (what of the masked sum was above the ring, per
    element) and the `silent` survivors, whose uploads (`CoordinatorSession.upload_of`) stand in for their sketches.
    """

    vector: RingVector
    totals: Totals
    survivors: tuple[str, ...]
    dropped: tuple[str, ...]
    evidence: bytes
    carries: RingVector
    lengths: Lengths

    @property
    def silent(self) -> tuple[str, ...]:
        return self.lengths.silent


class PerMember(Mapping[str, bytes]):
    """One message per member, built when it is asked for: all of them at once would be O(members^2) bytes."""

    def __init__(self, names: Iterable[str], build: Callable[[str], bytes]) -> None:
        self._names, self._build = dict.fromkeys(names), build

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        return self._build(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class CoordinatorSession:
    """One attempt. Not thread-safe, except that different `UploadReceiver`s may be fed by different threads.

    `staging` bounds the uploads in progress at a time, and with them the memory.
    """

    def __init__(
        self, membership: Membership, context: RoundContext, *, staging: int = 2, keeper: Keeper | None = None
    ) -> None:
        context.require_floors(membership)
        self._membership, self._context, self._staging = membership, context, staging
        self._keeper = keeper or MemoryKeeper()
        self._ctx = context.digest()
        self._stage = Stage.ADVERTISEMENTS
        self._advertisements: dict[str, Advertisement] = {}
        self._used: dict[bytes, str] = {}  # whose each advertised key and commitment is
        self._shares: dict[str, Shares] = {}
        self._assents: dict[str, Assent] = {}
        self._reveals: dict[str, Reveal] = {}
        self._roster: Roster | None = None
        self._intake: Intake | None = None
        self._claim: Claim | None = None
        self._u2: tuple[str, ...] = ()
        self._u2_hash = b""
        self._u3: frozenset[str] = frozenset()
        self._musters = 0
        self._presences: dict[str, bytes] = {}
        self._draw: Nonces = ()
        self._soundings: dict[str, Sketch] = {}
        self._challenge_of: bytes | None = None
        self._sets = (b"", b"", b"")  # H(U2), H(U3), H(Y) of the claim
        self._proofs: dict[str, bytes] = {}
        self._sum: RingVector | None = None

    @property
    def stage(self) -> Stage:
        return self._stage

    @property
    def cohort(self) -> tuple[str, ...]:
        """U1, sorted; empty before the advertisements are closed."""
        return self._roster.names if self._roster else ()

    @property
    def survivors(self) -> tuple[str, ...]:
        """U3, sorted; empty before the uploads are closed."""
        return self._claim.survivors if self._claim else ()

    @property
    def context(self) -> RoundContext:
        return self._context

    def awaiting(self) -> frozenset[str]:
        """Who could still be accepted before the phase closes; empty in phase 1, where nobody is expected yet."""
        match self._stage:
            case Stage.SHARES:
                return frozenset(self._known_roster().names) - self._shares.keys()
            case Stage.UPLOADS:
                return frozenset(self._u2) - self._known_intake().receipts.keys()
            case Stage.MUSTER:
                return frozenset(self._known_claim().survivors) - self._presences.keys()
            case Stage.SOUNDINGS:
                return frozenset(self._presences) - self._soundings.keys()
            case Stage.SURVIVORS:
                return frozenset(self._soundings or self._known_claim().survivors) - self._assents.keys()
            case Stage.REVEALS:
                return frozenset(self._assents) - self._reveals.keys()
            case _:
                return frozenset()

    def largest_answer(self, member: str) -> int:
        """Bytes of the longest message that `member` can send in the present phase: what is longer is a lie, and can be
        refused before it is received."""
        match self._stage:
            case Stage.ADVERTISEMENTS:
                return MAX_ADVERTISEMENT_BYTES
            case Stage.SHARES:
                return largest_shares(self._known_roster().holders_each)
            case Stage.UPLOADS:
                return max(self._upload_header(member).upload_bytes, MAX_COMPLAINT_BYTES)
            case Stage.MUSTER:
                return MAX_PRESENCE_BYTES
            case Stage.SOUNDINGS:
                return MAX_SOUNDING_BYTES
            case Stage.SURVIVORS:
                return MAX_ASSENT_BYTES
            case Stage.REVEALS:
                return largest_reveal(sum(len(owners) for owners in self._owed(member)))
            case _:
                return 0

    def abort(self, reason: str) -> AbortedError:
        """Ends the session, drops the accumulator, and returns the error to raise."""
        error = AbortedError(f"the attempt was aborted in phase {self._stage.name}: {reason}")
        if self._intake is not None:
            self._intake.close()
        self._stage, self._intake = Stage.ABORTED, None
        self._shares.clear()
        self._reveals.clear()
        return error

    # Phase 1

    def accept_advertisement(self, sender: str, message: bytes) -> None:
        """A member's later advertisement replaces its earlier one: a restarted member rejoins, and fences the old."""
        self._require(Stage.ADVERTISEMENTS)
        advertisement = Advertisement.decode(message)
        self._require_sender(sender, advertisement.name)
        advertisement.verify(self._membership, self._ctx)
        earlier = self._advertisements.get(sender)
        others = len(self._advertisements) - (earlier is not None)
        if others >= self._context.quantiser.cohort_limit:
            raise FloorError(
                f"the cohort is full: the quantiser allows {self._context.quantiser.cohort_limit} members"
            )
        if any(self._used.get(value, sender) != sender for value in advertisement.own_values()):
            raise RosterError(f"{sender!r} advertised a key of another member", culprit=sender)
        for value in earlier.own_values() if earlier else ():
            self._used.pop(value, None)
        self._used.update(dict.fromkeys(advertisement.own_values(), sender))
        self._advertisements[sender] = advertisement

    def close_advertisements(self) -> bytes:
        """The roster, for every member in it."""
        with self._closing(Stage.ADVERTISEMENTS, Stage.SHARES):
            roster = Roster.of(self._membership, self._context, self._advertisements.values())
            require_roster(
                roster.entries, self._membership, self._context, signed=()
            )  # each was, when it came
            self._roster = roster
        return self._known_roster().encode()

    # Phase 2

    def accept_shares(self, sender: str, message: bytes) -> None:
        self._require(Stage.SHARES)
        roster, shares = self._known_roster(), Shares.decode(message)
        self._require_sender(sender, shares.statement.sender)
        self._require_attempt(sender, shares.roster_hash)
        if sender not in roster.positions:
            raise SurvivorError(f"{sender!r} is not in the roster", culprit=sender)
        if tuple(leaf.recipient for leaf in shares.leaves) != roster.holders(sender):
            raise ShareError(f"{sender!r} did not share with exactly its holders", culprit=sender)
        shares.statement.verify(self._membership, roster.hash)
        if sender in self._shares and self._shares[sender] != shares:
            raise ReplayError(f"{sender!r} sent a second, different set of shares", culprit=sender)
        self._shares[sender] = shares

    def close_shares(self) -> Mapping[str, bytes]:
        """A delivery for each member of U2."""
        with self._closing(Stage.SHARES, Stage.UPLOADS):
            roster = self._known_roster()
            self._u2 = tuple(sorted(self._shares))
            self._u2_hash = u2_digest(self._u2)
            if len(self._u2) < roster.numbers.quorum:
                raise SurvivorError(
                    f"{len(self._u2)} members are below the quorum of {roster.numbers.quorum}"
                )
            quantiser = self._context.quantiser
            self._intake = Intake(quantiser, self._staging, self._keeper)
            head = delivery_head(roster.hash, [self._shares[sender].statement for sender in self._u2])

        def delivery(recipient: str) -> bytes:
            parcels = []
            for sender in roster.neighbours(recipient):
                if shares := self._shares.get(sender):
                    index = roster.place(sender, recipient)
                    path = shares.tree().path(index)
                    parcels.append(Parcel(sender=sender, leaf=shares.leaves[index], path=path))
            return with_parcels(head, parcels)

        return PerMember(self._u2, delivery)

    # Phase 3

    def begin_upload(self, sender: str, *, threads: int = 1) -> UploadReceiver:
        """A receiver for the upload of `sender`, which is hashed by so many threads. Raises
        SurvivorError, OrderError (uploaded, or late) or BusyError."""
        self._require(Stage.UPLOADS)
        if sender not in self._u2:
            raise SurvivorError(f"{sender!r} is not in U2", culprit=sender)
        intake = self._known_intake()
        if sender in intake.receipts:
            raise OrderError(f"{sender!r} has already uploaded")
        return UploadReceiver(intake, self._membership, self._upload_header(sender), threads=threads)

    def _upload_header(self, sender: str) -> UploadHeader:
        return UploadHeader(
            roster_hash=self._known_roster().hash,
            sender=sender,
            u2_hash=self._u2_hash,
            elements=self._context.dimension,
            ring_bits=self._context.ring_bits,
        )

    def accept_upload(self, sender: str, frames: Iterable[Data], *, threads: int = 1) -> None:
        """A whole upload, in frames of any size, hashed by so many threads."""
        self.begin_upload(sender, threads=threads).receive(frames)

    def accept_complaint(self, sender: str, message: bytes) -> None:
        """A complaint in place of an upload. Raises CheatError when it is false; then its sender is the cheater.

        A true one is kept: see `cheaters`. Its sender takes no part in the rest of the attempt.
        """
        self._require(Stage.UPLOADS)
        complaint = Complaint.decode(message)
        self._require_sender(sender, complaint.complainer)
        if sender not in self._u2:
            raise SurvivorError(f"{sender!r} is not in U2", culprit=sender)
        if sender in self._known_intake().receipts:
            raise OrderError(f"{sender!r} complains after its upload")
        culprit = complaint.culprit(self._membership, self._known_roster())
        shown = complaint_proof(self._context.encode(), self._known_roster().encode(), message)
        if culprit == sender:
            raise CheatError(
                f"{sender!r} complains of {complaint.accused!r} without cause", culprit=sender, proof=shown
            )
        self._proofs.setdefault(culprit, shown)

    @property
    def cheaters(self) -> Mapping[str, bytes]:
        """Who is proven to have sent a bad parcel, and the proof that anybody can judge (`judge_complaint`). With
        one of them the attempt cannot end well: those it cheated have left, and its own secrets may not open."""
        return self._proofs

    def close_uploads(self) -> bytes:
        """The claim of U3, for every member in it. Uploads in progress are discarded."""
        with self._closing(Stage.UPLOADS, Stage.SURVIVORS):
            intake = self._known_intake()
            if self._proofs:
                named = ", ".join(repr(name) for name in sorted(self._proofs))
                raise ShareError(f"proven to have sent shares that do not open: {named}")
            intake.close()
            self._claim = self._claim_of(set(intake.receipts))
        return self._known_claim().encode()

    def _claim_of(self, u3: set[str]) -> Claim:
        """The claim that exactly `u3` survived, whose uploads are what the accumulator holds."""
        roster, intake = self._known_roster(), self._known_intake()
        require_survivors(roster, self._membership, self._context, u3)
        claim = Claim(
            roster_hash=roster.hash,
            receipts=tuple(intake.receipts[name] for name in sorted(u3)),
            dropped=tuple(name for name in self._u2 if name not in u3),
            total_hash=intake.total.digest(),
        )
        self._sets = self._u2_hash, claim.u3_hash(), claim.total_hash
        self._u3 = frozenset(u3)
        return claim

    # The muster, of a large cohort

    @property
    def must_muster(self) -> bool:
        """Whether the survivors are so many that more than may be silent could fall silent, and may be asked once
        more what they uploaded before they sign."""
        many = len(self._known_claim().survivors) > MUSTERED_ABOVE
        return many and not self._soundings and self._musters < MOST_MUSTERS

    def begin_muster(self) -> None:
        """The claim of phase 4 is sent to be answered by presences first."""
        self._require(Stage.SURVIVORS)
        self._musters += 1
        self._stage = Stage.MUSTER

    def accept_presence(self, sender: str, message: bytes) -> None:
        self._require(Stage.MUSTER)
        presence = MusterAnswer.decode(message)
        self._require_sender(sender, presence.sender)
        if sender not in self._u3:
            raise SurvivorError(f"{sender!r} is not in U3", culprit=sender)
        self._presences[sender] = presence.nonce

    def close_muster(self) -> bytes:
        """The draw, for every member that is present."""
        with self._closing(Stage.MUSTER, Stage.SOUNDINGS):
            self._draw = tuple(sorted(self._presences.items()))
            if not self._draw:
                raise SurvivorError("no survivor answered the muster")
        return Draw(roster_hash=self._known_roster().hash, nonces=self._draw).encode()

    def accept_sounding(self, sender: str, message: bytes) -> None:
        self._require(Stage.SOUNDINGS)
        sketch = sketch_of(message)
        self._require_sender(sender, sketch.sender)
        if sender not in self._presences:
            raise SurvivorError(f"{sender!r} did not answer the muster", culprit=sender)
        sketch.verify(self._membership, self._known_roster().hash, self._challenge())
        self._soundings[sender] = sketch

    def close_soundings(self) -> bytes:
        """The claim for phase 4: the same, or, where more than may be silent are, of those that spoke. Those must then
        be mustered anew, for the sum is another one: see `must_muster`."""
        with self._closing(Stage.SOUNDINGS, Stage.SURVIVORS):
            intake, claim = self._known_intake(), self._known_claim()
            silent = [name for name in claim.survivors if name not in self._soundings]
            if len(silent) > SILENT_LIMIT:
                for name in silent:
                    upload = np.frombuffer(self._keeper.get(name), self._context.quantiser.dtype)
                    intake.total.subtract(upload)
                self._claim = self._claim_of(set(self._soundings))
                self._forget_muster()
        return self._known_claim().encode()

    def _forget_muster(self) -> None:
        self._presences, self._draw, self._soundings, self._challenge_of = {}, (), {}, None

    # Phase 4

    def accept_survivors(self, sender: str, message: bytes) -> None:
        self._require(Stage.SURVIVORS)
        assent = Assent.decode(message)
        self._require_sender(sender, assent.sender)
        if sender not in self._u3:
            raise SurvivorError(f"{sender!r} is not in U3", culprit=sender)
        if self._draw and (sender not in self._soundings or self._presences[sender] != assent.nonce):
            raise SurvivorError(
                f"{sender!r} signs with another nonce than it was mustered with", culprit=sender
            )
        assent.verify(self._membership, self._known_roster().hash, *self._sets)
        self._assents[sender] = assent

    def close_survivors(self) -> Mapping[str, bytes]:
        """An opening for each member that signed."""
        with self._closing(Stage.SURVIVORS, Stage.REVEALS):
            if not self._draw:
                self._challenge_of = None
            quorum = self._known_roster().numbers.quorum
            if len(self._assents) < quorum:
                raise QuorumError(f"{len(self._assents)} signatures are below the quorum of {quorum}")
            self._require_signers(self._assents)

        # All of them, the same for everyone: every reader wants its own nonce in the challenge.
        head = opening_head(self._known_roster().hash, self._sorted_assents())

        def opening(member: str) -> bytes:
            return with_owners(head, *self._owed(member))

        return PerMember(sorted(self._assents), opening)

    def _sorted_assents(self) -> tuple[Assent, ...]:
        return tuple(assent for _, assent in sorted(self._assents.items()))

    def _require_signers(self, names: Iterable[str]) -> None:
        u3 = set(self._known_claim().survivors)
        require_signers(self._known_roster(), self._membership, self._context, u3, set(names))

    # Phase 5

    def accept_reveal(self, sender: str, message: bytes) -> None:
        """Raises CheatError when a revealed share is not the one that its owner committed to."""
        self._require(Stage.REVEALS)
        if sender not in self._assents:
            raise SurvivorError(f"{sender!r} did not sign the survivors", culprit=sender)
        reveal = Reveal.decode(message, self._membership.member(sender).public_key)
        self._require_sender(sender, reveal.sender)
        self._require_attempt(sender, reveal.roster_hash)
        if reveal.sketch.sender != sender:
            raise IdentityError(f"{sender!r} sent a sketch in the name of another", culprit=sender)
        reveal.sketch.verify(self._membership, reveal.roster_hash, self._challenge())
        if reveal.sketch != self._soundings.get(sender, reveal.sketch):
            raise ShareError(f"{sender!r} says another thing than it said at the muster", culprit=sender)
        lists = (reveal.self_shares, reveal.pair_shares)
        if tuple(tuple(owner for owner, _ in shares) for shares in lists) != self._owed(sender):
            raise ShareError(f"{sender!r} did not reveal exactly the shares it was asked for", culprit=sender)
        for which, shares in zip("bs", lists, strict=True):
            for owner, share in shares:
                if self._commitment(owner, sender, which) != share_commitment(
                    reveal.roster_hash, owner, sender, which, share
                ):
                    raise CheatError(
                        f"{sender!r} revealed a share of {owner!r} that is not the true one", culprit=sender
                    )
        self._reveals[sender] = reveal

    def open(
        self,
        *,
        threads: int = 1,
        admit: Callable[[Totals, Lengths], None] = lambda totals, lengths: None,
        expansion: AbstractContextManager[None] | None = None,
    ) -> AggregateSum:
        """Removes every mask and decodes the sum; `expansion` is entered while masks are expanded, to be measured.

        `admit` is asked whether honest members can have made this sum, and each survivor what it says: it raises
        NormError. Raises
        CheatError when a recovered seed is not the one its owner committed to, NormError, AbortedError when too few
        shares arrived; each ends the session, and the sum is not used.
        """
        with self._closing(Stage.REVEALS, Stage.OPENED):
            claim, intake = self._known_claim(), self._known_intake()
            roster, quantiser = self._known_roster(), self._context.quantiser
            seeds = opened_seeds(roster, claim, self._reveals)
            masks = masks_of_seeds(roster, claim, *seeds, self._context.ring_bits)
            said = self._soundings or {name: reveal.sketch for name, reveal in self._reveals.items()}
            sketches = tuple(sketch for _, sketch in sorted(said.items()))
            self._require_digests(sketches, intake.total, threads)
            vector, carries = intake.total.ring, intake.total.carries
            with expansion or nullcontext():
                apply(vector, masks, threads=threads)
            silent = tuple(name for name in claim.survivors if name not in said)
            lengths = lengths_of(self._membership, quantiser, sketches, silent, vector, self._challenge())
            totals = quantiser.decode(vector)
            if not 0 < totals.weight <= len(claim.survivors):
                raise NormError("the sum of weights is impossible for the number of survivors")
            admit(totals, lengths)
            self._sum = vector
            evidence = Evidence(
                roster_hash=roster.hash,
                self_seeds=tuple(sorted(seeds[0].items())),
                pair_seeds=tuple(sorted(seeds[1].items())),
                sketches=sketches,
                draw=self._draw,
            )
        self._intake = None
        self._reveals.clear()
        return AggregateSum(
            vector=vector,
            totals=totals,
            survivors=claim.survivors,
            dropped=claim.dropped,
            evidence=evidence.encode(),
            carries=carries,
            lengths=lengths,
        )

    def upload_of(self, name: str) -> bytes | memoryview:
        """The masked upload of a survivor, as it was received."""
        return self._keeper.get(name)

    def _require_digests(self, sketches: Sequence[Sketch], total: Total, threads: int) -> None:
        """Every sketch is of the upload that came: its digest is computed here only if the sum of all is wrong.

        Raises CheatError naming who signed a digest of something else.
        """
        seed, dtype = self._challenge(), self._context.quantiser.dtype
        spoken = {sketch.sender for sketch in sketches}

        def digested(name: str) -> Digest:
            return upload_digest([np.frombuffer(self._keeper.get(name), dtype)], seed)

        digests = [sketch.rows for sketch in sketches]
        digests += [digested(name) for name in self._known_claim().survivors if name not in spoken]
        if tuple(map(sum, zip(*digests, strict=True))) == total.rows(seed, threads=threads):
            return
        for sketch in sketches:
            if sketch.rows != digested(sketch.sender):
                raise CheatError(
                    f"{sketch.sender!r} signed a digest of another upload than it sent",
                    culprit=sketch.sender,
                )
        raise AssertionError("true digests add up")

    def _challenge(self) -> bytes:
        """Of the muster, or of the assents once they are closed; made once, for it names every member."""
        if self._challenge_of is None:
            nonces = self._draw or tuple((each.sender, each.nonce) for each in self._sorted_assents())
            self._challenge_of = challenge_of(self._known_roster(), self._known_claim(), nonces)
        return self._challenge_of

    def record(self, previous: bytes, new_model_hash: bytes) -> bytes:
        """The opened sum's record for the transcript, chained to the head `previous` (GENESIS for the first)."""
        self._require(Stage.OPENED)
        assert self._sum is not None
        return Record(
            previous=previous,
            context=self._context.encode(),
            roster=self._known_roster().encode(),
            statements=tuple(self._shares[name].statement for name in self._u2),
            claim=self._known_claim().encode(),
            assents=self._sorted_assents(),
            sum_hash=sum_digest(self._sum),
            new_model_hash=new_model_hash,
        ).encode()

    def _owed(self, member: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of whom `member` holds shares that must be revealed: survivors (b), dropped members (s)."""
        roster, claim = self._known_roster(), self._known_claim()
        owners = set(roster.neighbours(member)) | ({member} if roster.graph.complete else set())
        alive = tuple(name for name in claim.survivors if name in owners)
        return alive, tuple(name for name in claim.dropped if name in owners)

    def _commitment(self, owner: str, holder: str, which: str) -> bytes:
        leaf = self._shares[owner].leaves[self._known_roster().place(owner, holder)]
        return leaf.self_commitment if which == "b" else leaf.pair_commitment

    def _require(self, stage: Stage) -> None:
        if self._stage is Stage.ABORTED:
            raise AbortedError("the attempt was aborted")
        if self._stage is not stage:
            raise OrderError(f"the session is in phase {self._stage.name}, not {stage.name}")

    @staticmethod
    def _require_sender(sender: str, name: str) -> None:
        if sender != name:
            raise IdentityError(f"{sender!r} sent a message in the name of {name!r}", culprit=sender)

    def _require_attempt(self, sender: str, roster_hash: bytes) -> None:
        if roster_hash != self._known_roster().hash:
            raise ReplayError(f"a message of {sender!r} belongs to another attempt or roster", culprit=sender)

    @contextmanager
    def _closing(self, before: Stage, after: Stage) -> Iterator[None]:
        """Moves from `before` to `after`, or aborts the session with what went wrong."""
        self._require(before)
        try:
            yield
        except (CheatError, NormError) as error:
            self.abort(error.message)
            raise
        except SecaggError as error:
            raise self.abort(error.message) from error
        self._stage = after

    def _known_roster(self) -> Roster:
        assert self._roster is not None
        return self._roster

    def _known_intake(self) -> Intake:
        assert self._intake is not None
        return self._intake

    def _known_claim(self) -> Claim:
        assert self._claim is not None
        return self._claim
