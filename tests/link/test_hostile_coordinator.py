"""A coordinator that breaks the link's rules, as a member meets it: work is done once, and nonsense ends the stream."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.link.parties import QUICK, Conversation, Member, Party, RawCoordinator
from tests.link.pki import Authority

from sordino_platform.link import LinkState, Request
from sordino_platform.link.frames import (
    Ack,
    Cancel,
    Frame,
    FrameKind,
    Goodbye,
    GoodbyeReason,
    Hello,
    MessageChunk,
    MessageEnd,
    MessageStart,
    Ping,
    Pong,
    Welcome,
)

Start = Callable[[Party], Party]
SESSION = b"c" * 16


def collect(conversation: Conversation) -> bytes:
    """One whole reply; not acknowledged."""
    data = b""
    while not isinstance(frame := conversation.receive(), MessageEnd):
        if isinstance(frame, MessageChunk):
            data += frame.data
    return data


def play(
    authority: Authority, launch: Start, *scripts: Callable[[Conversation], None], **member: object
) -> Member:
    """Runs the scripts, one per connection, against a member; returns it when the last script is over."""
    finished = threading.Event()

    def last(conversation: Conversation) -> None:
        try:
            scripts[-1](conversation)
        finally:
            finished.set()

    coordinator = RawCoordinator(authority, *scripts[:-1], last)
    launch(coordinator)
    party = Member(coordinator.target, authority, **member)  # type: ignore[arg-type]
    launch(party)
    assert finished.wait(30)
    assert coordinator.failures == []
    return party


def test_a_request_sent_twice_is_handled_once_and_acknowledged_twice(
    authority: Authority, launch: Start
) -> None:
    handled: list[bytes] = []

    def handler(request: Request) -> bytes:
        handled.append(bytes(request.payload))
        return b"result"

    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.request(1, b"work")
        assert conversation.receive() == Ack(1)
        assert collect(conversation) == b"result"
        conversation.request(1, b"work")
        assert conversation.until(Ack) == Ack(1)
        conversation.request(2, b"more")
        assert conversation.until(Ack) == Ack(2)
        assert collect(conversation) == b"result"

    play(authority, launch, script, handler=handler)
    assert handled == [b"work", b"more"]


def test_a_reply_without_acknowledgement_is_sent_again_only_if_it_is_awaited(
    authority: Authority, launch: Start
) -> None:
    hellos: list[Hello] = []

    def breaks(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.request(5, b"work")
        assert collect(conversation) == b"work"

    def awaits(conversation: Conversation) -> None:
        hellos.append(conversation.welcome(awaiting=5))
        assert collect(conversation) == b"work"

    def does_not(conversation: Conversation) -> None:
        hellos.append(conversation.welcome(awaiting=0))
        conversation.request(6, b"next")
        assert conversation.receive() == Ack(6)
        start = conversation.receive()
        assert isinstance(start, MessageStart)
        assert start.in_reply_to == 6

    play(authority, launch, breaks, awaits, does_not)
    assert [hello.coordinator_session for hello in hellos] == [SESSION, SESSION]
    assert [hello.received for hello in hellos] == [5, 5]
    assert hellos[0].session == hellos[1].session


def test_an_acknowledged_reply_is_forgotten(authority: Authority, launch: Start) -> None:
    def first(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.request(5, b"work")
        start = conversation.until(MessageStart)
        conversation.until(MessageEnd)
        conversation.send(Ack(start.id), Ping(1))
        conversation.until(Pong)

    def second(conversation: Conversation) -> None:
        conversation.welcome(awaiting=5)
        conversation.send(Ping(2))
        assert conversation.receive() == Pong(2)

    play(authority, launch, first, second)


def test_a_new_coordinator_session_voids_all_work(authority: Authority, launch: Start) -> None:
    given_up = threading.Event()

    def handler(request: Request) -> bytes:
        if bytes(request.payload) == b"old":
            assert request.wait(20)
            given_up.set()
        return bytes(request.payload)

    def old(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.request(7, b"old")
        assert conversation.receive() == Ack(7)

    def new(conversation: Conversation) -> None:
        conversation.welcome(session=b"d" * 16)
        assert given_up.wait(20)
        conversation.request(1, b"new")
        assert conversation.receive() == Ack(1)
        assert collect(conversation) == b"new"

    play(authority, launch, old, new, handler=handler)


def test_a_pong_does_not_wait_behind_an_upload(authority: Authority, launch: Start) -> None:
    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.request(1, b"")
        conversation.until(MessageStart)
        conversation.send(Ping(3))
        seen: list[Frame] = []
        while not isinstance(frame := conversation.receive(), MessageEnd):
            seen.append(frame)
        assert Pong(3) in seen

    play(authority, launch, script, handler=lambda _: bytes(8 << 20))


def test_a_cancelled_upload_stops(authority: Authority, launch: Start) -> None:
    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.request(1, b"")
        start = conversation.until(MessageStart)
        conversation.send(Cancel(1))
        assert conversation.until(Cancel) == Cancel(start.id)
        conversation.request(2, b"")
        assert conversation.until(Ack) == Ack(2)

    play(authority, launch, script, handler=lambda _: bytes(64 << 20))


def test_a_cancelled_download_is_dropped(authority: Authority, launch: Start) -> None:
    handled: list[int] = []

    def handler(request: Request) -> bytes:
        handled.append(request.id)
        return b""

    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.send(
            MessageStart(id=1, in_reply_to=0, kind=FrameKind.REQUEST, total=5, deadline_millis=1000),
            Cancel(1),
        )
        conversation.request(2, b"")
        assert conversation.receive() == Ack(2)
        conversation.until(MessageEnd)

    play(authority, launch, script, handler=handler)
    assert handled == [2]


def start(**changes: object) -> MessageStart:
    fields = {
        "id": 1,
        "in_reply_to": 0,
        "kind": FrameKind.REQUEST,
        "total": 5,
        "deadline_millis": 1000,
    } | changes
    return MessageStart(**fields)  # type: ignore[arg-type]


WELCOME = Welcome(version=1, software_version="1", session=SESSION, awaiting=0)


@pytest.mark.parametrize(
    "frames",
    [
        [WELCOME],
        [b"\xff"],
        [start(kind=FrameKind.REPLY, in_reply_to=1, deadline_millis=0)],
        [start(total=QUICK.message_bytes + 1)],
        [start(), start()],
        [MessageChunk(id=1, offset=0, data=b"12345")],
        [MessageEnd(id=1, sha256=bytes(32))],
        [start(), MessageChunk(id=1, offset=0, data=b"12345"), MessageEnd(id=1, sha256=bytes(32))],
        [
            Hello(
                version_min=1,
                version_max=1,
                software_version="1",
                session=SESSION,
                coordinator_session=b"",
                received=0,
            )
        ],
    ],
)
def test_a_broken_rule_ends_the_stream_and_no_work_is_done(
    authority: Authority, launch: Start, frames: list[Frame | bytes]
) -> None:
    def nonsense(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.send(*frames)
        farewell = conversation.until(Goodbye)
        assert farewell.reason is GoodbyeReason.PROTOCOL

    def patient(conversation: Conversation) -> None:
        conversation.welcome()

    def never(_: Request) -> bytes:
        raise AssertionError("nothing was asked")

    member = play(authority, launch, nonsense, patient, handler=never)
    assert "the coordinator broke the link's protocol" in member.until(LinkState.WAITING).message


def test_a_frame_before_welcome_ends_the_stream(authority: Authority, launch: Start) -> None:
    def script(conversation: Conversation) -> None:
        conversation.receive()
        conversation.send(Ping(1))
        assert conversation.until(Goodbye).reason is GoodbyeReason.PROTOCOL

    play(authority, launch, script)


@pytest.mark.parametrize(
    "reason", [GoodbyeReason.IDENTITY, GoodbyeReason.VERSION, GoodbyeReason.DUPLICATE, GoodbyeReason.FENCED]
)
def test_a_final_goodbye_ends_the_run_with_its_words_made_safe(
    authority: Authority, launch: Start, reason: GoodbyeReason
) -> None:
    def script(conversation: Conversation) -> None:
        conversation.receive()
        conversation.send(Goodbye(reason, "no\x1b[2Jthing"))

    problem = play(authority, launch, script).failure()
    assert problem.message == "the coordinator refuses this member: no [2Jthing"
    assert problem.hint


@pytest.mark.parametrize(
    "reason",
    [GoodbyeReason.SHUTDOWN, GoodbyeReason.DEADLINE, GoodbyeReason.UNRESPONSIVE, GoodbyeReason.EXPIRED],
)
def test_after_any_other_goodbye_the_member_comes_back(
    authority: Authority, launch: Start, reason: GoodbyeReason
) -> None:
    def sends_away(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.send(Goodbye(reason))

    def meets_again(conversation: Conversation) -> None:
        conversation.welcome()

    member = play(authority, launch, sends_away, meets_again)
    assert member.until(LinkState.WAITING).message


def test_a_member_says_goodbye_when_it_is_stopped(authority: Authority, launch: Start) -> None:
    welcomed, farewells = threading.Event(), []

    def script(conversation: Conversation) -> None:
        conversation.welcome()
        welcomed.set()
        farewells.append(conversation.until(Goodbye))

    coordinator = RawCoordinator(authority, script)
    launch(coordinator)
    member = Member(coordinator.target, authority)
    member.start()
    assert welcomed.wait(20)
    member.until(LinkState.CONNECTED)
    member.stop()
    assert member.until(LinkState.STOPPED)
    assert farewells == [Goodbye(GoodbyeReason.SHUTDOWN)]
