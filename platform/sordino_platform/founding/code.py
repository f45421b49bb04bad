"""A join code: one line with everything that one party needs in order to join. It is worthless afterwards.

    sordino-join-1-<base64url of the code's canonical bytes>-<8 hexadecimal digits that find typing errors>

It holds the enrolment token, which works once, for one name, until it expires. It also holds the root's fingerprint, so
the person who hands the code over vouches for the root. It is a secret until it is used: hand it over privately.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from sordino_platform.canonical import Document, Moment, Name, decode, encode
from sordino_platform.charter import Role
from sordino_platform.charter.parties import Address, DnsName, Organisation
from sordino_platform.identity.enrolment import EnrolmentToken
from sordino_platform.keys import parse_fingerprint
from sordino_privacy.errors import ConfigurationError, UsageError

PREFIX: Final = "sordino-join-1-"
MAX_CODE_BYTES: Final = 8 << 10
CHECK_DIGITS: Final = 8


class JoinCode(Document):
    """The contents of a code. `coordinator` is HOST:PORT; repr shows no token."""

    version: Literal["sordino-join/1"] = "sordino-join/1"
    federation: Name
    role: Role
    name: Name
    organisation: Organisation
    coordinator: str = Field(min_length=3, max_length=300)
    dns_names: tuple[DnsName, ...] = Field(default=(), max_length=16)
    addresses: tuple[Address, ...] = Field(default=(), max_length=16)
    root: Annotated[str, Field(max_length=80)]
    token: str = Field(max_length=80, repr=False)
    expires_at: Moment

    def text(self) -> str:
        """The line to hand over, to one party."""
        body = base64.urlsafe_b64encode(encode(self)).decode("ascii").rstrip("=")
        return f"{PREFIX}{body}-{_check(body)}"

    @classmethod
    def parse(cls, text: str) -> JoinCode:
        """Parses a code as it was typed or pasted, ignoring white space that a mail program inserted.

        Raises UsageError, without repeating the text.
        """
        line = "".join(text.split())
        body, dash, check = line.removeprefix(PREFIX).rpartition("-")
        if not line.startswith(PREFIX) or not dash or len(line) > MAX_CODE_BYTES or check != _check(body):
            raise UsageError(
                "that is not a whole join code",
                hint="it is one line that begins with sordino-join-1-; copy all of it, or ask for it again",
            )
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            code = decode(cls, data, limit=MAX_CODE_BYTES, what="the join code")
        except (binascii.Error, ValueError):
            raise UsageError("that is not a join code", hint="ask for it again") from None
        except ConfigurationError as problem:
            raise UsageError(
                problem.message, hint="this sordino is older or newer than the one that made it"
            ) from None
        parse_fingerprint(code.root)
        EnrolmentToken.parse(code.token)
        return code

    def require_current(self, now: datetime) -> None:
        """Raises ConfigurationError when the code has expired."""
        if now >= self.expires_at:
            raise ConfigurationError(
                f"the join code of {self.name!r} expired on {self.expires_at:%Y-%m-%d %H:%M} UTC",
                hint="ask the root's holder for another: sordino identity invite",
            )


def _check(body: str) -> str:
    return hashlib.sha256(body.encode("ascii", "replace")).hexdigest()[:CHECK_DIGITS]
