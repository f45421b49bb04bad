"""The coordinator's end of the link: every member's stream, requests out, replies in.

    server = LinkServer("0.0.0.0:9443", tls=tls, identify=charter.member_of, admit=charter.require_active)
    server.start()
    asked = {server.send(name, [header, model], deadline_seconds=3600) for name in server.connected()}
    while asked and (result := server.receive(timeout=3600)):
        match result:
            case Reply(member=name, payload=payload): ...
            case LostRequest(member=name, reason=reason): ...
        asked.discard(result.in_reply_to)

Each `send` gives exactly one result (unless cancelled), in the order of arrival, at its deadline at the latest. A
member need not be connected when a request is sent.

gRPC runs on one thread of its own, with asyncio: a stream costs two small tasks instead of two threads. `identify`,
`admit` and the events are called on that thread and must return at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import itertools
import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from grpc import aio

from sordino_platform.link.address import parse_address
from sordino_platform.link.admission import Admission, hello_of
from sordino_platform.link.allowance import Allowance
from sordino_platform.link.ending import StreamEnding
from sordino_platform.link.events import IgnoreEvents, LinkEvents, Rejection
from sordino_platform.link.frames import (
    SERVICE,
    SOFTWARE_VERSION,
    GoodbyeReason,
    encode_frame,
)
from sordino_platform.link.limits import Limits
from sordino_platform.link.listening import GrpcWire, require_bindable, server_credentials, server_options
from sordino_platform.link.mailbox import LostRequest, Mailbox, Outgoing, Reply, Result
from sordino_platform.link.messages import Payload, parts_of, total_of
from sordino_platform.link.stream import StreamServices
from sordino_platform.link.tls import ServerTls, ServerTlsSource, expiry_of
from sordino_platform.machine.memory import return_freed
from sordino_privacy.errors import LinkError, SordinoError

__all__ = ["LinkServer", "LostRequest", "Reply", "Result"]

log = logging.getLogger("sordino.link")

T = TypeVar("T")
CALL_SECONDS: Final = 1.0
MANY_OPENINGS: Final = 32
"""Freed memory is returned to the system after this many new streams, because each handshake leaves 50 KB of it."""


def utc_now() -> datetime.datetime:
    """The wall clock, for certificates only; deadlines use the monotonic clock."""
    return datetime.datetime.now(datetime.UTC)


class LinkServer:
    """See the module.

    `identify` maps the PEM of a certificate, which TLS has verified against the CA, to a member's name, or raises
    LinkError. `admit` raises a SordinoError to refuse a member; it is called when a stream opens, for every message in
    both directions, and for every open stream each `admission_seconds`, so that a retired member is told soon. `tls`
    may be a function, called at each handshake; when the own certificate has expired, all streams end. `renew` takes a
    member's request for a new certificate and returns the certificate (PEM) once there is one; it raises a SordinoError
    for a request that it does not take. `spool` is the folder for the nameless files that hold large replies (the
    system's own by default). Raises ValueError for a software version of another form.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ServerTlsSource,
        identify: Callable[[bytes], str],
        admit: Callable[[str], None],
        software_version: str = "0",
        limits: Limits | None = None,
        events: LinkEvents | None = None,
        spool: Path | None = None,
        now: Callable[[], datetime.datetime] = utc_now,
        renew: Callable[[str, bytes], bytes | None] = lambda member, request: None,
    ) -> None:
        if SOFTWARE_VERSION.fullmatch(software_version) is None:
            raise ValueError("a software version is 1 to 64 of 0-9 A-Z a-z . + -")
        self._host, self._asked_port = parse_address(address)
        self._tls = tls
        self._limits = limits or Limits()
        self._events = events or IgnoreEvents()
        self._shared = StreamServices(
            admit=admit, limits=self._limits, events=self._events, spool=spool, now=now, renew=renew
        )
        self._admission = Admission(self._shared, identify=identify, software_version=software_version)
        self._ids = itertools.count(1)
        self._mailboxes: dict[str, Mailbox] = {}
        self._results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._connected: frozenset[str] = frozenset()
        self._opened = 0
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._grace = 0.0
        self._thread: threading.Thread | None = None

    # For the owner, on any thread but the link's own.

    def start(self) -> None:
        """Listens.

        Raises PortInUseError when another process listens there, LinkError when the address cannot be used.
        """
        started: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(started,), name="sordino-link", daemon=True)
        self._thread.start()
        problem = started.get()
        if problem is not None:
            self._thread.join()
            self._thread = None
            raise problem

    @property
    def port(self) -> int:
        """The port that the server listens on; 0 before `start`."""
        return self._port

    def connected(self) -> frozenset[str]:
        """The members whose stream is open now."""
        return self._connected

    def send(
        self, member: str, payload: Payload, *, deadline_seconds: float, reply_bytes: int | None = None
    ) -> int:
        """Asks `member`; returns the request's id, which its one result carries as `in_reply_to`. A reply of more than
        `reply_bytes` (or the link's own limit) is refused at its first frame.

        The payload's parts are not copied and are kept until the member has them: they must not change, and many
        members can share one model. Raises LinkError when the member may not be sent anything, has too many requests
        waiting, or the payload is too large; ValueError for a deadline that is not in (0, 30 days]. Errors of `admit`
        are passed on.
        """
        parts = parts_of(payload)
        if total_of(parts) > self._limits.message_bytes:
            raise LinkError(
                f"a message of {total_of(parts)} bytes is above the link's limit of {self._limits.message_bytes}",
                hint="raise message_bytes in the link's limits on both sides",
            )
        if not 0 < deadline_seconds <= 30 * 86_400:
            raise ValueError("a deadline is positive and at most 30 days")
        self._shared.admit(member)
        largest_reply = min(self._limits.message_bytes, reply_bytes or self._limits.message_bytes)
        request_id = next(self._ids)

        def post() -> None:
            mailbox = self._mailbox(member)
            if len(mailbox.queue) >= self._limits.pending_requests:
                raise LinkError(f"{len(mailbox.queue)} messages wait for member {member} already")
            deadline = asyncio.get_running_loop().time() + deadline_seconds
            mailbox.post(Outgoing(id=request_id, parts=parts, deadline=deadline, reply_bytes=largest_reply))

        self._call(post)
        return request_id

    def receive(self, timeout: float | None = None) -> Result | None:
        """The next result in order of arrival, or None after `timeout` seconds. Raises LinkError when stopped."""
        try:
            result = (
                self._results.get(timeout=timeout)
                if timeout is None or timeout > 0
                else self._results.get_nowait()
            )
        except queue.Empty:
            return None
        if result is None:
            self._results.put(None)  # for other threads that wait
            raise LinkError("the link is stopped")
        return result

    def cancel(self, request_id: int) -> bool:
        """Gives up a request: it gives no result, and the member is told to stop. False if its result is there."""
        return self._call(lambda: any(box.cancel(request_id) for box in self._mailboxes.values()))

    def stop(self, grace: float = 2.0) -> None:
        """Says Goodbye to all, closes after at most `grace` seconds, and wakes all threads that wait in `receive`."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._grace = grace
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None
        self._results.put(None)

    # The link's own thread.

    def _call(self, function: Callable[[], T]) -> T:
        async def called() -> T:
            return function()

        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            raise LinkError("the link is stopped")
        call = called()
        try:
            future = asyncio.run_coroutine_threadsafe(call, loop)
            while True:
                try:
                    return future.result(CALL_SECONDS)
                except TimeoutError:
                    # A busy loop answers late; a loop that ended meanwhile never answers.
                    if not thread.is_alive():
                        raise
        except (RuntimeError, TimeoutError, concurrent.futures.CancelledError):
            call.close()
            # Another thread stopped the loop between these two lines.
            raise LinkError("the link is stopped") from None

    def _run(self, started: queue.SimpleQueue[BaseException | None]) -> None:
        asyncio.run(self._serve(started))

    async def _serve(self, started: queue.SimpleQueue[BaseException | None]) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await self._listen()
        except SordinoError as problem:
            started.put(problem)
            return
        started.put(None)
        admission = self._loop.create_task(self._recheck())
        await self._stopping.wait()
        admission.cancel()
        for mailbox in self._mailboxes.values():
            if mailbox.stream is not None:
                mailbox.stream.end(StreamEnding(GoodbyeReason.SHUTDOWN))
        await server.stop(self._grace)

    async def _recheck(self) -> None:
        """Certificates expire and members are retired while a stream is idle, too: this ends such streams."""
        while True:
            await asyncio.sleep(self._limits.admission_seconds)
            own = self._own_ending()
            for mailbox in list(self._mailboxes.values()):
                if mailbox.stream is None:
                    continue
                if own is not None:
                    mailbox.stream.end(own)
                else:
                    mailbox.stream.recheck()
                await asyncio.sleep(0)  # so that a thousand of them do not block the loop
            if self._opened >= MANY_OPENINGS:
                self._opened = 0
                await asyncio.to_thread(return_freed)

    def _own_ending(self) -> StreamEnding | None:
        """The end of every stream after this side's certificate has expired: no member would open a new one with it."""
        try:
            tls = self._tls if isinstance(self._tls, ServerTls) else self._tls()
            over = self._shared.now() >= expiry_of(tls.certificate)
        except SordinoError:
            return None  # a renewal in progress; the next check will tell
        return (
            StreamEnding(GoodbyeReason.EXPIRED, "the coordinator's certificate has expired") if over else None
        )

    async def _listen(self) -> aio.Server:
        credentials = server_credentials(self._tls)
        limits = self._limits
        server = aio.server(
            maximum_concurrent_rpcs=limits.connections,
            options=server_options(limits),
        )
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._open)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Open": handler}),))
        host = f"[{self._host}]" if ":" in self._host else self._host
        require_bindable(self._host, self._asked_port)  # otherwise gRPC would print its own message
        try:
            self._port = server.add_secure_port(f"{host}:{self._asked_port}", credentials)
        except RuntimeError:
            raise LinkError(
                f"gRPC cannot listen on {self._host}:{self._asked_port}",
                hint="check the server's key and certificate, and that the port is still free",
            ) from None
        await server.start()
        return server

    def _mailbox(self, member: str) -> Mailbox:
        if member not in self._mailboxes:
            openings = Allowance(self._limits.opening_burst, self._limits.opening_rate)
            self._mailboxes[member] = Mailbox(member, self._results.put, openings)
        return self._mailboxes[member]

    async def _open(self, _: object, context: Any) -> None:
        """One stream, from its certificate to its end. gRPC cancels this coroutine when the connection breaks."""
        wire = GrpcWire(context)
        try:
            try:
                async with asyncio.timeout(self._limits.hello_seconds):
                    member, expires = self._admission.identified(wire.certificate())
                    hello = await hello_of(wire)
            except TimeoutError:
                raise StreamEnding(GoodbyeReason.UNRESPONSIVE, "no Hello") from None
            if hello is None:
                return
            stream, welcome = await self._admission.stream(wire, self._mailbox(member), expires, hello)
            self._note_connected()
            self._opened += 1
            self._events.connected(member)
        except StreamEnding as ending:
            if ending.rejection is not None:
                self._events.rejected(ending.rejection)
            await wire.write(encode_frame(ending.goodbye))
            return
        except Exception as problem:  # noqa: BLE001 - whatever it is, it costs this connection only
            log.error("a connection raised %s", type(problem).__name__)
            self._events.rejected(Rejection.UNEXPECTED)
            return
        try:
            await stream.run(welcome)
        finally:
            self._note_connected()

    def _note_connected(self) -> None:
        self._connected = frozenset(name for name, box in self._mailboxes.items() if box.stream is not None)
