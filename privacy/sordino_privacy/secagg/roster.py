"""Phases 1 and 2: a member's advertisement, and the roster of all of them that fixes the attempt.

An `Advertisement` is a member's fresh keys and the commitment to its self-mask seed, signed with its charter identity
under ctx. A `Roster` is every advertisement with its signature, sorted by name; its hash R salts all keys after it.
`Roster.decode` checks it before any of it is used.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

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
)
from sordino_privacy.secagg.graph import COMPLETE_LIMIT, Graph, Thresholds, thresholds
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.refusals import (
    ContextError,
    FloorError,
    IdentityError,
    MalformedError,
    RosterError,
    ThresholdError,
)
from sordino_privacy.signing import Signer

ADVERTISEMENT_KIND = 2
ROSTER_KIND = 3
LAYOUT = struct.Struct(f"{KEY_BYTES}s{KEY_BYTES}s{HASH_BYTES}s{HASH_BYTES}s{SIGNATURE_BYTES}s")
"""Bytes of an advertisement after its name."""
MAX_ADVERTISEMENT_BYTES = HEAD_BYTES + NAME_BYTES + 3 * HASH_BYTES + 2 * KEY_BYTES + SIGNATURE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """`exchange` is e_pk (for sealing), `masking` s_pk (for pairwise masks), both X25519; `commitment` is H(b_seed)."""

    ctx: bytes
    name: str
    exchange: bytes
    masking: bytes
    commitment: bytes
    nonce: bytes
    signature: bytes = b""

    def fields(self) -> tuple[bytes, ...]:
        """The fields that are signed and hashed into R."""
        return self.ctx, self.name.encode(), self.exchange, self.masking, self.commitment, self.nonce

    def own_values(self) -> tuple[bytes, bytes, bytes]:
        """The values that no other member may advertise: both keys and the commitment."""
        return self.exchange, self.masking, self.commitment

    def signed(self, signer: Signer) -> Self:
        """This advertisement with its signature."""
        return replace(self, signature=keys.sign(signer, "advertise", *self.fields()))

    def write(self, writer: Writer) -> None:
        writer.raw(self.ctx).name(self.name).raw(self.exchange).raw(self.masking)
        writer.raw(self.commitment).raw(self.nonce).raw(self.signature)

    @classmethod
    def read(cls, reader: MessageReader) -> Self:
        ctx = reader.raw(HASH_BYTES)
        name, (exchange, masking, commitment, nonce, signature) = reader.named(LAYOUT)
        return cls(
            ctx=ctx,
            name=name,
            exchange=exchange,
            masking=masking,
            commitment=commitment,
            nonce=nonce,
            signature=signature,
        )

    def encode(self) -> bytes:
        writer = Writer(ADVERTISEMENT_KIND)
        self.write(writer)
        return writer.done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, ADVERTISEMENT_KIND)
        advertisement = cls.read(reader)
        reader.end()
        return advertisement

    def verify(self, membership: Membership, ctx: bytes) -> None:
        """Raises IdentityError, ContextError or RosterError."""
        member = membership.member(self.name)
        if not keys.signed(member.public_key, self.signature, "advertise", *self.fields()):
            raise IdentityError(
                f"the advertisement of {self.name!r} is not signed by its key", culprit=self.name
            )
        self.require_sound(ctx)

    def require_sound(self, ctx: bytes) -> None:
        """All checks that need no signature. Raises ContextError, RosterError."""
        if self.ctx != ctx:
            raise ContextError(f"{self.name!r} advertised for another context", culprit=self.name)
        if not (keys.sound_public_key(self.exchange) and keys.sound_public_key(self.masking)):
            raise RosterError(f"{self.name!r} advertised an unsound public key", culprit=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """U1, sorted by name. `numbers` and `graph` are computed from the charter, the context and the entries, never taken
    from the sender. How many may collude follows from the charter alone.
    """

    ctx: bytes
    entries: tuple[Advertisement, ...]
    names: tuple[str, ...]
    numbers: Thresholds
    hash: bytes
    graph: Graph
    positions: Mapping[str, int]

    @classmethod
    def of(cls, membership: Membership, context: RoundContext, entries: Iterable[Advertisement]) -> Self:
        """The roster of verified advertisements, with everything that follows from it. Raises FloorError when
        it is too small for the colluders that the charter allows for."""
        ordered = tuple(sorted(entries, key=lambda entry: entry.name))
        numbers = thresholds(
            len(ordered),
            corrupt=membership.corrupt(context.gamma_permille),
            honest=membership.floors.honest,
            dropouts=Fraction(membership.floors.dropout_permille, 1000),
        )
        ctx = context.digest()
        hashed = (field for entry in ordered for field in (*entry.fields(), entry.signature))
        roster_hash = digest("roster", ctx, *hashed)
        return cls(
            ctx=ctx,
            entries=ordered,
            names=tuple(entry.name for entry in ordered),
            numbers=numbers,
            hash=roster_hash,
            graph=Graph.of(numbers, roster_hash),
            positions={entry.name: position for position, entry in enumerate(ordered)},
        )

    def entry(self, name: str) -> Advertisement:
        return self.entries[self.positions[name]]

    def neighbours(self, name: str) -> tuple[str, ...]:
        """The members that this member shares a pairwise mask with, sorted."""
        return tuple(self.names[other] for other in self.graph.neighbours(self.positions[name]))

    def holders(self, name: str) -> tuple[str, ...]:
        """The holders of shares of the member's secrets, sorted; in a complete graph they include the member itself."""
        return self.names if self.graph.complete else self.neighbours(name)

    @property
    def holders_each(self) -> int:
        """How many hold shares of any one member's secrets."""
        return self.numbers.members if self.graph.complete else self.numbers.degree

    def holds(self, holder: str, owner: str) -> bool:
        """Whether `holder` is among the owner's holders."""
        return self.graph.complete or self.graph.adjacent(self.positions[holder], self.positions[owner])

    def place(self, owner: str, holder: str) -> int:
        """The index of `holder` among the owner's sorted holders. It must be one of them."""
        position = self.positions[holder]
        if self.graph.complete:
            return position
        return bisect_left(self.graph.neighbours(self.positions[owner]), position)

    def vouched(self, reader: str) -> frozenset[str]:
        """The members whose signatures, other than assents, `reader` checks itself.

        In a complete graph all members; in a circulant one itself and its neighbours. The other members' signatures are
        checked by their own neighbours. Every member of a sum has honest neighbours among the signers of the survivor
        set, and every member checks all assents, or a large enough sample of them, before it reveals (docs/protocol.md,
        section 10).
        """
        return frozenset((reader, *self.neighbours(reader)))

    def encode(self) -> bytes:
        """The claimed q, t and k go first: a receiver compares them with its own and never uses them."""
        numbers = self.numbers
        writer = Writer(ROSTER_KIND).u16(numbers.quorum).u16(numbers.threshold).u16(numbers.degree)
        writer.u16(len(self.entries))
        for entry in self.entries:
            entry.write(writer)
        return writer.done()

    @classmethod
    def decode(
        cls, message: bytes, membership: Membership, context: RoundContext, *, reader: str | None = None
    ) -> Self:
        """Parses and checks: every ctx, no duplicate identity or key, the floors, the thresholds; and the signatures
        against the charter, all of them, or those that `reader` checks itself (`vouched`).

        Raises MalformedError, IdentityError, ContextError, RosterError, FloorError, ThresholdError.
        """
        claimed, entries = _read(message)
        if reader is None or len(entries) <= COMPLETE_LIMIT:
            require_roster(entries, membership, context, signed=entries)
            roster = cls.of(membership, context, entries)
        else:
            require_roster(entries, membership, context, signed=())
            roster = cls.of(membership, context, entries)
            if reader not in roster.positions:
                raise RosterError("this member is missing from the roster")
            vouched = roster.vouched(reader)
            for entry in entries:
                if entry.name in vouched:
                    entry.verify(membership, roster.ctx)
        own = roster.numbers.quorum, roster.numbers.threshold, roster.numbers.degree
        for what, theirs, ours in zip(("quorum", "share threshold", "degree"), claimed, own, strict=True):
            if theirs != ours:
                raise ThresholdError(f"the coordinator's {what} is {theirs}; this member computes {ours}")
        return roster

    @classmethod
    def accepted(cls, message: bytes, membership: Membership, context: RoundContext) -> Self:
        """A roster that this party accepted before, from its own memory or disk. Raises MalformedError, FloorError."""
        return cls.of(membership, context, _read(message)[1])


