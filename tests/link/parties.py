"""The two ends of a link as tests drive them: real processes' objects, plus raw ends that break the rules."""

from __future__ import annotations

import contextlib
import itertools
import queue
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
from tests.link.pki import Authority, Material, name_in

from sordino_platform.link import (
    ClientTls,
    Direction,
    Disconnection,
    Handler,
    IgnoreEvents,
    Limits,
    LinkClient,
    LinkServer,
    LinkState,
    LinkStatus,
    LostRequest,
    Rejection,
    Reply,
    ServerTls,
)
from sordino_platform.link.frames import (
    METHOD,
    SERVICE,
    Ack,
    Frame,
    FrameKind,
    Hello,
    MessageEnd,
    Welcome,
    decode_frame,
    encode_frame,
)
from sordino_platform.link.messages import Payload, outgoing, parts_of
from sordino_privacy.errors import LinkError, SordinoError

T = TypeVar("T")

QUICK = Limits(
    message_bytes=8 << 20,
    hello_seconds=5.0,
    stall_seconds=2.0,
    probe_seconds=1.0,
)


class Party(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


def eventually(claim: Callable[[], T], seconds: float = 20.0) -> T:
    """Waits until the claim is true, and returns what it said."""
    end = time.monotonic() + seconds
    while not (value := claim()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return value


class Events(IgnoreEvents):
    """Keeps what happened."""

    def __init__(self) -> None:
        self.rejections: Counter[Rejection] = Counter()
        self.disconnections: list[tuple[str, Disconnection]] = []
        self.connections: Counter[str] = Counter()
        self.counted: Counter[Direction] = Counter()

    def connected(self, member: str) -> None:
        self.connections[member] += 1

    def disconnected(self, member: str, reason: Disconnection) -> None:
        self.disconnections.append((member, reason))

    def rejected(self, reason: Rejection) -> None:
        self.rejections[reason] += 1

    def bytes(self, direction: Direction, count: int) -> None:
        self.counted[direction] += count


def open_files(folder: Path) -> list[str]:
    """The files below `folder` that this process has open, those without a name too."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(entry.readlink()))
    return [link for link in links if link.startswith(f"{folder}/")]


class Coordinator:
    """A LinkServer on 127.0.0.1."""

    def __init__(
        self,
        authority: Authority,
        *,
        port: int = 0,
        limits: Limits = QUICK,
        material: Material | None = None,
        **options: Any,
    ) -> None:
        self.events = Events()
        self.retired: set[str] = set()
        self._spool = Path(tempfile.mkdtemp())
        self.link = LinkServer(
            f"127.0.0.1:{port}",
            tls=ServerTls(**(material or authority.issue("coordinator"))),
            identify=name_in,
            admit=self.admit,
            software_version="1.0",
            limits=limits,
            events=self.events,
            spool=self._spool,
            **options,
        )

    def spooled(self) -> int:
        """Replies that lie on disk: under way, or not yet taken."""
        return len(open_files(self._spool))

    def admit(self, member: str) -> None:
        if member in self.retired:
            raise LinkError(f"member {member} was retired in epoch 2")

    def start(self) -> None:
        self.link.start()
        self.port = self.link.port

    def stop(self) -> None:
        self.link.stop(grace=0.5)
        shutil.rmtree(self._spool, ignore_errors=True)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, member: str, payload: Payload, seconds: float = 20.0) -> bytes:
        """Sends and waits for the reply to just that."""
        request = self.link.send(member, payload, deadline_seconds=seconds)
        result = self.result(seconds + 5)
        assert isinstance(result, Reply), result
        assert (result.member, result.in_reply_to) == (member, request)
        return bytes(result.payload)

    def result(self, seconds: float = 20.0) -> Reply | LostRequest:
        result = self.link.receive(timeout=seconds)
        assert result is not None, "no result came"
        return result


def echo(request: Any) -> bytes:
    return bytes(request.payload)


class Member:
    """A LinkClient on a thread of its own."""

    def __init__(
        self,
        target: str,
        authority: Authority,
        name: str = "alice",
        *,
        handler: Handler = echo,
        material: Material | None = None,
        limits: Limits = QUICK,
        **options: Any,
    ) -> None:
        self.statuses: queue.SimpleQueue[LinkStatus] = queue.SimpleQueue()
        self.problem: SordinoError | None = None
        self.events = Events()
        self.client = LinkClient(
            target,
            tls=options.pop("tls", None) or ClientTls(**(material or authority.issue(name))),
            handler=handler,
            limits=limits,
            on_status=self.statuses.put,
            events=self.events,
            **options,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.client.run()
        except SordinoError as problem:
            self.problem = problem

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.client.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def failure(self) -> SordinoError:
        """What `run` raised."""
        self._thread.join(20)
        assert self.problem is not None
        return self.problem

    def until(self, state: LinkState) -> LinkStatus:
        """The next status with this state."""
        while (status := self.statuses.get(timeout=20)).state is not state:
            pass
        return status


class RawMember:
    """A member that sends whatever frames or bytes a test wants."""

    def __init__(self, coordinator: Coordinator, authority: Authority, name: str = "mallory") -> None:
        self.authority = authority
        material = authority.issue(name)
        self.channel = grpc.secure_channel(
            coordinator.target,
            grpc.ssl_channel_credentials(material["ca"], material["key"], material["certificate"]),
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)],
        )
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = self.channel.stream_stream(METHOD)
        self.call = stream(iter(self._frames.get, None))
        self.ids = itertools.count(1)
        self.session = secrets.token_bytes(16)

    def start(self) -> None:
        """Nothing: it is open."""

    def stop(self) -> None:
        self._frames.put(None)
        self.call.cancel()
        self.channel.close()

    def hello(self, **changes: Any) -> Hello:
        fields: dict[str, Any] = {
            "version_min": 1, "version_max": 1, "software_version": "1.0", "session": self.session,
            "coordinator_session": b"", "received": 0,
        }  # fmt: skip
        return Hello(**(fields | changes))

    def open(self) -> Welcome:
        self.send(self.hello())
        welcome = self.receive()
        assert isinstance(welcome, Welcome)
        return welcome

    def send(self, *frames: Frame | bytes) -> None:
        for frame in frames:
            self._frames.put(frame if isinstance(frame, bytes) else encode_frame(frame))

    def receive(self) -> Frame:
        return decode_frame(next(self.call))

    def receive_request(self) -> int:
        """Takes one whole request; returns its id."""
        while not isinstance(frame := self.receive(), MessageEnd):
            pass
        self.send(Ack(frame.id))
        return frame.id

    def reply(self, request: int, payload: bytes, id: int | None = None) -> list[Frame]:
        """The frames of a correct reply."""
        return list(
            outgoing(parts_of(payload), id=id or next(self.ids), kind=FrameKind.REPLY, in_reply_to=request)
        )

    def ended(self) -> bool:
        """Reads until the coordinator ends the stream."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError:
            return True
        return True


class RawCoordinator:
    """A coordinator that follows a script for each stream: a function of (frames received, send)."""

    def __init__(self, authority: Authority, *scripts: Callable[[Conversation], None]) -> None:
        material = authority.issue("coordinator")
        self._scripts = iter(scripts)
        self.failures: list[BaseException] = []
        self._server = grpc.server(
            ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 1 << 20)]
        )
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._open)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"Open": handler}),)
        )
        credentials = grpc.ssl_server_credentials(
            [(material["key"], material["certificate"])], material["ca"], True
        )
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def _open(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        conversation = Conversation(frames)
        script = next(self._scripts, None)
        if script is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the script is over")

        def play() -> None:
            try:
                script(conversation)
            except BaseException as problem:  # noqa: BLE001 - asserted by the test
                self.failures.append(problem)
            conversation.out.put(None)

        threading.Thread(target=play, daemon=True).start()
        return iter(conversation.out.get, None)


class Conversation:
    """One stream, seen from a scripted coordinator."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames
        self.out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def receive(self) -> Frame:
        return decode_frame(next(self._frames))

    def send(self, *frames: Frame | bytes) -> None:
        for frame in frames:
            self.out.put(frame if isinstance(frame, bytes) else encode_frame(frame))

    def welcome(self, session: bytes = b"c" * 16, awaiting: int = 0) -> Hello:
        hello = self.receive()
        assert isinstance(hello, Hello)
        self.send(Welcome(version=1, software_version="1.0", session=session, awaiting=awaiting))
        return hello

    def request(self, id: int, payload: bytes, seconds: float = 20.0) -> None:
        self.send(
            *outgoing(parts_of(payload), id=id, kind=FrameKind.REQUEST, deadline_millis=int(seconds * 1000))
        )

    def until(self, kind: type[T]) -> T:
        while not isinstance(frame := self.receive(), kind):
            pass
        return frame
