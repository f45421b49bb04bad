"""Phase 3 at a member, what it receives: who shared (U2), and the shares of its neighbours' seeds that it will hold."""

from __future__ import annotations

from collections.abc import Callable

from sordino_privacy.secagg.encoding import KEY_BYTES
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.refusals import BadParcelError, ReplayError, ShareError, SurvivorError
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shares import Delivery, Parcel, Statement, open_parcel


def require_attempt(roster: Roster, roster_hash: bytes) -> None:
    """Raises ReplayError unless a message with this hash belongs to the attempt of `roster`."""
    if roster_hash != roster.hash:
        raise ReplayError("the message belongs to another attempt or roster")


def admitted_u2(delivery: Delivery, roster: Roster, me: str, membership: Membership) -> tuple[str, ...]:
    """U2, sorted, as a delivery to this member names it.

    Raises ReplayError (another attempt), SurvivorError (a stranger, without this member, too few of all or of its
    neighbours), IdentityError (a statement that this member must check), ShareError (other parcels than it should
    hold).
    """
    require_attempt(roster, delivery.roster_hash)
    u2 = tuple(statement.sender for statement in delivery.statements)
    in_u2 = set(u2)
    if not in_u2 <= roster.positions.keys():
        raise SurvivorError("U2 names a member that is not in the roster")
    if me not in u2:
        raise SurvivorError("this member is missing from U2")
    if len(u2) < roster.numbers.quorum:
        raise SurvivorError(f"U2 has {len(u2)} members, below the quorum of {roster.numbers.quorum}")
    # In a circulant graph, a parcel that opens proves as much as its sender's signature: nobody else can have sealed
    # it. The signature is checked only where a parcel does not open (`opened_shares`).
    signed = roster.vouched(me) if roster.graph.complete else {me}
    for statement in delivery.statements:
        if statement.sender in signed:
            statement.verify(membership, roster.hash)
    owed = tuple(name for name in roster.neighbours(me) if name in in_u2)
    if tuple(parcel.sender for parcel in delivery.parcels) != owed:
        raise ShareError("the delivered shares are not those of U2 that this member holds")
    if len(owed) + roster.graph.complete < roster.numbers.threshold:
        raise SurvivorError("too few of this member's neighbours are in U2")
    return u2


def opened_shares(
    delivery: Delivery,
    roster: Roster,
    me: str,
    agreed: bytes,
    membership: Membership,
    complain: Callable[[Parcel, Statement], bytes],
) -> dict[str, tuple[int, int]]:
    """The two shares (of b_seed, of s_seed) in each parcel of an admitted delivery, by sender.

    `agreed` are the points that `shared_seeds` returned: one point seals both directions of a pair. Raises ShareError;
    IdentityError if a parcel does not open and its sender did not sign it; and BadParcelError, with the complaint that
    `complain` makes of the parcel, if its sender signed it.
    """
    statements = {statement.sender: statement for statement in delivery.statements}
    points = {
        holder: agreed[KEY_BYTES * place :][:KEY_BYTES] for place, holder in enumerate(roster.holders(me))
    }
    held = {}
    for parcel in delivery.parcels:
        statement = statements[parcel.sender]
        try:
            held[parcel.sender] = open_parcel(parcel, statement, roster, me, points[parcel.sender])
        except ShareError as error:
            statement.verify(membership, roster.hash)
            if isinstance(error, BadParcelError):
                error.complaint = complain(parcel, statement)
            raise
    return held
