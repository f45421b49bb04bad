"""A party's own folder. Its keys are made here, or in the token that the folder names, and never leave.

identity.key     Ed25519, 0600           tls-pending.key   P-256, 0600, between request and install
identity.uri     or, instead, the place of the key in a PKCS#11 token, 0600
identity.json    the public card         tls-request.json  the request that belongs to it
root.pin         the root's fingerprint  tls.pem           private key and certificate, 0600, replaced at once
                                         charters/         every epoch, verified on each load

>>> create(folder, federation="demo", role="member", name="acme", organisation="Acme Ltd")
>>> request = make_request(folder, token=token)             # bytes, to be carried to the root
>>> install(folder, reply, root=fingerprint)                # bytes that came back; fingerprint from out of band
>>> identity = Identity.load(folder)
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from sordino_platform.canonical import decode, encode, first_problem
from sordino_platform.charter import Charter, CharterStore, Role
from sordino_platform.durable import locked, make_folder, read_file, read_secret, write_file
from sordino_platform.identity.enrolment import (
    MAX_REQUEST_BYTES,
    Card,
    EnrolmentReply,
    EnrolmentRequest,
    EnrolmentToken,
)
from sordino_platform.identity.names import admit, public_key_info
from sordino_platform.issued import issued_by
from sordino_platform.keys import (
    load_identity_key,
    load_tls_key,
    parse_fingerprint,
    parse_private_key,
    private_pem,
    public_bytes,
    require_p256,
    save_private_key,
)
from sordino_platform.pkcs11 import Pkcs11Signer, Pkcs11Uri
from sordino_platform.pkcs11.uri import MAX_URI_CHARACTERS
from sordino_privacy.errors import ConfigurationError, LinkError
from sordino_privacy.signing import Signer

IDENTITY_KEY = "identity.key"
KEY_URI = "identity.uri"
CARD = "identity.json"
PENDING = "tls-pending.key"
REQUEST = "tls-request.json"
TLS = "tls.pem"
PIN = "root.pin"
CHARTERS = "charters"
WARN_BEFORE = timedelta(days=14)
# Signed for a test and thrown away. It cannot be a message of any protocol here: those begin with the name of their
# kind.
PROBE = b"sordino-probe/1: the key can be asked"
ASK_ANEW = timedelta(days=12)  # an approver refuses requests older than 14


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsCredentials:
    """The credentials of a TLS endpoint, as PEM.

    `authority` has the roots to trust for the other side: one, or two at a coordinator whose charter has an authority
    for renewals. `issuers` may have issued the own certificate. repr never shows the key."""

    private_key: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    authority: bytes = field(repr=False)
    issuers: bytes = field(repr=False)
    issued_at: datetime
    expires_at: datetime

    def remaining(self, now: datetime | None = None) -> timedelta:
        """How long the certificate is still valid; negative after it has expired."""
        return self.expires_at - (now or datetime.now(UTC))

    def days_left(self, now: datetime | None = None) -> float:
        """`remaining` in days, to a tenth, for people."""
        return round(self.remaining(now) / timedelta(days=1), 1)

    @property
    def lifetime(self) -> timedelta:
        """The whole lifetime of the certificate."""
        return self.expires_at - self.issued_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A party that can act: its card, its signing key, its charters. TLS credentials are read when they are needed."""

    folder: Path
    card: Card
    signing_key: Signer = field(repr=False)
    charters: CharterStore = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """Raises ConfigurationError when the folder is incomplete, or its keys can be read by others."""
        card = read_card(folder)
        return cls(
            folder=folder, card=card, signing_key=signer_of(folder, card), charters=open_charters(folder)
        )

    @property
    def charter(self) -> Charter:
        """The newest charter held."""
        return self.charters.head().charter

    def tls(self) -> TlsCredentials:
        """The present TLS credentials, read again at each call, so that a renewal is picked up. Raises
        ConfigurationError when there are none."""
        path = self.folder / TLS
        if not path.exists():
            raise ConfigurationError(
                f"{self.folder} has no certificate yet",
                hint="`sordino identity request`, then `sordino identity install` the reply",
            )
        pem = read_secret(path)
        key = require_p256(parse_private_key(pem, what=str(path)), what=str(path))
        certificate, charter = _certificate(pem, what=str(path)), self.charter
        other: Role = "member" if self.card.role == "coordinator" else "coordinator"
        return TlsCredentials(
            private_key=private_pem(key),
            certificate=certificate.public_bytes(Encoding.PEM),
            authority=b"".join(issuer.pem for issuer in charter.issuers(other)),
            issuers=b"".join(issuer.pem for issuer in charter.issuers(self.card.role)),
            issued_at=certificate.not_valid_before_utc,
            expires_at=certificate.not_valid_after_utc,
        )


