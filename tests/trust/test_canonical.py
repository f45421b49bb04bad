"""The signature construction, rebuilt here from the specification alone, and its separation by label."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sordino_platform.canonical import document_digest, require_signature, sign
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.signing import KeySigner

KEY = KeySigner.of(bytes(range(32)))


def specified_digest(label: bytes, data: bytes) -> bytes:
    return hashlib.sha256(
        len(label).to_bytes(8, "big") + label + len(data).to_bytes(8, "big") + data
    ).digest()


def test_hash_and_signature_are_the_specified_ones() -> None:
    label, data = "sordino-charter/1", b'{\n "a": 1\n}\n'
    assert document_digest(label, data) == specified_digest(label.encode(), data)
    message = b"sordino-charter/1/signature\0" + specified_digest(label.encode(), data)
    Ed25519PublicKey.from_public_bytes(KEY.public_key).verify(sign(KEY, label, data), message)


def test_a_signature_for_one_purpose_is_none_for_another() -> None:
    signature = sign(KEY, "sordino-charter/1", b"data")
    require_signature(KEY.public_key, "sordino-charter/1", b"data", signature, what="it")
    for label, data in (
        ("sordino-release/1", b"data"),
        ("sordino-charter/1", b"datb"),
        ("sordino-charter/", b"1data"),
    ):
        with pytest.raises(ConfigurationError, match="signature of it is wrong"):
            require_signature(KEY.public_key, label, data, signature, what="it")


def test_the_boundary_between_label_and_data_cannot_move() -> None:
    assert document_digest("ab", b"c") != document_digest("a", b"bc")
