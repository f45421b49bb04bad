"""Foreign bytes: every decoder takes its canonical encoding and refuses everything else with its own error, bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.federation import Federation, membership

from sordino_privacy.secagg import MalformedError, Quantised, RoundContext, SecaggError
from sordino_privacy.secagg.encoding import MAX_MESSAGE_BYTES, MessageReader, Writer
from sordino_privacy.secagg.evidence import Evidence
from sordino_privacy.secagg.member.state import SessionState
from sordino_privacy.secagg.muster import Draw, MusterAnswer, sketch_of, sounding
from sordino_privacy.secagg.roster import Advertisement
from sordino_privacy.secagg.shares import Delivery, Shares
from sordino_privacy.secagg.survivors import Assent, Claim, Opening, Reveal
from sordino_privacy.secagg.transcript import Record
from sordino_privacy.secagg.upload import UploadHeader, UploadReceipt
from sordino_privacy.signing import KeySigner

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "secagg-2.json").read_text())
ALPHA = VECTORS["members"]["alpha"]
PUBLIC = bytes.fromhex(ALPHA["identity_public"])
SIGNING = KeySigner.of(bytes.fromhex(ALPHA["identity_key"]))


@cache
def snapshot() -> bytes:
    federation = Federation(membership(3))
    federation.until("survivors")
    return federation.members["member-0000"].snapshot_with_secrets()


@cache
def kept() -> bytes:
    return Federation(membership(3)).updates["member-0000"].encode()


DECODERS: dict[str, tuple[Callable[[], bytes], Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    "context": (
        lambda: bytes.fromhex(VECTORS["context"]["encoded"]),
        RoundContext.decode,
        RoundContext.encode,
    ),
    "advertisement": (
        lambda: bytes.fromhex(ALPHA["advertisement"]),
        Advertisement.decode,
        Advertisement.encode,
    ),
    "shares": (lambda: bytes.fromhex(ALPHA["shares"]), Shares.decode, Shares.encode),
    "delivery": (
        lambda: bytes.fromhex(ALPHA["delivery"]),
        lambda m: Delivery.decode(m, "alpha"),
        Delivery.encode,
    ),
    "header": (lambda: bytes.fromhex(ALPHA["upload"][0]), UploadHeader.decode, UploadHeader.encode),
    "receipt": (lambda: bytes.fromhex(ALPHA["upload"][-1]), UploadReceipt.decode, UploadReceipt.encode),
    "claim": (lambda: bytes.fromhex(VECTORS["claim"]["encoded"]), Claim.decode, Claim.encode),
    "assent": (lambda: bytes.fromhex(ALPHA["assent"]), Assent.decode, Assent.encode),
    "opening": (lambda: bytes.fromhex(ALPHA["opening"]), Opening.decode, Opening.encode),
    "reveal": (
        lambda: bytes.fromhex(ALPHA["reveal"]),
        lambda m: Reveal.decode(m, PUBLIC),
        lambda reveal: reveal.encode_signed(SIGNING),
    ),
    "presence": (
        lambda: bytes.fromhex(VECTORS["muster"]["members"]["alpha"]["presence"]),
        MusterAnswer.decode,
        MusterAnswer.encode,
    ),
    "draw": (lambda: bytes.fromhex(VECTORS["muster"]["draw"]), Draw.decode, Draw.encode),
    "sounding": (
        lambda: bytes.fromhex(VECTORS["muster"]["members"]["alpha"]["sounding"]),
        sketch_of,
        sounding,
    ),
    "evidence of a muster": (
        lambda: bytes.fromhex(VECTORS["muster"]["evidence"]),
        Evidence.decode,
        Evidence.encode,
    ),
    "record": (lambda: bytes.fromhex(VECTORS["transcript"]["record"]), Record.decode, Record.encode),
    "snapshot": (snapshot, SessionState.decode, SessionState.encode),
    "quantised": (kept, Quantised.decode, Quantised.encode),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_what_is_decoded_encodes_to_the_same_bytes(kind: str) -> None:
    make, decode, encode = DECODERS[kind]
    assert encode(decode(make())) == make()


@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mangled_bytes_are_refused_or_are_the_canonical_encoding_of_something_else(
    kind: str, data: st.DataObject
) -> None:
    make, decode, encode = DECODERS[kind]
    message = bytearray(make())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(message)))
        cut = data.draw(st.integers(0, 8))
        message[at : at + cut] = data.draw(st.binary(max_size=8))
    try:
        decoded = decode(bytes(message))
    except SecaggError:
        return
    assert encode(decoded) == bytes(message)


@pytest.mark.parametrize("kind", DECODERS)
@given(junk=st.binary(max_size=300))
@settings(max_examples=30, deadline=None)
def test_junk_after_a_true_head_is_refused_before_anything_large_is_allocated(kind: str, junk: bytes) -> None:
    make, decode, encode = DECODERS[kind]
    head = make()[:17]
    try:
        decoded = decode(head + junk)
    except SecaggError:
        return
    assert encode(decoded) == head + junk


def test_lists_names_texts_and_fields_have_their_bounds() -> None:
    with pytest.raises(MalformedError, match="above the limit"):
        MessageReader(Writer(1).u16(10_001).done(), 1).count()
    with pytest.raises(MalformedError, match="above the limit"):
        MessageReader(Writer(1).u32(11).done(), 1).blob(limit=10)
    with pytest.raises(MalformedError, match="above the limit"):
        MessageReader(bytes(MAX_MESSAGE_BYTES + 1), 1)
    for name in ("", "-a", "a-", "A", "a" * 64, "a_b", "a b"):
        with pytest.raises(MalformedError, match="name"):
            MessageReader(Writer(1).text(name).done(), 1).name()
    with pytest.raises(MalformedError, match="printable"):
        MessageReader(Writer(1).text("a\nb").done(), 1).text()
    with pytest.raises(MalformedError, match="type 2"):
        MessageReader(Writer(1).done(), 2)
    with pytest.raises(MalformedError, match="sorted"):
        MessageReader(Writer(1).u16(2).name("b").name("a").done(), 1).names()