def create(
    folder: Path,
    *,
    federation: str,
    role: Role,
    name: str,
    organisation: str,
    dns_names: Sequence[str] = (),
    addresses: Sequence[str] = (),
    key: Pkcs11Uri | None = None,
) -> Card:
    """Makes a new identity key in `folder`, or in the token of `key`. An existing identity is never replaced.

    `dns_names` and `addresses` are those of a coordinator. Raises ConfigurationError, StorageError; when the token does
    not answer, the ConfigurationError is a SignerError.
    """
    make_folder(folder)
    for there in (IDENTITY_KEY, KEY_URI, CARD):
        if (folder / there).exists():
            raise ConfigurationError(
                f"{folder / there} exists already", hint="choose another folder, or remove it"
            )
    made = Ed25519PrivateKey.generate()  # thrown away when a token has the key
    public = public_bytes(made) if key is None else Pkcs11Signer.of_key_pair(key).public_key
    try:
        card = Card(
            federation=federation,
            role=role,
            name=name,
            organisation=organisation,
            identity_key=public,
            dns_names=tuple(dns_names),
            addresses=tuple(addresses),
        )
    except ValidationError as error:
        raise ConfigurationError(f"the identity cannot be: {first_problem(error)}") from None
    if role == "coordinator" and not (dns_names or addresses):
        raise ConfigurationError("a coordinator needs a DNS name or an IP address")
    if key is None:
        save_private_key(folder / IDENTITY_KEY, made)
    else:
        write_file(folder / KEY_URI, f"{key.text}\n".encode("ascii"), secret=True, replace=False)
    write_file(folder / CARD, encode(card), replace=False)
    return card


def signer_of(folder: Path, card: Card) -> Signer:
    """The signer of the identity in `folder`: the key in its file, or in the token that `identity.uri` names.

    A folder with both is refused, and when a token does not answer, no file is tried instead. This call does not
    contact the token. Raises ConfigurationError.
    """
    place, uri = folder / IDENTITY_KEY, folder / KEY_URI
    if not uri.exists():
        key = load_identity_key(place)
        if key.public_key != card.identity_key:
            raise ConfigurationError(f"{place} is not the key of {folder / CARD}")
        return key
    if place.exists():
        raise ConfigurationError(
            f"{folder} holds a key and names another one in a token", hint=f"keep {IDENTITY_KEY} or {KEY_URI}"
        )
    text = read_secret(uri, limit=MAX_URI_CHARACTERS + 2).decode("ascii", "replace").strip()
    return Pkcs11Signer(Pkcs11Uri.parse(text), card.identity_key)


def require_signs(signer: Signer) -> None:
    """Checks that the key can be used now: a token may have been removed. Raises SignerError."""
    signer.sign(PROBE)


def read_card(folder: Path) -> Card:
    """The public card of the identity in `folder`. Raises ConfigurationError when there is none."""
    path = folder / CARD
    if not path.exists():
        raise ConfigurationError(f"{folder} holds no identity", hint="`sordino identity new` makes one")
    return decode(Card, read_file(path, limit=16 << 10), limit=16 << 10, what=str(path))


def open_charters(folder: Path) -> CharterStore:
    """The charters of the identity in `folder`, under its pinned root. Raises ConfigurationError when there is none."""
    path = folder / PIN
    if not path.exists():
        raise ConfigurationError(
            f"{folder} has no pinned root yet", hint="`sordino identity install REPLY --root FINGERPRINT`"
        )
    pin = read_file(path, limit=256).decode("ascii", "replace")
    return CharterStore(folder / CHARTERS, root=pin)


def make_request(folder: Path, *, token: EnrolmentToken | None = None, now: datetime | None = None) -> bytes:
    """A request for a certificate over a *new* TLS key; the present one stays in use until the reply is installed.

    Without a token it is a renewal. Calling it again before the reply replaces the pending key: only the newest
    request can then be installed.
    """
    card = read_card(folder)
    identity = signer_of(folder, card)
    tls = ec.generate_private_key(ec.SECP256R1())
    request = EnrolmentRequest.make(card, identity, tls, token=token, now=now)
    write_file(folder / PENDING, private_pem(tls), secret=True)
    write_file(folder / REQUEST, request.to_bytes())
    return request.to_bytes()


