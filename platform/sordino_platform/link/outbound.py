"""A member's end of one stream: gRPC's thread writes, the thread of `LinkClient.run` reads, and any thread may end it.

`inbox` checks incoming frames and `outbox` orders outgoing ones; this module has the locks and the call. State that
lasts longer than the stream (`MemberSide`) is an argument, and its condition guards everything that two threads use.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from sordino_platform.link.events import Direction, LinkEvents
from sordino_platform.link.frames import (
    METHOD,
    RENEWAL_VERSION,
    VERSION_MAX,
    VERSION_MIN,
    Ack,
    Cancel,
    Frame,
    Goodbye,
    GoodbyeReason,
    Hello,
    MessageChunk,
    Ping,
    Pong,
    ProtocolError,
    Renewal,
    Renewed,
    Welcome,
    decode_frame,
    encode_frame,
)
from sordino_platform.link.inbox import ArrivedMessage, Inbox
from sordino_platform.link.limits import Limits
from sordino_platform.link.outbox import Outbox
from sordino_platform.link.pending import Pending

GOODBYE_SECONDS: Final = 1.0


@dataclass(slots=True, kw_only=True)
class MemberSide:
    """A member's state over all its streams. `session` distinguishes this process from an earlier one of the same
    identity. `renewal` is the certificate request that is sent on each stream, empty for none.

    `on_welcomed` and `on_renewed` (with the PEM) are called on the reading thread, without holding the condition.
    """

    session: bytes
    software_version: str
    limits: Limits
    events: LinkEvents
    on_welcomed: Callable[[], None]
    on_renewed: Callable[[bytes], None]
    renewal: bytes = b""
    pending: Pending = field(default_factory=Pending)
    changed: threading.Condition = field(default_factory=threading.Condition)


class OutboundStream:
    """See the module.

    `run` returns when the stream has ended for any reason. `offence` says how the coordinator broke the protocol, if it
    did. `refreshed`: this side ended the stream only to open a new one at once.
    """

    def __init__(self, side: MemberSide) -> None:
        self.inbox = Inbox(message_bytes=side.limits.message_bytes)
        self.offence = ""
        self.refreshed = False
        self._side = side
        self._outbox = Outbox(control_burst=side.limits.control_burst)
        self._call: Any = None
        self._cancelled = False

    @property
    def welcomed(self) -> bool:
        """Whether the coordinator has admitted the member."""
        return self._outbox.opened

    def run(self, channel: grpc.Channel) -> None:
        """Opens the stream and reads it to its end. Blocks."""
        limits, changed = self._side.limits, self._side.changed
        # The call has no deadline: keepalive ends a dead stream, and `watchdog` one that gets no Welcome.
        method: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD)
        call = method(self._frames())
        with changed:
            self._call = call
            cancelled = self._cancelled
        if cancelled:  # cancelled before there was a call
            call.cancel()
        watchdog = _timer(2 * limits.hello_seconds, self._end_unless_welcomed)
        # A stream can last for months, but the coordinator's certificate is checked only in the handshake. Open
        # requests and replies continue on the new connection.
        renewal = _timer(limits.handshake_seconds, self._refresh)
        try:
            self._read(call)
        finally:
            watchdog.cancel()
            renewal.cancel()
            with changed:
                self._outbox.close()
                changed.notify_all()
            call.cancel()

    def ask_renewal(self) -> None:
        """Sends the member's certificate request, if there is one and the coordinator's version supports it.

        Raises ProtocolError when too many frames wait to be read.
        """
        request = self._side.renewal
        if request and self.inbox.version >= RENEWAL_VERSION:
            self._send(Renewal(request))

    def shut_down(self) -> None:
        """Says Goodbye, if the member was admitted, and ends the stream."""
        if self.welcomed:
            self._leave(Goodbye(GoodbyeReason.SHUTDOWN))
        self.cancel()

    def cancel(self) -> None:
        """Ends the stream at once, without a Goodbye. For any thread, at any time."""
        with self._side.changed:
            self._cancelled = True
            call = self._call
        if call is not None:
            call.cancel()

    # The thread of `run`: reading.

    def _read(self, call: Any) -> None:
        try:
            for raw in call:
                self._take(decode_frame(raw))
                if self.inbox.goodbye is not None:
                    return
        except ProtocolError as problem:
            self.offence = problem.message
            self._leave(Goodbye(GoodbyeReason.PROTOCOL, problem.message))
        except grpc.RpcError:
            return  # `probe` finds out why

    def _take(self, frame: Frame) -> None:
        side = self._side
        taken = self.inbox.take(frame, now=time.monotonic(), received=side.pending.received)
        if isinstance(frame, MessageChunk):
            side.events.bytes(Direction.RECEIVED, len(frame.data))
        match taken:
            case Welcome():
                with side.changed:
                    side.pending.resume(taken)
                    self._outbox.opened = True
                    side.changed.notify_all()
                self.ask_renewal()
                side.on_welcomed()
            case ArrivedMessage(id=number, request=request):
                if request is not None:
                    with side.changed:
                        side.pending.arrived(request)
                        side.changed.notify_all()
                self._send(Ack(number))
            case Ack():
                with side.changed:
                    side.pending.acknowledged(taken.id)
            case Ping():
                self._send(Pong(taken.nonce))
            case Cancel():
                with side.changed:
                    if side.pending.received == taken.id:
                        side.pending.give_up()
                        side.changed.notify_all()
            case Renewed():
                if not side.renewal:
                    raise ProtocolError("a certificate that was not asked for")
                side.on_renewed(taken.certificate)
            case None:
                pass

    # gRPC's thread: writing.

    def _frames(self) -> Iterator[bytes]:
        """The frames for gRPC. It asks for the next frame when the last one was sent, so no queue builds up."""
        side = self._side
        with side.changed:
            hello = Hello(
                version_min=VERSION_MIN,
                version_max=VERSION_MAX,
                software_version=side.software_version,
                session=side.session,
                coordinator_session=side.pending.session,
                received=side.pending.received,
            )
        yield encode_frame(hello)
        while True:
            with side.changed:
                while (frame := self._outbox.next(side.pending.held)) is None:
                    if self._outbox.over:
                        return
                    side.changed.wait()
            yield encode_frame(frame)
            if isinstance(frame, MessageChunk):
                side.events.bytes(Direction.SENT, len(frame.data))

    # Any thread.

    def _send(self, frame: Frame) -> None:
        with self._side.changed:
            self._outbox.post(frame)
            self._side.changed.notify_all()

    def _leave(self, goodbye: Goodbye) -> None:
        """Says Goodbye and waits briefly for the other side to end the stream."""
        with self._side.changed:
            self._outbox.close(goodbye)
            self._side.changed.notify_all()
        with contextlib.suppress(grpc.FutureTimeoutError, grpc.FutureCancelledError):
            self._call.exception(timeout=GOODBYE_SECONDS)

    def _refresh(self) -> None:
        self.refreshed = self.welcomed
        self.cancel()

    def _end_unless_welcomed(self) -> None:
        if not self.welcomed:
            self.cancel()


def _timer(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer
