"""A member's end of the link: one outbound stream, requests in, replies out, for as long as the process lives.

    client = LinkClient("coordinator.example.org:9443", tls=lambda: ClientTls.load(...), handler=answer)
    client.run()            # blocks; another thread or a signal handler calls client.stop()

    def answer(request: Request) -> Payload | None:
        ...                 # checks request.cancelled from time to time

The handler runs on its own thread, handles one request at a time, and each request once, even if the connection breaks:
a reply that was not acknowledged is sent again after a reconnection, and a request that was sent again is not handled
again.

`run` raises LinkError when a retry cannot help: this member was retired, runs twice, speaks another version, or its
files are wrong. If the coordinator is unreachable, `run` retries with full jitter, so that members do not all come at
once after a restart.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

import grpc

from sordino_platform.link.diagnosis import Diagnosis
from sordino_platform.link.dialling import channel_options, credentials_of
from sordino_platform.link.events import IgnoreEvents, LinkEvents
from sordino_platform.link.frames import SOFTWARE_VERSION, FrameKind, ProtocolError
from sordino_platform.link.limits import SESSION_BYTES, Limits
from sordino_platform.link.messages import parts_of
from sordino_platform.link.outbound import MemberSide, OutboundStream
from sordino_platform.link.probe import diagnose
from sordino_platform.link.reconnecting import Backoff, known_end
from sordino_platform.link.request import Handler, Request
from sordino_platform.link.status import LinkState, LinkStatus
from sordino_platform.link.tls import ClientTls, ClientTlsSource
from sordino_privacy.errors import LinkError

log = logging.getLogger("sordino.link")

HANDLER_GRACE_SECONDS: Final = 2.0


class LinkClient:
    """See the module.

    `target` is host:port; `server_name` is the name that the coordinator's certificate must have, if it is not that
    host. `tls` may be a function, called at each connection, so that a renewed certificate needs no restart.
    `on_status` is called on the thread of `run`. So is `on_renewed`, with the certificate (PEM) that answers
    `ask_renewal`. Raises ValueError for a software version of another form.
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
        self._limits = limits or Limits()
        self._on_status = on_status or (lambda _: None)
        self._random = secrets.SystemRandom()
        self._stopped = threading.Event()
        self._stream: OutboundStream | None = None
        self._welcomed = False  # by any stream so far
        self._side = MemberSide(
            session=secrets.token_bytes(SESSION_BYTES),
            software_version=software_version,
            limits=self._limits,
            events=events or IgnoreEvents(),
            on_welcomed=self._note_welcomed,
            on_renewed=on_renewed,
        )

    def stop(self) -> None:
        """Makes `run` say Goodbye and return; cancels the running request. For any thread, or a signal handler."""
        self._stopped.set()
        threading.Thread(target=self._wind_down, name="sordino-link-stop", daemon=True).start()

    def ask_renewal(self, request: bytes) -> None:
        """Asks the coordinator for the certificate of this request, now and after each reconnection; b"" stops this.

        Repeating the request fetches the certificate once it was issued. For any thread.
        """
        with self._side.changed:
            self._side.renewal = request
            stream = self._stream
        if stream is not None and stream.welcomed:
            with contextlib.suppress(ProtocolError):  # the outbox is full: the request is repeated later
                stream.ask_renewal()

    def run(self) -> None:
        """Connects, answers and reconnects until `stop`.

        Raises LinkError when a retry cannot help; its message says why and its hint says what to do.
        """
        worker = threading.Thread(target=self._work, name="sordino-link-handler", daemon=True)
        worker.start()
        backoff = Backoff(busy_seconds=self._limits.busy_seconds)
        try:
            while not self._stopped.is_set():
                self._on_status(LinkStatus(state=LinkState.CONNECTING))
                began = time.monotonic()
                stream = self._connect()
                if self._stopped.is_set():
                    break
                if stream.refreshed:
                    backoff.reset()
                    continue
                problem = self._problem(stream)
                inbox, lived = stream.inbox, time.monotonic() - began
                backoff.note(welcomed=stream.welcomed, useful=inbox.useful, seconds=lived)
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
            self._give_up()
            worker.join(HANDLER_GRACE_SECONDS)
            self._on_status(LinkStatus(state=LinkState.STOPPED))

    def _connect(self) -> OutboundStream:
        """Opens a stream and reads it to its end."""
        stream = OutboundStream(self._side)
        try:
            tls = self._tls if isinstance(self._tls, ClientTls) else self._tls()
        except LinkError:
            if not self._welcomed:
                raise
            return stream  # a renewal in progress; `_problem` reads the files again and says what is wrong
        options = channel_options(self._target, self._limits, server_name=self._server_name)
        channel = grpc.secure_channel(self._target, credentials_of(tls), options=options)
        try:
            with self._side.changed:
                self._stream = stream
            if self._stopped.is_set():  # `_wind_down` may have looked before there was a stream to end
                stream.cancel()
            stream.run(channel)
        finally:
            with self._side.changed:
                self._stream = None
            channel.close()
        return stream

    def _note_welcomed(self) -> None:
        self._welcomed = True
        self._on_status(LinkStatus(state=LinkState.CONNECTED))

    def _problem(self, stream: OutboundStream) -> Diagnosis:
        """Why the stream ended. Raises LinkError when a retry cannot help."""
        known = known_end(welcomed=stream.welcomed, goodbye=stream.inbox.goodbye, offence=stream.offence)
        if known is not None:
            return known
        diagnosis = diagnose(
            self._target, tls=self._tls, server_name=self._server_name, seconds=self._limits.hello_seconds
        )
        if diagnosis.permanent and not self._welcomed:
            raise LinkError(diagnosis.message, hint=diagnosis.hint)
        return diagnosis

    def _give_up(self) -> None:
        with self._side.changed:
            self._side.pending.give_up()
            self._side.changed.notify_all()

    def _wind_down(self) -> None:
        self._give_up()
        with self._side.changed:
            stream = self._stream
        if stream is not None:
            stream.shut_down()

    # The handler's thread.

    def _work(self) -> None:
        changed, pending = self._side.changed, self._side.pending
        while True:
            with changed:
                changed.wait_for(lambda: pending.waiting is not None or self._stopped.is_set())
                if self._stopped.is_set():
                    return
                request = pending.begin()
            if request is not None:
                self._answer(request)

    def _answer(self, request: Request) -> None:
        kind, parts = FrameKind.REPLY, parts_of(b"")
        try:
            parts = parts_of(self._handler(request) or b"")
        except Exception as problem:  # noqa: BLE001 - whatever it is, its text may hold data and stays here
            log.warning("handling a request failed: %s", type(problem).__name__)
            kind, parts = FrameKind.FAILURE, parts_of(b"")
        with self._side.changed:
            if self._side.pending.answered(request, kind, parts):
                self._side.changed.notify_all()
