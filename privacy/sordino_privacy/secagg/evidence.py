"""Evidence for each member that the published sum is the opened one, and that bounds each survivor's part of it.

    evidence   the seeds that opened the sum, and every sketch that a survivor signed; sent with the sum
    Opened     what a member keeps of an attempt in which it revealed: three public messages

A member adds the opened masks back to the published sum, which gives the sum of the masked uploads. It checks two
things. The hash of that sum is the one that the coordinator put into the claim before anybody drew a nonce. And the
digest of that sum is the sum of the digests that the survivors signed. For a survivor without a signed digest, its
masked upload is used instead, and checked against the hash that it signed.

The challenge is made of the nonces of the assents. After a muster it is made of the nonces of the muster (`draw`)
instead, which must include those of all assents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.encoding import (
    HASH_BYTES,
    HEAD_BYTES,
    KEY_BYTES,
    MAX_MESSAGE_BYTES,
    MessageReader,
    Writer,
    require_increasing,
)
from sordino_privacy.secagg.masks import RingVector, apply
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.muster import Nonces, read_nonces, write_nonces
from sordino_privacy.secagg.quantise import Quantiser
from sordino_privacy.secagg.reconstruction import masks_of_seeds, touched_by
from sordino_privacy.secagg.refusals import EvidenceError, MalformedError, SecaggError
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.sketch import (
    Projections,
    Sketch,
    challenge,
    length_sketch,
    upload_digest,
)
from sordino_privacy.secagg.survivors import Claim, Opening
from sordino_privacy.secagg.total import Carries, Total
from sordino_privacy.secagg.upload import SLICE_BYTES, slice_digest, vector_digest

EVIDENCE_KIND = 16
MUSTERED_KIND = 20
OPENED_KIND = 34
Seeds = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`self_seeds` of survivors, `pair_seeds` of dropped members with surviving neighbours, `sketches` by sender;
    `draw` the nonces of the muster in which the sketches were given, empty where there was none."""

    roster_hash: bytes
    self_seeds: Seeds
    pair_seeds: Seeds
    sketches: tuple[Sketch, ...]
    draw: Nonces = ()

    def __repr__(self) -> str:
        return f"Evidence(sketches={len(self.sketches)}, <seeds withheld>)"

    def encode(self) -> bytes:
        """The message, as docs/protocol.md specifies it. After a muster it has another kind."""
        writer = Writer(MUSTERED_KIND if self.draw else EVIDENCE_KIND).raw(self.roster_hash)
        if self.draw:
            write_nonces(writer, self.draw)
        for seeds in (self.self_seeds, self.pair_seeds):
            writer.u16(len(seeds))
            for owner, seed in seeds:
                writer.name(owner).raw(seed)
        writer.u16(len(self.sketches))
        for sketch in self.sketches:
            sketch.write(writer)
        return writer.done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        mustered = message[HEAD_BYTES - 1 : HEAD_BYTES] == bytes([MUSTERED_KIND])
        reader = MessageReader(message, MUSTERED_KIND if mustered else EVIDENCE_KIND)
        roster_hash, draw, lists = reader.raw(HASH_BYTES), read_nonces(reader) if mustered else (), []
        if mustered and not draw:
            raise MalformedError("the evidence of a muster has no nonces")
        for _ in range(2):
            seeds = tuple((reader.name(), reader.raw(KEY_BYTES)) for _ in range(reader.count()))
            require_increasing(tuple(owner for owner, _ in seeds))
            lists.append(seeds)
        sketches = tuple(Sketch.read(reader) for _ in range(reader.count()))
        reader.end()
        require_increasing(tuple(sketch.sender for sketch in sketches))
        return cls(
            roster_hash=roster_hash, self_seeds=lists[0], pair_seeds=lists[1], sketches=sketches, draw=draw
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """What the sketches say about the survivors' updates: the projections of each survivor that answered, and of the
    sum.

    `rest` is the projection of the sum minus those of the survivors that answered: the silent ones' together, plus any
    false answer.
    """

    given: Mapping[str, Projections]
    whole: Projections
    silent: tuple[str, ...]

    @property
    def rest(self) -> Projections:
        return np.asarray(self.whole - sum(self.given.values(), np.zeros_like(self.whole)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An attempt in which this member revealed: the roster, claim and opening as it accepted them. Nothing secret."""

    roster: bytes
    claim: bytes
    opening: bytes

    def encode(self) -> bytes:
        return Writer(OPENED_KIND).blob(self.roster).blob(self.claim).blob(self.opening).done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, OPENED_KIND, limit=4 * MAX_MESSAGE_BYTES)
        opened = cls(
            roster=reader.blob(limit=MAX_MESSAGE_BYTES),
            claim=reader.blob(limit=MAX_MESSAGE_BYTES),
            opening=reader.blob(limit=MAX_MESSAGE_BYTES),
        )
        reader.end()
        return opened

    def same_as(self, other: Opened) -> bool:
        """Whether both are of the same attempt, set of survivors and assents. Openings may differ in what each member
        was asked to reveal.
        """
        assents = [Opening.decode(opened.opening).assents for opened in (self, other)]
        return (self.roster, self.claim) == (other.roster, other.claim) and assents[0] == assents[1]

    @property
    def survivors(self) -> tuple[str, ...]:
        """The only set whose sum this member helped to open."""
        return Claim.decode(self.claim).survivors

    def require_sum(
        self,
        membership: Membership,
        context: RoundContext,
        evidence: bytes,
        vector: RingVector,
        carries: Carries,
        uploads: Mapping[str, bytes | memoryview],
        *,
        threads: int = 1,
    ) -> Lengths:
        """Raises EvidenceError unless `vector` is the sum of what the survivors uploaded, and MalformedError.

        `carries` is how often each element of the sum of masked uploads wrapped around the ring; `uploads` are the
        masked uploads of survivors without a sketch. The lengths are empty if the charter asks for none.
        """
        try:
            return _required(self, membership, context, evidence, vector, carries, uploads, threads)
        except EvidenceError:
            raise
        except SecaggError as error:
            raise EvidenceError(error.message, culprit=error.culprit) from error


def _required(
    opened: Opened,
    membership: Membership,
    context: RoundContext,
    message: bytes,
    vector: RingVector,
    carries: Carries,
    uploads: Mapping[str, bytes | memoryview],
    threads: int,
) -> Lengths:
    roster = Roster.accepted(opened.roster, membership, context)
    claim, opening, evidence = (
        Claim.decode(opened.claim),
        Opening.decode(opened.opening),
        Evidence.decode(message),
    )
    if evidence.roster_hash != roster.hash:
        raise EvidenceError("the evidence is of another attempt")
    if vector.shape != (context.dimension,) or carries.shape != (context.dimension,):
        raise EvidenceError("the published sum has another length than the round's")
    ring = remasked(roster, claim, evidence, vector, context, threads=threads)
    total = Total(ring=ring, carries=carries)
    if total.digest() != claim.total_hash:
        raise EvidenceError("the published sum is not the one that the coordinator committed to")
    seed = challenge_of(roster, claim, drawn(opening, evidence.draw))
    for sketch in evidence.sketches:
        sketch.verify(membership, roster.hash, seed)
    spoken = {sketch.sender for sketch in evidence.sketches}
    silent = tuple(name for name in claim.survivors if name not in spoken)
    if not spoken <= set(claim.survivors) or set(uploads) != set(silent):
        raise EvidenceError("the evidence is not one sketch or one upload of each survivor")
    digests = [sketch.rows for sketch in evidence.sketches]
    for receipt in claim.receipts:
        if receipt.sender in uploads:
            data = memoryview(uploads[receipt.sender])
            if vector_digest(slice_digest(piece) for piece in slices(data)) != receipt.vector_hash:
                raise EvidenceError(f"the upload given for {receipt.sender!r} is not the one that it signed")
            digests.append(upload_digest([np.frombuffer(data, context.quantiser.dtype)], seed))
    if tuple(map(sum, zip(*digests, strict=True))) != total.rows(seed, threads=threads):
        raise EvidenceError("the published sum is not the sum of what was uploaded")
    return lengths_of(membership, context.quantiser, evidence.sketches, silent, vector, seed)


def lengths_of(
    membership: Membership,
    quantiser: Quantiser,
    sketches: Sequence[Sketch],
    silent: tuple[str, ...],
    vector: RingVector,
    seed: bytes,
) -> Lengths:
    """The lengths in these sketches, and that of the opened sum. Empty if the charter asks for none."""
    if not membership.checks_lengths:
        return Lengths(given={}, whole=np.zeros(0), silent=silent)
    given = {sketch.sender: np.array(sketch.length) for sketch in sketches}
    return Lengths(given=given, whole=length_sketch(vector, quantiser, seed), silent=silent)


def drawn(opening: Opening, draw: Nonces) -> Nonces:
    """The nonces that make the challenge: those of a muster, if there was one, else those of the assents. Raises
    EvidenceError when the muster lacks the nonce of an assent: every signer must find its own nonce there."""
    signed = tuple((assent.sender, assent.nonce) for assent in opening.assents)
    if not set(signed) <= set(draw or signed):
        raise EvidenceError("the challenge of the muster leaves out the nonce of a member that signed")
    return draw or signed


def challenge_of(roster: Roster, claim: Claim, nonces: Nonces) -> bytes:
    """The challenge made from these nonces and a claim."""
    return challenge(roster.hash, claim.u3_hash(), claim.total_hash, nonces)


def remasked(
    roster: Roster,
    claim: Claim,
    evidence: Evidence,
    vector: RingVector,
    context: RoundContext,
    *,
    threads: int,
) -> RingVector:
    """The sum of the masked uploads, in the ring, that belongs to this published sum: its masks are added back."""
    seeds = dict(evidence.self_seeds), dict(evidence.pair_seeds)
    owed = tuple(owner for owner in claim.dropped if touched_by(roster, claim, owner))
    if tuple(seeds[0]) != claim.survivors or tuple(seeds[1]) != owed:
        raise EvidenceError("the evidence does not hold exactly the seeds that open this sum")
    ring = vector.copy()
    removed = masks_of_seeds(roster, claim, *seeds, context.ring_bits)
    apply(ring, [mask.inverse() for mask in removed], threads=threads)
    return ring


def slices(data: memoryview) -> Iterator[memoryview]:
    """An upload's bytes in the slices in which it is hashed."""
    return (data[start : start + SLICE_BYTES] for start in range(0, len(data), SLICE_BYTES))
