"""Why the coordinator ends a stream: the Goodbye to the member, and the reason that it counts.

Separate from stream.py, because both mailbox and stream use it and neither should import the other.
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
"""How a stream is counted that ended with this Goodbye. The other reasons are only used before a stream is open."""


class StreamEnding(Exception):  # noqa: N818 - it ends a stream, it is not an error by itself
    """This side ends the stream, with the Goodbye to send and the reason to count."""

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
    """How a stream ends when its reader or writer raised `problem`.

    An unexpected exception counts as a protocol violation: it costs only the member whose bytes raised it.
    """
    match problem:
        case StreamEnding():
            return problem
        case ProtocolError():
            return StreamEnding(GoodbyeReason.PROTOCOL, problem.message, Rejection.SCHEMA)
        case ConnectionError():
            return Disconnection.LOST
        case _:
            # Its text may contain bytes from the member.
            log.error("a member's bytes raised %s", type(problem).__name__)
            return StreamEnding(GoodbyeReason.PROTOCOL, "bytes that cannot be handled", Rejection.UNEXPECTED)
