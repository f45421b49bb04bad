"""The published vectors: the package makes them, a second implementation does too, and the bad ones are refused."""

from __future__ import annotations

import importlib
import json
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tests.secagg import second

from sordino_privacy.secagg import MaskedStatistics, SecaggError, judge_complaint

FOLDER = Path(__file__).parents[2] / "docs" / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "secagg-2.json").read_text())
NAMES = list(VECTORS["members"])
SURVIVORS = NAMES[:3]


@pytest.fixture
def orchestra(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The federation of the vectors. The scripts beside it find each other as `python generate.py` does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("orchestra")


@pytest.mark.usefixtures("orchestra")
def test_the_committed_vectors_are_what_the_package_makes() -> None:
    assert importlib.import_module("generate").text() == (FOLDER / "secagg-2.json").read_text()


def test_a_second_implementation_makes_the_same_context() -> None:
    encoded, ctx = second.context(VECTORS["context"], VECTORS["quantiser"])
    assert encoded.hex() == VECTORS["context"]["encoded"]
    assert ctx.hex() == VECTORS["context"]["ctx"]


def players() -> list[second.Player]:
    ctx = bytes.fromhex(VECTORS["context"]["ctx"])
    out = []
    for name, member in VECTORS["members"].items():
        draws = [bytes.fromhex(draw) for draw in member["draws"]]
        out.append(second.Player(name, bytes.fromhex(member["identity_key"]), draws, ctx, 16))
    roster = VECTORS["roster"]
    r = second.h("roster", ctx, *(field for p in out for field in (*p.signed, p.signature)))
    for player in out:
        player.join(out, r, roster["threshold"])
    return out


def test_a_second_implementation_makes_the_same_messages_keys_masks_and_sum() -> None:
    everyone = players()
    alive, dropped = everyone[:3], everyone[3:]
    roster = second.SUITE + b"\x03" + second.u16(3) + second.u16(3) + second.u16(3) + second.u16(4)
    assert (roster + b"".join(p.entry for p in everyone)).hex() == VECTORS["roster"]["encoded"]
    assert everyone[0].r.hex() == VECTORS["roster"]["R"]
    u2 = second.h("U2", *(p.me.encode() for p in everyone))
    assert u2.hex() == VECTORS["claim"]["H(U2)"]
    for player in everyone:
        case = VECTORS["members"][player.me]
        assert player.advertisement.hex() == case["advertisement"]
        assert player.shares.hex() == case["shares"]
        assert player.delivery().hex() == case["delivery"]
        assert second.quantise(case, [(2, 0.5), (3, 2.0)], 8).hex() == case["quantised"]
        if player in alive:
            for (key, sign), mask in zip(player.masks(), case["masks"], strict=True):
                assert (key.hex(), sign == 1) == (mask["key"], mask["add"])
                assert second.ctr(key, 32).hex() == mask["first_32_bytes"]
            upload = player.upload(bytes.fromhex(case["quantised"]), u2)
            assert [frame.hex() for frame in upload] == case["upload"]
    u3 = second.h("U3", *(part for p in alive for part in (p.me.encode(), p.vector_hash)))
    assert u3.hex() == VECTORS["claim"]["H(U3)"]
    claim = second.SUITE + b"\x08" + everyone[0].r + second.u16(3) + b"".join(p.receipt for p in alive)
    masked = [sum(column) for column in zip(*(player.y for player in alive), strict=True)]
    hy = second.h("total", sha256(b"".join(v.to_bytes(4, "little") for v in masked)).digest())
    assert hy.hex() == VECTORS["claim"]["H(Y)"]
    claim += second.u16(1) + second.name("delta") + hy
    assert claim.hex() == VECTORS["claim"]["encoded"]
    assents = [player.assent(u2, u3, hy) for player in alive]
    nonces = (part for p in alive for part in (p.me.encode(), p.challenge_nonce))
    challenge = second.h("challenge", everyone[0].r, u3, hy, *nonces)
    assert challenge.hex() == VECTORS["evidence"]["challenge"]
    opening = second.SUITE + b"\x0a" + everyone[0].r + second.u16(3) + b"".join(a[17:] for a in assents)
    opening += (
        second.u16(3) + b"".join(second.name(p.me) for p in alive) + second.u16(1) + second.name("delta")
    )
    for player, assent in zip(alive, assents, strict=True):
        case = VECTORS["members"][player.me]
        assert assent.hex() == case["assent"]
        assert opening.hex() == case["opening"]
        assert player.reveal(alive, dropped, challenge).hex() == case["reveal"]
    evidence = second.SUITE + b"\x10" + everyone[0].r
    evidence += second.u16(3) + b"".join(second.name(p.me) + p.b_seed for p in alive)
    evidence += second.u16(1) + second.name("delta") + dropped[0].s_seed
    evidence += second.u16(3) + b"".join(p.sketch(challenge) for p in alive)
    assert evidence.hex() == VECTORS["evidence"]["encoded"]
    assert bytes(v >> 16 for v in masked).hex() == VECTORS["evidence"]["carries"]
    said = VECTORS["muster"]
    drawn = [bytes.fromhex(said["members"][p.me]["nonce"]) for p in alive]
    listed = b"".join(second.name(p.me) + nonce for p, nonce in zip(alive, drawn, strict=True))
    draw = second.SUITE + b"\x12" + everyone[0].r + second.u16(3) + listed
    assert draw.hex() == said["draw"]
    parts = (part for p, nonce in zip(alive, drawn, strict=True) for part in (p.me.encode(), nonce))
    earlier = second.h("challenge", everyone[0].r, u3, hy, *parts)
    for player, nonce in zip(alive, drawn, strict=True):
        case = said["members"][player.me]
        assert (second.SUITE + b"\x11" + second.name(player.me) + nonce).hex() == case["presence"]
        assert (second.SUITE + b"\x13" + player.sketch(earlier)).hex() == case["sounding"]
    seeds = evidence[17 + 32 :].split(second.u16(3) + everyone[0].sketch(challenge))[0]
    mustered = second.SUITE + b"\x14" + everyone[0].r + second.u16(3) + listed + seeds
    mustered += second.u16(3) + b"".join(p.sketch(earlier) for p in alive)
    assert mustered.hex() == said["evidence"]
    # What every member checks: the digests of the uploads add up to that of their sum.
    assert second.rows(masked, challenge) == [
        sum(column) for column in zip(*(second.rows(p.y, challenge) for p in alive), strict=True)
    ]
    assert opened_by_a_second_coordinator(alive, dropped) == VECTORS["sum"]["vector"]


def test_a_second_implementation_makes_the_same_complaints(orchestra: ModuleType) -> None:
    everyone = players()
    alpha, bravo, delta = everyone[0], everyone[1], everyone[3]
    leaf = (bytes(80), *delta.leaves[0][1:])
    hashes = [second.h("leaf", b"alpha", *leaf), *delta.hashes[1:]]
    root = second.tree(hashes)
    signed = second.sign(delta.identity, "shares", delta.r, b"delta", root)
    statement = second.name("delta") + root + signed
    given = [
        (delta, statement, b"".join(leaf), second.path(hashes, 0)),
        (bravo, bravo.statement, b"".join(bravo.leaves[0]), second.path(bravo.hashes, 0)),
    ]
    for case, (accused, root_signed, shown, siblings) in zip(VECTORS["complaints"], given, strict=True):
        draws = bytes.fromhex("".join(case["draws"]))
        message = alpha.complaint(accused, root_signed, shown, siblings, draws)
        assert message.hex() == case["message"]
        assert judge_complaint(bytes.fromhex(case["proof"]), orchestra.membership()) == case["culprit"]


def opened_by_a_second_coordinator(alive: list[second.Player], dropped: list[second.Player]) -> str:
    """Removes the masks with nothing but revealed shares: three of four, which is the threshold."""
    total = [sum(column) for column in zip(*(player.y for player in alive), strict=True)]
    size = 2 * len(total)

    def add(key: bytes, sign: int) -> None:
        for index, value in enumerate(second.elements(second.ctr(key, size), 2)):
            total[index] += sign * value

    def seed(owner: second.Player, which: int) -> bytes:
        shares = {x: owner.given[p.me][which] for x, p in enumerate(owner.players, 1) if p in alive}
        return second.recover({x: int.from_bytes(v, "big") for x, v in shares.items()}).to_bytes(32, "big")

    for player in alive:
        add(second.derive(seed(player, 0), player.r, "self", player.me.encode()), -1)
    for player in dropped:
        player.s = second.derive(seed(player, 1), player.ctx, "s", player.me.encode())
        peers = [other for other in player.players if other is not player]
        for peer, (key, sign) in zip(peers, player.masks()[1:], strict=True):
            if peer in alive:
                # What the dropped member would have contributed itself is what cancels its peer's.
                add(key, sign)
    return b"".join((value % 65536).to_bytes(2, "little") for value in total).hex()


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: str(case["what"]))
def test_every_message_that_must_be_refused_is_refused_by_its_label(
    case: dict[str, str], orchestra: ModuleType
) -> None:
    alpha, _ = orchestra.session("alpha")
    member = VECTORS["members"]["alpha"]
    alpha.advertise()

    def quantised() -> Any:
        update = np.array(member["update"], np.float32)
        statistics = MaskedStatistics(loss=member["loss"], examples=member["examples"])
        draws = orchestra.Draws("dither alpha")
        return orchestra.context().quantiser.quantise(update, member["weight"], statistics, draws)

    steps = {
        "share": (alpha.share, VECTORS["roster"]["encoded"]),
        "upload": (lambda message: list(alpha.upload(message, quantised())), member["delivery"]),
        "survivors": (alpha.survivors, VECTORS["claim"]["encoded"]),
        "unmask": (lambda message: alpha.unmask(message, quantised()), member["opening"]),
    }
    for phase, (step, message) in steps.items():
        if phase == case["phase"]:
            with pytest.raises(SecaggError) as refused:
                step(bytes.fromhex(case["message"]))
            assert refused.value.label == case["refusal"]
            return
        step(bytes.fromhex(message))
