"""Why the coordinator ends a stream: what it says to the member, and what it counts.

Apart from stream.py, because a mailbox hands it to its stream and a stream hands it on: so neither imports the other.
"""

from __future__ import annotations

from sordino_platform.link.events import Rejection
from sordino_platform.link.frames import Goodbye, GoodbyeReason


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
