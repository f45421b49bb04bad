"""Who asks the operator's API, and what they may.

    Authorization: Bearer <content of operator.token>   whoever holds the machine's own token: everything
    Authorization: Bearer <content of standby.token>    the machine that follows: a copy of the folder, a hand-over
    Authorization: Bearer <token of the provider>       a person, where `[oidc]` names an audience: as their groups may

A copy of the folder and a hand-over are between machines: no person's token is good for them. `static_tokens = false`
switches operator.token off, because people used it. standby.token stays: its holder can read what lies in this folder
beside it, can give no order, and can order a hand-over only with a tenure that the coordinator's key has signed.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sordino_coordinator.control.audit import Action, AuditLog
from sordino_coordinator.oidc import api_tokens
from sordino_coordinator.oidc.settings import OidcSettings
from sordino_platform.durable import read_secret, write_file
from sordino_platform.telemetry import log
from sordino_privacy.errors import LinkError, SordinoError

if TYPE_CHECKING:
    from sordino_coordinator.oidc.tokens import TokenVerifier

TOKEN_FILE: Final = "operator.token"  # noqa: S105 - the name of the file that holds it
STANDBY_TOKEN_FILE: Final = "standby.token"  # noqa: S105 - the name of the file that holds it
NOTE_REFUSALS_EVERY_SECONDS: Final = 60.0


class ApiError(Exception):
    """An error as an answer: the status, the message and a hint."""

    def __init__(self, status: HTTPStatus, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: `by` as the audit log writes it. `machine`: it may copy the folder and order a hand-over."""

    by: str
    may_read: bool
    may_operate: bool
    machine: bool = False


HOLDER: Final = Caller(by="api", may_read=True, may_operate=True, machine=True)
FOLLOWER: Final = Caller(by="standby", may_read=False, may_operate=False, machine=True)


class Callers:
    """Decides from a request's header who is asking. Any thread may call it; only a provider's token can make it
    wait."""

    def __init__(self, folder: Path, oidc: OidcSettings | None, audit: AuditLog) -> None:
        """Makes the tokens that are in use and not there. Raises ConfigurationError, StorageError."""
        self._tokens = {token_of(folder, STANDBY_TOKEN_FILE).encode(): FOLLOWER}
        if oidc is None or oidc.static_tokens:
            self._tokens[token_of(folder).encode()] = HOLDER
        self._people: TokenVerifier | None = None
        if oidc is not None and oidc.audience:
            self._people = api_tokens(oidc)
        self._refusals = Refusals(audit)

    def holder(self, authorization: str) -> Caller | None:
        """The caller, if the token is one of this machine's own; None for all other tokens. Never waits."""
        token, found = bearer(authorization).encode(), None
        for held, caller in self._tokens.items():
            if token and hmac.compare_digest(token, held):
                found = caller
        return found

    def caller(self, authorization: str) -> Caller:
        """The caller who sent this header. Raises ApiError: 401 for an unknown token, 503 when the provider is
        silent."""
        holder, token = self.holder(authorization), bearer(authorization)
        if holder is not None:
            return holder
        if self._people is not None and "." in token:
            return self._person(self._people, token)
        self._refusals.refused()
        raise ApiError(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong", TOKEN_FILE)

    def _person(self, people: TokenVerifier, token: str) -> Caller:
        try:
            person = people.bearer(token)
        except LinkError as error:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, error.message, error.hint) from None
        except SordinoError as error:
            self._refusals.refused()
            raise ApiError(HTTPStatus.UNAUTHORIZED, error.message, error.hint) from None
        return Caller(by=f"api:{person.subject}", may_read=person.may_read, may_operate=person.may_operate)


def bearer(authorization: str) -> str:
    """The token of an Authorization header; empty where it has none."""
    scheme, _, given = authorization.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def require(allowed: bool, what: str) -> None:
    """Raises ApiError unless the caller is allowed to."""
    if not allowed:
        raise ApiError(
            HTTPStatus.FORBIDDEN, f"this caller may not {what}", "readers and operators of [oidc] say who may"
        )


class Refusals:
    """Notes wrong tokens in the audit log, at most one entry a minute, so that guessing cannot fill the disk."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit, self._lock, self._next, self._count = audit, threading.Lock(), 0.0, 0

    def refused(self) -> None:
        """One more."""
        with self._lock:
            self._count += 1
            if time.monotonic() < self._next:
                return
            self._next, count, self._count = time.monotonic() + NOTE_REFUSALS_EVERY_SECONDS, self._count, 0
        log().warning("operator_refused", count=count)
        self._audit.append(Action.OPERATOR_REFUSED, f"{count} request(s) without the token", by="api")


def token_of(folder: Path, name: str = TOKEN_FILE) -> str:
    """A token of the operator's, by default the API's; made at the first call, mode 0600.

    Raises ConfigurationError when others can read the file, StorageError.
    """
    path = folder / name
    if not path.exists():
        write_file(path, f"{secrets.token_urlsafe(32)}\n".encode(), secret=True, replace=False)
    return read_secret(path, limit=256).decode("ascii", "replace").strip()
