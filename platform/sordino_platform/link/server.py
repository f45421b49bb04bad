"""The coordinator's end of the link: every member's stream, requests out, replies in.

    server = LinkServer("0.0.0.0:9443", tls=tls, identify=charter.member_of, admit=charter.require_active)
    server.start()
    asked = {server.send(name, [header, model], deadline_seconds=3600) for name in server.connected()}
    while asked and (result := server.receive(timeout=3600)):
        match result:
            case Reply(member=name, payload=payload): ...
            case LostRequest(member=name, reason=reason): ...
        asked.discard(result.in_reply_to)

Each `send` yields exactly one result (unless cancelled), in the order of arrival, at the latest at its deadline. A
member need not be connected when it is sent something.

gRPC runs on one thread of its own, with asyncio: a stream costs two small tasks instead of two threads. `identify`,
`admit` and the events are called on that thread and must return at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import errno
import itertools
import logging
import queue
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from grpc import aio

from sordino_platform.link.address import parse_address
from sordino_platform.link.allowance import Allowance, Turns
from sordino_platform.link.ending import StreamEnding
from sordino_platform.link.events import IgnoreEvents, LinkEvents, Rejection
from sordino_platform.link.frames import (
    BUSY_VERSION,
    SERVICE,
    SOFTWARE_VERSION,
    VERSION_MAX,
    VERSION_MIN,
    GoodbyeReason,
    Hello,
    ProtocolError,
    Welcome,
    decode_frame,
    encode_frame,
)
from sordino_platform.link.limits import FRAME_BYTES, METADATA_BYTES, SESSION_BYTES, WINDOW_BYTES, Limits
from sordino_platform.link.mailbox import LostRequest, Mailbox, Outgoing, Reply, Result
from sordino_platform.link.messages import Payload, parts_of, total_of
from sordino_platform.link.stream import MemberStream, StreamServices
from sordino_platform.link.tls import ServerTls, ServerTlsSource, expiry_of
from sordino_platform.machine.sockets import claim
from sordino_privacy.errors import LinkError, PortInUseError, SordinoError

__all__ = ["LinkServer", "LostRequest", "Reply", "Result"]

log = logging.getLogger("sordino.link")

T = TypeVar("T")
STREAMS_PER_CONNECTION: Final = 1
IDLE_SECONDS: Final = 30
CALL_SECONDS: Final = 1.0


def utc_now() -> datetime.datetime:
    """The wall clock, for certificates only; deadlines use the monotonic clock."""
    return datetime.datetime.now(datetime.UTC)


class LinkServer:
    """See the module.

    `identify` maps the PEM of a certificate, which TLS has verified against the CA, to a member's name, or raises
    LinkError. `admit` raises a SordinoError to refuse a member; it is asked when a stream opens, for every message in
    both directions, and for every open stream each `admission_seconds`, so that a retired member is told at once. `tls`
    may be a function, asked again at each handshake; when the own certificate has ended, all streams end. `renew` takes
    a member's request for a new certificate and returns the certificate (PEM) once there is one; it raises a
    SordinoError for a request that it does not take.
    `spool` is the folder for the nameless files that hold large replies (the system's own by default). Raises
    ValueError for a software version of another form.
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
        self._identify = identify
        self._software_version = software_version
        self._limits = limits or Limits()
        self._events = events or IgnoreEvents()
        self._shared = StreamServices(
            admit=admit, limits=self._limits, events=self._events, spool=spool, now=now, renew=renew
        )
        self._turns = Turns(
            self._limits.arrival_burst, self._limits.arrival_rate, most=self._limits.busy_seconds
        )
        self._session = secrets.token_bytes(SESSION_BYTES)
        self._ids = itertools.count(1)
        self._mailboxes: dict[str, Mailbox] = {}
        self._results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._connected: frozenset[str] = frozenset()
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._grace = 0.0
        self._thread: threading.Thread | None = None

    # For the owner, from any thread but the link's own.

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
        """The port that is listened on; 0 before `start`."""
        return self._port

    def connected(self) -> frozenset[str]:
        """The members whose stream is open now."""
        return self._connected

    def send(
        self, member: str, payload: Payload, *, deadline_seconds: float, reply_bytes: int | None = None
    ) -> int:
        """Asks `member`; returns the request's id, which its one result carries as `in_reply_to`. A reply of more than
        `reply_bytes` (or the link's own limit) is refused at its first frame.

        The payload's parts are kept, not copied, until the member has them: they must not change, and many members can
        share one model. Raises LinkError when the member may not be sent anything, has too many requests waiting, or
        the payload is too large; ValueError for a deadline that is not in (0, 30 days]. What `admit` raises goes
        through.
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
            self._results.put(None)  # for whoever waits beside us
            raise LinkError("the link is stopped")
        return result

    def cancel(self, request_id: int) -> bool:
        """Gives a request up: it will yield no result, the member is told to stop. False if its result is there."""
        return self._call(lambda: any(box.cancel(request_id) for box in self._mailboxes.values()))

    def stop(self, grace: float = 2.0) -> None:
        """Says Goodbye to all, closes after at most `grace` seconds, and wakes whoever waits in `receive`."""
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
                    # A busy loop answers late; one that ended after it was asked never does.
                    if not thread.is_alive():
                        raise
        except (RuntimeError, TimeoutError, concurrent.futures.CancelledError):
            call.close()
            # Another thread stopped it between two lines of this one.
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
        """A certificate ends and a member is retired in silence too: no open link outlives either."""
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
                await asyncio.sleep(0)  # a thousand of them do not hold the loop at once

    def _own_ending(self) -> StreamEnding | None:
        """How every stream ends once this side's certificate has: a member would not make a new one with it."""
        try:
            tls = self._tls if isinstance(self._tls, ServerTls) else self._tls()
            over = self._shared.now() >= expiry_of(tls.certificate)
        except SordinoError:
            return None  # a renewal in progress; the next look says
        return (
            StreamEnding(GoodbyeReason.EXPIRED, "the coordinator's certificate has expired") if over else None
        )

    async def _listen(self) -> aio.Server:
        credentials = self._credentials()
        limits = self._limits
        server = aio.server(
            maximum_concurrent_rpcs=limits.connections,
            options=[
                ("grpc.so_reuseport", 0),  # else a second coordinator silently takes half of the members
                ("grpc.max_receive_message_length", FRAME_BYTES),
                ("grpc.max_send_message_length", FRAME_BYTES),
                ("grpc.max_metadata_size", METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", METADATA_BYTES),
                ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
                ("grpc.max_allowed_incoming_connections", limits.connections),
                ("grpc.server_handshake_timeout_ms", int(limits.hello_seconds * 1000)),
                ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
                ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
                ("grpc.http2.bdp_probe", 0),  # it would let the window grow to megabytes per member
                ("grpc.keepalive_time_ms", int(limits.keepalive_seconds * 1000)),
                ("grpc.keepalive_timeout_ms", int(limits.keepalive_seconds * 1000 / 3)),
                (
                    "grpc.http2.ping_timeout_ms",
                    int(limits.keepalive_seconds * 1000 / 3),
                ),  # else 60 s, whatever the line above says
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", int(limits.keepalive_seconds * 1000 / 3)),
                ("grpc.http2.max_ping_strikes", 2),
            ],
        )
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._open)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Open": handler}),))
        host = f"[{self._host}]" if ":" in self._host else self._host
        _require_bindable(self._host, self._asked_port)  # gRPC would print its own account of it
        try:
            self._port = server.add_secure_port(f"{host}:{self._asked_port}", credentials)
        except RuntimeError:
            raise LinkError(
                f"gRPC cannot listen on {self._host}:{self._asked_port}",
                hint="check the server's key and certificate, and that the port is still free",
            ) from None
        await server.start()
        return server

    def _credentials(self) -> grpc.ServerCredentials:
        source = self._tls
        if isinstance(source, ServerTls):
            return grpc.ssl_server_credentials(
                [(source.key, source.certificate)], root_certificates=source.ca, require_client_auth=True
            )
        served = source()

        def renewed() -> Any:
            """Asked by gRPC at each handshake, on its own threads; None: nothing is new. What is given replaces gRPC's
            factory of handshakes, which is not safe while others begin one: given at each, a storm of members ended
            the process (tests/link/test_storm.py)."""
            nonlocal served
            try:
                now = source()
            except SordinoError:
                return None  # a renewal in progress
            if now == served:
                return None
            served = now
            return _configuration(now)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(served), renewed, require_client_authentication=True
        )

    def _mailbox(self, member: str) -> Mailbox:
        if member not in self._mailboxes:
            openings = Allowance(self._limits.opening_burst, self._limits.opening_rate)
            self._mailboxes[member] = Mailbox(member, self._results.put, openings)
        return self._mailboxes[member]

    async def _open(self, _: object, context: Any) -> None:
        """One stream, from its certificate to its end. gRPC cancels this coroutine when the connection breaks."""
        wire = _Context(context)
        try:
            try:
                async with asyncio.timeout(self._limits.hello_seconds):
                    member, expires = self._identified(context)
                    raw = await wire.read()
                    hello = decode_frame(raw) if raw is not None else None
            except TimeoutError:
                raise StreamEnding(GoodbyeReason.UNRESPONSIVE, "no Hello") from None
            except ProtocolError as problem:
                raise StreamEnding(GoodbyeReason.PROTOCOL, problem.message, Rejection.SCHEMA) from None
            if hello is None:
                return
            if not isinstance(hello, Hello):
                raise StreamEnding(GoodbyeReason.PROTOCOL, "the first frame is no Hello", Rejection.SCHEMA)
            stream, welcome = await self._admitted(wire, member, expires, hello)
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

    def _identified(self, context: Any) -> tuple[str, datetime.datetime]:
        pem = context.auth_context().get("x509_pem_cert", [b""])[0]
        try:
            member, expires = self._identify(pem), expiry_of(pem)
            self._shared.admit(member)
        except SordinoError as refusal:
            raise StreamEnding(GoodbyeReason.IDENTITY, refusal.message, Rejection.UNKNOWN_CLIENT) from None
        if self._shared.now() >= expires:
            raise StreamEnding(GoodbyeReason.EXPIRED, "the certificate has expired", Rejection.EXPIRED)
        return member, expires

    async def _admitted(
        self, wire: _Context, member: str, expires: datetime.datetime, hello: Hello
    ) -> tuple[MemberStream, Welcome]:
        version = min(hello.version_max, VERSION_MAX)
        if version < max(hello.version_min, VERSION_MIN):
            older = "member" if hello.version_max < VERSION_MIN else "coordinator"
            raise StreamEnding(
                GoodbyeReason.VERSION,
                f"the coordinator {self._software_version} speaks versions {VERSION_MIN} to {VERSION_MAX}, "
                f"the member {hello.software_version} {hello.version_min} to {hello.version_max}: upgrade the {older}",
            )
        mailbox, now = self._mailbox(member), asyncio.get_running_loop().time()
        if not mailbox.openings.take(now):
            raise StreamEnding(GoodbyeReason.UNRESPONSIVE, "too many connections", Rejection.SCHEMA)
        # A round waits for whoever was asked something: that member never has to.
        if mailbox.current is None and (seconds := self._turns.ask(now)):
            raise _busy(seconds, hello)
        async with mailbox.opening:
            older_stream = mailbox.stream
            if older_stream is not None:
                if hello.session != mailbox.session and await older_stream.alive():
                    raise StreamEnding(GoodbyeReason.DUPLICATE, f"another process is connected as {member}")
                older_stream.end(StreamEnding(GoodbyeReason.FENCED, "a newer connection took over"))
                await older_stream.ended()
            stream = MemberStream(wire, mailbox, self._shared, expires, version)
            awaiting = mailbox.resume(hello, self._session)
            mailbox.stream = stream
        self._note_connected()
        self._events.connected(member)
        return stream, Welcome(
            version=version,
            software_version=self._software_version,
            session=self._session,
            awaiting=awaiting,
        )

    def _note_connected(self) -> None:
        self._connected = frozenset(name for name, box in self._mailboxes.items() if box.stream is not None)


