"""The certificates that the root issued: one file for each approved request, so that a request yields only one
certificate.

    issued/member.acme.20260102T030405Z.0123...abcd.pem      role, name, when the request was made, its hash

The file names make it possible to refuse a replay. A request that is older than the party's newest approved one is
refused, unless it was approved before: then it gets the same certificate again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from sordino_platform.canonical import document_digest
from sordino_platform.charter import Charter
from sordino_platform.durable import locked, make_folder, read_file, write_file
from sordino_platform.identity.certificates import CLOCK_TOLERANCE, issue
from sordino_platform.identity.enrolment import Card, EnrolmentRequest
from sordino_platform.identity.renewal import REQUEST_AGE
from sordino_platform.keys import load_tls_key
from sordino_privacy.errors import ConfigurationError

ISSUED = "issued"
MAX_CERTIFICATE_BYTES = 16 << 10


def require_federation(card: Card, federation: str) -> None:
    """Raises ConfigurationError for the card of a party in another federation."""
    if card.federation != federation:
        raise ConfigurationError(f"the request is for the federation {card.federation!r}, not {federation!r}")


def require_issuable(request: EnrolmentRequest, charter: Charter, *, now: datetime) -> None:
    """Checks that a verified request comes from a party of this charter and is recent. Pure.

    Raises ConfigurationError for a charter that is not in force, another federation, a party that the charter does not
    have under this identity key, and a request that is too old or from the future.
    """
    card, made_at = request.body.card, request.body.made_at
    charter.require_current(now)
    require_federation(card, charter.federation)
    if charter.identity_key(card.role, card.name) != card.identity_key:
        raise ConfigurationError(
            f"epoch {charter.epoch} has no {card.role} {card.name!r} with this identity key",
            hint="`sordino charter add` the request and `sordino charter sign` first; a retired key never comes back",
        )
    if not -REQUEST_AGE <= made_at - now <= CLOCK_TOLERANCE:
        raise ConfigurationError(
            f"the request of {card.name!r} was made at {made_at:%Y-%m-%d %H:%M} UTC, too far from now",
            hint="`sordino identity renew` makes a new one; check the clocks of both machines",
        )


def issued_certificate(
    folder: Path,
    request: EnrolmentRequest,
    charter: Charter,
    *,
    authority_key: Path,
    now: datetime,
    validity: timedelta,
) -> str:
    """The certificate (PEM) for a verified request. If the request was approved before, it is the same certificate.

    `folder` is the root folder, `authority_key` the file of the TLS authority's key, which is read only for a new
    certificate. Raises ConfigurationError for everything that `require_issuable` refuses, and for a replay.
    """
    require_issuable(request, charter, now=now)
    card, when = request.body.card, f"{request.body.made_at:%Y%m%dT%H%M%SZ}"
    which = document_digest("sordino-issued/1", request.to_bytes()).hex()[:32]
    make_folder(folder / ISSUED)
    with locked(folder / ISSUED):
        path = folder / ISSUED / f"{card.role}.{card.name}.{when}.{which}.pem"
        if path.exists():
            return read_file(path, limit=MAX_CERTIFICATE_BYTES).decode("ascii", "replace")
        earlier = [p.name.split(".")[2] for p in (folder / ISSUED).glob(f"{card.role}.{card.name}.*.pem")]
        if earlier and max(earlier) > when:
            raise ConfigurationError(
                f"a newer request of {card.name!r} was approved already",
                hint="this one was replayed or arrived late; `sordino identity renew` makes a new one",
            )
        certificate = issue(
            load_tls_key(authority_key), charter, request, now=now, validity=validity
        ).public_bytes(Encoding.PEM)
        write_file(path, certificate, replace=False)
    return certificate.decode("ascii")
