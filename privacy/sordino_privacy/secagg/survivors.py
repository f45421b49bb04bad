"""Phases 4 and 5: the set of survivors, its quorum of signatures, the shares that open its sum.

`Claim` names U3 by every survivor's own upload receipt, and the dropped members of U2. A member that agrees signs one
`Assent`. `Opening` returns a quorum of assents and asks each member for its shares; `Reveal` carries them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from sordino_privacy.secagg import keys
from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.encoding import (
    HASH_BYTES,
    HEAD_BYTES,
    KEY_BYTES,
    NAME_BYTES,
    SIGNATURE_BYTES,
    MessageReader,
    Writer,
    digest,
    require_increasing,
)
from sordino_privacy.secagg.membership import Membership, require_organisations
from sordino_privacy.secagg.refusals import IdentityError, MalformedError, SurvivorError
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shamir import PRIME
from sordino_privacy.secagg.sketch import MAX_SKETCH_BYTES, Sketch
from sordino_privacy.secagg.upload import UploadReceipt
from sordino_privacy.signing import Signer

CLAIM_KIND = 8
ASSENT_KIND = 9
OPENING_KIND = 10
REVEAL_KIND = 11
ASSENT_LAYOUT = struct.Struct(f"{HASH_BYTES}s{SIGNATURE_BYTES}s")  # after the sender's name
MAX_ASSENT_BYTES = HEAD_BYTES + NAME_BYTES + HASH_BYTES + SIGNATURE_BYTES


def largest_reveal(owners: int) -> int:
    """Bytes of the longest reveal of shares of so many owners."""
    lists = 2 * 2 + owners * (NAME_BYTES + KEY_BYTES)
    return HEAD_BYTES + HASH_BYTES + NAME_BYTES + lists + MAX_SKETCH_BYTES + SIGNATURE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """U3 as receipts (sorted by sender), U2 minus U3 as names (sorted), and H(Y): the coordinator's word, before any
    nonce is drawn, for what the masked uploads of U3 add up to."""

    roster_hash: bytes
    receipts: tuple[UploadReceipt, ...]
    dropped: tuple[str, ...]
    total_hash: bytes
    _u3_hash: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def survivors(self) -> tuple[str, ...]:
        return tuple(receipt.sender for receipt in self.receipts)

    def u3_hash(self) -> bytes:
        """H(U3): the survivors and exactly what each uploaded. Made once: it is asked for in every phase."""
        if not self._u3_hash:
            parts = (part for r in self.receipts for part in (r.sender.encode(), r.vector_hash))
            self._u3_hash.append(digest("U3", *parts))
        return self._u3_hash[0]

    def encode(self) -> bytes:
        writer = Writer(CLAIM_KIND).raw(self.roster_hash).u16(len(self.receipts))
        for receipt in self.receipts:
            receipt.write(writer)
        writer.u16(len(self.dropped))
        for name in self.dropped:
            writer.name(name)
        return writer.raw(self.total_hash).done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, CLAIM_KIND)
        roster_hash = reader.raw(HASH_BYTES)
        receipts = tuple(UploadReceipt.read(reader) for _ in range(reader.count()))
        dropped, total_hash = reader.names(), reader.raw(HASH_BYTES)
        reader.end()
        require_increasing(tuple(receipt.sender for receipt in receipts))
        return cls(roster_hash=roster_hash, receipts=receipts, dropped=dropped, total_hash=total_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assent:
    """One survivor's signature: "I saw U2, U3 and H(Y), and this is the only U3 I will help to open", and its share of
    the challenge under which all will say what they uploaded."""

    sender: str
    nonce: bytes
    signature: bytes

    @classmethod
    def signed(
        cls,
        signer: Signer,
        roster_hash: bytes,
        sender: str,
        u2_hash: bytes,
        u3_hash: bytes,
        total_hash: bytes,
        nonce: bytes,
    ) -> Self:
        fields = (roster_hash, sender.encode(), u2_hash, u3_hash, total_hash, nonce)
        return cls(sender=sender, nonce=nonce, signature=keys.sign(signer, "survivors", *fields))

    def verify(
        self, membership: Membership, roster_hash: bytes, u2_hash: bytes, u3_hash: bytes, total_hash: bytes
    ) -> None:
        """Raises IdentityError unless it is over these sets and this sum."""
        public = membership.member(self.sender).public_key
        said = (u2_hash, u3_hash, total_hash, self.nonce)
        if not keys.signed(public, self.signature, "survivors", roster_hash, self.sender.encode(), *said):
            raise IdentityError(
                f"the assent of {self.sender!r} is not signed by its key", culprit=self.sender
            )

    def write(self, writer: Writer) -> None:
        writer.name(self.sender).raw(self.nonce).raw(self.signature)

    @classmethod
    def read(cls, reader: MessageReader) -> Self:
        sender, (nonce, signature) = reader.named(ASSENT_LAYOUT)
        return cls(sender=sender, nonce=nonce, signature=signature)

    def encode(self) -> bytes:
        writer = Writer(ASSENT_KIND)
        self.write(writer)
        return writer.done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, ASSENT_KIND)
        assent = cls.read(reader)
        reader.end()
        return assent


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The request of phase 5: every assent, of a quorum at least, the same list for all, for its nonces make the
    challenge; and whose shares the reader should reveal: of `alive` members the
    b share, of `dropped` ones the s share. The reader computes both lists itself and refuses any others."""

    roster_hash: bytes
    assents: tuple[Assent, ...]
    alive: tuple[str, ...]
    dropped: tuple[str, ...]

    def encode(self) -> bytes:
        return with_owners(opening_head(self.roster_hash, self.assents), self.alive, self.dropped)

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, OPENING_KIND)
        roster_hash = reader.raw(HASH_BYTES)
        assents = tuple(Assent.read(reader) for _ in range(reader.count()))
        alive, dropped = reader.names(), reader.names()
        reader.end()
        require_increasing(tuple(assent.sender for assent in assents))
        return cls(roster_hash=roster_hash, assents=assents, alive=alive, dropped=dropped)


