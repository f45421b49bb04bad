"""One member of a large federation, without the others' work: what they would send it is made as cheaply as can be.

    among = Among(1000)
    session.share(among.roster) ...    the true member's session; every message it is given would pass in a real attempt

Only the member's neighbours share for real; of all others there is what they sign.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from tests.secagg.federation import Federation, membership, quantiser, signing_key

from sordino_privacy.secagg import MemberSession, merkle
from sordino_privacy.secagg.roster import Advertisement, Roster
from sordino_privacy.secagg.shares import Delivery, Parcel, Shares, Statement
from sordino_privacy.secagg.survivors import Assent, Claim, Opening
from sordino_privacy.secagg.upload import UploadReceipt, u2_digest

ME = "member-0000"


@dataclass
class Among:
    """A federation of `count`, of which `ME` is looked at."""

    count: int
    dimension: int = 30
    federation: Federation = field(init=False)

    def __post_init__(self) -> None:
        self.federation = Federation(membership(self.count), quantiser=quantiser(self.dimension, self.count))
        self.advertisements = {name: self.members[name].advertise() for name in self.federation.names}

    @property
    def members(self) -> dict[str, MemberSession]:
        return self.federation.members

    @cached_property
    def parsed(self) -> Roster:
        entries = map(Advertisement.decode, self.advertisements.values())
        return Roster.of(self.federation.membership, self.federation.context, entries)

    @property
    def roster(self) -> bytes:
        return self.parsed.encode()

    @cached_property
    def delivery(self) -> bytes:
        """Everybody is in U2."""
        roster, statements, parcels = self.parsed, [], []
        for name in self.federation.names:
            if roster.holds(ME, name) and name != ME:
                session = self.members[name]
                session._state.roster, session._roster = b"", roster  # it need not check the roster too
                made = Shares.decode(session._shares())
                place = roster.place(name, ME)
                path = merkle.paths([leaf.digest() for leaf in made.leaves])[place]
                parcels.append(Parcel(sender=name, leaf=made.leaves[place], path=path))
                statements.append(made.statement)
            else:
                root = hashlib.sha256(name.encode()).digest()
                statements.append(Statement.signed(signing_key(name), roster.hash, name, root))
        return Delivery(
            roster_hash=roster.hash, statements=tuple(statements), parcels=tuple(parcels)
        ).encode()

    def claim(self, mine: bytes) -> bytes:
        """Everybody uploaded; `mine` is the trailer of ME."""
        u2, hashed = u2_digest(self.federation.names), hashlib.sha256(b"y").digest()
        receipts = [UploadReceipt.decode(mine)]
        receipts += [
            UploadReceipt.signed(signing_key(name), self.parsed.hash, name, u2, hashed)
            for name in self.federation.names[1:]
        ]
        return Claim(
            roster_hash=self.parsed.hash, receipts=tuple(receipts), dropped=(), total_hash=hashed
        ).encode()

    def opening(self, claim: bytes, mine: bytes) -> bytes:
        """Everybody signed; `mine` is the assent of ME."""
        parsed, u2 = Claim.decode(claim), u2_digest(self.federation.names)
        u3, nonce = parsed.u3_hash(), hashlib.sha256(b"nonce").digest()
        assents = [Assent.decode(mine)]
        assents += [
            Assent.signed(signing_key(name), self.parsed.hash, name, u2, u3, parsed.total_hash, nonce)
            for name in self.federation.names[1:]
        ]
        held = {ME, *self.parsed.neighbours(ME)} if self.parsed.graph.complete else self.parsed.neighbours(ME)
        return Opening(
            roster_hash=self.parsed.hash,
            assents=tuple(assents),
            alive=tuple(name for name in self.federation.names if name in held),
            dropped=(),
        ).encode()
