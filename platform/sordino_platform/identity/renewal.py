"""Automatic renewal: when a certificate is due, and the box at the coordinator where requests wait for an approver.

    member        `is_due`, `site.renewal_request`      the request is sent over the link until it is answered
    coordinator   `RenewalBox.ask`                      keeps it; gives the certificate back when it is there
    approver      `RenewalBox.bundle` -> `authority.approve_all` -> `RenewalBox.deliver`

<coordinator>/renewals/
  requests/member.alder.json        the newest request of each party, one each
  certificates/member.alder.pem     the certificate that was issued for it
  authority.key authority.pem       if the charter has an online authority on this coordinator's machine

The charter bounds the number of waiting requests: one of at most 32 KiB for each party of the newest epoch. Requests of
parties that left are removed. Only verified requests are kept, so an attacker could only cost time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field

from sordino_platform.canonical import Document, Name, decode
from sordino_platform.charter import Charter, Role, TlsAuthority
from sordino_platform.charter.document import MAX_CHARTER_BYTES
from sordino_platform.durable import locked, make_folder, read_file, write_file
from sordino_platform.identity import site
from sordino_platform.identity.certificates import (
    CLOCK_TOLERANCE,
    authority_certificate,
    issue,
)
from sordino_platform.identity.enrolment import MAX_REPLY_BYTES, MAX_REQUEST_BYTES, EnrolmentRequest
from sordino_platform.identity.names import admit, public_key_info
from sordino_platform.issued import issued_by
from sordino_platform.keys import load_tls_key, save_private_key
from sordino_privacy.errors import ConfigurationError, LinkError
from sordino_privacy.secagg.encoding import MAX_MEMBERS

FOLDER: Final = "renewals"
REQUESTS: Final = "requests"
CERTIFICATES: Final = "certificates"
AUTHORITY_KEY: Final = "authority.key"
AUTHORITY_PEM: Final = "authority.pem"
MAX_CERTIFICATE_BYTES: Final = 16 << 10
MAX_BUNDLE_BYTES: Final = MAX_REPLY_BYTES
REQUEST_AGE: Final = timedelta(days=14)
WARN_DAYS: Final = (30, 7, 1)


def is_due(tls: site.TlsCredentials, now: datetime) -> bool:
    """Whether to ask for a new certificate: when a third of its life is left (RFC 7030 and ACME clients do the
    same)."""
    return 3 * tls.remaining(now) <= tls.lifetime


def warned_days(tls: site.TlsCredentials, now: datetime) -> int | None:
    """30, 7 or 1: the smallest of these for which at most that many days are left; 0 when it has expired; None when all
    is well.

    A warning in the first half of a certificate's life would be useless and is left out: a certificate of 30 days warns
    at 7 and at 1.
    """
    left = tls.remaining(now)
    if left <= timedelta(0):
        return 0
    reached = [
        days
        for days in WARN_DAYS
        if left <= timedelta(days=days) and 2 * timedelta(days=days) <= tls.lifetime
    ]
    return min(reached, default=None)


def ending(tls: site.TlsCredentials, now: datetime) -> str:
    """The warning of `warned_days` in words; empty when all is well."""
    days = warned_days(tls, now)
    if days is None:
        return ""
    return "the certificate has expired" if days == 0 else f"the certificate ends within {days} day(s)"


class RenewalRequests(Document):
    """The file for the approver: every waiting request."""

    version: Literal["sordino-renewals/1"] = "sordino-renewals/1"
    requests: tuple[EnrolmentRequest, ...] = Field(max_length=MAX_MEMBERS + 1)

    @classmethod
    def parse(cls, data: bytes, *, what: str = "the requests") -> RenewalRequests:
        """From untrusted bytes. Each request is verified when it is approved."""
        return decode(cls, data, limit=MAX_BUNDLE_BYTES, what=what)


class Issued(Document):
    """One certificate of a bundle, and its party."""

    role: Role
    name: Name
    certificate: str = Field(max_length=8192)


class RenewalReply(Document):
    """The approver's answer: certificates, and every charter once. Nothing in it is secret."""

    version: Literal["sordino-renewed/1"] = "sordino-renewed/1"
    certificates: tuple[Issued, ...] = Field(max_length=MAX_MEMBERS + 1)
    charters: tuple[Annotated[str, Field(max_length=MAX_CHARTER_BYTES)], ...] = Field(max_length=4096)

    @classmethod
    def parse(cls, data: bytes, *, what: str = "the renewals") -> RenewalReply:
        """From untrusted bytes. Its parts are verified when they are delivered."""
        return decode(cls, data, limit=MAX_BUNDLE_BYTES, what=what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that has no certificate yet."""

    role: Role
    name: str
    organisation: str
    made_at: datetime


class RenewalBox:
    """See the module's docstring. `folder` is the coordinator's own. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._identity = site.Identity.load(folder)
        self._charters = self._identity.charters
        self._folder = folder / FOLDER

    def ask(self, data: bytes, *, sender: str, now: datetime) -> str | None:
        """Keeps the renewal that came over the link of the member `sender`; returns its certificate once there is one.

        The same request may come many times. Raises ConfigurationError for a request that is not this member's own, not
        verified, or too old.
        """
        request = EnrolmentRequest.parse(data, what=f"the renewal of {sender}")
        card = request.body.card
        if (card.role, card.name) != ("member", sender):
            raise ConfigurationError(f"{sender} asked for the certificate of {card.name}")
        return self._keep(request, data, now)

    def ask_own(self, now: datetime) -> None:
        """Puts the coordinator's own request into the box, once its certificate is due."""
        if is_due(self._identity.tls(), now):
            data = site.renewal_request(self._identity.folder, now=now)
            self._keep(EnrolmentRequest.parse(data), data, now)

    def waiting(self) -> tuple[Waiting, ...]:
        """The names of parties that wait for a certificate."""
        return tuple(
            Waiting(
                role=request.body.card.role,
                name=request.body.card.name,
                organisation=request.body.card.organisation,
                made_at=request.body.made_at,
            )
            for request, _ in self._open()
        )

    def bundle(self) -> bytes:
        """All waiting requests, as one file for the approver."""
        return RenewalRequests(requests=tuple(request for request, _ in self._open())).to_bytes()

    def deliver(self, data: bytes, *, now: datetime) -> tuple[list[str], list[str]]:
        """Takes the approver's answer; returns the names that got a certificate, and why others did not.

        Each certificate is verified against the charter and the waiting request. The coordinator's own is used at once.
        Raises ConfigurationError for a file that is not such an answer, or charters that do not follow.
        """
        parsed = RenewalReply.parse(data)
        self._charters.accept_chain([text.encode("ascii", "replace") for text in parsed.charters])
        served: list[str] = []
        refused: list[str] = []
        with self._locked():
            for issued in parsed.certificates:
                try:
                    self._deliver(issued, now)
                except (ConfigurationError, LinkError) as problem:
                    refused.append(f"{issued.name}: {problem.message}")
                else:
                    served.append(issued.name)
        return served, refused

    def prune(self) -> None:
        """Removes the files of parties that are not in the newest epoch."""
        charter = self._charters.head().charter
        with self._locked():
            for path in [*self._files(REQUESTS), *self._files(CERTIFICATES)]:
                role, _, name = path.stem.partition(".")
                if charter.identity_key("coordinator" if role == "coordinator" else "member", name) is None:
                    path.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------ the authority that is online

    def make_authority(self, now: datetime) -> bytes:
        """Makes the key of an authority for renewals in this folder, which it never leaves; returns its certificate
        (PEM).

        It may issue nothing before a charter names it. Raises ConfigurationError when there is one already.
        """
        make_folder(self._folder)
        key = ec.generate_private_key(ec.SECP256R1())
        federation = self._charters.head().charter.federation
        certificate = authority_certificate(federation, key, now, what="renewals")
        save_private_key(self._folder / AUTHORITY_KEY, key)
        pem = certificate.public_bytes(Encoding.PEM)
        write_file(self._folder / AUTHORITY_PEM, pem)
        return pem

    def _renewed_here(self, request: EnrolmentRequest, charter: Charter, now: datetime) -> bytes | None:
        """The certificate that the authority in this folder issues, if the newest charter names that authority."""
        terms, path = charter.renewals, self._folder / AUTHORITY_KEY
        if terms is None or request.body.card.role != "member" or not path.exists():
            return None
        key, authority = load_tls_key(path), terms.authority.x509()
        if public_key_info(key.public_key()) != public_key_info(authority.public_key()):  # type: ignore[arg-type]
            return None  # the charter names the authority of another machine
        charter.require_current(now)
        validity = timedelta(days=terms.validity_days)
        issued = issue(key, charter, request, now=now, validity=validity, authority=authority)
        return issued.public_bytes(Encoding.PEM)

    # ------------------------------------------------------------------------------------------------- the files

    def _keep(self, request: EnrolmentRequest, data: bytes, now: datetime) -> str | None:
        card = request.body.card
        charter = self._charters.head().charter
        if (
            card.federation != charter.federation
            or charter.identity_key(card.role, card.name) != card.identity_key
        ):
            raise ConfigurationError(
                f"epoch {charter.epoch} has no {card.role} {card.name!r} with this identity key"
            )
        if not -REQUEST_AGE <= request.body.made_at - now <= CLOCK_TOLERANCE:
            raise ConfigurationError(
                f"the request of {card.name!r} was made at {request.body.made_at:%Y-%m-%d %H:%M} UTC, too far from now"
            )
        with self._locked():
            path = self._path(REQUESTS, card.role, card.name)
            held = self._held(path)
            if held is not None and held.body.made_at > request.body.made_at:
                raise ConfigurationError(f"a newer request of {card.name!r} waits already")
            if held != request:
                write_file(path, data)
            certificate = self._certificate_for(request)
            if certificate is None:
                certificate = self._renewed_here(request, charter, now)
                if certificate is not None:
                    write_file(self._path(CERTIFICATES, card.role, card.name), certificate)
        return None if certificate is None else certificate.decode("ascii")

    def _deliver(self, issued: Issued, now: datetime) -> None:
        request = self._held(self._path(REQUESTS, issued.role, issued.name))
        pem = issued.certificate.encode("ascii", "replace")
        charter = self._charters.head().charter
        if admit(pem, charter, now=now) != (issued.role, issued.name):
            raise ConfigurationError("the certificate is for another party")
        certificate = x509.load_pem_x509_certificate(pem)
        if not any(issued_by(certificate, by.x509()) for by in charter.issuers(issued.role)):
            raise ConfigurationError("the certificate was not issued by the federation's TLS authority")
        if request is None or not _matches(certificate, request):
            raise ConfigurationError(
                "the certificate answers another request than the one that waits",
                hint="approve what waits now: `sordino identity pending`",
            )
        write_file(self._path(CERTIFICATES, issued.role, issued.name), pem)
        if issued.role == "coordinator":
            site.install_certificate(self._identity.folder, issued.certificate, now=now)

    def _open(self) -> Iterator[tuple[EnrolmentRequest, Path]]:
        charter = self._charters.head().charter
        for path in self._files(REQUESTS):
            request = self._held(path)
            if request is None or self._certificate_for(request) is not None:
                continue
            card = request.body.card
            if charter.identity_key(card.role, card.name) == card.identity_key:
                yield request, path

    def _certificate_for(self, request: EnrolmentRequest) -> bytes | None:
        path = self._path(CERTIFICATES, request.body.card.role, request.body.card.name)
        if not path.exists():
            return None
        pem = read_file(path, limit=MAX_CERTIFICATE_BYTES)
        return pem if _matches(x509.load_pem_x509_certificate(pem), request) else None

    def _held(self, path: Path) -> EnrolmentRequest | None:
        if not path.exists():
            return None
        with contextlib.suppress(ConfigurationError):  # from an earlier version: its owner asks again
            return EnrolmentRequest.parse(read_file(path, limit=MAX_REQUEST_BYTES), what=str(path))
        return None

    def _path(self, kind: str, role: Role, name: str) -> Path:
        suffix = "json" if kind == REQUESTS else "pem"
        return self._folder / kind / f"{role}.{name}.{suffix}"  # a Name contains no dot and no slash

    def _files(self, kind: str) -> list[Path]:
        return sorted(path for path in (self._folder / kind).glob("*.*") if not path.name.startswith("."))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        for folder in (self._folder, self._folder / REQUESTS, self._folder / CERTIFICATES):
            make_folder(folder)
        with locked(self._folder):
            yield


def is_bundle(data: bytes) -> bool:
    """Whether these bytes begin like `RenewalRequests` and not like a single request. The keys are sorted, so the first
    one shows it."""
    return data.startswith(b'{\n "requests"')


def renewal_authority(pem: bytes) -> TlsAuthority:
    """An authority for the charter, from its certificate. Raises ConfigurationError."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        return TlsAuthority(
            certificate=certificate.public_bytes(Encoding.PEM).decode("ascii"),
            fingerprint=certificate.fingerprint(SHA256()),
        )
    except ValueError:
        raise ConfigurationError(
            "this is not the certificate of an authority", hint="`sordino identity authority` makes one"
        ) from None


def _matches(certificate: x509.Certificate, request: EnrolmentRequest) -> bool:
    key = certificate.public_key()
    return isinstance(key, ec.EllipticCurvePublicKey) and public_key_info(key) == public_key_info(
        request.tls_key()
    )
