"""Phase 2 out, phase 3 in: sealed shares of both seeds, committed to and signed by their sender.

A sender seals to each holder one pair (share of b_seed, share of s_seed), and commits to each share by hash. The
commitments and ciphertexts are leaves of a hash tree whose root is signed once. A recipient gets its leaf and path
(`Parcel`), so it knows that what it opened is what the coordinator, who holds all leaves, will later accept.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from sordino_privacy.secagg import keys, merkle
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
from sordino_privacy.secagg.keys import SEALED_BYTES
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.refusals import BadParcelError, IdentityError, MalformedError, ShareError
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shamir import PRIME
from sordino_privacy.signing import Signer

SHARES_KIND = 4
DELIVERY_KIND = 5
LEAF_LAYOUT = struct.Struct(f"{SEALED_BYTES}s{HASH_BYTES}s{HASH_BYTES}s")
LEAF_BYTES = LEAF_LAYOUT.size
STATEMENT_LAYOUT = struct.Struct(f"{HASH_BYTES}s{SIGNATURE_BYTES}s")  # after the sender's name
PATH_LAYOUTS = tuple(struct.Struct(f"{HASH_BYTES}s" * length) for length in range(merkle.LONGEST_PATH + 1))
STATEMENT_BYTES = NAME_BYTES + HASH_BYTES + SIGNATURE_BYTES


def largest_shares(holders: int) -> int:
    """Bytes of the longest message of shares for so many holders."""
    return HEAD_BYTES + HASH_BYTES + 2 + holders * (NAME_BYTES + LEAF_BYTES) + STATEMENT_BYTES


def share_commitment(roster_hash: bytes, sender: str, holder: str, which: str, share: int) -> bytes:
    """The commitment to one share. `which` is "b" or "s". Shares are uniform in the field, so the hash hides them."""
    encoded = share.to_bytes(KEY_BYTES, "big")
    return digest("commit-share", roster_hash, sender.encode(), holder.encode(), which.encode(), encoded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What one sender made for one recipient."""

    recipient: str
    sealed: bytes
    self_commitment: bytes
    pair_commitment: bytes

    def digest(self) -> bytes:
        return digest(
            "leaf", self.recipient.encode(), self.sealed, self.self_commitment, self.pair_commitment
        )

    def write(self, writer: Writer) -> None:
        writer.raw(self.sealed).raw(self.self_commitment).raw(self.pair_commitment)

    @classmethod
    def read(cls, reader: MessageReader, recipient: str) -> Self:
        sealed, own, pair = reader.split(LEAF_LAYOUT)
        return cls(recipient=recipient, sealed=sealed, self_commitment=own, pair_commitment=pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A sender's signature over the root of its leaves (and, when it holds its own share, that share's commitments)."""

    sender: str
    root: bytes
    signature: bytes

    @classmethod
    def signed(cls, signer: Signer, roster_hash: bytes, sender: str, root: bytes) -> Self:
        signature = keys.sign(signer, "shares", roster_hash, sender.encode(), root)
        return cls(sender=sender, root=root, signature=signature)

    def verify(self, membership: Membership, roster_hash: bytes) -> None:
        public = membership.member(self.sender).public_key
        if not keys.signed(public, self.signature, "shares", roster_hash, self.sender.encode(), self.root):
            raise IdentityError(
                f"the shares of {self.sender!r} are not signed by its key", culprit=self.sender
            )

    def write(self, writer: Writer) -> None:
        writer.name(self.sender).raw(self.root).raw(self.signature)

    @classmethod
    def read(cls, reader: MessageReader) -> Self:
        sender, (root, signature) = reader.named(STATEMENT_LAYOUT)
        return cls(sender=sender, root=root, signature=signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """One member's message of phase 2: a leaf per holder, sorted; in a complete graph one of them is the member's own,
    with 80 zero bytes in place of a ciphertext, so that its own shares are committed to like all others."""

    roster_hash: bytes
    statement: Statement
    leaves: tuple[Leaf, ...]
    _tree: list[merkle.HashTree] = field(default_factory=list, init=False, repr=False, compare=False)

    def tree(self) -> merkle.HashTree:
        """The tree over the leaves, whose root the sender signed. Made once: it takes two hashes for each leaf."""
        if not self._tree:
            self._tree.append(merkle.HashTree.over([leaf.digest() for leaf in self.leaves]))
        return self._tree[0]

    def kept(self) -> KeptShares:
        """What whoever distributes them keeps."""
        return KeptShares(
            statement=self.statement,
            sealed=b"".join(leaf.sealed for leaf in self.leaves),
            commitments=b"".join(leaf.self_commitment + leaf.pair_commitment for leaf in self.leaves),
            tree=self.tree(),
        )

    def encode(self) -> bytes:
        writer = Writer(SHARES_KIND).raw(self.roster_hash).u16(len(self.leaves))
        for leaf in self.leaves:
            writer.name(leaf.recipient)
            leaf.write(writer)
        self.statement.write(writer)
        return writer.done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError, also when the statement's root is not that of the leaves."""
        reader = MessageReader(message, SHARES_KIND)
        roster_hash = reader.raw(HASH_BYTES)
        leaves = tuple(Leaf.read(reader, reader.name()) for _ in range(reader.count()))
        statement = Statement.read(reader)
        reader.end()
        require_increasing(tuple(leaf.recipient for leaf in leaves))
        shares = cls(roster_hash=roster_hash, statement=statement, leaves=leaves)
        if not leaves or shares.tree().root != statement.root:
            raise MalformedError("the signed root is not that of the shares", culprit=statement.sender)
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptShares:
    """One member's shares as whoever distributes them keeps them, leaf after leaf in one piece and without the names of
    the recipients: objects for the leaves of a thousand members would take three times the memory. Two are equal when
    the same was shared with the same holders."""

    statement: Statement
    sealed: bytes
    commitments: bytes
    tree: merkle.HashTree | None

    def parcel(self, index: int, recipient: str) -> Parcel:
        """What the recipient whose place is `index` gets. Not after `delivered`."""
        assert self.tree is not None
        own, pair = self.committed(index)
        sealed = self.sealed[index * SEALED_BYTES : (index + 1) * SEALED_BYTES]
        leaf = Leaf(recipient=recipient, sealed=sealed, self_commitment=own, pair_commitment=pair)
        return Parcel(sender=self.statement.sender, leaf=leaf, path=self.tree.path(index))

    def committed(self, index: int) -> tuple[bytes, bytes]:
        """The commitments to the two shares (of b_seed, of s_seed) of the recipient whose place is `index`."""
        both = self.commitments[2 * HASH_BYTES * index : 2 * HASH_BYTES * (index + 1)]
        return both[:HASH_BYTES], both[HASH_BYTES:]

    def delivered(self) -> KeptShares:
        """What is still needed when every recipient has its parcel: what reveals are compared with."""
        return KeptShares(statement=self.statement, sealed=b"", commitments=self.commitments, tree=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One sender's leaf for the reader, and its path to the sender's signed root."""

    sender: str
    leaf: Leaf
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One member's message of phase 3: U2 as signed statements, and the parcels of those whose shares it holds."""

    roster_hash: bytes
    statements: tuple[Statement, ...]
    parcels: tuple[Parcel, ...]

    def encode(self) -> bytes:
        return with_parcels(delivery_head(self.roster_hash, self.statements), self.parcels)

    @classmethod
    def decode(cls, message: bytes, recipient: str) -> Self:
        """Raises MalformedError. What the delivery claims is checked by `open_parcel` and the member."""
        reader = MessageReader(message, DELIVERY_KIND)
        roster_hash = reader.raw(HASH_BYTES)
        statements = tuple(Statement.read(reader) for _ in range(reader.count()))
        parcels = []
        for _ in range(reader.count()):
            sender = reader.name()
            leaf = Leaf.read(reader, recipient)
            length = reader.u8()
            if length > merkle.LONGEST_PATH:
                raise MalformedError("a path is longer than any tree of the protocol")
            path = reader.split(PATH_LAYOUTS[length])
            parcels.append(Parcel(sender=sender, leaf=leaf, path=path))
        reader.end()
        require_increasing(tuple(statement.sender for statement in statements))
        require_increasing(tuple(parcel.sender for parcel in parcels))
        return cls(roster_hash=roster_hash, statements=statements, parcels=tuple(parcels))


def delivery_head(roster_hash: bytes, statements: Sequence[Statement]) -> bytes:
    """The first part of a delivery, which is the same in everybody's."""
    writer = Writer(DELIVERY_KIND).raw(roster_hash).u16(len(statements))
    for statement in statements:
        statement.write(writer)
    return writer.done()


def with_parcels(head: bytes, parcels: Sequence[Parcel]) -> bytes:
    """The delivery of this head and what its reader alone gets."""
    writer = Writer.after(head).u16(len(parcels))
    for parcel in parcels:
        writer.name(parcel.sender)
        parcel.leaf.write(writer)
        writer.u8(len(parcel.path)).raw(b"".join(parcel.path))
    return writer.done()


def require_under_root(parcel: Parcel, statement: Statement, roster: Roster, recipient: str) -> None:
    """Raises ShareError unless the parcel's leaf is under the sender's signed root at the recipient's place. Whoever
    carried the parcel may have changed it, so nobody is named."""
    sender = parcel.sender
    index, count = roster.place(sender, recipient), roster.holders_each
    if len(parcel.path) != merkle.path_length(index, count):
        raise ShareError(f"the path of the share from {sender!r} has a wrong length")
    if merkle.climb(parcel.leaf.digest(), index, count, parcel.path) != statement.root:
        raise ShareError(f"the share from {sender!r} is not under its signed root")


def unsealed(parcel: Parcel, roster: Roster, recipient: str, shared: bytes) -> tuple[int, int]:
    """The two shares (of b_seed, of s_seed) of a parcel that is under its sender's root. Raises BadParcelError.

    `shared` is what sender and recipient agreed on. The ciphertext must open; each share must be a field element and
    match its commitment. All of it is what the sender signed, so the sender is at fault.
    """
    sender = parcel.sender
    theirs, mine = roster.entry(sender).exchange, roster.entry(recipient).exchange
    key = keys.seal_key(shared, roster.hash, (sender, theirs), (recipient, mine))
    opened = keys.unseal(key, parcel.leaf.sealed, roster.hash, sender, recipient)
    pair = int.from_bytes(opened[:KEY_BYTES], "big"), int.from_bytes(opened[KEY_BYTES:], "big")
    committed = parcel.leaf.self_commitment, parcel.leaf.pair_commitment
    for which, share, commitment in zip("bs", pair, committed, strict=True):
        # Else the reader's own reveal of it would be refused later, and the reader blamed.
        if share >= PRIME:
            raise BadParcelError(f"a share from {sender!r} is not a field element", culprit=sender)
        if share_commitment(roster.hash, sender, recipient, which, share) != commitment:
            raise BadParcelError(f"a share from {sender!r} does not match its commitment", culprit=sender)
    return pair


def open_parcel(
    parcel: Parcel, statement: Statement, roster: Roster, recipient: str, shared: bytes
) -> tuple[int, int]:
    """The two shares (of b_seed, of s_seed) that `parcel` carries for `recipient`, who agreed on the point `shared`
    with its sender. Raises ShareError; BadParcelError when it is the sender's doing."""
    require_under_root(parcel, statement, roster, recipient)
    return unsealed(parcel, roster, recipient, shared)
