"""A member with a valid certificate that breaks the rules: ended, counted under its reason, and nobody else notices."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import pytest
from tests.link.parties import QUICK, Coordinator, Member, Party, RawMember, eventually
from tests.link.pki import Authority

from sordino_platform.link import Direction, Disconnection, Loss, LostRequest, Rejection, Reply, stream
from sordino_platform.link.frames import (
    METHOD,
    VERSION_MAX,
    Ack,
    Cancel,
    Frame,
    FrameKind,
    Goodbye,
    GoodbyeReason,
    MessageChunk,
    MessageEnd,
    MessageStart,
    Ping,
    Pong,
    Welcome,
    decode_frame,
    encode_frame,
)
from sordino_platform.link.limits import CHUNK_BYTES, FRAME_BYTES
from sordino_platform.link.stream import MemberStream
from sordino_platform.wire import link_v1_pb2 as wire

Start = Callable[[Party], Party]


@pytest.fixture
def raw(coordinator: Coordinator, authority: Authority, launch: Start) -> RawMember:
    member = RawMember(coordinator, authority)
    launch(member)
    return member


def goodbye(raw: RawMember) -> Goodbye:
    while not isinstance(frame := raw.receive(), Goodbye):
        pass
    assert raw.ended()
    return frame


def start(request: int, total: int, id: int = 1, kind: FrameKind = FrameKind.REPLY) -> MessageStart:
    reply_to = 0 if kind is FrameKind.REQUEST else request
    deadline = 1000 if kind is FrameKind.REQUEST else 0
    return MessageStart(id=id, in_reply_to=reply_to, kind=kind, total=total, deadline_millis=deadline)


def chunk(size: int, offset: int = 0, id: int = 1) -> MessageChunk:
    return MessageChunk(id=id, offset=offset, data=bytes(size))


END = MessageEnd(id=1, sha256=bytes(32))


@pytest.mark.parametrize(
    ("frames", "rejection"),
    [
        ([b"\xff\xff\xff"], Rejection.SCHEMA),
        ([b""], Rejection.SCHEMA),
        ([bytes([0xFA, 0x01, 0])], Rejection.SCHEMA),  # body 31, which no version has yet
        ([encode_frame(Ping(1)) + bytes([0xF8, 0x3F, 1])], Rejection.SCHEMA),
        ([Welcome(version=1, software_version="1", session=bytes(16), awaiting=0)], Rejection.SCHEMA),
        (["hello"], Rejection.SCHEMA),
        ([chunk(5)], Rejection.SCHEMA),
        ([END], Rejection.SCHEMA),
        ([Cancel(1)], Rejection.SCHEMA),
        (["start", start(0, 5, kind=FrameKind.REQUEST)], Rejection.SCHEMA),
        ([start(0, 5, kind=FrameKind.REQUEST)], Rejection.SCHEMA),
        (["start", "start"], Rejection.SCHEMA),
        (["start", chunk(4)], Rejection.SCHEMA),
        (["start", chunk(5, id=2)], Rejection.SCHEMA),
        (["start", chunk(5, offset=1)], Rejection.SCHEMA),
        (["start", chunk(6)], Rejection.SCHEMA),
        (["start", END], Rejection.SCHEMA),
        (["start", chunk(5), chunk(5)], Rejection.SCHEMA),
        (["start", chunk(5), END], Rejection.SCHEMA),  # the digest is wrong
        (["start", Cancel(2)], Rejection.SCHEMA),
        (["too large"], Rejection.SIZE),
        ([start(10**9, 5)], Rejection.REPLAY),
        ([Ack(10**9)], Rejection.SCHEMA),
        ([Ping(n) for n in range(200)], Rejection.SCHEMA),
        ([Pong(n) for n in range(200)], Rejection.SCHEMA),
    ],
)
def test_a_broken_rule_ends_the_stream_and_is_counted(
    coordinator: Coordinator,
    raw: RawMember,
    authority: Authority,
    launch: Start,
    frames: list[Frame | bytes | str],
    rejection: Rejection,
) -> None:
    launch(Member(coordinator.target, authority, "alice"))
    raw.open()
    request = coordinator.link.send("mallory", b"work", deadline_seconds=20)
    assert raw.receive_request() == request
    named: dict[str, Frame] = {
        "hello": raw.hello(),
        "start": start(request, 5),
        "too large": start(request, QUICK.message_bytes + 1),
    }
    raw.send(*(named[frame] if isinstance(frame, str) else frame for frame in frames))
    assert goodbye(raw).reason is GoodbyeReason.PROTOCOL
    assert coordinator.result() == LostRequest(member="mallory", in_reply_to=request, reason=Loss.INVALID)
    assert coordinator.events.rejections == {rejection: 1}
    assert coordinator.events.disconnections == [("mallory", Disconnection.PROTOCOL)]
    eventually(lambda: coordinator.spooled() == 0)
    assert coordinator.ask("alice", b"all is well") == b"all is well"


@pytest.mark.parametrize("first", [Ping(1), b"\xff", start(1, 5), Goodbye(GoodbyeReason.SHUTDOWN)])
def test_a_stream_that_does_not_begin_with_hello_is_ended(
    coordinator: Coordinator, raw: RawMember, first: Frame | bytes
) -> None:
    raw.send(first)
    assert goodbye(raw).reason is GoodbyeReason.PROTOCOL
    assert coordinator.events.rejections == {Rejection.SCHEMA: 1}
    assert not coordinator.link.connected()


def test_a_frame_above_the_limit_never_reaches_python(coordinator: Coordinator, raw: RawMember) -> None:
    raw.open()
    raw.send(bytes(FRAME_BYTES + 1))
    assert raw.ended()
    eventually(lambda: coordinator.events.disconnections)
    assert not coordinator.link.connected()


@pytest.mark.parametrize(
    ("low", "high", "side"), [(VERSION_MAX + 1, 9, "upgrade the coordinator"), (1, 1, None), (1, 9, None)]
)
def test_versions_are_negotiated_and_a_refusal_says_whom_to_upgrade(
    coordinator: Coordinator, raw: RawMember, low: int, high: int, side: str | None
) -> None:
    raw.send(raw.hello(version_min=low, version_max=high))
    answer = raw.receive()
    if side is None:
        assert isinstance(answer, Welcome)
        assert answer.version == min(high, VERSION_MAX)
    else:
        assert isinstance(answer, Goodbye)
        assert answer.reason is GoodbyeReason.VERSION
        assert side in answer.detail


def test_a_newer_hello_with_fields_we_do_not_know_is_understood(raw: RawMember) -> None:

    message = wire.Frame.FromString(encode_frame(raw.hello()))
    message.hello.MergeFromString(bytes([0xF8, 0x3F, 1]))
    raw.send(message.SerializeToString())
    assert isinstance(raw.receive(), Welcome)


def test_the_same_reply_twice_is_counted_once(coordinator: Coordinator, raw: RawMember) -> None:
    raw.open()
    request = coordinator.link.send("mallory", b"", deadline_seconds=20)
    raw.receive_request()
    raw.send(*raw.reply(request, b"one"), *raw.reply(request, b"two"))
    result = coordinator.result()
    assert isinstance(result, Reply)
    assert bytes(result.payload) == b"one"
    assert goodbye(raw).reason is GoodbyeReason.PROTOCOL
    assert coordinator.events.rejections == {Rejection.REPLAY: 1}
    assert coordinator.link.receive(timeout=0.05) is None


def test_a_reply_after_the_deadline_is_read_counted_and_thrown_away(
    coordinator: Coordinator, raw: RawMember
) -> None:
    raw.open()
    late = coordinator.link.send("mallory", b"", deadline_seconds=0.2)
    raw.receive_request()
    assert coordinator.result() == LostRequest(member="mallory", in_reply_to=late, reason=Loss.TIMEOUT)
    assert raw.receive() == Cancel(late)
    raw.send(*raw.reply(late, bytes(3 * CHUNK_BYTES)))
    eventually(lambda: coordinator.events.rejections)
    assert coordinator.events.rejections == {Rejection.EXPIRED: 1}
    request = coordinator.link.send("mallory", b"", deadline_seconds=20)
    assert raw.receive_request() == request
    raw.send(*raw.reply(request, b"in time"))
    result = coordinator.result()
    assert isinstance(result, Reply)
    assert bytes(result.payload) == b"in time"
    eventually(lambda: coordinator.spooled() == 0)


def test_a_reply_that_its_sender_gives_up_leaves_nothing(coordinator: Coordinator, raw: RawMember) -> None:
    raw.open()
    request = coordinator.link.send("mallory", b"", deadline_seconds=20)
    raw.receive_request()
    raw.send(start(request, 2 * CHUNK_BYTES, id=1), chunk(CHUNK_BYTES, id=1), Cancel(1))
    raw.send(*raw.reply(request, b"second thoughts", id=2))
    result = coordinator.result()
    assert isinstance(result, Reply)
    assert bytes(result.payload) == b"second thoughts"


def test_a_transfer_that_stalls_is_evicted_long_before_its_deadline(
    coordinator: Coordinator, raw: RawMember, authority: Authority, launch: Start
) -> None:
    raw.open()
    request = coordinator.link.send("mallory", b"", deadline_seconds=600)
    raw.receive_request()
    raw.send(start(request, 2 * CHUNK_BYTES), chunk(CHUNK_BYTES))
    launch(Member(coordinator.target, authority, "alice"))
    assert coordinator.ask("alice", b"meanwhile") == b"meanwhile"
    assert goodbye(raw).reason is GoodbyeReason.UNRESPONSIVE
    eventually(lambda: coordinator.spooled() == 0)


def test_a_transfer_that_is_under_way_at_its_deadline_is_evicted(
    coordinator: Coordinator, raw: RawMember, authority: Authority, launch: Start
) -> None:
    launch(Member(coordinator.target, authority, "alice"))
    raw.open()
    request = coordinator.link.send("mallory", b"", deadline_seconds=0.5)
    raw.receive_request()
    raw.send(start(request, 2 * CHUNK_BYTES), chunk(CHUNK_BYTES))
    assert coordinator.result() == LostRequest(member="mallory", in_reply_to=request, reason=Loss.TIMEOUT)
    assert goodbye(raw).reason is GoodbyeReason.DEADLINE
    assert coordinator.events.disconnections == [("mallory", Disconnection.DEADLINE)]
    eventually(lambda: coordinator.spooled() == 0)
    assert coordinator.ask("alice", b"unharmed") == b"unharmed"


def test_a_member_that_does_not_read_is_evicted_at_the_deadline(
    coordinator: Coordinator, raw: RawMember, authority: Authority, launch: Start
) -> None:
    launch(Member(coordinator.target, authority, "alice"))
    raw.open()
    payload = bytes(QUICK.message_bytes)
    request = coordinator.link.send("mallory", payload, deadline_seconds=1)
    assert coordinator.ask("alice", b"unharmed") == b"unharmed"
    assert coordinator.result() == LostRequest(member="mallory", in_reply_to=request, reason=Loss.TIMEOUT)
    eventually(lambda: coordinator.events.disconnections == [("mallory", Disconnection.DEADLINE)])


def test_nothing_is_reserved_for_what_is_only_announced(coordinator: Coordinator, raw: RawMember) -> None:
    raw.open()
    request = coordinator.link.send("mallory", b"", deadline_seconds=20)
    raw.receive_request()
    raw.send(start(request, QUICK.message_bytes))
    eventually(lambda: coordinator.spooled() == 1)
    stream = coordinator.link._mailboxes["mallory"].stream
    assert isinstance(stream, MemberStream)
    storage: Any = eventually(lambda: stream._arriving._assembly and stream._arriving._assembly._storage)
    assert os.fstat(storage._file.fileno()).st_blocks == 0
    assert coordinator.events.counted[Direction.RECEIVED] == 0


def test_a_reply_larger_than_was_asked_for_is_refused_at_its_first_frame(
    coordinator: Coordinator, raw: RawMember
) -> None:
    raw.open()
    request = coordinator.link.send("mallory", b"", deadline_seconds=20, reply_bytes=100)
    raw.receive_request()
    raw.send(start(request, 101))
    assert coordinator.result() == LostRequest(member="mallory", in_reply_to=request, reason=Loss.INVALID)
    assert goodbye(raw).reason is GoodbyeReason.PROTOCOL
    assert coordinator.events.rejections == {Rejection.SIZE: 1}
    assert coordinator.events.counted[Direction.RECEIVED] == 0


def test_a_late_reply_is_read_once_and_no_longer_than_it_could_have_been(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    for late, rejection in (([101], Rejection.SIZE), ([5, 5], Rejection.REPLAY)):
        raw = RawMember(coordinator, authority)
        launch(raw)
        raw.open()
        coordinator.events.rejections.clear()
        request = coordinator.link.send("mallory", b"", deadline_seconds=0.2, reply_bytes=100)
        raw.receive_request()
        assert isinstance(coordinator.result(), LostRequest)
        assert raw.receive() == Cancel(request)
        for number, size in enumerate(late, 1):
            raw.send(start(request, size, id=number), chunk(size, id=number))
            raw.send(MessageEnd(id=number, sha256=hashlib.sha256(bytes(size)).digest()))
        assert goodbye(raw).reason is GoodbyeReason.PROTOCOL
        assert coordinator.events.rejections[rejection] == 1


def test_a_flood_of_acknowledgements_ends_the_stream(coordinator: Coordinator, raw: RawMember) -> None:
    raw.open()
    request = coordinator.link.send("mallory", b"", deadline_seconds=20)
    raw.receive_request()
    raw.send(*(Ack(request) for _ in range(200)))
    assert goodbye(raw).reason is GoodbyeReason.PROTOCOL
    assert coordinator.events.rejections == {Rejection.SCHEMA: 1}


def test_a_flood_of_connections_is_turned_away_and_nobody_else_notices(
    authority: Authority, launch: Start
) -> None:
    coordinator = Coordinator(authority, limits=replace(QUICK, opening_burst=3, opening_rate=0.001))
    launch(coordinator)
    launch(Member(coordinator.target, authority, "alice"))
    for number in range(5):
        raw = RawMember(coordinator, authority)
        launch(raw)
        raw.send(raw.hello(session=b"s" * 16))
        answer = raw.receive()
        assert isinstance(answer, Welcome if number < 3 else Goodbye)
    assert coordinator.events.connections["mallory"] == 3
    assert coordinator.ask("alice", b"unharmed") == b"unharmed"


def test_bytes_that_raise_what_nobody_foresaw_cost_their_sender_only(
    coordinator: Coordinator,
    raw: RawMember,
    authority: Authority,
    launch: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def decode(data: bytes) -> Frame:
        if data == b"magic":
            raise RecursionError("what was sent must not be logged")
        return decode_frame(data)

    monkeypatch.setattr(stream, "decode_frame", decode)
    launch(Member(coordinator.target, authority, "alice"))
    raw.open()
    request = coordinator.link.send("mallory", b"", deadline_seconds=20)
    raw.receive_request()
    raw.send(b"magic")
    assert coordinator.result() == LostRequest(member="mallory", in_reply_to=request, reason=Loss.INVALID)
    assert goodbye(raw).reason is GoodbyeReason.PROTOCOL
    assert coordinator.events.rejections == {Rejection.UNEXPECTED: 1}
    assert coordinator.ask("alice", b"unharmed") == b"unharmed"
    assert "RecursionError" in caplog.text
    assert "must not be logged" not in caplog.text


def test_a_disk_that_cannot_keep_a_reply_loses_it_and_nothing_else(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    sizes = iter([QUICK.message_bytes, 5])
    launch(Member(coordinator.target, authority, "alice", handler=lambda _: bytes(next(sizes))))
    eventually(coordinator.link.connected)
    shutil.rmtree(coordinator._spool)
    request = coordinator.link.send("alice", b"", deadline_seconds=20)
    assert coordinator.result() == LostRequest(member="alice", in_reply_to=request, reason=Loss.STORAGE)
    assert coordinator.ask("alice", b"") == bytes(5)
    assert coordinator.events.disconnections == []


def test_members_that_announce_much_and_drip_keep_nobody_waiting(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    """Many, each with the largest reply there is: whatever they hold, six honest members' large replies pass."""
    drippers = []
    for number in range(8):
        raw = RawMember(coordinator, authority, f"mallory-{number}")
        launch(raw)
        raw.open()
        drippers.append(raw)
        request = coordinator.link.send(f"mallory-{number}", b"", deadline_seconds=600)
        raw.receive_request()
        raw.send(start(request, QUICK.message_bytes), chunk(CHUNK_BYTES))
    for number in range(6):
        name = f"honest-{number}"
        launch(Member(coordinator.target, authority, name, handler=lambda _: bytes(QUICK.message_bytes)))
        coordinator.link.send(name, b"", deadline_seconds=60)
    taken = [coordinator.result(60) for _ in range(6)]
    assert {result.member for result in taken if isinstance(result, Reply)} == {
        f"honest-{number}" for number in range(6)
    }


