"""Invitations in the root folder: one file per token, with its party and whether it was used.

    invitations/abcd2345.json     it may still be used
    invitations/abcd2345.used     it admitted its one request
    invitations/abcd2345.reused   it was offered again after that: somebody may hold a copy

The token itself is not kept. The kept value can check a proof of the token, but cannot make one.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from sordino_platform.canonical import Digest, Document, Moment, Name, decode, encode, first_problem, moment
from sordino_platform.charter.parties import Organisation, Role
from sordino_platform.durable import make_folder, read_file, read_secret, write_file
from sordino_platform.identity.enrolment import Card, EnrolmentRequest, EnrolmentToken, token_proof
from sordino_platform.machine.files import sync_folder
from sordino_privacy.errors import ConfigurationError

INVITATIONS = "invitations"
MAX_INVITATION_BYTES = 4 << 10
MAX_REUSED_BYTES = 64 << 10


class Invitation(Document):
    """The root's record of a token: its party, its expiry, and a hash that checks its proof."""

    version: str = "sordino-invitation/1"
    role: Role
    name: Name
    organisation: Organisation
    verifier: Digest
    expires_at: Moment

    def require_proof(self, request: EnrolmentRequest, *, now: datetime) -> None:
        """Checks that the request proves this invitation's token, in time, and comes from the invited party. Pure.

        Raises ConfigurationError for a wrong or missing token, another party, and an expired invitation.
        """
        card, again = request.body.card, _again(request.body.card)
        if not hmac.compare_digest(token_proof(self.verifier, request.body), request.proof or b""):
            raise ConfigurationError("the enrolment token is wrong", hint=again)
        if (self.role, self.name, self.organisation) != (card.role, card.name, card.organisation):
            raise ConfigurationError(
                f"the token was made for the {self.role} {self.name!r} of {self.organisation!r}",
                hint="the request names another party",
            )
        if now >= self.expires_at:
            raise ConfigurationError(
                f"the token of {card.name!r} expired on {self.expires_at:%Y-%m-%d}", hint=again
            )


def keep_invitation(
    folder: Path, token: EnrolmentToken, *, role: Role, name: str, organisation: str, expires_at: datetime
) -> None:
    """Keeps the record that checks `token` in the root folder. Raises ConfigurationError for an impossible party."""
    try:
        invitation = Invitation(
            role=role,
            name=name,
            organisation=organisation,
            verifier=token.verifier(),
            expires_at=moment(expires_at),
        )
    except ValidationError as error:
        raise ConfigurationError(f"the invitation cannot be: {first_problem(error)}") from None
    make_folder(folder / INVITATIONS)
    write_file(_path(folder, token.invitation), encode(invitation), secret=True, replace=False)


def open_invitations(folder: Path, *, now: datetime) -> list[str]:
    """The names of invited parties that have not joined and still may."""
    return sorted(
        invitation.name
        for path in (folder / INVITATIONS).glob("*.json")
        if now < (invitation := _read(path)).expires_at
    )


def require_invited(folder: Path, request: EnrolmentRequest, *, now: datetime) -> Path:
    """The file of the invitation that this request proves, for `spend_invitation`.

    Raises ConfigurationError for a token that is missing, unknown, used, wrong, expired or for somebody else. When a
    used token is offered again, that is recorded.
    """
    card, number = request.body.card, request.body.invitation
    if number is None or request.proof is None:
        raise ConfigurationError(
            f"the request of {card.name!r} carries no enrolment token", hint=_again(card)
        )
    path = _path(folder, number)  # the pattern allows eight letters only, so `number` cannot contain a path
    if path.with_suffix(".used").exists():
        _note_reuse(path.with_suffix(".reused"), card.name, now)
        raise ConfigurationError(
            f"the enrolment token of this request for {card.name!r} was used before",
            hint="if that was not you, somebody holds a copy: ask who enrolled, then " + _again(card),
        )
    if not path.exists():
        raise ConfigurationError("the enrolment token is not known here", hint=_again(card))
    _read(path).require_proof(request, now=now)
    return path


def spend_invitation(path: Path) -> None:
    """Uses a token up for ever. Call it before writing anything that the token allows."""
    path.rename(path.with_suffix(".used"))
    sync_folder(path.parent)


def reused_tokens(folder: Path) -> list[tuple[str, int, datetime]]:
    """Used tokens that were offered again: their party, how often, and when last. Removing the file ends the alarm."""
    found = []
    for path in sorted((folder / INVITATIONS).glob("*.reused")):
        lines = read_file(path, limit=MAX_REUSED_BYTES).decode("ascii", "replace").splitlines()
        when, _, name = lines[-1].partition(" ")
        found.append((name, len(lines), datetime.strptime(when, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)))
    return found


def _note_reuse(path: Path, name: str, now: datetime) -> None:
    """Records that a used token was offered again. `sordino doctor` of the root's folder fails until somebody has
    looked."""
    before = read_file(path, limit=MAX_REUSED_BYTES) if path.exists() else b""
    line = f"{moment(now):%Y-%m-%dT%H:%M:%SZ} {name}\n".encode()
    if len(before) + len(line) <= MAX_REUSED_BYTES:
        write_file(path, before, line, secret=True)


def _read(path: Path) -> Invitation:
    return decode(Invitation, read_secret(path), limit=MAX_INVITATION_BYTES, what=str(path))


def _path(folder: Path, invitation: str) -> Path:
    return folder / INVITATIONS / f"{invitation}.json"


def _again(card: Card) -> str:
    return f"invite again: `sordino identity invite --name {card.name}`"
