"""Writes `secagg-2.json`: one whole attempt of `sordino-secagg/2` with fixed randomness, and messages to refuse.

    python docs/vectors/generate.py            rewrites the file beside this script

Four members; `delta` uploads nothing. Every random draw of every session is listed in the order in which it was
drawn, so that another implementation can replay it; what each draw is for is in docs/protocol.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from sordino_privacy.secagg import (
    GENESIS,
    BadParcelError,
    CoordinatorSession,
    EnrolledMember,
    Floors,
    Group,
    JournalEntry,
    MaskedStatistics,
    MemberSession,
    Membership,
    Quantised,
    Quantiser,
    RoundContext,
    keys,
    merkle,
    require_follows,
    transcript_head,
)
from sordino_privacy.secagg.complaint import Complaint, complaint_proof
from sordino_privacy.secagg.evidence import Evidence, challenge_of, drawn
from sordino_privacy.secagg.graph import degree_and_threshold, permutation, quorum
from sordino_privacy.secagg.masks import Mask, apply
from sordino_privacy.secagg.muster import Draw, sketch_of
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shares import Delivery, Shares, Statement
from sordino_privacy.secagg.survivors import Claim, Opening
from sordino_privacy.secagg.upload import u2_digest
from sordino_privacy.signing import KeySigner

FILE = Path(__file__).with_name("secagg-2.json")
NAMES = ("alpha", "bravo", "charlie", "delta")
SURVIVORS = NAMES[:3]
SPARSE = (
    (1000, 100, Fraction(1, 10)),
    (1000, 100, Fraction(1, 3)),
    (1000, 200, Fraction(1, 3)),
    (10_000, 2000, Fraction(1, 3)),
    (300, 100, Fraction(1, 3)),
)


class Draws:
    """Deterministic entropy that keeps what it gave out."""

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose
        self.given: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        seed = f"sordino-secagg/2 vectors|{self.purpose}|{len(self.given)}".encode()
        self.given.append(hashlib.sha256(seed).digest()[:size])
        return self.given[-1]


class Memory:
    """A journal in memory."""

    def __init__(self) -> None:
        self.rows: list[JournalEntry] = []

    def highest_epoch(self, federation: str) -> int:
        return max((row.epoch for row in self.rows if row.federation == federation), default=0)

    def entries(self, federation: str, run: str, round: int) -> Sequence[JournalEntry]:
        return [row for row in self.rows if (row.federation, row.run, row.round) == (federation, run, round)]

    def record(self, entry: JournalEntry) -> None:
        require_follows(self.entries(entry.federation, entry.run, entry.round), entry)
        self.rows.append(entry)


def fixed(text: str) -> bytes:
    return hashlib.sha256(b"sordino-secagg/2 vectors|" + text.encode()).digest()


def signer(name: str) -> KeySigner:
    return KeySigner.of(fixed(f"identity {name}"))


def membership() -> Membership:
    return Membership(
        federation="orchestra",
        epoch=3,
        charter_hash=fixed("charter"),
        members=tuple(
            EnrolledMember(name=name, organisation=f"{name} ltd", public_key=signer(name).public_key)
            for name in NAMES
        ),
        floors=Floors(cohort=3, organisations=3, gamma_permille=200, honest=2),
    )


def context() -> RoundContext:
    quantiser = Quantiser(
        groups=(Group(name="embed", length=2, range=0.5), Group(name="rest", length=3, range=2.0)),
        cohort_limit=8,
    )
    return RoundContext.under(
        membership(),
        run="run-1",
        round=7,
        attempt=0,
        server_nonce=fixed("nonce"),
        model_hash=fixed("model"),
        train_config_hash=fixed("config"),
        quantiser=quantiser,
    )


def session(name: str) -> tuple[MemberSession, Draws]:
    draws = Draws(name)
    return MemberSession(name, signer(name), membership(), context(), Memory(), draws), draws


def build() -> dict[str, Any]:
    """The whole file."""
    agreed, members = context(), {name: session(name) for name in NAMES}
    quantiser = agreed.quantiser
    coordinator = CoordinatorSession(membership(), agreed)
    out: dict[str, Any] = {
        "suite": "sordino-secagg/2",
        "context": {
            "federation": agreed.federation,
            "epoch": agreed.epoch,
            "charter_hash": agreed.charter_hash.hex(),
            "run": agreed.run,
            "round": agreed.round,
            "attempt": agreed.attempt,
            "server_nonce": agreed.server_nonce.hex(),
            "model_hash": agreed.model_hash.hex(),
            "train_config_hash": agreed.train_config_hash.hex(),
            "gamma_permille": agreed.gamma_permille,
            "cohort": agreed.cohort,
            "organisations": agreed.organisations,
            "encoded": agreed.encode().hex(),
            "ctx": agreed.digest().hex(),
        },
        "quantiser": {
            "groups": [[group.name, group.length, group.range] for group in quantiser.groups],
            "cohort_limit": quantiser.cohort_limit,
            "shares": quantiser.shares,
            "digest": quantiser.digest().hex(),
            "length": quantiser.length,
            "levels": quantiser.levels,
            "limb_bits": quantiser.limb_bits,
            "limbs": list(quantiser.limbs),
        },
        "members": {},
    }
    for name, (member, draws) in members.items():
        update = np.array([0.1, -0.5, 2.0, -0.25, 3.0], np.float32) * np.float32(1 + 0.25 * NAMES.index(name))
        rounding = Draws(f"dither {name}")
        quantised = quantiser.quantise(update, 0.5, MaskedStatistics(loss=1.5, examples=4096), rounding)
        advertisement = member.advertise()
        coordinator.accept_advertisement(name, advertisement)
        out["members"][name] = {
            "identity_key": fixed(f"identity {name}").hex(),
            "identity_public": membership().member(name).public_key.hex(),
            "draws": draws.given,
            "update": [float(value) for value in update],
            "weight": 0.5,
            "loss": 1.5,
            "examples": 4096,
            "dither_key": rounding.given[0].hex(),
            "quantised": quantised.vector.tobytes().hex(),
            "advertisement": advertisement.hex(),
        }
        out["members"][name]["_quantised"] = quantised
    roster_bytes = coordinator.close_advertisements()
    roster = Roster.decode(roster_bytes, membership(), agreed)
    out["roster"] = {
        "encoded": roster_bytes.hex(),
        "R": roster.hash.hex(),
        "quorum": roster.numbers.quorum,
        "threshold": roster.numbers.threshold,
    }
    for name, (member, _) in members.items():
        message = member.share(roster_bytes)
        coordinator.accept_shares(name, message)
        out["members"][name]["shares"] = message.hex()
    deliveries = coordinator.close_shares()
    updates = {}
    for name, (member, draws) in members.items():
        entry = out["members"][name]
        entry["delivery"] = deliveries[name].hex()
        entry["draws"] = [draw.hex() for draw in draws.given]
        quantised = updates[name] = entry.pop("_quantised")
        if name in SURVIVORS:
            frames = [bytes(frame) for frame in member.upload(deliveries[name], quantised)]
            coordinator.accept_upload(name, frames)
            entry["upload"] = [frame.hex() for frame in frames]
            entry["masks"] = [masked(mask) for mask in member._masks()]
    claim = coordinator.close_uploads()
    parsed = Claim.decode(claim)
    out["claim"] = {
        "encoded": claim.hex(),
        "H(U2)": u2_digest(NAMES).hex(),
        "H(U3)": parsed.u3_hash().hex(),
        "H(Y)": parsed.total_hash.hex(),
    }
    mustered = {name: members[name][0].snapshot_with_secrets() for name in SURVIVORS}
    for name in SURVIVORS:
        assent = members[name][0].survivors(claim)
        out["members"][name]["draws"] = [draw.hex() for draw in members[name][1].given]
        coordinator.accept_survivors(name, assent)
        out["members"][name]["assent"] = assent.hex()
    openings = coordinator.close_survivors()
    refused = refusals(roster_bytes, roster, deliveries["alpha"], claim, openings["alpha"])
    for name in SURVIVORS:
        reveal = members[name][0].unmask(openings[name], updates[name])
        coordinator.accept_reveal(name, reveal)
        out["members"][name] |= {"opening": openings[name].hex(), "reveal": reveal.hex()}
    opened = coordinator.open()
    out["sum"] = {
        "vector": opened.vector.tobytes().hex(),
        "integers": [int(value) for value in opened.totals.integers],
        "weight": opened.totals.weight,
        "saturated": opened.totals.saturated,
        "loss": opened.totals.loss,
        "examples": opened.totals.examples,
    }
    out["evidence"] = {
        "encoded": opened.evidence.hex(),
        "carries": opened.carries.tobytes().hex(),
        "challenge": challenge_of(roster, parsed, drawn(Opening.decode(openings["alpha"]), ())).hex(),
    }
    out["muster"] = muster(mustered, claim, updates, opened.evidence)
    record = coordinator.record(GENESIS, fixed("new model"))
    out["transcript"] = {"record": record.hex(), "head": transcript_head(record).hex()}
    out["graph"] = {
        "permutation_of_10": list(permutation(10, fixed("permutation"))),
        "quorum": [
            [n, c, h, quorum(n, corrupt=c, honest=h)]
            for n, c, h in (
                (3, 0, 2),
                (5, 1, 3),
                (10, 3, 3),
                (20, 4, 3),
                (200, 100, 3),
                (103, 100, 3),
                (1000, 200, 3),
            )
        ],
        "degree_and_threshold": [
            [n, corrupt, str(dropouts), degree_and_threshold(n, corrupt, dropouts)]
            for n, corrupt, dropouts in SPARSE
        ],
    }
    out["refused"] = refused
    out["complaints"] = complaints(roster_bytes, deliveries["alpha"], out["members"]["delta"]["shares"])
    return out


def muster(
    snapshots: dict[str, bytes], claim: bytes, updates: dict[str, Quantised], evidence: bytes
) -> dict[str, Any]:
    """The muster that a coordinator could have held for this claim, and the evidence that would follow from it."""
    sessions, nonces, said = {}, {}, {}
    for name, snapshot in snapshots.items():
        draws = Draws(f"muster {name}")
        key = signer(name)
        sessions[name] = MemberSession.restore(snapshot, name, key, membership(), context(), Memory(), draws)
        nonces[name] = {"presence": sessions[name].muster(claim).hex(), "nonce": draws.given[0].hex()}
    made = Draw(
        roster_hash=Claim.decode(claim).roster_hash,
        nonces=tuple((name, bytes.fromhex(found["nonce"])) for name, found in nonces.items()),
    )
    for name, member in sessions.items():
        said[name] = member.sound(made.encode(), updates[name])
        nonces[name]["sounding"] = said[name].hex()
    sketches = tuple(sketch_of(message) for message in said.values())
    shown = replace(Evidence.decode(evidence), sketches=sketches, draw=made.nonces)
    return {"members": nonces, "draw": made.encode().hex(), "evidence": shown.encode().hex()}


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
        list(member.upload(lie, quantised_of("alpha")))
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


def quantised_of(name: str) -> Quantised:
    update = np.array([0.1, -0.5, 2.0, -0.25, 3.0], np.float32) * np.float32(1 + 0.25 * NAMES.index(name))
    statistics = MaskedStatistics(loss=1.5, examples=4096)
    return context().quantiser.quantise(update, 0.5, statistics, Draws(f"dither {name}"))


def masked(mask: Mask) -> dict[str, Any]:
    first = np.zeros(16, "<u2")
    apply(first, [Mask(key=mask.key, add=True)])
    return {"key": mask.key.hex(), "add": mask.add, "first_32_bytes": first.tobytes().hex()}


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


def text() -> str:
    return json.dumps(build(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
