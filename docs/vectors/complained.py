"""Complaints of a member about a parcel, a true one and a false one, each with the one that it proves guilty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestra import Draws, context, membership, quantised_of, session, signer

from sordino_privacy.secagg import BadParcelError, merkle
from sordino_privacy.secagg.complaint import Complaint, complaint_proof
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shares import Delivery, Shares, Statement


def complaints(roster: bytes, delivery: bytes, shares: str) -> list[dict[str, Any]]:
    """Two of alpha in the same attempt: of a parcel of delta that does not open, and of bravo's, which is in order."""
    true = Shares.decode(bytes.fromhex(shares))
    first = replace(true.leaves[0], sealed=bytes(80))
    leaves = (first, *true.leaves[1:])
    digests = [leaf.digest() for leaf in leaves]
    statement = Statement.signed(signer("delta"), true.roster_hash, "delta", merkle.root(digests))
    sent = Delivery.decode(delivery, "alpha")
    lie = replace(
        sent,
        statements=(*sent.statements[:3], statement),
        parcels=(*sent.parcels[:2], replace(sent.parcels[2], leaf=first, path=merkle.paths(digests)[0])),
    ).encode()
    member, draws = session("alpha")
    member.advertise()
    member.share(roster)
    before = len(draws.given)
    try:
        list(member.upload(lie, quantised_of("alpha", Draws("dither alpha"))))
    except BadParcelError as error:
        cheated = error.complaint
    bravo, parcel = sent.statements[1], sent.parcels[0]
    false, twice = session("alpha")
    false.advertise()
    false.share(roster)
    parsed = Roster.decode(roster, membership(), context())
    framed = Complaint.of(parcel, bravo, parsed, "alpha", false._state.exchange_key, twice)
    return [
        {
            "what": "delta's parcel does not open",
            "delivery": lie.hex(),
            "draws": [draw.hex() for draw in draws.given[before:]],
            "message": cheated.hex(),
            "proof": complaint_proof(context().encode(), roster, cheated).hex(),
            "culprit": "delta",
        },
        {
            "what": "bravo's parcel is in order",
            "delivery": delivery.hex(),
            "draws": [draw.hex() for draw in twice.given[before:]],
            "message": (message := framed.signed(signer("alpha")).encode()).hex(),
            "proof": complaint_proof(context().encode(), roster, message).hex(),
            "culprit": "alpha",
        },
    ]
