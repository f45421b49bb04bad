"""Who may see the console: anybody who can read the operator's token file, and anybody whom the company's provider
signed in, for as long as a session lasts.

The token (256 bits) is made at the first start, in a file with mode 0600. A browser trades it for a session; the
cookie holds another random value, of which only the hash is kept, in memory: a restart ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sordino_coordinator.control.callers import token_of
from sordino_privacy.errors import ConfigurationError

TOKEN_FILE: Final = "console.token"  # noqa: S105 - a file name
TOKEN_BYTES: Final = 32
MIN_TOKEN_CHARACTERS: Final = 32
SESSION_SECONDS: Final = 12 * 3600.0
IDLE_SECONDS: Final = 30 * 60.0
MAX_SESSIONS: Final = 32
WRONG_TOKENS: Final = 5.0
WRONG_TOKENS_PER_SECOND: Final = 0.1


def console_token(folder: Path) -> bytes:
    """The token of the console, made where there is none. It opens the pages only: orders ask for the API's own.

    Raises ConfigurationError when others can read the file or it holds too little, StorageError.
    """
    token = token_of(folder, TOKEN_FILE)
    if len(token) < MIN_TOKEN_CHARACTERS:
        raise ConfigurationError(
            f"{folder / TOKEN_FILE} holds fewer than {MIN_TOKEN_CHARACTERS} characters",
            hint="remove it; the next start makes a new one",
        )
    return token.encode()


@dataclass(slots=True)
class Session:
    """A session: when it was last used, and when it ends at the latest, in monotonic seconds."""

    used: float
    ends: float


class Access:
    """Gives a session for the token; without a token it gives none. `clock` is monotonic seconds. Used by one thread
    only."""

    def __init__(self, token: bytes | None, *, clock: Callable[[], float]) -> None:
        self._token = None if token is None else hashlib.sha256(token).digest()
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._tries, self._counted = WRONG_TOKENS, clock()

    def wait_seconds(self) -> float:
        """Seconds until the next wrong token is answered, 0 unless there were too many.

        All clients share one bucket, because over loopback or a proxy they cannot be told apart. It never keeps out the
        right token (256 bits, which nobody guesses): it only slows down attempts that would fill the log and the
        counter.
        """
        now = self._clock()
        self._tries = min(WRONG_TOKENS, self._tries + (now - self._counted) * WRONG_TOKENS_PER_SECOND)
        self._counted = now
        return max(0.0, (1 - self._tries) / WRONG_TOKENS_PER_SECOND)

    def open(self, offered: bytes) -> str | None:
        """A new session's cookie value, or None for a wrong token, however many came before."""
        # Hashes of equal length are compared: not even the token's length can be learnt from the time it takes.
        if self._token is None or not hmac.compare_digest(hashlib.sha256(offered).digest(), self._token):
            self._tries = max(0.0, self._tries - 1)
            return None
        return self.admit()

    def admit(self, *, seconds: float = SESSION_SECONDS) -> str:
        """A new session's cookie value, for a person who has been admitted. The session ends after `seconds`, used or
        not."""
        now, value = self._clock(), secrets.token_urlsafe(TOKEN_BYTES)
        self._expire(now)
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].used)]
        self._sessions[_key(value)] = Session(used=now, ends=now + seconds)
        return value

    def knows(self, value: str) -> bool:
        """Whether this cookie value is a session that has not ended; using it keeps it from falling idle."""
        now = self._clock()
        self._expire(now)
        session = self._sessions.get(_key(value))
        if session is None:
            return False
        session.used = now
        return True

    def close(self, value: str) -> None:
        """Ends a session."""
        self._sessions.pop(_key(value), None)

    def _expire(self, now: float) -> None:
        for key, one in list(self._sessions.items()):
            if now >= one.ends or now - one.used >= IDLE_SECONDS:
                del self._sessions[key]


def _key(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()
