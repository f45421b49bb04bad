"""Private keys on disk, and fingerprints that people compare by voice.

Two kinds of key exist in a federation. *Identity* keys are Ed25519: they sign charters, protocol messages and
releases. *TLS* keys are ECDSA P-256, because gRPC's TLS refuses Ed25519 certificates; an identity key signs the
request for each. Both are PKCS#8 PEM in files of mode 0600. A file that others can read is refused, not repaired.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sordino_platform.canonical import document_digest
from sordino_platform.durable import read_secret, write_file
from sordino_privacy.errors import ConfigurationError, UsageError
from sordino_privacy.signing import KeySigner

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
Passphrase = Callable[[], str]
FINGERPRINT_LABEL = "sordino-fingerprint/1"


def public_bytes(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """The 32 bytes of the public key (RFC 8032)."""
    return (key.public_key() if isinstance(key, Ed25519PrivateKey) else key).public_bytes_raw()


def fingerprint(public_key: bytes) -> str:
    """The whole SHA-256 of a public key in base32, in thirteen groups of four. It can be read aloud and is never
    shortened."""
    text = base64.b32encode(document_digest(FINGERPRINT_LABEL, public_key)).decode().rstrip("=").lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def parse_fingerprint(text: str) -> str:
    """The standard form of a fingerprint that a person typed (any case, any spacing). Raises UsageError."""
    letters = "".join(text.replace("-", "").split()).lower()
    if len(letters) != 52 or set(letters) - set("abcdefghijklmnopqrstuvwxyz234567"):
        raise UsageError(
            "that is not a fingerprint: it has 52 letters and digits 2-7, in groups of four",
            hint="`sordino charter show` prints it on the machine that holds the root key",
        )
    return "-".join(letters[start : start + 4] for start in range(0, 52, 4))


def private_pem(key: PrivateKey, passphrase: str = "") -> bytes:
    """PKCS#8 PEM, encrypted when a passphrase is given."""
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def save_private_key(path: Path, key: PrivateKey, *, passphrase: str = "") -> None:
    """Writes a new key file, mode 0600. An existing file is never replaced."""
    write_file(path, private_pem(key, passphrase), secret=True, replace=False)


def load_identity_key(path: Path, *, passphrase: Passphrase | None = None) -> KeySigner:
    """The Ed25519 key in a file, as a signer. `passphrase` is called only when the file is encrypted.

    Raises ConfigurationError for a file that others can read, that holds another kind of key, or that cannot be opened.
    """
    key = parse_private_key(read_secret(path), what=str(path), passphrase=passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} does not hold an Ed25519 key")
    return KeySigner(key)


def load_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """An ECDSA P-256 key from its file; raises as `load_identity_key` does."""
    return require_p256(parse_private_key(read_secret(path), what=str(path)), what=str(path))


def require_p256(key: PrivateKey, *, what: str) -> ec.EllipticCurvePrivateKey:
    """`key`, if it is an ECDSA key on P-256."""
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"{what} does not hold an ECDSA P-256 key")
    return key


def parse_private_key(pem: bytes, *, what: str, passphrase: Passphrase | None = None) -> PrivateKey:
    """A key from PEM. Error messages name the source (`what`), never the content."""
    secret = None
    if b"BEGIN ENCRYPTED PRIVATE KEY" in pem:
        if passphrase is None:
            raise ConfigurationError(f"{what} is protected by a passphrase, and none was asked for")
        secret = passphrase().encode()
    try:
        key = load_pem_private_key(pem, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = "the passphrase is wrong" if secret is not None else "it is damaged or of an unknown kind"
        raise ConfigurationError(f"{what} cannot be opened: {reason}") from None
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{what} holds a key of a kind that is not used here")
    return key
