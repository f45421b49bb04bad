"""The root's side of enrolment, in the root folder: invite, enrol, sign, approve, retire.

The three secrets of the folder have three uses, so that each can live where it is needed: `root.key` signs charters,
`tls-authority.key` issues certificates, `invitations/` checks tokens. `approve`, which is needed every month, reads
only the second; `root.key` can stay on a medium in a safe between two epochs.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from sordino_platform.canonical import (
    Digest,
    Document,
    Moment,
    Name,
    decode,
    document_digest,
    encode,
    first_problem,
    moment,
)
from sordino_platform.charter import (
    Charter,
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
from sordino_platform.charter.parties import Organisation
from sordino_platform.durable import locked, make_folder, read_file, read_secret, write_file
from sordino_platform.identity.certificates import (
    CERTIFICATE_VALIDITY,
    CLOCK_TOLERANCE,
    authority_certificate,
    issue,
)
from sordino_platform.identity.enrolment import (
    Card,
    EnrolmentReply,
    EnrolmentRequest,
    EnrolmentToken,
    token_proof,
)
from sordino_platform.identity.renewal import REQUEST_AGE, Issued, RenewalReply, RenewalRequests
from sordino_platform.keys import (
    Passphrase,
    fingerprint,
    load_identity_key,
    load_tls_key,
    public_bytes,
    save_private_key,
)
from sordino_platform.machine.files import sync_folder
from sordino_privacy.errors import ConfigurationError

ROOT_KEY = "root.key"
AUTHORITY_KEY = "tls-authority.key"
AUTHORITY_PUBLIC = "tls-authority.pem"
PIN = "root.pin"
INVITATIONS = "invitations"
ISSUED = "issued"
INVITATION_VALIDITY = timedelta(days=14)
MAX_REUSED_BYTES = 64 << 10


class Invitation(Document):
    """What the root keeps of a token: for whom, until when, and a hash that checks its proof."""

    version: str = "sordino-invitation/1"
    role: Role
    name: Name
    organisation: Organisation
    verifier: Digest
    expires_at: Moment


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

    `terms` are `floors`, `privacy` and `validity` where the defaults do not suit. With a passphrase the
    root key is encrypted on disk. A folder that holds a root already is refused.
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
    save_private_key(folder / ROOT_KEY, key, passphrase=passphrase)  # refuses a folder that has one
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
    """Writes the draft of the next epoch, with the present terms where `terms` does not replace them."""
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
    """A token that lets exactly one request in, under this name and organisation. Show it once; it is not kept."""
    charters_of(folder)
    token = EnrolmentToken.fresh()
    try:
        invitation = Invitation(
            role=role,
            name=name,
            organisation=organisation,
            verifier=token.verifier(),
            expires_at=moment((now or datetime.now(UTC)) + validity),
        )
    except ValidationError as error:
        raise ConfigurationError(f"the invitation cannot be: {first_problem(error)}") from None
    make_folder(folder / INVITATIONS)
    write_file(_invitation(folder, token.invitation), encode(invitation), secret=True, replace=False)
    return token


def open_invitations(folder: Path, *, now: datetime) -> list[str]:
    """The names that were invited, may still come, and have not."""
    return sorted(
        invitation.name
        for path in (folder / INVITATIONS).glob("*.json")
        if now < (invitation := _read_invitation(path)).expires_at
    )


def _read_invitation(path: Path) -> Invitation:
    return decode(Invitation, read_secret(path), limit=4096, what=str(path))


def enrol(folder: Path, request: bytes, *, now: datetime | None = None) -> Card:
    """Lets the sender of a request into the draft, if its token is good, and uses the token up.

    Raises ConfigurationError for a token that is unknown, used, expired or for somebody else, and for a draft that
    does not take the party. The token is spent only when the draft takes it.
    """
    parsed = EnrolmentRequest.parse(request)
    card = parsed.body.card
    with locked(folder):
        draft = drafting.read_draft(folder)
        _require_federation(card, draft.federation)
        path = _require_invited(folder, parsed, now or datetime.now(UTC))
        draft = _with_party(draft, card)
        # The token goes first: a crash here costs a new invitation; the other order would let it work twice.
        path.rename(path.with_suffix(".used"))
        sync_folder(path.parent)
        drafting.write_draft(folder, draft, replace=True)
    return card


def sign_epoch(folder: Path, *, passphrase: Passphrase | None = None) -> SignedCharter:
    """Signs the draft with the root key. Raises ConfigurationError naming what the draft still lacks."""
    return drafting.sign_draft(folder, load_identity_key(folder / ROOT_KEY, passphrase=passphrase))


def approve(
    folder: Path,
    request: bytes,
    *,
    now: datetime | None = None,
    validity: timedelta = CERTIFICATE_VALIDITY,
) -> bytes:
    """Issues the certificate that a request of a party of the newest charter asks for; returns the reply.

    Names and addresses come from the charter, never from the request. The same request approved again yields the
    same certificate; a request older than the last approved one of that party is refused as a replay.
    """
    store = charters_of(folder)
    certificate = _issued(
        folder,
        EnrolmentRequest.parse(request),
        store.head().charter,
        now=now or datetime.now(UTC),
        validity=validity,
    )
    return EnrolmentReply(certificate=certificate, charters=_texts(store)).to_bytes()


def approve_all(
    folder: Path, requests: bytes, *, now: datetime | None = None, validity: timedelta = CERTIFICATE_VALIDITY
) -> tuple[bytes, list[str]]:
    """Issues what a bundle of renewals asks for; returns the answer, and why some requests were refused.

    One request that cannot be approved keeps no other from its certificate. Raises ConfigurationError for a file that
    is no bundle, or a charter that has expired.
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
            certificate = _issued(folder, verified, charter, now=moment_now, validity=validity)
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
        certificate = _issued(folder, request, charter, now=moment_now, validity=CERTIFICATE_VALIDITY)
        issued.append(Issued(role=card.role, name=card.name, certificate=certificate))
    return RenewalReply(certificates=tuple(issued), charters=_texts(store)).to_bytes()


