"""Phase 3, sent instead of an upload: a cheated member shows the bad parcel, so that anybody can judge who cheated.

The holder of a parcel that does not open, or that does not hold what its sender committed to, signs a complaint: the
sender's signed statement, the leaf with its path to the signed root, and the Diffie-Hellman point of the pair with a
proof that it is the true one (`equality`). From that and the roster any reader can derive the sealing key and open the
parcel. Either the sender signed a parcel that cannot be opened to its own commitments, or the complaint is false.

A complaint reveals the two shares of this parcel, and the parcel that went the other way, because one point seals both
directions. One of the two members has cheated, and knows both parcels anyway. So a coordinator and its colluders learn
nothing new. The complainer's session has ended, and its keys are never used again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from sordino_privacy.secagg import keys
from sordino_privacy.secagg.context import MAX_CONTEXT_BYTES, RoundContext
from sordino_privacy.secagg.encoding import (
    HASH_BYTES,
    HEAD_BYTES,
    MAX_MESSAGE_BYTES,
    NAME_BYTES,
    SIGNATURE_BYTES,
    MessageReader,
    Writer,
)
from sordino_privacy.secagg.equality import PROOF_BYTES, Equality, of_key
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.merkle import LONGEST_PATH
from sordino_privacy.secagg.refusals import (
    BadParcelError,
    IdentityError,
    MalformedError,
    ReplayError,
    SecaggError,
)
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shares import (
    LEAF_BYTES,
    STATEMENT_BYTES,
    Leaf,
    Parcel,
    Statement,
    require_under_root,
    unsealed,
)
from sordino_privacy.signing import Signer

KIND = 13
PROOF_KIND = 14
MAX_COMPLAINT_BYTES = (
    HEAD_BYTES
    + HASH_BYTES
    + NAME_BYTES
    + STATEMENT_BYTES
    + LEAF_BYTES
    + 1
    + LONGEST_PATH * HASH_BYTES
    + PROOF_BYTES
    + SIGNATURE_BYTES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One holder's complaint about one parcel: `statement` names the accused, `parcel` is the parcel as received."""

    roster_hash: bytes
    complainer: str
    statement: Statement
    parcel: Parcel
    equality: Equality
    signature: bytes = b""

    @classmethod
    def of(
        cls,
        parcel: Parcel,
        statement: Statement,
        roster: Roster,
        complainer: str,
        exchange: bytes,
        entropy: Callable[[int], bytes],
    ) -> Self:
        """The complaint about `parcel`, still to be signed. `exchange` is the complainer's private e."""
        return cls(
            roster_hash=roster.hash,
            complainer=complainer,
            statement=statement,
            parcel=parcel,
            equality=Equality.proven(
                exchange,
                roster.entry(parcel.sender).exchange,
                entropy,
                *_bound(roster, parcel.sender, complainer),
            ),
        )

    @property
    def accused(self) -> str:
        return self.statement.sender

    def signed(self, signer: Signer) -> Self:
        """This complaint with its signature."""
        return replace(self, signature=keys.sign(signer, "complaint", self._body()))

    def _body(self) -> bytes:
        writer = Writer(KIND).raw(self.roster_hash).name(self.complainer)
        self.statement.write(writer)
        self.parcel.leaf.write(writer)
        writer.u8(len(self.parcel.path))
        for sibling in self.parcel.path:
            writer.raw(sibling)
        self.equality.write(writer)
        return writer.done()

    def encode(self) -> bytes:
        return self._body() + self.signature

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, KIND, limit=MAX_COMPLAINT_BYTES)
        roster_hash, complainer = reader.raw(HASH_BYTES), reader.name()
        statement = Statement.read(reader)
        leaf, length = Leaf.read(reader, complainer), reader.u8()
        if length > LONGEST_PATH:
            raise MalformedError("a path is longer than any tree of the protocol")
        path = tuple(reader.raw(HASH_BYTES) for _ in range(length))
        complaint = cls(
            roster_hash=roster_hash,
            complainer=complainer,
            statement=statement,
            parcel=Parcel(sender=statement.sender, leaf=leaf, path=path),
            equality=Equality.read(reader),
            signature=reader.raw(SIGNATURE_BYTES),
        )
        reader.end()
        return complaint

    def culprit(self, membership: Membership, roster: Roster) -> str:
        """The name of who cheated: the accused, or the complainer if the complaint does not show a bad parcel.

        Raises ReplayError (another roster) and IdentityError (a complainer or a signature that is not of this attempt):
        then nobody signed this complaint, and it proves nothing.
        """
        if self.roster_hash != roster.hash:
            raise ReplayError("the complaint belongs to another attempt or roster")
        public = membership.member(self.complainer).public_key
        if self.complainer not in roster.positions or not keys.signed(
            public, self.signature, "complaint", self._body()
        ):
            raise IdentityError(
                f"the complaint is not signed by {self.complainer!r}", culprit=self.complainer
            )
        return self.accused if self._shows_a_bad_parcel(membership, roster) else self.complainer

    def _shows_a_bad_parcel(self, membership: Membership, roster: Roster) -> bool:
        accused, complainer = self.accused, self.complainer
        if accused == complainer or accused not in roster.positions or not roster.holds(complainer, accused):
            return False
        if of_key(roster.entry(accused).exchange) is None:
            return (
                True  # a key on the twist, which no honest member advertises: nothing can be proven with it
            )
        try:
            self.statement.verify(membership, roster.hash)
            require_under_root(self.parcel, self.statement, roster, complainer)
        except SecaggError:
            return False
        shared = self.equality.verified(
            roster.entry(complainer).exchange,
            roster.entry(accused).exchange,
            *_bound(roster, accused, complainer),
        )
        if shared is None:
            return False
        try:
            unsealed(self.parcel, roster, complainer, shared)
        except BadParcelError:
            return True
        return False


def _bound(roster: Roster, accused: str, complainer: str) -> tuple[bytes, ...]:
    return roster.hash, accused.encode(), complainer.encode()


def complaint_proof(context: bytes, roster: bytes, complaint: bytes) -> bytes:
    """A complaint with all that is needed to judge it except the charter, as one message to keep."""
    return Writer(PROOF_KIND).blob(context).blob(roster).blob(complaint).done()


def judge_complaint(message: bytes, membership: Membership) -> str:
    """The name of who cheated, from a `complaint_proof` and the charter alone. Raises what its parsers raise, and
    IdentityError, ReplayError for a complaint that proves nothing.
    """
    reader = MessageReader(message, PROOF_KIND, limit=2 * MAX_MESSAGE_BYTES)
    context = RoundContext.decode(reader.blob(limit=MAX_CONTEXT_BYTES))
    context.require_floors(membership)
    roster = Roster.decode(reader.blob(limit=MAX_MESSAGE_BYTES), membership, context)
    complaint = Complaint.decode(reader.blob(limit=MAX_COMPLAINT_BYTES))
    reader.end()
    return complaint.culprit(membership, roster)
