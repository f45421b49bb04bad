"""The reply that comes in on one member's stream: kept while it arrives, given to its request once it is whole.

    reply.start(frame)      MessageStart: is it asked for, and how long may it be
    reply.add(frame)        MessageChunk: exactly the one that must follow
    reply.finish(frame)     MessageEnd: all bytes and the right digest; returns the number to acknowledge
    reply.hand_over()       its request has an answer

Reads no clock and knows no gRPC: what it touches is the mailbox, and a file for a large reply (`spool`). A member's
frames are believed in nothing: what is not a reply to the request that this member has, is refused at its first frame.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from sordino_platform.link.ending import StreamEnding
from sordino_platform.link.events import Loss, Rejection
from sordino_platform.link.frames import (
    FrameKind,
    GoodbyeReason,
    MessageChunk,
    MessageEnd,
    MessageStart,
    ProtocolError,
)
from sordino_platform.link.mailbox import Mailbox, Outgoing
from sordino_platform.link.messages import Assembly
from sordino_platform.link.spool import storage_for

log = logging.getLogger("sordino.link")


class ArrivingReply:
    """At most one reply at a time. `spool` is the folder for the files of large ones (the system's own by default)."""

    def __init__(self, mailbox: Mailbox, *, spool: Path | None) -> None:
        self._mailbox = mailbox
        self._spool = spool
        self._assembly: Assembly | None = None
        self._request: Outgoing | None = None  # None too while a late reply is read and dropped
        self._kind = FrameKind.REPLY
        self._payload = memoryview(b"")

    @property
    def under_way(self) -> bool:
        """Whether a message was started and has not ended."""
        return self._assembly is not None

    def answers(self, request: Outgoing) -> bool:
        """Whether it is the reply to this request that is under way."""
        return self._request is request

    def require_idle(self) -> None:
        """Raises ProtocolError while a message is under way: no other may start then."""
        if self._assembly is not None:
            raise ProtocolError("a message inside another")

    def start(self, start: MessageStart) -> bool:
        """A message starts; whether it is awaited. One that comes too late is read once and dropped.

        Raises ProtocolError for a request, StreamEnding for an answer to what was not asked and one that is too long.
        """
        if start.kind is FrameKind.REQUEST:
            raise ProtocolError("a request from a member")
        request = self._mailbox.awaited(start.in_reply_to)
        limit = request.reply_bytes if request is not None else self._mailbox.late(start.in_reply_to)
        if limit is None:
            raise StreamEnding(GoodbyeReason.PROTOCOL, "an answer to what was not asked", Rejection.REPLAY)
        if start.total > limit:
            raise StreamEnding(GoodbyeReason.PROTOCOL, f"a reply above {limit} bytes", Rejection.SIZE)
        # Without storage first: where none can be had, the frames are still read, and dropped.
        self._request, self._kind, self._assembly = request, start.kind, Assembly(start, None)
        if request is None:
            return False
        with self._keeping(self._assembly):
            self._assembly = Assembly(start, storage_for(start.total, self._spool))
        return True

    def add(self, chunk: MessageChunk) -> None:
        """Takes the next chunk. Raises ProtocolError unless it is the one that must follow."""
        assembly = self._started()
        with self._keeping(assembly):
            assembly.add(chunk)

    def finish(self, end: MessageEnd) -> int:
        """The message is complete; returns its number. Raises ProtocolError when bytes are missing or others."""
        assembly = self._started()
        with self._keeping(assembly):
            self._payload = assembly.finish(end)
        return assembly.start.id

    def hand_over(self) -> None:
        """Gives the reply that is complete to its request, unless nobody waits for it any more."""
        assembly, request, payload = self._started(), self._request, self._payload
        if request is None or not assembly.kept or self._mailbox.current is not request:
            self.drop()
            return
        self._forget()  # what is kept is the reply's now
        if self._kind is FrameKind.FAILURE:
            self._mailbox.lose(request, Loss.REFUSED)
        else:
            self._mailbox.answered(request, payload)

    def given_up(self, number: int) -> None:
        """The member gives up the message that it is sending. Raises ProtocolError for any other number."""
        if self._started().start.id != number:
            raise ProtocolError("a message given up that was not under way")
        self.drop()

    def abandon(self, request: Outgoing) -> None:
        """Frees what has arrived for this request; the rest is read and dropped."""
        if self._request is request and self._assembly is not None:
            self._assembly.drop()

    def drop(self) -> None:
        """Frees what has arrived, and expects no more of it."""
        if self._assembly is not None:
            self._assembly.drop()
        self._forget()

    def _forget(self) -> None:
        self._assembly = self._request = None
        self._payload = memoryview(b"")

    def _started(self) -> Assembly:
        if self._assembly is None:
            raise ProtocolError("a part of a message that was not started")
        return self._assembly

    @contextlib.contextmanager
    def _keeping(self, assembly: Assembly) -> Iterator[None]:
        """A disk that cannot keep the reply loses its request; the rest of it is read and dropped."""
        try:
            yield
        except OSError as problem:
            log.error("a reply cannot be kept: %s", problem.strerror)
            assembly.drop()
            if self._request is not None and self._mailbox.current is self._request:
                self._mailbox.lose(self._request, Loss.STORAGE)
            self._request = None
