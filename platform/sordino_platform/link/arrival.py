"""The incoming reply on one member's stream: stored while it arrives, given to its request once it is complete.

    reply.start(frame)      MessageStart: was it requested, and how long may it be
    reply.add(frame)        MessageChunk: must be exactly the next one
    reply.finish(frame)     MessageEnd: all bytes and the right digest; returns the number to acknowledge
    reply.hand_over()       the request gets its answer

Reads no clock and does not use gRPC. It changes only the mailbox, and a file for a large reply (`spool`). A member's
frames are not trusted: a message that is not a reply to this member's request is refused at its first frame.
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
    """At most one reply at a time. `spool` is the folder for files of large replies (the system's by default)."""

    def __init__(self, mailbox: Mailbox, *, spool: Path | None) -> None:
        self._mailbox = mailbox
        self._spool = spool
        self._assembly: Assembly | None = None
        self._request: Outgoing | None = None  # also None while a late reply is read and dropped
        self._kind = FrameKind.REPLY
        self._payload = memoryview(b"")

    @property
    def under_way(self) -> bool:
        """Whether a message was started and has not ended."""
        return self._assembly is not None

    def answers(self, request: Outgoing) -> bool:
        """Whether the reply to this request is arriving now."""
        return self._request is request

    def require_idle(self) -> None:
        """Raises ProtocolError while a message is arriving, because no other may start then."""
        if self._assembly is not None:
            raise ProtocolError("a message inside another")

    def start(self, start: MessageStart) -> bool:
        """Starts a message and returns whether it is awaited. A reply that comes too late is read once and dropped.

        Raises ProtocolError for a request, StreamEnding for an answer to no request and for an answer that is too long.
        """
        if start.kind is FrameKind.REQUEST:
            raise ProtocolError("a request from a member")
        request = self._mailbox.awaited(start.in_reply_to)
        limit = request.reply_bytes if request is not None else self._mailbox.late(start.in_reply_to)
        if limit is None:
            raise StreamEnding(GoodbyeReason.PROTOCOL, "an answer to what was not asked", Rejection.REPLAY)
        if start.total > limit:
            raise StreamEnding(GoodbyeReason.PROTOCOL, f"a reply above {limit} bytes", Rejection.SIZE)
        # Starts without storage: if none can be opened, the frames are still read and dropped.
        self._request, self._kind, self._assembly = request, start.kind, Assembly(start, None)
        if request is None:
            return False
        with self._keeping(self._assembly):
            self._assembly = Assembly(start, storage_for(start.total, self._spool))
        return True

    def add(self, chunk: MessageChunk) -> None:
        """Takes the next chunk. Raises ProtocolError unless it is the expected one."""
        assembly = self._started()
        with self._keeping(assembly):
            assembly.add(chunk)

    def finish(self, end: MessageEnd) -> int:
        """Completes the message and returns its number. Raises ProtocolError when bytes are missing or wrong."""
        assembly = self._started()
        with self._keeping(assembly):
            self._payload = assembly.finish(end)
        return assembly.start.id

    def hand_over(self) -> None:
        """Gives the complete reply to its request, unless nobody waits for it any more."""
        assembly, request, payload = self._started(), self._request, self._payload
        if request is None or not assembly.kept or self._mailbox.current is not request:
            self.drop()
            return
        self._forget()  # the stored bytes now belong to the reply
        if self._kind is FrameKind.FAILURE:
            self._mailbox.lose(request, Loss.REFUSED)
        else:
            self._mailbox.answered(request, payload)

    def given_up(self, number: int) -> None:
        """The member cancels the message that it is sending. Raises ProtocolError for any other number."""
        if self._started().start.id != number:
            raise ProtocolError("a message given up that was not under way")
        self.drop()

    def abandon(self, request: Outgoing) -> None:
        """Frees the bytes received for this request; the rest is read and dropped."""
        if self._request is request and self._assembly is not None:
            self._assembly.drop()

    def drop(self) -> None:
        """Frees the received bytes and expects no more of the message."""
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
        """If the disk cannot store the reply, its request is lost and the rest of the reply is read and dropped."""
        try:
            yield
        except OSError as problem:
            log.error("a reply cannot be kept: %s", problem.strerror)
            assembly.drop()
            if self._request is not None and self._mailbox.current is self._request:
                self._mailbox.lose(self._request, Loss.STORAGE)
            self._request = None