def _texts(store: CharterStore) -> tuple[str, ...]:
    return tuple(signed.to_bytes().decode("ascii") for signed in store.chain())


def _issued(
    folder: Path, request: EnrolmentRequest, charter: Charter, *, now: datetime, validity: timedelta
) -> str:
    """The certificate (PEM) for a verified request. Raises ConfigurationError."""
    card, made_at = request.body.card, request.body.made_at
    charter.require_current(now)
    _require_federation(card, charter.federation)
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
    make_folder(folder / ISSUED)
    with locked(folder / ISSUED):
        when, which = (
            f"{made_at:%Y%m%dT%H%M%SZ}",
            document_digest("sordino-issued/1", request.to_bytes()).hex()[:32],
        )
        path = folder / ISSUED / f"{card.role}.{card.name}.{when}.{which}.pem"
        if path.exists():
            return read_file(path, limit=16 << 10).decode("ascii", "replace")
        earlier = [p.name.split(".")[2] for p in (folder / ISSUED).glob(f"{card.role}.{card.name}.*.pem")]
        if earlier and max(earlier) > when:
            raise ConfigurationError(
                f"a newer request of {card.name!r} was approved already",
                hint="this one was replayed or arrived late; `sordino identity renew` makes a new one",
            )
        certificate = issue(
            load_tls_key(folder / AUTHORITY_KEY), charter, request, now=now, validity=validity
        ).public_bytes(Encoding.PEM)
        write_file(path, certificate, replace=False)
    return certificate.decode("ascii")


def retire(folder: Path, name: str, *, now: datetime | None = None) -> Draft:
    """Puts the member `name` out of the next epoch, its key retired for ever. Effective once that epoch is signed.

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


def _require_federation(card: Card, federation: str) -> None:
    if card.federation != federation:
        raise ConfigurationError(f"the request is for the federation {card.federation!r}, not {federation!r}")


def _invitation(folder: Path, invitation: str) -> Path:
    return folder / INVITATIONS / f"{invitation}.json"


def _require_invited(folder: Path, request: EnrolmentRequest, now: datetime) -> Path:
    """The file of the invitation that this request proves. Raises ConfigurationError."""
    card, number = request.body.card, request.body.invitation
    again = f"invite again: `sordino identity invite --name {card.name}`"
    if number is None or request.proof is None:
        raise ConfigurationError(f"the request of {card.name!r} carries no enrolment token", hint=again)
    path = _invitation(folder, number)  # `number` is eight letters by its pattern: no path can hide in it
    if path.with_suffix(".used").exists():
        _note_reuse(folder, number, card.name, now)
        raise ConfigurationError(
            f"the enrolment token of this request for {card.name!r} was used before",
            hint="if that was not you, somebody holds a copy: ask who enrolled, then " + again,
        )
    if not path.exists():
        raise ConfigurationError("the enrolment token is not known here", hint=again)
    invitation = _read_invitation(path)
    if not hmac.compare_digest(token_proof(invitation.verifier, request.body), request.proof):
        raise ConfigurationError("the enrolment token is wrong", hint=again)
    if (invitation.role, invitation.name, invitation.organisation) != (
        card.role,
        card.name,
        card.organisation,
    ):
        raise ConfigurationError(
            f"the token was made for the {invitation.role} {invitation.name!r} of {invitation.organisation!r}",
            hint="the request names another party",
        )
    if now >= invitation.expires_at:
        raise ConfigurationError(
            f"the token of {card.name!r} expired on {invitation.expires_at:%Y-%m-%d}", hint=again
        )
    return path


def _note_reuse(folder: Path, invitation: str, name: str, now: datetime) -> None:
    """Keeps that a used token was offered again: `sordino doctor` of the root's folder fails until somebody looked."""
    path = folder / INVITATIONS / f"{invitation}.reused"
    before = read_file(path, limit=MAX_REUSED_BYTES) if path.exists() else b""
    line = f"{moment(now):%Y-%m-%dT%H:%M:%SZ} {name}\n".encode()
    if len(before) + len(line) <= MAX_REUSED_BYTES:
        write_file(path, before, line, secret=True)


def reused_tokens(folder: Path) -> list[tuple[str, int, datetime]]:
    """Used tokens that were offered again: for whom, how often, and when last. Removing the file ends the alarm."""
    found = []
    for path in sorted((folder / INVITATIONS).glob("*.reused")):
        lines = read_file(path, limit=MAX_REUSED_BYTES).decode("ascii", "replace").splitlines()
        when, _, name = lines[-1].partition(" ")
        found.append((name, len(lines), datetime.strptime(when, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)))
    return found