class _Context:
    """gRPC's context as a Wire."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def read(self) -> bytes | None:
        raw = await self._context.read()
        return raw if isinstance(raw, bytes) else None

    async def write(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except (aio.BaseError, asyncio.InvalidStateError):
            raise ConnectionError from None


def _busy(seconds: float, hello: Hello) -> StreamEnding:
    """Sends a member away until its turn; one that does not know of turns, as long as it likes."""
    if hello.version_max < BUSY_VERSION:
        return StreamEnding(GoodbyeReason.UNRESPONSIVE, "too many members at once", Rejection.BUSY)
    return StreamEnding(
        GoodbyeReason.BUSY,
        "too many members at once",
        Rejection.BUSY,
        retry_millis=max(1, int(seconds * 1000)),
    )


def _configuration(tls: ServerTls) -> Any:
    """A server's key, certificate and trusted authorities, as gRPC takes them."""
    return grpc.ssl_server_certificate_configuration([(tls.key, tls.certificate)], root_certificates=tls.ca)


def _require_bindable(host: str, port: int) -> None:
    """Raises PortInUseError or LinkError, which say what gRPC does not."""
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            claim(probe)
            probe.bind(where)
            probe.listen(1)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} on {host} is in use",
                hint="stop the other process (find it with: ss -ltnp), or choose another port",
            ) from None
        raise LinkError(
            f"cannot listen on {host}:{port}: {problem.strerror}",
            hint="the address must be one of this machine's; a port below 1024 needs privileges",
        ) from None