def opening_head(roster_hash: bytes, assents: Sequence[Assent]) -> bytes:
    """The first part of an opening, which is the same in everybody's."""
    writer = Writer(OPENING_KIND).raw(roster_hash).u16(len(assents))
    for assent in assents:
        assent.write(writer)
    return writer.done()


def with_owners(head: bytes, alive: Sequence[str], dropped: Sequence[str]) -> bytes:
    """The opening of this head and whose shares its reader is asked for."""
    writer = Writer.after(head)
    for names in (alive, dropped):
        writer.u16(len(names))
        for name in names:
            writer.name(name)
    return writer.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal:
    """One survivor's shares by owner, signed: b shares of survivors, s shares of dropped members; and its sketch."""

    roster_hash: bytes
    sender: str
    self_shares: tuple[tuple[str, int], ...]
    pair_shares: tuple[tuple[str, int], ...]
    sketch: Sketch
    signature: bytes = b""

    def __repr__(self) -> str:
        return f"Reveal(sender={self.sender!r}, <shares withheld>)"

    def _body(self, writer: Writer) -> Writer:
        writer.raw(self.roster_hash).name(self.sender)
        for shares in (self.self_shares, self.pair_shares):
            writer.u16(len(shares))
            for owner, share in shares:
                writer.name(owner).integer(share, KEY_BYTES)
        self.sketch.write(writer)
        return writer

    def encode_signed(self, signer: Signer) -> bytes:
        body = self._body(Writer(REVEAL_KIND)).done()
        return body + keys.sign(signer, "reveal", body)

    @classmethod
    def decode(cls, message: bytes, public: bytes) -> Self:
        """Parses and checks the sender's signature. Raises MalformedError, IdentityError."""
        reader = MessageReader(message, REVEAL_KIND)
        roster_hash, sender = reader.raw(HASH_BYTES), reader.name()
        lists = []
        for _ in range(2):
            shares = tuple((reader.name(), reader.integer(KEY_BYTES)) for _ in range(reader.count()))
            require_increasing(tuple(owner for owner, _ in shares))
            if any(share >= PRIME for _, share in shares):
                raise MalformedError("a share is not a field element", culprit=sender)
            lists.append(shares)
        sketch, signature = Sketch.read(reader), reader.raw(SIGNATURE_BYTES)
        reader.end()
        if not keys.signed(public, signature, "reveal", message[:-SIGNATURE_BYTES]):
            raise IdentityError(f"the reveal of {sender!r} is not signed by its key", culprit=sender)
        return cls(
            roster_hash=roster_hash,
            sender=sender,
            self_shares=lists[0],
            pair_shares=lists[1],
            sketch=sketch,
            signature=signature,
        )


