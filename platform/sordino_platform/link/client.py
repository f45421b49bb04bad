"""A member's end of the link: one outbound stream, requests in, replies out, for as long as the process lives.

    client = LinkClient("coordinator.example.org:9443", tls=lambda: ClientTls.load(...), handler=answer)
    client.run()            # blocks; another thread or a signal handler calls client.stop()

    def answer(request: Request) -> Payload | None:
        ...                 # looks at request.cancelled from time to time

The handler runs on a thread of its own, one request at a time, each request once, whatever the connection does: a reply
that was not acknowledged is sent again after a reconnection, a request that was sent again is not handled again.

`run` raises LinkError when trying again cannot help: this member was retired, runs twice, speaks another version, or
its files are wrong. An unreachable coordinator is waited for, with full jitter: after a restart its members must not
come all at once.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

from sordino_platform.link.diagnosis import Diagnosis, diagnose
from sordino_platform.link.dialling import channel_options, credentials_of
from sordino_platform.link.events import Direction, IgnoreEvents, LinkEvents
from sordino_platform.link.frames import (
    METHOD,
    RENEWAL_VERSION,
    SOFTWARE_VERSION,
    VERSION_MAX,
    VERSION_MIN,
    Ack,
    Cancel,
    Frame,
    FrameKind,
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
from sordino_platform.link.limits import SESSION_BYTES, Limits
from sordino_platform.link.messages import parts_of
from sordino_platform.link.outbox import Outbox
from sordino_platform.link.pending import Pending
from sordino_platform.link.reconnecting import Backoff, known_end
from sordino_platform.link.request import Handler, Request
from sordino_platform.link.status import LinkState, LinkStatus
from sordino_platform.link.tls import ClientTls, ClientTlsSource
from sordino_privacy.errors import LinkError

log = logging.getLogger("sordino.link")

GOODBYE_SECONDS: Final = 1.0
HANDLER_GRACE_SECONDS: Final = 2.0


class _Connection:
    """One stream. The inbox is read by the thread of `run` alone; the client's condition guards the outbox."""

    def __init__(self, limits: Limits) -> None:
        self.inbox = Inbox(message_bytes=limits.message_bytes)
        self.outbox = Outbox(control_burst=limits.control_burst)
        self.offence = ""  # how the coordinator broke the protocol
        self.refreshed = False  # ended by this side, to be made anew at once

    @property
    def welcomed(self) -> bool:
        return self.outbox.opened


