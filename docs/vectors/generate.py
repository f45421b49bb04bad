"""Writes `secagg-2.json`: one whole attempt of `sordino-secagg/2` with fixed randomness, and messages to refuse.

    python docs/vectors/generate.py            rewrites the file beside this script

Four members; `delta` uploads nothing. Every random draw of every session is listed in the order in which it was
drawn, so that another implementation can replay it; what each draw is for is in docs/protocol.md. The members are in
`orchestra`, what must be refused in `refused`, complaints in `complained`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from complained import complaints
from orchestra import (
    NAMES,
    SURVIVORS,
    Draws,
    context,
    fixed,
    membership,
    quantised_of,
    session,
    signer,
    update_of,
)
from refused import refusals

from sordino_platform.bench.world import VolatileJournal
from sordino_privacy.secagg import (
    GENESIS,
    CoordinatorSession,
    MemberSession,
    Quantised,
    Quantiser,
    RoundContext,
    transcript_head,
)
from sordino_privacy.secagg.evidence import Evidence, challenge_of, drawn
from sordino_privacy.secagg.graph import degree_and_threshold, permutation, quorum
from sordino_privacy.secagg.masks import Mask, apply
from sordino_privacy.secagg.muster import Draw, sketch_of
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.survivors import Claim, Opening
from sordino_privacy.secagg.upload import u2_digest

FILE = Path(__file__).with_name("secagg-2.json")
SPARSE = (
    (1000, 100, Fraction(1, 10)),
    (1000, 100, Fraction(1, 3)),
    (1000, 200, Fraction(1, 3)),
    (10_000, 2000, Fraction(1, 3)),
    (300, 100, Fraction(1, 3)),
)


def build() -> dict[str, Any]:
    """The whole file."""
    agreed, members = context(), {name: session(name) for name in NAMES}
    coordinator = CoordinatorSession(membership(), agreed)
    out: dict[str, Any] = {
        "suite": "sordino-secagg/2",
        "context": context_fields(agreed),
        "quantiser": quantiser_fields(agreed.quantiser),
        "members": {},
    }
    for name, (member, draws) in members.items():
        rounding = Draws(f"dither {name}")
        quantised = quantised_of(name, rounding)
        advertisement = member.advertise()
        coordinator.accept_advertisement(name, advertisement)
        out["members"][name] = {
            "identity_key": fixed(f"identity {name}").hex(),
            "identity_public": membership().member(name).public_key.hex(),
            "draws": draws.given,
            "update": [float(value) for value in update_of(name)],
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
    out["graph"] = graph_numbers()
    out["refused"] = refused
    out["complaints"] = complaints(roster_bytes, deliveries["alpha"], out["members"]["delta"]["shares"])
    return out


def context_fields(agreed: RoundContext) -> dict[str, Any]:
    return {
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
    }


def quantiser_fields(quantiser: Quantiser) -> dict[str, Any]:
    return {
        "groups": [[group.name, group.length, group.range] for group in quantiser.groups],
        "cohort_limit": quantiser.cohort_limit,
        "shares": quantiser.shares,
        "digest": quantiser.digest().hex(),
        "length": quantiser.length,
        "levels": quantiser.levels,
        "limb_bits": quantiser.limb_bits,
        "limbs": list(quantiser.limbs),
    }


def graph_numbers() -> dict[str, Any]:
    """What does not depend on the attempt: who is whose neighbour, and how many must answer."""
    return {
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


def muster(
    snapshots: dict[str, bytes], claim: bytes, updates: dict[str, Quantised], evidence: bytes
) -> dict[str, Any]:
    """The muster that a coordinator could have held for this claim, and the evidence that would follow from it."""
    sessions, nonces, said = {}, {}, {}
    for name, snapshot in snapshots.items():
        draws = Draws(f"muster {name}")
        key = signer(name)
        sessions[name] = MemberSession.restore(
            snapshot, name, key, membership(), context(), VolatileJournal(), draws
        )
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


def masked(mask: Mask) -> dict[str, Any]:
    first = np.zeros(16, "<u2")
    apply(first, [Mask(key=mask.key, add=True)])
    return {"key": mask.key.hex(), "add": mask.add, "first_32_bytes": first.tobytes().hex()}


def text() -> str:
    return json.dumps(build(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