def require_survivors(roster: Roster, membership: Membership, context: RoundContext, u3: set[str]) -> None:
    """The floors of a sum's members. Raises SurvivorError, or FloorError for those of organisations."""
    _require_floors(roster, membership, context, u3, u3, "uploaded")


def require_signers(
    roster: Roster, membership: Membership, context: RoundContext, u3: set[str], signers: set[str]
) -> int:
    """The floors of those who signed one survivor set, which are those of the set itself: whoever signed joins no
    later attempt, so these are the members that no difference of two sums can tell apart. Raises as
    `require_survivors` does. Returns how many of the signers could be missing, whoever they are, with every floor still
    met: so many of their signatures may be false."""
    return _require_floors(roster, membership, context, u3, signers, "signed")


def _require_floors(
    roster: Roster, membership: Membership, context: RoundContext, u3: set[str], counted: set[str], what: str
) -> int:
    """`counted` members of `u3` against the quorum and the honest organisations; in a circulant graph around each
    survivor as well. Returns how many of them could be missing.

    There the coordinator could name as dropped exactly those who connect some members with the rest, and so open the
    sum of a part. At most threshold - 1 neighbours of a survivor are corrupt: without any of those, its neighbourhood
    still holds the honest floor and the floor of organisations, and is one part.
    """
    numbers, organisations = roster.numbers, context.organisations
    if len(counted) < numbers.quorum:
        raise SurvivorError(
            f"{len(counted)} of {len(u3)} survivors {what}, below the floor of {numbers.quorum}"
        )
    sizes = membership.sizes(counted)
    require_organisations(sizes, organisations=organisations, corrupt=numbers.corrupt)
    # Fewer organisations than the floor hold no more than these: so many more than the colluders must be left.
    largest = sum(size for _, size in sizes.most_common(organisations - 1))
    spare = min(len(counted) - numbers.quorum, len(counted) - largest - numbers.corrupt - 1)
    if numbers.complete:
        return spare
    return min(spare, _require_neighbourhoods(roster, membership, organisations, u3, counted, largest, what))


def _require_neighbourhoods(
    roster: Roster,
    membership: Membership,
    organisations: int,
    u3: set[str],
    counted: set[str],
    largest: int,
    what: str,
) -> int:
    """The floors around each survivor, and how many of `counted` could be missing. Counted by place in the roster: by
    name it would take a large round seconds."""
    numbers, everyone = roster.numbers, sorted(u3)
    corrupt = min(numbers.threshold - 1, numbers.corrupt)
    present = np.zeros(numbers.members, dtype=bool)
    present[[roster.positions[name] for name in counted]] = True
    near = roster.graph.near(present)[[roster.positions[name] for name in everyone]]
    if (fewest := int(near.min())) < numbers.neighbours:
        name = everyone[int(near.argmin())]
        raise SurvivorError(f"fewer than {numbers.neighbours} neighbours of {name!r} {what}")
    # Even if the largest organisations sat around one survivor, would the colluders not fill the others?
    if (spare := fewest - largest - corrupt - 1) >= 0:
        return min(spare, fewest - numbers.neighbours)
    for name in everyone:
        around = counted.intersection(roster.neighbours(name))
        require_organisations(membership.sizes(around), organisations=organisations, corrupt=corrupt)
    return 0