class LinkClient:
    """See the module.

    `target` is host:port; `server_name` the name that the coordinator's certificate must carry, if it is not that host.
    `tls` may be a function, asked again at each connection, so that a renewed certificate needs no restart.
    `on_status` is called on the thread of `run`, and so is `on_renewed`, with the certificate (PEM) that came for the
    request of `ask_renewal`. Raises ValueError for a software version of another form.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: ClientTlsSource,
        handler: Handler,
        server_name: str | None = None,
        software_version: str = "0",
        limits: Limits | None = None,
        on_status: Callable[[LinkStatus], None] | None = None,
        events: LinkEvents | None = None,
        on_renewed: Callable[[bytes], None] = lambda certificate: None,
    ) -> None:
        if SOFTWARE_VERSION.fullmatch(software_version) is None:
            raise ValueError("a software version is 1 to 64 of 0-9 A-Z a-z . + -")
        self._target = target
        self._tls = tls
        self._handler = handler
        self._server_name = server_name
        self._software_version = software_version
        self._limits = limits or Limits()
        self._on_renewed = on_renewed
        self._renewal = b""
        self._on_status = on_status or (lambda _: None)
        self._events = events or IgnoreEvents()
        self._random = secrets.SystemRandom()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._connection: _Connection | None = None
        self._call: Any = None
        # What outlives a connection:
        self._session = secrets.token_bytes(SESSION_BYTES)
        self._pending = Pending()
        self._welcomed = False

    def stop(self) -> None:
        """Makes `run` say Goodbye and return; the running request is given up. Any thread, or a signal handler."""
        self._stopped.set()
        threading.Thread(target=self._wind_down, name="sordino-link-stop", daemon=True).start()

    def ask_renewal(self, request: bytes) -> None:
        """Asks the coordinator for the certificate of this request, now and after each reconnection; b"" ends that.

        Asking again is how the certificate is fetched once it was issued. Any thread.
        """
        with self._changed:
            self._renewal = request
            connection = self._connection
        if connection is not None and connection.welcomed:
            with contextlib.suppress(ProtocolError):  # the outbox is full: it is asked again later
                self._send_renewal(connection)

    def run(self) -> None:
        """Connects, answers and reconnects until `stop`.

        Raises LinkError when trying again cannot help; its message says why and its hint what to do.
        """
        worker = threading.Thread(target=self._work, name="sordino-link-handler", daemon=True)
        worker.start()
        backoff = Backoff(busy_seconds=self._limits.busy_seconds)
        try:
            while not self._stopped.is_set():
                self._on_status(LinkStatus(state=LinkState.CONNECTING))
                began = time.monotonic()
                connection = self._connect()
                if self._stopped.is_set():
                    break
                if connection.refreshed:
                    backoff.reset()
                    continue
                problem = self._problem(connection)
                inbox, lived = connection.inbox, time.monotonic() - began
                backoff.note(welcomed=connection.welcomed, useful=inbox.useful, seconds=lived)
                pause = backoff.pause(inbox.goodbye, self._random.random())
                self._on_status(
                    LinkStatus(
                        state=LinkState.WAITING,
                        message=problem.message,
                        hint=problem.hint,
                        retry_seconds=pause,
                    )
                )
                self._stopped.wait(pause)
        finally:
            self._stopped.set()
            with self._changed:
                self._pending.give_up()
                self._changed.notify_all()
            worker.join(HANDLER_GRACE_SECONDS)
            self._on_status(LinkStatus(state=LinkState.STOPPED))

    # The thread of `run`: connecting and reading.

    def _connect(self) -> _Connection:
        """Opens a stream and reads it to its end."""
        connection = _Connection(self._limits)
        try:
            tls = self._tls if isinstance(self._tls, ClientTls) else self._tls()
        except LinkError:
            if not self._welcomed:
                raise
            return connection  # a renewal in progress; `_problem` reads again and says what is wrong
        options = channel_options(self._target, self._limits, server_name=self._server_name)
        channel = grpc.secure_channel(self._target, credentials_of(tls), options=options)
        try:
            # Without a deadline of its own: keepalive ends a dead stream, `watchdog` one that is never welcomed.
            stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD)
            call = stream(self._frames(connection))
            watchdog = threading.Timer(2 * self._limits.hello_seconds, self._unwelcomed, (connection, call))
            watchdog.daemon = True
            watchdog.start()
            # A stream can live for months; the coordinator's certificate is looked at in the handshake only. What is
            # under way goes on over the new connection.
            renewal = threading.Timer(self._limits.handshake_seconds, self._refresh, (connection, call))
            renewal.daemon = True
            renewal.start()
            with self._changed:
                self._connection, self._call = connection, call
            try:
                self._read(connection, call)
            finally:
                watchdog.cancel()
                renewal.cancel()
                with self._changed:
                    connection.outbox.close()
                    self._connection = self._call = None
                    self._changed.notify_all()
                call.cancel()
        finally:
            channel.close()
        return connection

    def _read(self, connection: _Connection, call: Any) -> None:
        try:
            for raw in call:
                self._take(connection, decode_frame(raw))
                if connection.inbox.goodbye is not None:
                    return
        except ProtocolError as problem:
            connection.offence = problem.message
            self._leave(connection, Goodbye(GoodbyeReason.PROTOCOL, problem.message), call)
        except grpc.RpcError:
            return  # `_problem` finds out why

    def _take(self, connection: _Connection, frame: Frame) -> None:
        taken = connection.inbox.take(frame, now=time.monotonic(), received=self._pending.received)
        if isinstance(frame, MessageChunk):
            self._events.bytes(Direction.RECEIVED, len(frame.data))
        match taken:
            case Welcome():
                self._welcome(connection, taken)
            case ArrivedMessage(id=number, request=request):
                if request is not None:
                    with self._changed:
                        self._pending.arrived(request)
                        self._changed.notify_all()
                self._send(connection, Ack(number))
            case Ack():
                with self._changed:
                    self._pending.acknowledged(taken.id)
            case Ping():
                self._send(connection, Pong(taken.nonce))
            case Cancel():
                with self._changed:
                    if self._pending.received == taken.id:
                        self._pending.give_up()
                        self._changed.notify_all()
            case Renewed():
                if not self._renewal:
                    raise ProtocolError("a certificate that was not asked for")
                self._on_renewed(taken.certificate)
            case None:
                pass

    def _welcome(self, connection: _Connection, welcome: Welcome) -> None:
        with self._changed:
            self._pending.resume(welcome)
            self._welcomed = connection.outbox.opened = True
            self._changed.notify_all()
        self._send_renewal(connection)
        self._on_status(LinkStatus(state=LinkState.CONNECTED))

    def _send_renewal(self, connection: _Connection) -> None:
        if self._renewal and connection.inbox.version >= RENEWAL_VERSION:
            self._send(connection, Renewal(self._renewal))

    def _problem(self, connection: _Connection) -> Diagnosis:
        """Why the stream ended. Raises LinkError when trying again cannot help."""
        known = known_end(
            welcomed=connection.welcomed, goodbye=connection.inbox.goodbye, offence=connection.offence
        )
        if known is not None:
            return known
        diagnosis = diagnose(
            self._target, tls=self._tls, server_name=self._server_name, seconds=self._limits.hello_seconds
        )
        if diagnosis.permanent and not self._welcomed:
            raise LinkError(diagnosis.message, hint=diagnosis.hint)
        return diagnosis

    # gRPC's thread: writing.

    def _frames(self, connection: _Connection) -> Iterator[bytes]:
        """What gRPC sends; it asks for the next frame when the last one has left, so nothing piles up."""
        with self._changed:
            hello = Hello(
                version_min=VERSION_MIN,
                version_max=VERSION_MAX,
                software_version=self._software_version,
                session=self._session,
                coordinator_session=self._pending.session,
                received=self._pending.received,
            )
        yield encode_frame(hello)
        while True:
            with self._changed:
                while (frame := connection.outbox.next(self._pending.held)) is None:
                    if connection.outbox.over:
                        return
                    self._changed.wait()
            yield encode_frame(frame)
            if isinstance(frame, MessageChunk):
                self._events.bytes(Direction.SENT, len(frame.data))

    def _send(self, connection: _Connection, frame: Frame) -> None:
        with self._changed:
            connection.outbox.post(frame)
            self._changed.notify_all()

    def _leave(self, connection: _Connection, goodbye: Goodbye, call: Any) -> None:
        """Says Goodbye, and waits a moment for the other side to end the stream."""
        with self._changed:
            connection.outbox.close(goodbye)
            self._changed.notify_all()
        with contextlib.suppress(grpc.FutureTimeoutError, grpc.FutureCancelledError):
            call.exception(timeout=GOODBYE_SECONDS)

    def _wind_down(self) -> None:
        with self._changed:
            self._pending.give_up()
            self._changed.notify_all()
            connection, call = self._connection, self._call
        if connection is not None and call is not None:
            if connection.welcomed:
                self._leave(connection, Goodbye(GoodbyeReason.SHUTDOWN), call)
            call.cancel()

    def _refresh(self, connection: _Connection, call: Any) -> None:
        connection.refreshed = connection.welcomed
        call.cancel()

    def _unwelcomed(self, connection: _Connection, call: Any) -> None:
        if not connection.welcomed:
            call.cancel()

    # The handler's thread.

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending.waiting is not None or self._stopped.is_set())
                if self._stopped.is_set():
                    return
                request = self._pending.begin()
            if request is not None:
                self._answer(request)

    def _answer(self, request: Request) -> None:
        kind, parts = FrameKind.REPLY, parts_of(b"")
        try:
            parts = parts_of(self._handler(request) or b"")
        except Exception as problem:  # noqa: BLE001 - whatever it is, its text may hold data and stays here
            log.warning("handling a request failed: %s", type(problem).__name__)
            kind, parts = FrameKind.FAILURE, parts_of(b"")
        with self._changed:
            if self._pending.answered(request, kind, parts):
                self._changed.notify_all()
