"""Who a TLS certificate speaks for.

A certificate of the federation carries two URIs in its subject alternative name:

    sordino://<federation>/<member|coordinator>/<name>     who it is
    sordino-identity:<sha-256 of the identity key, hex>    under which Ed25519 key it was requested

The second binds the short-lived certificate to the charter: when a party is retired, or comes back under another
key, a certificate that was issued before is refused at the next message, though TLS would still take it.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import cast

from cryptography import x509

from sordino_platform.charter import Charter, Role
from sordino_privacy.errors import LinkError

MAX_CERTIFICATE_BYTES = 16 << 10
_NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PEER = re.compile(rf"sordino://({_NAME})/(member|coordinator)/({_NAME})", re.ASCII)
_IDENTITY = re.compile(r"sordino-identity:([0-9a-f]{64})", re.ASCII)


def peer_uri(federation: str, role: Role, name: str) -> str:
    """The URI of a party."""
    return f"sordino://{federation}/{role}/{name}"


def identity_uri(identity_key: bytes) -> str:
    """The URI that binds a certificate to an Ed25519 public key."""
    return f"sordino-identity:{hashlib.sha256(identity_key).hexdigest()}"


def peer_name(certificate: bytes | str, federation: str) -> tuple[Role, str]:
    """`(role, name)` of the party that a certificate (PEM) was issued to.

    TLS has verified the chain when this is called; this reads the name only. Raises LinkError for a certificate of
    another federation, or one that does not name exactly one party.
    """
    role, name, _ = _parse(certificate, federation)
    return role, name


def admit(certificate: bytes | str, charter: Charter, *, now: datetime | None = None) -> tuple[Role, str]:
    """`(role, name)`, if the charter still has that party, under the identity key of this certificate.

    Call it for every message, with the newest charter: that is what makes a retirement effective at the next message
    rather than at the next handshake. Raises LinkError, also for a certificate that expired while the link was open.
    """
    role, name, parsed = _parse(certificate, charter.federation)
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
    if identity_uri(key) not in _uris(parsed):
        raise LinkError(
            f"the certificate of {name!r} belongs to another identity key than the charter's",
            hint="the key was replaced: that party requests a certificate with its present key",
        )
    return role, name


def _parse(certificate: bytes | str, federation: str) -> tuple[Role, str, x509.Certificate]:
    data = certificate.encode("ascii", "replace") if isinstance(certificate, str) else certificate
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise LinkError("the peer's certificate is too large")
    try:
        parsed = x509.load_pem_x509_certificate(data)
        found = [match.groups() for uri in _uris(parsed) if (match := _PEER.fullmatch(uri))]
    except (ValueError, x509.InvalidVersion):
        raise LinkError("the peer's certificate cannot be read") from None
    if len(found) != 1:
        raise LinkError("the peer's certificate does not name one party of a federation")
    theirs, role, name = found[0]
    if theirs != federation:
        raise LinkError(
            f"the peer's certificate is of the federation {theirs!r}, not {federation!r}",
            hint="check which coordinator this machine connects to",
        )
    return cast(Role, role), name, parsed


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
