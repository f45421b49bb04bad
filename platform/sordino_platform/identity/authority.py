"""The root's side of enrolment, in the root folder: invite, enrol, sign, approve, retire.

The three secrets of the folder have separate uses, so that each can be kept where it is needed: `root.key` signs
charters, `tls-authority.key` issues certificates (`issuing`), `invitations/` checks tokens (`invitations`). `approve`,
which is needed every month, reads only the second. Between two epochs `root.key` can stay on a medium in a safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from sordino_platform.charter import (
    CharterCoordinator,
    CharterMember,
    CharterStore,
    Draft,
    HuggingFaceTerms,
    ModelTerms,
    Role,
    SignedCharter,
    TlsAuthority,
    drafting,
)
from sordino_platform.durable import locked, make_folder, read_file, write_file
from sordino_platform.identity.certificates import CERTIFICATE_VALIDITY, authority_certificate
from sordino_platform.identity.enrolment import Card, EnrolmentReply, EnrolmentRequest, EnrolmentToken
from sordino_platform.identity.invitations import keep_invitation, require_invited, spend_invitation
from sordino_platform.identity.issuing import issued_certificate, require_federation
from sordino_platform.identity.renewal import Issued, RenewalReply, RenewalRequests
from sordino_platform.keys import Passphrase, fingerprint, load_identity_key, public_bytes, save_private_key
from sordino_privacy.errors import ConfigurationError

ROOT_KEY = "root.key"
AUTHORITY_KEY = "tls-authority.key"
AUTHORITY_PUBLIC = "tls-authority.pem"
PIN = "root.pin"
INVITATION_VALIDITY = timedelta(days=14)


def found_root(
    folder: Path,
    *,
    federation: str,
    model: ModelTerms | HuggingFaceTerms,
    passphrase: str = "",
    now: datetime | None = None,
    **terms: Any,
) -> str:
    """Makes a root folder: root key, TLS authority, and the draft of epoch 1. Returns the root's fingerprint.

    `terms` are `floors`, `privacy` and `validity`; what is left out has its default. With a passphrase the root key is
    encrypted on disk. A folder that already holds a root is refused.
    """
    make_folder(folder)
    key = Ed25519PrivateKey.generate()
    root = fingerprint(public_bytes(key))
    tls = ec.generate_private_key(ec.SECP256R1())
    authority = authority_certificate(federation, tls, now or datetime.now(UTC))
    terms["tls_authority"] = TlsAuthority(
        certificate=authority.public_bytes(Encoding.PEM).decode("ascii"),
        fingerprint=authority.fingerprint(SHA256()),
    )
    draft = drafting.first_draft(federation=federation, model=model, now=now, **terms)
    save_private_key(folder / ROOT_KEY, key, passphrase=passphrase)  # refuses a folder that already has one
    save_private_key(folder / AUTHORITY_KEY, tls)
    write_file(folder / AUTHORITY_PUBLIC, terms["tls_authority"].pem)
    write_file(folder / PIN, f"{root}\n".encode())
    drafting.write_draft(folder, draft)
    return root


def charters_of(folder: Path) -> CharterStore:
    """The signed epochs in a root folder."""
    path = folder / PIN
    if not path.exists():
        raise ConfigurationError(f"{folder} is not a root folder", hint="`sordino charter new` makes one")
    return CharterStore(
        folder / drafting.CHARTERS, root=read_file(path, limit=256).decode("ascii", "replace")
    )


def begin_epoch(folder: Path, *, now: datetime | None = None, **terms: Any) -> Draft:
    """Writes the draft of the next epoch. It keeps every present term that `terms` does not replace."""
    draft = drafting.next_draft(charters_of(folder).head().charter, now=now, **terms)
    drafting.write_draft(folder, draft)
    return draft


def invite(
    folder: Path,
    *,
    role: Role,
    name: str,
    organisation: str,
    now: datetime | None = None,
    validity: timedelta = INVITATION_VALIDITY,
) -> EnrolmentToken:
    """A token that admits exactly one request, under this name and organisation. Show it once; it is not kept.

    Raises ConfigurationError for a folder that is not a root, and for an impossible party.
    """
    charters_of(folder)
    token, expires_at = EnrolmentToken.fresh(), (now or datetime.now(UTC)) + validity
    keep_invitation(folder, token, role=role, name=name, organisation=organisation, expires_at=expires_at)
    return token


def enrol(folder: Path, request: bytes, *, now: datetime | None = None) -> Card:
    """Adds the sender of a request to the draft, if its token is valid, and uses the token up.

    Raises ConfigurationError for a token that is unknown, used, expired or for somebody else, and for a draft that
    cannot take the party. The token is used up only when the draft takes the party.
    """
    parsed = EnrolmentRequest.parse(request)
    card = parsed.body.card
    with locked(folder):
        draft = drafting.read_draft(folder)
        require_federation(card, draft.federation)
        invitation = require_invited(folder, parsed, now=now or datetime.now(UTC))
        draft = _with_party(draft, card)
        # The token is used up first: a crash here costs a new invitation. In the other order the token could work
        # twice.
        spend_invitation(invitation)
        drafting.write_draft(folder, draft, replace=True)
    return card


def sign_epoch(folder: Path, *, passphrase: Passphrase | None = None) -> SignedCharter:
    """Signs the draft with the root key. Raises ConfigurationError that names what the draft still lacks."""
    return drafting.sign_draft(folder, load_identity_key(folder / ROOT_KEY, passphrase=passphrase))


def approve(
    folder: Path,
    request: bytes,
    *,
    now: datetime | None = None,
    validity: timedelta = CERTIFICATE_VALIDITY,
) -> bytes:
    """Issues the certificate for a request of a party in the newest charter; returns the reply.

    Names and addresses come from the charter, never from the request. The same request approved again yields the same
    certificate; a request older than the party's last approved one is refused as a replay.
    """
    store = charters_of(folder)
    certificate = issued_certificate(
        folder,
        EnrolmentRequest.parse(request),
        store.head().charter,
        authority_key=folder / AUTHORITY_KEY,
        now=now or datetime.now(UTC),
        validity=validity,
    )
    return EnrolmentReply(certificate=certificate, charters=_texts(store)).to_bytes()


def approve_all(
    folder: Path, requests: bytes, *, now: datetime | None = None, validity: timedelta = CERTIFICATE_VALIDITY
) -> tuple[bytes, list[str]]:
    """Issues the certificates for a bundle of renewals; returns the answer, and why some requests were refused.

    A request that cannot be approved does not stop the others. Raises ConfigurationError for a file that is not a
    bundle, or a charter that has expired.
    """
    store, moment_now = charters_of(folder), now or datetime.now(UTC)
    charter = store.head().charter
    charter.require_current(moment_now)
    issued: list[Issued] = []
    refused: list[str] = []
    for request in RenewalRequests.parse(requests).requests:
        card = request.body.card
        try:
            verified = EnrolmentRequest.parse(request.to_bytes(), what=f"the request of {card.name}")
            certificate = issued_certificate(
                folder,
                verified,
                charter,
                authority_key=folder / AUTHORITY_KEY,
                now=moment_now,
                validity=validity,
            )
        except ConfigurationError as problem:
            refused.append(f"{card.name}: {problem.message}")
        else:
            issued.append(Issued(role=card.role, name=card.name, certificate=certificate))
    return RenewalReply(certificates=tuple(issued), charters=_texts(store)).to_bytes(), refused


def enrolment(folder: Path, requests: Sequence[bytes], *, now: datetime | None = None) -> bytes:
    """The certificates of all these requests in one answer, for parties of the newest charter.

    Raises ConfigurationError, naming the party, when one of them cannot have its certificate.
    """
    store, moment_now = charters_of(folder), now or datetime.now(UTC)
    charter = store.head().charter
    issued = []
    for data in requests:
        request = EnrolmentRequest.parse(data)
        card = request.body.card
        certificate = issued_certificate(
            folder,
            request,
            charter,
            authority_key=folder / AUTHORITY_KEY,
            now=moment_now,
            validity=CERTIFICATE_VALIDITY,
        )
        issued.append(Issued(role=card.role, name=card.name, certificate=certificate))
    return RenewalReply(certificates=tuple(issued), charters=_texts(store)).to_bytes()


def _texts(store: CharterStore) -> tuple[str, ...]:
    return tuple(signed.to_bytes().decode("ascii") for signed in store.chain())


def retire(folder: Path, name: str, *, now: datetime | None = None) -> Draft:
    """Removes the member `name` from the next epoch and retires its key for ever. Effective once that epoch is signed.

    Begins the next draft when none is open.
    """
    if not (folder / drafting.DRAFT).exists():
        begin_epoch(folder, now=now)
    return drafting.change(folder, lambda draft: drafting.without_member(draft, name))


def _with_party(draft: Draft, card: Card) -> Draft:
    if card.role == "member":
        member = CharterMember(name=card.name, organisation=card.organisation, identity_key=card.identity_key)
        return drafting.with_member(draft, member)
    if not (card.dns_names or card.addresses):
        raise ConfigurationError("a coordinator needs a DNS name or an IP address")
    coordinator = CharterCoordinator(
        name=card.name,
        identity_key=card.identity_key,
        dns_names=card.dns_names,
        addresses=card.addresses,
    )
    return drafting.with_coordinator(draft, coordinator)
