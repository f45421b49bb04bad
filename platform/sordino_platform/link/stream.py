"""One open stream at the coordinator: a reader, a writer, and the one place where it ends.

The reader asks gRPC for the next frame when it has taken the last, and a member's reply is kept where no other member's
is (`arrival`). What is written, and in which order, is `departure`'s.

Whatever the reader meets ends in `ending.ending_of`: bytes that raise what nobody foresaw cost their member the stream
and its request, like any other breach of the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sordino_platform.link.allowance import Allowance
from sordino_platform.link.arrival import ArrivingReply
from sordino_platform.link.departure import Departure
from sordino_platform.link.ending import DISCONNECTIONS, StreamEnding, ending_of
from sordino_platform.link.events import Direction, Disconnection, LinkEvents, Loss, Rejection
from sordino_platform.link.frames import (
    RENEWAL_VERSION,
    Ack,
    Cancel,
    Frame,
    Goodbye,
    GoodbyeReason,
    MessageChunk,
    MessageEnd,
    MessageStart,
    Ping,
    Pong,
    ProtocolError,
    Renewal,
    Renewed,
    decode_frame,
    encode_frame,
)
from sordino_platform.link.limits import Limits
from sordino_platform.link.mailbox import Mailbox, Outgoing
from sordino_privacy.errors import SordinoError

GOODBYE_SECONDS = 1.0


class Wire(Protocol):
    """What a stream needs of gRPC's context. Raises ConnectionError when the connection is gone."""

    async def read(self) -> bytes | None: ...
    async def write(self, message: bytes) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamServices:
    """What all streams of a server share."""

    admit: Callable[[str], None]
    limits: Limits
    events: LinkEvents
    spool: Path | None
    now: Callable[[], datetime.datetime]
    renew: Callable[[str, bytes], bytes | None]


