"""The identity's key: handed about as what signs, never as bytes."""

from __future__ import annotations

import copy
import hashlib
import pickle
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.secagg.federation import PHASES, Federation, membership

from sordino_privacy.signing import KeySigner

ROOT = Path(__file__).parents[2]
# Who may turn a private key into bytes: what writes a key's file, and TLS, whose library takes PEM.
MAY = {"platform/sordino_platform/keys.py", "platform/sordino_platform/link/probe.py"}


def test_a_signer_signs_what_its_public_key_verifies() -> None:
    signer = KeySigner.generate()
    signature = signer.sign(b"message")
    assert len(signature) == 64
    Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signature, b"message")


def test_a_signing_key_is_neither_shown_nor_pickled_and_a_copy_is_itself() -> None:
    private = hashlib.sha256(b"a key").digest()
    signer = KeySigner.of(private)
    assert private.hex() not in repr(signer)
    assert repr(private) not in repr(signer)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(signer)
    assert copy.copy(signer) is copy.deepcopy(signer) is signer


def test_the_snapshot_of_a_members_session_never_holds_the_key_of_its_identity() -> None:
    federation = Federation(membership(5))
    message, present, seen = None, list(federation.names), 0
    for phase in PHASES:
        message = federation.step(phase, message, present)
        for name in present:
            private = hashlib.sha256(b"identity of " + name.encode()).digest()
            assert private not in federation.members[name].snapshot_with_secrets()
            seen += 1
    assert seen == len(PHASES) * len(present)


def test_no_other_module_of_the_product_turns_a_private_key_into_bytes() -> None:
    takes = re.compile(r"\.private_bytes(_raw)?\(")
    found = {
        str(path.relative_to(ROOT))
        for room in ("platform", "client", "coordinator", "privacy")
        for path in (ROOT / room).rglob("*.py")
        if takes.search(path.read_text(encoding="utf-8"))
    }
    assert found == MAY