def test_a_second_call_on_the_same_connection_finds_no_room(coordinator: Coordinator, raw: RawMember) -> None:

    raw.open()
    stream: grpc.StreamStreamMultiCallable[bytes, bytes] = raw.channel.stream_stream(METHOD)
    second = stream(iter([encode_frame(raw.hello(session=bytes(16)))]), timeout=0.5)
    with ThreadPoolExecutor(1) as pool, pytest.raises(grpc.RpcError):
        pool.submit(next, second).result()
    assert coordinator.events.connections == {"mallory": 1}


def test_headers_are_bounded(coordinator: Coordinator, raw: RawMember) -> None:

    other = RawMember(coordinator, raw.authority)
    other.call.cancel()
    stream: grpc.StreamStreamMultiCallable[bytes, bytes] = other.channel.stream_stream(METHOD)
    call = stream(iter([encode_frame(other.hello())]), metadata=(("x-large", "a" * 20_000),), timeout=5)
    with pytest.raises(grpc.RpcError):
        next(call)
    other.stop()
    assert not coordinator.link.connected()


def test_an_unknown_method_or_service_is_not_there(coordinator: Coordinator, raw: RawMember) -> None:

    call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
    call = raw.channel.unary_unary("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    # The connection's one stream is taken by the link's call; end it first.
    raw.call.cancel()
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
