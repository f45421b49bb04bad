"""Requests out, replies in: each request yields exactly one result, in the order of arrival, by its deadline."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.link.parties import QUICK, Coordinator, Member, Party, eventually
from tests.link.pki import Authority

from sordino_platform.link import (
    Direction,
    Disconnection,
    LinkServer,
    LinkState,
    Loss,
    LostRequest,
    Payload,
    Rejection,
    Reply,
    Request,
)
from sordino_privacy.errors import LinkError

Start = Callable[[Party], Party]


@pytest.fixture
def alice(coordinator: Coordinator, authority: Authority, launch: Start) -> Member:
    member = Member(coordinator.target, authority, "alice")
    launch(member)
    eventually(lambda: "alice" in coordinator.link.connected())
    return member


@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 4_000_000])
def test_a_payload_of_any_size_goes_and_comes_back(
    coordinator: Coordinator, alice: Member, size: int
) -> None:
    payload = hashlib.shake_128(b"model").digest(size)
    assert coordinator.ask("alice", payload) == payload
    assert coordinator.events.counted == +Counter({Direction.SENT: size, Direction.RECEIVED: size})
    assert alice.events.counted == coordinator.events.counted


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=2000), max_size=6))
def test_parts_arrive_joined(coordinator: Coordinator, alice: Member, parts: list[bytes]) -> None:
    assert coordinator.ask("alice", parts) == b"".join(parts)


def test_many_messages_wait_for_their_turn_and_keep_their_order(
    coordinator: Coordinator, alice: Member
) -> None:
    sent = [coordinator.link.send("alice", bytes([n]), deadline_seconds=20) for n in range(15)]
    results = [coordinator.result() for _ in sent]
    assert [result.in_reply_to for result in results] == sent
    assert [bytes(r.payload) for r in results if isinstance(r, Reply)] == [bytes([n]) for n in range(15)]


def test_a_queue_for_one_member_is_bounded(coordinator: Coordinator) -> None:
    for _ in range(16):
        coordinator.link.send("alice", b"", deadline_seconds=20)
    with pytest.raises(LinkError, match="16 messages wait for member alice"):
        coordinator.link.send("alice", b"", deadline_seconds=20)
    coordinator.link.send("bob", b"", deadline_seconds=20)


def test_a_message_that_is_too_large_is_refused_before_it_is_sent(coordinator: Coordinator) -> None:
    with pytest.raises(LinkError, match="above the link's limit"):
        coordinator.link.send("alice", bytes(QUICK.message_bytes + 1), deadline_seconds=1)


def test_a_reply_that_is_too_large_is_refused_at_its_start(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    launch(Member(coordinator.target, authority, handler=lambda _: bytes(QUICK.message_bytes + 1)))
    coordinator.link.send("alice", b"", deadline_seconds=20)
    result = coordinator.result()
    assert isinstance(result, LostRequest)
    assert result.reason is Loss.INVALID
    assert coordinator.events.rejections == {Rejection.SIZE: 1}
    assert coordinator.events.counted[Direction.RECEIVED] == 0


def test_a_member_that_was_sent_something_before_it_came_gets_it_when_it_comes(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    request = coordinator.link.send("alice", b"early", deadline_seconds=20)
    assert coordinator.link.receive(timeout=0.05) is None
    launch(Member(coordinator.target, authority))
    result = coordinator.result()
    assert isinstance(result, Reply)
    assert (result.in_reply_to, bytes(result.payload)) == (request, b"early")


def test_a_member_that_never_comes_is_lost_at_the_deadline(coordinator: Coordinator) -> None:
    request = coordinator.link.send("alice", b"", deadline_seconds=0.1)
    assert coordinator.result() == LostRequest(member="alice", in_reply_to=request, reason=Loss.DISCONNECT)


def test_a_handler_that_fails_is_reported_without_its_words(
    coordinator: Coordinator, authority: Authority, launch: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Request) -> Payload:
        raise RuntimeError("def proprietary(): ...")

    launch(Member(coordinator.target, authority, handler=fails))
    with caplog.at_level(logging.DEBUG):
        request = coordinator.link.send("alice", b"", deadline_seconds=20)
        assert coordinator.result() == LostRequest(member="alice", in_reply_to=request, reason=Loss.REFUSED)
    assert "RuntimeError" in caplog.text
    assert "proprietary" not in caplog.text


def test_a_handler_that_returns_nothing_sends_an_empty_reply(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    launch(Member(coordinator.target, authority, handler=lambda _: None))
    assert coordinator.ask("alice", b"x") == b""


def test_one_request_is_handled_at_a_time(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    active, most = 0, 0
    lock = threading.Lock()

    def handler(request: Request) -> bytes:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        request.wait(0.02)
        with lock:
            active -= 1
        return b""

    launch(Member(coordinator.target, authority, handler=handler))
    for _ in range(5):
        coordinator.link.send("alice", b"", deadline_seconds=20)
    for _ in range(5):
        coordinator.result()
    assert most == 1


def test_a_handler_sees_its_deadline_and_the_next_request_comes_through(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    waited: list[bool] = []

    def handler(request: Request) -> bytes:
        if bytes(request.payload) == b"slow":
            assert 0 < request.remaining <= 0.3
            waited.append(request.wait(20))
        return bytes(request.payload)

    launch(Member(coordinator.target, authority, handler=handler))
    eventually(coordinator.link.connected)
    slow = coordinator.link.send("alice", b"slow", deadline_seconds=0.3)
    coordinator.link.send("alice", b"next", deadline_seconds=20)
    assert coordinator.result() == LostRequest(member="alice", in_reply_to=slow, reason=Loss.TIMEOUT)
    result = coordinator.result()
    assert isinstance(result, Reply)
    assert bytes(result.payload) == b"next"
    assert waited == [True]
    assert coordinator.events.disconnections == []


def test_a_cancelled_request_yields_nothing_and_stops_the_handler(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    started, stopped = threading.Event(), threading.Event()

    def handler(request: Request) -> bytes:
        if bytes(request.payload) == b"long":
            started.set()
            if request.wait(20):
                stopped.set()
        return b"done"

    launch(Member(coordinator.target, authority, handler=handler))
    request = coordinator.link.send("alice", b"long", deadline_seconds=60)
    waiting = coordinator.link.send("alice", b"never sent", deadline_seconds=60)
    assert started.wait(20)
    assert coordinator.link.cancel(waiting)
    assert coordinator.link.cancel(request)
    assert stopped.wait(20)
    assert not coordinator.link.cancel(request)
    assert coordinator.ask("alice", b"short") == b"done"
    assert coordinator.link.receive(timeout=0.05) is None


def test_a_reply_that_is_cancelled_on_its_way_stops_and_frees_its_memory(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    first = threading.Event()

    def handler(request: Request) -> bytes:
        return b"small" if first.is_set() else bytes(QUICK.message_bytes)

    launch(Member(coordinator.target, authority, handler=handler))
    request = coordinator.link.send("alice", b"", deadline_seconds=60)
    eventually(lambda: coordinator.events.counted[Direction.RECEIVED])
    cancelled = coordinator.link.cancel(request)
    first.set()
    result = coordinator.link.send("alice", b"", deadline_seconds=60)
    replies = [coordinator.result() for _ in range(1 if cancelled else 2)]
    assert replies[-1].in_reply_to == result
    assert isinstance(replies[-1], Reply)
    assert bytes(replies[-1].payload) == b"small"
    eventually(lambda: coordinator.spooled() == 0)
    assert coordinator.events.disconnections == []


def test_a_member_retired_in_the_middle_is_refused_at_its_next_message(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    release = threading.Event()

    def handler(request: Request) -> bytes:
        while not release.is_set():
            request.wait(0.01)
        return b"too late"

    member = Member(coordinator.target, authority, handler=handler)
    member.start()
    request = coordinator.link.send("alice", b"", deadline_seconds=20)
    queued = coordinator.link.send("alice", b"", deadline_seconds=20)
    eventually(lambda: coordinator.link._mailboxes["alice"].current)
    coordinator.retired.add("alice")
    release.set()
    assert {coordinator.result(), coordinator.result()} == {
        LostRequest(member="alice", in_reply_to=request, reason=Loss.REVOKED),
        LostRequest(member="alice", in_reply_to=queued, reason=Loss.REVOKED),
    }
    assert "member alice was retired in epoch 2" in member.failure().message
    assert coordinator.events.rejections == {Rejection.UNKNOWN_CLIENT: 1}
    assert coordinator.events.disconnections == [("alice", Disconnection.IDENTITY)]
    with pytest.raises(LinkError, match="retired"):
        coordinator.link.send("alice", b"", deadline_seconds=20)


def test_replies_that_nobody_has_taken_lie_on_disk_and_one_member_waits_for_no_other(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    size, names = 1 << 20, [f"member-{n}" for n in range(6)]
    for name in names:
        launch(Member(coordinator.target, authority, name, handler=lambda _: bytes(size)))
    for name in names:
        coordinator.link.send(name, b"", deadline_seconds=60)
    eventually(lambda: coordinator.link._results.qsize() == len(names))
    assert coordinator.spooled() == len(names)
    assert {coordinator.result().member for _ in names} == set(names)
    assert coordinator.spooled() == 0


def test_stopping_wakes_the_receiver_and_the_members_wait(
    coordinator: Coordinator, alice: Member, authority: Authority
) -> None:
    woken: list[LinkError] = []

    def receive() -> None:
        try:
            coordinator.link.receive()
        except LinkError as stopped:
            woken.append(stopped)

    receiver = threading.Thread(target=receive)
    receiver.start()
    coordinator.stop()
    receiver.join(20)
    assert [problem.message for problem in woken] == ["the link is stopped"]
    assert "shutdown" in alice.until(LinkState.WAITING).message
    with pytest.raises(LinkError, match="stopped"):
        coordinator.link.send("alice", b"", deadline_seconds=1)
    coordinator.stop()  # twice does no harm


def test_sending_while_another_thread_stops_the_link_ends_with_a_clear_error(authority: Authority) -> None:
    coordinator = Coordinator(authority)
    coordinator.start()
    ended: list[str] = []

    def send() -> None:
        try:
            for number in itertools.count():
                coordinator.link.send(f"member-{number}", b"", deadline_seconds=20)
        except LinkError as problem:
            ended.append(problem.message)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    coordinator.stop()
    for sender in senders:
        sender.join(20)
    assert ended == ["the link is stopped"] * 4


def test_a_member_that_leaves_in_the_middle_is_lost_at_once(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    working = threading.Event()

    def handler(request: Request) -> bytes:
        working.set()
        request.wait(60)
        return b""

    member = Member(coordinator.target, authority, handler=handler)
    member.start()
    request = coordinator.link.send("alice", b"", deadline_seconds=600)
    assert working.wait(20)
    member.stop()
    assert coordinator.result() == LostRequest(member="alice", in_reply_to=request, reason=Loss.DISCONNECT)
    assert coordinator.events.disconnections == [("alice", Disconnection.LEFT)]


def test_fifty_members_at_once(coordinator: Coordinator, authority: Authority, launch: Start) -> None:
    names = [f"member-{n:02}" for n in range(50)]
    for name in names:
        launch(Member(coordinator.target, authority, name, handler=lambda r: [b"mine:", bytes(r.payload)]))
    eventually(lambda: coordinator.link.connected() == set(names), 60)
    model = bytes(100_000)
    sent = {coordinator.link.send(name, [name.encode(), model], deadline_seconds=60): name for name in names}
    for _ in names:
        result = coordinator.result(60)
        assert isinstance(result, Reply)
        assert sent.pop(result.in_reply_to) == result.member
        assert result.payload == b"mine:" + result.member.encode() + model
    assert not sent


def test_what_is_not_a_deadline_version_or_limit_is_refused(
    coordinator: Coordinator, authority: Authority
) -> None:
    with pytest.raises(ValueError, match="deadline"):
        coordinator.link.send("alice", b"", deadline_seconds=0)
    with pytest.raises(ValueError, match="software version"):
        LinkServer("h:1", tls=coordinator.link._tls, identify=str, admit=print, software_version="a b")
    with pytest.raises(ValueError, match="software version"):
        Member("h:1", authority, software_version="")


def test_nothing_is_left_running_after_a_stop(authority: Authority) -> None:
    before = set(threading.enumerate())
    coordinator = Coordinator(authority)
    coordinator.start()
    member = Member(coordinator.target, authority)
    member.start()
    eventually(coordinator.link.connected)
    member.stop()
    coordinator.stop()

    def left() -> list[str]:
        return [t.name for t in threading.enumerate() if t not in before and "poll_wrapper" not in t.name]

    eventually(lambda: not left())
