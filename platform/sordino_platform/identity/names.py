"""Whom a TLS certificate identifies.

A certificate of the federation carries three URIs in its subject alternative name:

    sordino://<federation>/<member|coordinator>/<name>     who it is
    sordino-identity:<sha-256 of the identity key, hex>    under which Ed25519 key it was requested
    sordino-endorsement:<Ed25519 signature, hex>           of that key, over who it is and over the TLS key

The second binds the short-lived certificate to the charter: when a party is retired, or comes back with another key,
its earlier certificates are refused at the next message, although TLS would still accept them. The third shows that the
party chose this TLS key. If it is present, it must be valid. In a certificate of the renewal authority, which is
online, it must be present. So somebody who holds only that authority's key can extend certificates but can impersonate
nobody. (Certificates of the federation's own authority from before endorsements have none.)
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sordino_platform.charter import Charter, Role
from sordino_privacy.errors import LinkError
from sordino_privacy.signing import Signer

MAX_CERTIFICATE_BYTES = 16 << 10
REMEMBERED = 4096
"""How many certificates are cached: enough for a thousand members that renew theirs regularly."""
_NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PEER = re.compile(rf"sordino://({_NAME})/(member|coordinator)/({_NAME})", re.ASCII)
_ENDORSEMENT = re.compile(r"sordino-endorsement:([0-9a-f]{128})", re.ASCII)
ENDORSEMENT_LABEL = b"sordino-tls-key/1"


def peer_uri(federation: str, role: Role, name: str) -> str:
    """The URI of a party."""
    return f"sordino://{federation}/{role}/{name}"


def identity_uri(identity_key: bytes) -> str:
    """The URI that binds a certificate to an Ed25519 public key."""
    return f"sordino-identity:{hashlib.sha256(identity_key).hexdigest()}"


def endorsement_uri(endorsement: bytes) -> str:
    """The URI that carries an endorsement."""
    return f"sordino-endorsement:{endorsement.hex()}"


def endorse(
    identity: Signer, federation: str, role: Role, name: str, tls: ec.EllipticCurvePublicKey
) -> bytes:
    """The identity key's signature that says that this TLS key belongs to the party."""
    return identity.sign(_endorsed(federation, role, name, tls))


def is_endorsed(
    endorsement: bytes,
    identity_key: bytes,
    federation: str,
    role: Role,
    name: str,
    tls: ec.EllipticCurvePublicKey,
) -> bool:
    """Whether `identity_key` (32 bytes) signed that this TLS key belongs to the party."""
    try:
        key = Ed25519PublicKey.from_public_bytes(identity_key)
        key.verify(endorsement, _endorsed(federation, role, name, tls))
    except (InvalidSignature, ValueError):
        return False
    return True


def _endorsed(federation: str, role: Role, name: str, tls: ec.EllipticCurvePublicKey) -> bytes:
    # The URI contains no NUL, and the key is the rest, so the bytes can be read in only one way.
    uri = peer_uri(federation, role, name).encode("ascii")
    return ENDORSEMENT_LABEL + b"\x00" + uri + b"\x00" + public_key_info(tls)


def public_key_info(key: ec.EllipticCurvePublicKey) -> bytes:
    """The TLS public key in the form that certificates use (SubjectPublicKeyInfo, DER)."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def peer_name(certificate: bytes | str, federation: str) -> tuple[Role, str]:
    """`(role, name)` of the party that a certificate (PEM) was issued to.

    TLS has already verified the chain; this only reads the name. Raises LinkError for a certificate of another
    federation, or one that does not name exactly one party.
    """
    presented = _parse(_bytes(certificate), federation)
    return presented.role, presented.name


def admit(certificate: bytes | str, charter: Charter, *, now: datetime | None = None) -> tuple[Role, str]:
    """`(role, name)`, if the charter still has that party with the identity key of this certificate.

    Call it for every message, with the newest charter. Then a retirement takes effect at the next message, not only at
    the next handshake. Raises LinkError, also for a certificate that expired while the link was open.
    """
    data = _bytes(certificate)
    presented = _parse(data, charter.federation)
    role, name, parsed = presented.role, presented.name, presented.certificate
    moment = now or datetime.now(UTC)
    if not parsed.not_valid_before_utc <= moment <= parsed.not_valid_after_utc:
        raise LinkError(
            f"the certificate of {name!r} is not valid now (until {parsed.not_valid_after_utc:%Y-%m-%d %H:%M} UTC)",
            hint="`sordino identity renew` asks for a new one; check the clock of both machines too",
        )
    key = charter.identity_key(role, name)
    if key is None:
        raise LinkError(
            f"{name!r} is not a {role} of {charter.federation} in epoch {charter.epoch}",
            hint="it was retired, or never joined; `sordino charter show` lists who takes part",
        )
    if identity_uri(key) not in presented.uris:
        raise LinkError(
            f"the certificate of {name!r} belongs to another identity key than the charter's",
            hint="the key was replaced: that party requests a certificate with its present key",
        )
    _require_endorsed(data, charter.federation, key, charter.tls_authority.certificate)
    return role, name


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedCertificate:
    """The contents of a certificate: its party, and all its URIs."""

    role: Role
    name: str
    uris: tuple[str, ...]
    certificate: x509.Certificate


# A link calls this for every message. What depends only on the certificate's bytes is computed once and cached. The
# date, and the charter's parties and keys, are checked each time. A refusal is never cached.


@lru_cache(maxsize=REMEMBERED)
def _require_endorsed(data: bytes, federation: str, identity_key: bytes, authority: str) -> None:
    """Raises LinkError for a wrong endorsement, and for a missing one unless the federation's `authority` (PEM) issued
    the certificate."""
    presented = _parse(data, federation)
    certificate, role, name = presented.certificate, presented.role, presented.name
    found = [match[1] for uri in presented.uris if (match := _ENDORSEMENT.fullmatch(uri))]
    offline = certificate.issuer == x509.load_pem_x509_certificate(authority.encode()).subject
    if offline and not found:
        return
    tls = certificate.public_key()
    if (
        len(found) != 1
        or not (offline or role == "member")
        or not isinstance(tls, ec.EllipticCurvePublicKey)
        or not is_endorsed(bytes.fromhex(found[0]), identity_key, federation, role, name, tls)
    ):
        raise LinkError(
            f"the TLS key of this certificate was not endorsed by the identity key of {name!r}",
            hint="`sordino identity renew` asks for one that is; if you did that, the key of an authority is abused",
        )


def _bytes(certificate: bytes | str) -> bytes:
    data = certificate.encode("ascii", "replace") if isinstance(certificate, str) else certificate
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise LinkError("the peer's certificate is too large")
    return data


@lru_cache(maxsize=REMEMBERED)
def _parse(data: bytes, federation: str) -> PresentedCertificate:
    try:
        parsed = x509.load_pem_x509_certificate(data)
        uris = tuple(_uris(parsed))
    except (ValueError, x509.InvalidVersion):
        raise LinkError("the peer's certificate cannot be read") from None
    found = [match.groups() for uri in uris if (match := _PEER.fullmatch(uri))]
    if len(found) != 1:
        raise LinkError("the peer's certificate does not name one party of a federation")
    theirs, role, name = found[0]
    if theirs != federation:
        raise LinkError(
            f"the peer's certificate is of the federation {theirs!r}, not {federation!r}",
            hint="check which coordinator this machine connects to",
        )
    return PresentedCertificate(role=cast(Role, role), name=name, uris=uris, certificate=parsed)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
