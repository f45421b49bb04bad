"""What a member's stream is made of, without a connection: what comes in, what leaves, how long to wait after it."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_platform import link
from sordino_platform.link.diagnosis import Cause
from sordino_platform.link.frames import (
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
    ProtocolError,
    Renewal,
    Renewed,
    Welcome,
)
from sordino_platform.link.inbox import ArrivedMessage, Inbox, Taken
from sordino_platform.link.limits import CHUNK_BYTES
from sordino_platform.link.messages import outgoing, parts_of
from sordino_platform.link.outbox import Outbox
from sordino_platform.link.pending import HeldReply
from sordino_platform.link.reconnecting import FATAL, SETTLED_SECONDS, Backoff, known_end
from sordino_platform.link.request import Request
from sordino_platform.link.status import BACKOFF_CAP_SECONDS
from sordino_privacy.errors import LinkError

LIMIT = 3 * CHUNK_BYTES


def welcome(version: int = VERSION_MAX) -> Welcome:
    return Welcome(version=version, software_version="1", session=b"s" * 16, awaiting=0)


def take(inbox: Inbox, frame: Frame, *, received: int = 0) -> Taken:
    return inbox.take(frame, now=100.0, received=received)


def welcomed(version: int = VERSION_MAX) -> Inbox:
    inbox = Inbox(message_bytes=LIMIT)
    assert take(inbox, welcome(version)) == welcome(version)
    return inbox


def asked(payload: bytes, number: int = 1, kind: FrameKind = FrameKind.REQUEST) -> list[Frame]:
    frames = outgoing(parts_of(payload), id=number, kind=kind, deadline_millis=2000)
    return list(frames)


def held(number: int, payload: bytes = b"reply") -> HeldReply:
    request = Request(id=number, payload=memoryview(b""), deadline=0.0)
    return HeldReply(id=number, request=request, kind=FrameKind.REPLY, parts=parts_of(payload))


def test_a_request_arrives_with_its_last_frame_and_its_deadline_is_counted_from_its_first() -> None:
    inbox, payload = welcomed(), b"x" * (CHUNK_BYTES + 1)
    first, *between, last = asked(payload, number=7)
    assert [inbox.take(frame, now=100.0, received=6) for frame in (first, *between)] == [None, None, None]
    arrived = inbox.take(last, now=500.0, received=6)
    assert isinstance(arrived, ArrivedMessage)
    assert arrived.request is not None
    assert (arrived.id, arrived.request.id, arrived.request.deadline) == (7, 7, 102.0)
    assert bytes(arrived.request.payload) == payload
    assert inbox.useful


def test_a_request_that_was_had_before_is_acknowledged_and_dropped() -> None:
    inbox = welcomed()
    *_, last = [take(inbox, frame, received=7) for frame in asked(b"again", number=7)]
    assert last == ArrivedMessage(id=7, request=None)


def test_a_request_given_up_before_its_last_byte_leaves_room_for_the_next() -> None:
    inbox = welcomed()
    start, *_ = asked(b"one", number=1)
    assert take(inbox, start) is None
    assert take(inbox, Cancel(1)) is None
    assert isinstance([take(inbox, frame) for frame in asked(b"two", number=2)][-1], ArrivedMessage)
    assert take(inbox, Cancel(2)) == Cancel(2), "one that is being handled is the member's to give up"


START = MessageStart(id=1, in_reply_to=0, kind=FrameKind.REQUEST, total=1, deadline_millis=1)
REPLY = MessageStart(id=1, in_reply_to=1, kind=FrameKind.REPLY, total=1, deadline_millis=0)
TOO_LARGE = MessageStart(id=1, in_reply_to=0, kind=FrameKind.REQUEST, total=LIMIT + 1, deadline_millis=1)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([Ping(1)], "a frame before Welcome"),
        ([START], "a frame before Welcome"),
        ([welcome(), welcome()], "a second Welcome"),
        ([welcome(), START, START], "a message inside another"),
        ([welcome(), REPLY], "a reply from the coordinator"),
        ([welcome(), TOO_LARGE], "a message above"),
        ([welcome(), MessageChunk(id=1, offset=0, data=b"x")], "a part of a message that was not started"),
        ([welcome(), MessageEnd(id=1, sha256=bytes(32))], "a part of a message that was not started"),
        ([welcome(), Renewal(b"r")], "a request for a certificate"),
        ([welcome(1), Renewed(b"r")], "a certificate that was not asked for"),
    ],
)
def test_what_a_coordinator_may_not_send_is_refused(frames: list[Frame], said: str) -> None:
    inbox = Inbox(message_bytes=LIMIT)
    for frame in frames[:-1]:
        take(inbox, frame)
    with pytest.raises(ProtocolError, match=said):
        take(inbox, frames[-1])


def test_a_goodbye_may_come_at_any_time_and_is_kept() -> None:
    inbox = Inbox(message_bytes=LIMIT)
    assert take(inbox, Goodbye(GoodbyeReason.BUSY, "full", 5)) is None
    assert inbox.goodbye == Goodbye(GoodbyeReason.BUSY, "full", 5)
    assert not inbox.version


def test_control_frames_leave_before_the_chunks_of_a_reply() -> None:
    outbox, reply = Outbox(control_burst=8), held(1, b"x" * (CHUNK_BYTES + 1))
    outbox.opened = True
    assert isinstance(outbox.next(reply), MessageStart)
    outbox.post(Pong(5))
    assert outbox.next(reply) == Pong(5)
    left = [outbox.next(reply) for _ in range(4)]
    assert [type(frame) for frame in left] == [MessageChunk, MessageChunk, MessageEnd, type(None)]
    digest = hashlib.sha256(b"x" * (CHUNK_BYTES + 1)).digest()
    assert left[2] == MessageEnd(id=1, sha256=digest)


def test_a_reply_leaves_once_on_a_stream_and_not_before_welcome() -> None:
    outbox, reply = Outbox(control_burst=8), held(1)
    assert outbox.next(reply) is None
    outbox.opened = True
    assert [type(outbox.next(reply)) for _ in range(4)] == [
        MessageStart,
        MessageChunk,
        MessageEnd,
        type(None),
    ]
    assert isinstance(outbox.next(held(2)), MessageStart)


def test_a_reply_that_is_given_up_in_the_middle_is_told_and_the_next_one_leaves() -> None:
    outbox = Outbox(control_burst=8)
    outbox.opened = True
    assert isinstance(outbox.next(held(1)), MessageStart)
    following = held(2)
    assert outbox.next(following) == Cancel(1)
    assert isinstance(outbox.next(following), MessageStart)


def test_a_closed_stream_carries_what_waits_then_goodbye_then_nothing() -> None:
    outbox, goodbye = Outbox(control_burst=8), Goodbye(GoodbyeReason.SHUTDOWN)
    outbox.opened = True
    outbox.post(Ack(1))
    outbox.close(goodbye)
    assert not outbox.over
    assert [outbox.next(held(1)) for _ in range(3)] == [Ack(1), goodbye, None]
    assert outbox.over


def test_a_coordinator_that_has_more_answered_than_it_reads_is_refused() -> None:
    outbox = Outbox(control_burst=2)
    outbox.post(Pong(1))
    outbox.post(Pong(2))
    with pytest.raises(ProtocolError, match="faster than they are read"):
        outbox.post(Pong(3))


@pytest.mark.parametrize("reason", list(GoodbyeReason))
def test_only_what_no_further_try_can_help_ends_a_member(reason: GoodbyeReason) -> None:
    goodbye = Goodbye(reason, "told")
    if reason in FATAL:
        with pytest.raises(LinkError, match="refuses this member: told") as raised:
            known_end(welcomed=True, goodbye=goodbye, offence="")
        assert raised.value.hint == FATAL[reason]
        return
    found = known_end(welcomed=True, goodbye=goodbye, offence="")
    assert found is None if reason is GoodbyeReason.EXPIRED else found is not None


def test_a_stream_that_ended_without_a_word_is_broken_or_was_never_there() -> None:
    broken = known_end(welcomed=True, goodbye=None, offence="")
    offended = known_end(welcomed=True, goodbye=Goodbye(GoodbyeReason.IDENTITY), offence="a second Welcome")
    assert broken is not None
    assert offended is not None
    assert (broken.cause, offended.cause) == (Cause.BROKEN, Cause.OFFENDED)
    assert known_end(welcomed=False, goodbye=None, offence="") is None


def test_waits_grow_with_each_failure_until_a_stream_was_good() -> None:
    backoff = Backoff(busy_seconds=60)
    waits = [backoff.pause(None, 0.5) for _ in range(20)]
    assert waits == sorted(waits)
    assert waits[-1] == 0.5 * BACKOFF_CAP_SECONDS
    backoff.note(welcomed=True, useful=False, seconds=SETTLED_SECONDS)
    assert backoff.pause(None, 0.5) == waits[-1], "a stream of half a minute proves nothing yet"
    backoff.note(welcomed=False, useful=False, seconds=2 * SETTLED_SECONDS)
    assert backoff.pause(None, 0.5) == waits[-1], "nor does one that was never welcomed"
    backoff.note(welcomed=True, useful=True, seconds=0.0)
    assert backoff.pause(None, 0.5) == waits[0]


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 3_600_000), st.floats(0, 600))
def test_a_busy_coordinator_is_asked_again_within_the_members_own_bound(
    share: float, millis: int, bound: float
) -> None:
    backoff = Backoff(busy_seconds=bound)
    pause = backoff.pause(Goodbye(GoodbyeReason.BUSY, "", millis), share)
    assert min(bound, millis / 1000) <= pause <= bound
    assert backoff.pause(None, share) == Backoff(busy_seconds=bound).pause(None, share), (
        "no failure of its own"
    )


@pytest.mark.parametrize("name", ["inbox", "outbox", "pending", "reconnecting", "arrival", "departure"])
def test_what_decides_about_frames_has_no_lock_no_clock_and_no_connection(name: str) -> None:
    tree = ast.parse((Path(link.__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported & {"asyncio", "datetime", "grpc", "socket", "threading", "time"} == set()