class MemberStream:
    """See the module. Created when the member was identified and said Hello; `run` returns when it is over."""

    def __init__(
        self, wire: Wire, mailbox: Mailbox, shared: StreamServices, expires: datetime.datetime, version: int
    ) -> None:
        self._wire = wire
        self._version = version
        self._mailbox = mailbox
        self._shared = shared
        self._expires = expires
        self._loop = asyncio.get_running_loop()
        self._leaving = Departure(mailbox, control_burst=shared.limits.control_burst)
        self._arriving = ArrivingReply(mailbox, spool=shared.spool)
        self._awake = asyncio.Event()
        self._goodbye: Goodbye | None = None
        self._ending: asyncio.Future[StreamEnding] = self._loop.create_future()
        self._over = asyncio.Event()
        self._heard = asyncio.Event()
        self._allowance = Allowance(shared.limits.control_burst, shared.limits.control_rate)
        self._renewals = Allowance(shared.limits.renewal_burst, shared.limits.renewal_rate)
        self._probe: asyncio.Task[None] | None = None

    # What the mailbox and the server ask of a stream.

    def wake(self) -> None:
        """There may be something to send."""
        self._awake.set()

    def end(self, ending: StreamEnding) -> None:
        """Ends the stream soon; the first cause counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    async def ended(self) -> None:
        """Waits until the stream has let go of its mailbox."""
        await self._over.wait()

    def abandon(self, request: Outgoing) -> None:
        """The request is not wanted any more: frees what has arrived of its reply and tells the member."""
        self._leaving.abandon(request)
        self._arriving.abandon(request)
        self._send(Cancel(request.id))

    def overdue(self, request: Outgoing) -> None:
        """The request's deadline has passed. A member in the middle of a transfer is evicted: it is what slow-loris
        looks like. One that works on it is told to stop, and must show that it lives."""
        if self._leaving.carries(request) or self._arriving.answers(request):
            self.end(StreamEnding(GoodbyeReason.DEADLINE, "the message was not complete at its deadline"))
            return
        self._send(Cancel(request.id))
        if self._probe is None or self._probe.done():
            self._probe = self._loop.create_task(self._evict_unless_alive())

    def recheck(self) -> None:
        """Ends the stream of a member that may not speak any more, and tells it why."""
        try:
            self._admit()
        except StreamEnding as ending:
            self.end(ending)

    async def alive(self) -> bool:
        """Asks for a sign of life; True when any frame comes within `probe_seconds`."""
        self._heard.clear()
        self._send(Ping(secrets.randbits(63)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._shared.limits.probe_seconds):
                await self._heard.wait()
        return self._heard.is_set() and not self._over.is_set()

    # The life of a stream.

    async def run(self, first: Frame) -> None:
        """Sends `first` (Welcome), then reads and writes until one side ends the stream."""
        self._leaving.post(first)
        reader = self._loop.create_task(self._read())
        writer = self._loop.create_task(self._write())
        reader.add_done_callback(_retrieved)
        writer.add_done_callback(_retrieved)
        reason = Disconnection.LOST
        try:
            tasks: set[asyncio.Future[Any]] = {reader, writer, self._ending}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ending = self._why(reader, writer)
            if isinstance(ending, Disconnection):
                reason = ending
                return
            reason = DISCONNECTIONS[ending.goodbye.reason]
            self._let_go(reason)
            if ending.rejection is not None:
                self._shared.events.rejected(ending.rejection)
            self._goodbye = ending.goodbye
            self.wake()
            await asyncio.wait({writer}, timeout=GOODBYE_SECONDS)
        finally:
            # gRPC cancels this coroutine when the connection breaks, so nothing may be awaited here.
            self._let_go(reason)
            reader.cancel()
            writer.cancel()
            if self._probe is not None:
                self._probe.cancel()

    def _why(
        self, reader: asyncio.Task[Disconnection], writer: asyncio.Task[None]
    ) -> StreamEnding | Disconnection:
        if self._ending.done():
            return self._ending.result()
        ended = reader if reader.done() else writer
        problem = ended.exception()
        return reader.result() if problem is None else ending_of(problem)

    def _let_go(self, reason: Disconnection) -> None:
        if self._over.is_set():
            return
        self._over.set()
        self._leaving.close()
        self._arriving.drop()
        mailbox = self._mailbox
        if mailbox.stream is self:
            mailbox.stream = None
            current = mailbox.current
            if reason is Disconnection.PROTOCOL and current is not None:
                mailbox.lose(current, Loss.INVALID)
            elif reason is Disconnection.LEFT and current is not None and current.delivered:
                mailbox.lose(current, Loss.DISCONNECT)
            elif reason is Disconnection.IDENTITY:
                mailbox.lose_all(Loss.REVOKED)
        self._shared.events.disconnected(mailbox.member, reason)

    async def _evict_unless_alive(self) -> None:
        if not await self.alive():
            self.end(StreamEnding(GoodbyeReason.UNRESPONSIVE, "no sign of life after a deadline"))

    # Reading.

    async def _read(self) -> Disconnection:
        while True:
            stall = self._shared.limits.stall_seconds if self._arriving.under_way else None
            try:
                async with asyncio.timeout(stall):
                    raw = await self._wire.read()
            except TimeoutError:
                raise StreamEnding(GoodbyeReason.UNRESPONSIVE, "a message stalled") from None
            if raw is None:
                return Disconnection.LOST
            frame = decode_frame(raw)
            self._heard.set()
            if isinstance(frame, Ping | Pong | Cancel):
                self._count_unasked()
            match frame:
                case MessageStart():
                    self._start(frame)
                case MessageChunk():
                    self._arriving.add(frame)
                    self._shared.events.bytes(Direction.RECEIVED, len(frame.data))
                case MessageEnd():
                    self._finish(frame)
                case Ack():
                    self._acknowledged(frame.id)
                case Ping():
                    self._send(Pong(frame.nonce))
                case Pong():
                    pass  # any frame is a sign of life
                case Cancel():
                    self._arriving.given_up(frame.id)
                case Goodbye():
                    return Disconnection.LEFT
                case Renewal():
                    self._renew(frame)
                case _:
                    raise ProtocolError("a second Hello, or a frame that only the coordinator sends")

    def _count_unasked(self) -> None:
        """For what a member may send at any time; all other frames are bounded by the requests they belong to."""
        if not self._allowance.take(self._loop.time()):
            raise StreamEnding(GoodbyeReason.PROTOCOL, "too many frames", Rejection.SCHEMA)

    def _renew(self, renewal: Renewal) -> None:
        """Hands the request on. One that is refused is no offence: its sender may be of another release."""
        if self._version < RENEWAL_VERSION:
            raise ProtocolError("a frame of a later version")
        self._admit()
        if not self._renewals.take(self._loop.time()):
            raise StreamEnding(
                GoodbyeReason.PROTOCOL, "too many requests for a certificate", Rejection.SCHEMA
            )
        try:
            certificate = self._shared.renew(self._mailbox.member, renewal.request)
        except SordinoError:
            self._shared.events.rejected(Rejection.SCHEMA)
            return
        if certificate is not None:
            self._send(Renewed(certificate))

    def _admit(self) -> None:
        """Raises StreamEnding when the member may not speak (any more)."""
        try:
            self._shared.admit(self._mailbox.member)
        except SordinoError as refusal:
            raise StreamEnding(GoodbyeReason.IDENTITY, refusal.message, Rejection.UNKNOWN_CLIENT) from None
        if self._shared.now() >= self._expires:
            raise StreamEnding(GoodbyeReason.EXPIRED, "the certificate has expired", Rejection.EXPIRED)

    def _start(self, start: MessageStart) -> None:
        self._arriving.require_idle()
        self._admit()
        if not self._arriving.start(start):
            self._count_unasked()
            self._shared.events.rejected(Rejection.EXPIRED)

    def _finish(self, end: MessageEnd) -> None:
        number = self._arriving.finish(end)
        self._admit()
        self._send(Ack(number))
        self._arriving.hand_over()

    def _acknowledged(self, request_id: int) -> None:
        current = self._mailbox.current
        if current is not None and current.id == request_id and not self._leaving.busy:
            if current.delivered:
                self._count_unasked()  # once is its due
            current.arrived()
        elif not self._mailbox.obsolete(request_id):
            raise ProtocolError("an acknowledgement of what was not sent")
        else:
            self._count_unasked()

    # Writing.

    def _send(self, frame: Frame) -> None:
        try:
            self._leaving.post(frame)
        except StreamEnding as ending:
            self.end(ending)
            return
        self.wake()

    async def _write(self) -> None:
        while True:
            if self._goodbye is not None:
                await self._wire.write(encode_frame(self._goodbye))
                return
            frame = self._next_frame()
            if frame is None:
                self._awake.clear()
                await self._awake.wait()
                continue
            size = len(frame.data) if isinstance(frame, MessageChunk) else 0
            encoded, frame = encode_frame(frame), None  # one copy of a chunk while its write waits, not two
            await self._wire.write(encoded)
            if size:
                self._shared.events.bytes(Direction.SENT, size)

    def _next_frame(self) -> Frame | None:
        try:
            return self._leaving.next(now=self._loop.time(), admit=self._admit)
        except StreamEnding as ending:
            self.end(ending)
            return None


def _retrieved(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # seen by `run`, or the stream was over: not to be reported as never retrieved