def renewal_request(folder: Path, *, now: datetime) -> bytes:
    """The renewal that waits for its certificate. It stays the same while it is fresh, so that an approval still fits;
    after that a new one is made."""
    if (folder / PENDING).exists() and (folder / REQUEST).exists():
        data = read_file(folder / REQUEST, limit=MAX_REQUEST_BYTES)
        with contextlib.suppress(ConfigurationError):  # from an earlier version: made again
            body, pending = EnrolmentRequest.parse(data).body, load_tls_key(folder / PENDING).public_key()
            fresh = body.invitation is None and now - body.made_at < ASK_ANEW
            if fresh and public_key_info(EnrolmentRequest.parse(data).tls_key()) == public_key_info(pending):
                return data
    return make_request(folder, now=now)


def install(folder: Path, reply: bytes, *, root: str | None = None, now: datetime | None = None) -> Card:
    """Verifies a reply and installs it: charters first, then key and certificate in one atomic step.

    `root` is the fingerprint that was compared out of band. It is needed the first time and pinned from then on. Raises
    ConfigurationError when any part does not verify; the present certificate then stays in use.
    """
    parsed = EnrolmentReply.parse(reply)
    pin = folder / PIN
    if pin.exists():
        store = open_charters(folder)
        if root is not None and parse_fingerprint(root) != store.root:
            raise ConfigurationError(
                "the root fingerprint differs from the pinned one",
                hint=f"this identity trusts {store.root}; a federation with a new root is a new federation",
            )
    elif root is None:
        raise ConfigurationError(
            "the root's fingerprint is needed once",
            hint="ask its holder by telephone, then pass --root FINGERPRINT",
        )
    else:
        store = CharterStore(folder / CHARTERS, root=root)
    _require_pending(folder)
    charters = [charter.encode("ascii", "replace") for charter in parsed.charters]
    return _use(folder, parsed.certificate, store, charters, now)


def install_certificate(folder: Path, certificate: str, *, now: datetime | None = None) -> Card:
    """Installs the certificate for the pending renewal, under the held charters.

    Raises ConfigurationError when it does not verify; the present certificate then stays in use.
    """
    store = open_charters(folder)
    _require_pending(folder)
    return _use(folder, certificate, store, [], now)


def _require_pending(folder: Path) -> None:
    if not (folder / PENDING).exists():
        raise ConfigurationError(
            "no request is open here", hint="`sordino identity request` or `renew` makes one"
        )


def _use(
    folder: Path, pem: str, store: CharterStore, charters: Sequence[bytes], now: datetime | None
) -> Card:
    card = read_card(folder)
    with locked(folder):
        charter = store.accept_chain(charters)
        tls = load_tls_key(folder / PENDING)
        certificate = _certificate(pem.encode("ascii", "replace"), what="the certificate")
        _require_ours(certificate, tls, card, charter, now)
        write_file(folder / PIN, f"{store.root}\n".encode())
        write_file(folder / TLS, private_pem(tls) + certificate.public_bytes(Encoding.PEM), secret=True)
        (folder / PENDING).unlink()
        (folder / REQUEST).unlink(missing_ok=True)
    return card


def _require_ours(
    certificate: x509.Certificate,
    tls: ec.EllipticCurvePrivateKey,
    card: Card,
    charter: Charter,
    now: datetime | None,
) -> None:
    if not any(issued_by(certificate, authority.x509()) for authority in charter.issuers(card.role)):
        raise ConfigurationError("the certificate was not issued by the federation's TLS authority")
    if public_key_info(certificate.public_key()) != public_key_info(tls.public_key()):  # type: ignore[arg-type]
        raise ConfigurationError(
            "the certificate is for another TLS key",
            hint="install the reply to the newest request, or renew again",
        )
    try:
        role, name = admit(certificate.public_bytes(Encoding.PEM), charter, now=now)
    except LinkError as error:
        raise ConfigurationError(error.message, hint=error.hint) from None
    if (role, name) != (card.role, card.name):
        raise ConfigurationError(f"the certificate is for the {role} {name!r}, not for this identity")
    if charter.identity_key(role, name) != card.identity_key:
        raise ConfigurationError(
            f"the charter names another key for {name!r} than the one of this folder",
            hint="somebody else was enrolled under this name: tell the root's holder",
        )


def _certificate(pem: bytes, *, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion):
        raise ConfigurationError(
            f"{what} cannot be read", hint="`sordino identity renew` asks for another"
        ) from None
