"""The incoming frames of a member's stream: takes a frame and returns what the member has to do. Pure: no lock, I/O or
clock.

    taken = inbox.take(frame, now=time.monotonic(), received=pending.received)

A coordinator may be other software or malicious. So this module names the frames that may come, and when; every other
frame is a ProtocolError. Outgoing frames are in `outbox`; state that lasts longer than a stream is in `pending`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sordino_platform.link.frames import (
    RENEWAL_VERSION,
    Ack,
    Cancel,
    Frame,
    FrameKind,
    Goodbye,
    Hello,
    MessageChunk,
    MessageEnd,
    MessageStart,
    Ping,
    Pong,
    ProtocolError,
    Renewal,
    Renewed,
    Welcome,
)
from sordino_platform.link.messages import Assembly, MemoryPayload
from sordino_platform.link.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedMessage:
    """A message is complete and must be acknowledged. `request` is None for a message that had come before."""

    id: int
    request: Request | None


Taken: TypeAlias = Welcome | ArrivedMessage | Ack | Ping | Cancel | Renewed | None
"""What a member has to do after a frame. None: nothing, or nothing yet."""


class Inbox:
    """The state of one stream from the coordinator's frames so far.

    `version` is the protocol version of this stream, 0 before Welcome. `goodbye` is the coordinator's Goodbye.
    `useful`: a complete message came. `message_bytes` is the largest size that a message may announce.
    """

    def __init__(self, *, message_bytes: int) -> None:
        self.version = 0
        self.goodbye: Goodbye | None = None
        self.useful = False
        self._message_bytes = message_bytes
        self._assembly: Assembly | None = None
        self._deadline = 0.0

    def take(self, frame: Frame, *, now: float, received: int) -> Taken:
        """Takes the next frame.

        `now` is this machine's monotonic clock in seconds, `received` the newest request that the member has had: a
        repeated request is checked and dropped. Raises ProtocolError for a frame that may not come now.
        """
        if not self.version and not isinstance(frame, Welcome | Goodbye):
            raise ProtocolError("a frame before Welcome")
        match frame:
            case Welcome():
                if self.version:
                    raise ProtocolError("a second Welcome")
                self.version = frame.version
                return frame
            case MessageStart():
                self._start(frame, now=now, received=received)
            case MessageChunk():
                self._assembling().add(frame)
            case MessageEnd():
                return self._finish(frame)
            case Cancel() if self._assembly is not None and self._assembly.start.id == frame.id:
                self._assembly = None  # it was cancelled before its last byte
            case Ack() | Ping() | Cancel():
                return frame
            case Pong():
                pass
            case Goodbye():
                self.goodbye = frame
            case Renewed():
                if self.version < RENEWAL_VERSION:
                    raise ProtocolError("a certificate that was not asked for")
                return frame
            case Renewal():
                raise ProtocolError("a request for a certificate from the coordinator")
            case Hello():
                raise ProtocolError("a Hello from the coordinator")
        return None

    def _start(self, start: MessageStart, *, now: float, received: int) -> None:
        if self._assembly is not None:
            raise ProtocolError("a message inside another")
        if start.kind is not FrameKind.REQUEST:
            raise ProtocolError("a reply from the coordinator")
        if start.total > self._message_bytes:
            raise ProtocolError(f"a message above {self._message_bytes} bytes")
        # Clocks of two machines are never compared: the deadline is sent as the remaining time and is counted from now.
        self._deadline = now + start.deadline_millis / 1000
        self._assembly = Assembly(start, MemoryPayload() if start.id > received else None)

    def _assembling(self) -> Assembly:
        if self._assembly is None:
            raise ProtocolError("a part of a message that was not started")
        return self._assembly

    def _finish(self, end: MessageEnd) -> ArrivedMessage:
        assembly = self._assembling()
        payload = assembly.finish(end)
        self._assembly = None
        self.useful = True
        number = assembly.start.id
        if not assembly.kept:
            return ArrivedMessage(id=number, request=None)
        return ArrivedMessage(id=number, request=Request(id=number, payload=payload, deadline=self._deadline))
