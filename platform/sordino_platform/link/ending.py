"""Why the coordinator ends a stream: what it says to the member, and what it counts.

Apart from stream.py, because a mailbox hands it to its stream and a stream hands it on: so neither imports the other.
"""

from __future__ import annotations

import logging
from typing import Final

from sordino_platform.link.events import Disconnection, Rejection
from sordino_platform.link.frames import Goodbye, GoodbyeReason, ProtocolError

log = logging.getLogger("sordino.link")

DISCONNECTIONS: Final = {
    GoodbyeReason.SHUTDOWN: Disconnection.SHUTDOWN,
    GoodbyeReason.IDENTITY: Disconnection.IDENTITY,
    GoodbyeReason.FENCED: Disconnection.FENCED,
    GoodbyeReason.DEADLINE: Disconnection.DEADLINE,
    GoodbyeReason.UNRESPONSIVE: Disconnection.UNRESPONSIVE,
    GoodbyeReason.PROTOCOL: Disconnection.PROTOCOL,
    GoodbyeReason.EXPIRED: Disconnection.EXPIRED,
}
"""What a stream counts as that was ended with this Goodbye. The other reasons are said before a stream is open."""


class StreamEnding(Exception):  # noqa: N818 - it ends a stream, it is not an error by itself
    """This side ends the stream, with the Goodbye to say and what to count."""

    def __init__(
        self,
        reason: GoodbyeReason,
        detail: str = "",
        rejection: Rejection | None = None,
        *,
        retry_millis: int = 0,
    ) -> None:
        super().__init__(detail)
        self.goodbye = Goodbye(reason, detail, retry_millis)
        self.rejection = rejection


def ending_of(problem: BaseException) -> StreamEnding | Disconnection:
    """How a stream ends of which the reader or the writer raised `problem`.

    What nobody foresaw is a breach of the protocol like any other: it costs the member whose bytes raised it, and
    nobody else.
    """
    match problem:
        case StreamEnding():
            return problem
        case ProtocolError():
            return StreamEnding(GoodbyeReason.PROTOCOL, problem.message, Rejection.SCHEMA)
        case ConnectionError():
            return Disconnection.LOST
        case _:
            # Its text may hold what the member sent.
            log.error("a member's bytes raised %s", type(problem).__name__)
            return StreamEnding(GoodbyeReason.PROTOCOL, "bytes that cannot be handled", Rejection.UNEXPECTED)
