"""Keys and certificates of the link, read once and checked before gRPC sees them.

gRPC's own answer to a wrong file is `Socket closed`; the checks here say which file and what to do. TLS 1.2 or 1.3
(gRPC's floor), ECDSA P-256 keys because gRPC's TLS refuses Ed25519. Both sides always show a certificate.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sordino_privacy.errors import LinkError

MAX_PEM_BYTES = 256 * 1024


def read_pem(path: Path, what: str) -> bytes:
    """The bytes of a PEM file. Raises LinkError when it is missing, unreadable or too large for a PEM file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as problem:
        raise LinkError(
            f"cannot read {what} {path}: {problem.strerror}",
            hint="check the path and its permissions, or make an identity: sordino identity new --help",
        ) from None
    if len(data) > MAX_PEM_BYTES:
        raise LinkError(f"{what} {path} is too large for a PEM file", hint="give the .pem file itself")
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """One side's TLS material: PEM bytes of its key, its certificate (chain), and the CAs that it trusts.

    `issuers` are the CAs that may have issued the own certificate, if they differ from the CAs that it trusts. Raises
    LinkError when a part is not PEM, the key is not P-256, or the key does not belong to the certificate.
    """

    key: bytes = field(repr=False)
    certificate: bytes
    ca: bytes
    issuers: bytes = b""

    def __post_init__(self) -> None:
        try:
            key = load_pem_private_key(self.key, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise LinkError(
                "the TLS key is not an unencrypted PEM private key",
                hint="make a new one: sordino identity new --help",
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise LinkError(
                "the TLS key is not an ECDSA P-256 key",
                hint="the TLS key is another file than the Ed25519 identity key; see sordino identity new --help",
            )
        own = certificate_of(self.certificate, "the own certificate")
        certificate_of(self.ca, "the federation's CA certificate")
        if own.public_key() != key.public_key():
            raise LinkError(
                "the TLS key does not belong to the certificate",
                hint="give the certificate that was issued for this key, or renew it: sordino identity renew --help",
            )

    @classmethod
    def load(cls, *, key: Path, certificate: Path, ca: Path) -> Self:
        """Reads the three PEM files. Raises LinkError as the class does, or when a file cannot be read."""
        return cls(
            key=read_pem(key, "the TLS key"),
            certificate=read_pem(certificate, "the certificate"),
            ca=read_pem(ca, "the CA certificate"),
        )


class ClientTls(Tls):
    """A member's TLS material."""

    __slots__ = ()


class ServerTls(Tls):
    """A coordinator's TLS material."""

    __slots__ = ()


ClientTlsSource: TypeAlias = ClientTls | Callable[[], ClientTls]
"""A function is called at each connection, so that a renewed certificate needs no restart."""
ServerTlsSource: TypeAlias = ServerTls | Callable[[], ServerTls]
"""A function is called at each handshake, so that a renewed certificate needs no restart."""


def certificate_of(pem: bytes, what: str) -> x509.Certificate:
    """The first certificate of a PEM text. Raises LinkError when there is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise LinkError(
            f"{what} is not a PEM certificate", hint="ask the federation's operator for the right file"
        ) from None


def expiry_of(pem: bytes) -> datetime.datetime:
    """When the first certificate of a PEM text expires (aware, UTC). Raises LinkError when there is none."""
    return certificate_of(pem, "the peer's certificate").not_valid_after_utc