def _read(message: bytes) -> tuple[tuple[int, int, int], tuple[Advertisement, ...]]:
    """The claimed numbers and the entries, in the order received."""
    reader = MessageReader(message, ROSTER_KIND)
    claimed = reader.u16(), reader.u16(), reader.u16()
    entries = tuple(Advertisement.read(reader) for _ in range(reader.count()))
    reader.end()
    return claimed, entries


def require_roster(
    entries: tuple[Advertisement, ...],
    membership: Membership,
    context: RoundContext,
    *,
    signed: Iterable[Advertisement],
) -> None:
    """The rules of a roster. `entries` in the order received. The signatures of those in `signed` are checked too."""
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise RosterError("one member appears twice in the roster")
    if names != sorted(names):
        raise MalformedError("the roster is not sorted by name")
    ctx = context.digest()
    for entry in signed:
        entry.verify(membership, ctx)
    for entry in entries:
        entry.require_sound(ctx)
    # If one key had two roles or two owners, one secret would count as two.
    advertised = [key for entry in entries for key in (entry.exchange, entry.masking)]
    if len(set(advertised)) != len(advertised):
        raise RosterError("one public key appears twice in the roster")
    commitments = {entry.commitment for entry in entries}
    if len(commitments) != len(entries):
        raise RosterError("one commitment appears twice in the roster")
    membership.require_cohort(
        names,
        cohort=context.cohort,
        organisations=context.organisations,
        corrupt=membership.corrupt(context.gamma_permille),
    )
    if len(entries) > context.quantiser.cohort_limit:
        raise FloorError(
            f"a cohort of {len(entries)} is above the quantiser's limit of {context.quantiser.cohort_limit}: "
            "its sum could wrap"
        )


def seed_commitment(ctx: bytes, name: str, seed: bytes) -> bytes:
    """H(b_seed), bound to the attempt and the member."""
    return digest("commit", ctx, name.encode(), seed)
