"""Messages to a member that must be refused, each with the label of its refusal: `sordino-secagg/2`, the attempt of
`generate`, changed in one place each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from orchestra import fixed, signer

from sordino_privacy.secagg import keys
from sordino_privacy.secagg.graph import quorum
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shares import Delivery
from sordino_privacy.secagg.survivors import Claim, Opening


def refusals(
    roster: bytes, parsed: Roster, delivery: bytes, claim: bytes, opening: bytes
) -> list[dict[str, str]]:
    """Messages to `alpha` that must be refused in the phase named, each with the label of its refusal."""
    cases: list[dict[str, str]] = []

    def case(what: str, phase: str, message: bytes, label: str) -> None:
        cases.append({"what": what, "phase": phase, "message": message.hex(), "refusal": label})

    def entries(change: Callable[[Any], Any]) -> bytes:
        return replace(parsed, entries=tuple(change(parsed.entries))).encode()

    bravo = parsed.entry("bravo")
    forged = replace(bravo, masking=keys.public_key(fixed("evil")))
    weak = replace(bravo, masking=bytes(32)).signed(signer("bravo"))
    other = replace(bravo, ctx=fixed("other context")).signed(signer("bravo"))
    stranger = replace(bravo, name="zulu").signed(signer("zulu"))
    case(
        "a key substituted in bravo's entry",
        "share",
        entries(lambda es: (es[0], forged, *es[2:])),
        "identity",
    )
    case("a stranger in the roster", "share", entries(lambda es: (*es, stranger)), "identity")
    case("bravo with a key of small order", "share", entries(lambda es: (es[0], weak, *es[2:])), "roster")
    case(
        "bravo advertised for another context",
        "share",
        entries(lambda es: (es[0], other, *es[2:])),
        "context",
    )
    case("bravo twice", "share", entries(lambda es: (es[0], es[1], *es[1:])), "roster")
    case("alpha missing", "share", with_numbers(parsed, parsed.entries[1:]), "roster")
    case("a cohort of two", "share", with_numbers(parsed, parsed.entries[:2]), "floors")
    lower = replace(parsed, numbers=replace(parsed.numbers, threshold=2)).encode()
    case("a share threshold of 2", "share", lower, "threshold")
    case("unsorted", "share", entries(lambda es: (es[1], es[0], *es[2:])), "malformed")
    case("one byte too many", "share", roster + b"\0", "malformed")
    case("one byte too few", "share", roster[:-1], "malformed")
    case("another version", "share", roster.replace(b"secagg/2", b"secagg/1", 1), "downgrade")
    sent = Delivery.decode(delivery, "alpha")
    parcel = sent.parcels[0]
    broken = replace(parcel, leaf=replace(parcel.leaf, sealed=bytes(80)))
    case("a share altered", "upload", replace(sent, parcels=(broken, *sent.parcels[1:])).encode(), "share")
    case("U2 of two", "upload", replace(sent, statements=sent.statements[:2]).encode(), "survivors")
    case("another roster's hash", "upload", replace(sent, roster_hash=bytes(32)).encode(), "replay")
    made = Claim.decode(claim)
    case(
        "alpha dropped",
        "survivors",
        replace(made, receipts=made.receipts[1:], dropped=("alpha", "delta")).encode(),
        "survivors",
    )
    case("delta forgotten", "survivors", replace(made, dropped=()).encode(), "survivors")
    unsigned = replace(made.receipts[1], signature=bytes(64))
    receipts = (made.receipts[0], unsigned, *made.receipts[2:])
    case(
        "an upload signature forged",
        "survivors",
        replace(made, receipts=receipts).encode(),
        "upload_signature",
    )
    asked = Opening.decode(opening)
    case(
        "one signature short of the quorum",
        "unmask",
        replace(asked, assents=asked.assents[:2]).encode(),
        "quorum",
    )
    case("both shares of bravo", "unmask", replace(asked, dropped=("bravo", "delta")).encode(), "reveal")
    case(
        "delta's self mask",
        "unmask",
        replace(asked, alive=(*asked.alive, "delta"), dropped=()).encode(),
        "reveal",
    )
    return cases


def with_numbers(roster: Roster, entries: Sequence[Any]) -> bytes:
    """A roster of other entries whose claimed numbers are right for them under the charter, which has no colluder."""
    n = len(entries)
    q = quorum(n, corrupt=0, honest=2)
    numbers = replace(roster.numbers, members=n, quorum=q, threshold=q, degree=n - 1)
    return replace(roster, entries=tuple(entries), numbers=numbers).encode()
