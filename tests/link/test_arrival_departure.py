"""What comes in and what leaves on a member's stream at the coordinator, without a connection and without a clock."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from sordino_platform.link import arrival
from sordino_platform.link.allowance import Allowance
from sordino_platform.link.arrival import ArrivingReply
from sordino_platform.link.departure import Departure
from sordino_platform.link.ending import StreamEnding, ending_of
from sordino_platform.link.events import Disconnection, Loss, Rejection
from sordino_platform.link.frames import (
    Frame,
    FrameKind,
    GoodbyeReason,
    Hello,
    MessageChunk,
    MessageEnd,
    MessageStart,
    Pong,
    ProtocolError,
)
from sordino_platform.link.limits import CHUNK_BYTES
from sordino_platform.link.mailbox import LostRequest, Mailbox, Outgoing, Reply, Result
from sordino_platform.link.messages import outgoing, parts_of

REPLY_BYTES = 4 * CHUNK_BYTES


class Desk:
    """A mailbox, and the results that it delivers."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.mailbox = Mailbox("alice", self.results.append, Allowance(8, 1.0))

    def ask(self, number: int, payload: bytes = b"asked", *, delivered: bool = False) -> Outgoing:
        request = Outgoing(
            id=number,
            parts=parts_of(payload),
            deadline=100.0,
            reply_bytes=REPLY_BYTES,
            delivered=delivered,
        )
        if delivered:
            self.mailbox.current = request
        else:
            self.mailbox.queue.append(request)
        return request


@pytest.fixture
def desk() -> Desk:
    return Desk()


def answer(payload: bytes, to: int, kind: FrameKind = FrameKind.REPLY) -> list[Frame]:
    return list(outgoing(parts_of(payload), id=9, kind=kind, in_reply_to=to))


def feed(reply: ArrivingReply, frames: list[Frame]) -> list[object]:
    """What each frame came to; a whole message is handed over."""
    said: list[object] = []
    for frame in frames:
        match frame:
            case MessageStart():
                said.append(reply.start(frame))
            case MessageChunk():
                reply.add(frame)
            case MessageEnd():
                said.append(reply.finish(frame))
                reply.hand_over()
    return said


@pytest.mark.parametrize("payload", [b"", b"small", b"x" * (CHUNK_BYTES + 1)])
def test_a_reply_is_its_requests_once_it_is_whole(desk: Desk, tmp_path: Path, payload: bytes) -> None:
    desk.ask(4, delivered=True)
    reply = ArrivingReply(desk.mailbox, spool=tmp_path)
    *begun, last = answer(payload, 4)
    assert feed(reply, begun) == [True]
    assert reply.under_way
    assert desk.results == []
    assert feed(reply, [last]) == [9]
    (result,) = desk.results
    assert isinstance(result, Reply)
    assert (result.in_reply_to, bytes(result.payload)) == (4, payload)
    assert not reply.under_way


def test_a_failure_loses_its_request(desk: Desk) -> None:
    desk.ask(4, delivered=True)
    feed(ArrivingReply(desk.mailbox, spool=None), answer(b"", 4, FrameKind.FAILURE))
    assert desk.results == [LostRequest(member="alice", in_reply_to=4, reason=Loss.REFUSED)]


def test_a_late_reply_is_read_once_and_dropped(desk: Desk) -> None:
    desk.mailbox.lose(desk.ask(4, delivered=True), Loss.TIMEOUT)
    reply = ArrivingReply(desk.mailbox, spool=None)
    assert feed(reply, answer(b"late", 4)) == [False, 9]
    assert len(desk.results) == 1
    with pytest.raises(StreamEnding, match="what was not asked") as raised:
        feed(reply, answer(b"late", 4))
    assert raised.value.rejection is Rejection.REPLAY


def test_a_reply_whose_request_is_given_up_meanwhile_is_dropped(desk: Desk) -> None:
    request = desk.ask(4, delivered=True)
    reply = ArrivingReply(desk.mailbox, spool=None)
    first, *rest = answer(b"x" * 10, 4)
    feed(reply, [first])
    assert reply.answers(request)
    desk.mailbox.lose(request, Loss.TIMEOUT)
    reply.abandon(request)
    assert feed(reply, rest) == [9]
    assert [type(result) for result in desk.results] == [LostRequest]


@pytest.mark.parametrize(
    ("frames", "error", "said"),
    [
        ([MessageChunk(id=9, offset=0, data=b"x")], ProtocolError, "that was not started"),
        ([MessageEnd(id=9, sha256=bytes(32))], ProtocolError, "that was not started"),
        (answer(b"x", 5), StreamEnding, "what was not asked"),
        (answer(b"x" * (REPLY_BYTES + 1), 4), StreamEnding, "a reply above"),
        (
            list(outgoing(parts_of(b"x"), id=9, kind=FrameKind.REQUEST, deadline_millis=1)),
            ProtocolError,
            "a request from a member",
        ),
    ],
)
def test_what_no_member_may_send_is_refused(
    desk: Desk, frames: list[Frame], error: type[Exception], said: str
) -> None:
    desk.ask(4, delivered=True)
    with pytest.raises(error, match=said):
        feed(ArrivingReply(desk.mailbox, spool=None), frames)
    assert desk.results == []


def test_one_message_at_a_time_and_only_that_one_is_given_up(desk: Desk) -> None:
    desk.ask(4, delivered=True)
    reply = ArrivingReply(desk.mailbox, spool=None)
    reply.require_idle()
    feed(reply, answer(b"x", 4)[:1])
    with pytest.raises(ProtocolError, match="inside another"):
        reply.require_idle()
    with pytest.raises(ProtocolError, match="not under way"):
        reply.given_up(8)
    reply.given_up(9)
    reply.require_idle()


def test_a_disk_that_is_full_loses_the_request_and_the_rest_is_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(total: int, folder: Path | None) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arrival, "storage_for", full)
    desk.ask(4, delivered=True)
    assert feed(ArrivingReply(desk.mailbox, spool=None), answer(b"x" * 10, 4)) == [True, 9]
    assert desk.results == [LostRequest(member="alice", in_reply_to=4, reason=Loss.STORAGE)]


def fine() -> None:
    """Admits everybody."""


def leaving(departure: Departure, *, now: float = 40.0, admit: Callable[[], None] = fine) -> list[Frame]:
    found: list[Frame] = []
    while (frame := departure.next(now=now, admit=admit)) is not None:
        found.append(frame)
    return found


def test_a_request_leaves_once_with_what_is_left_of_its_deadline(desk: Desk) -> None:
    request = desk.ask(1, b"x" * (CHUNK_BYTES + 1))
    departure = Departure(desk.mailbox, control_burst=8)
    start, *chunks, end = leaving(departure)
    assert isinstance(start, MessageStart)
    assert (start.id, start.deadline_millis) == (1, 60_000)
    assert [type(frame) for frame in chunks] == [MessageChunk, MessageChunk]
    assert isinstance(end, MessageEnd)
    assert not departure.busy
    assert leaving(departure) == [], "it has left, and waits for its acknowledgement"
    request.delivered, desk.mailbox.current = True, None
    assert not departure.carries(request)


def test_control_frames_leave_before_the_chunks_of_a_request(desk: Desk) -> None:
    request = desk.ask(1)
    departure = Departure(desk.mailbox, control_burst=8)
    assert isinstance(departure.next(now=0.0, admit=fine), MessageStart)
    assert departure.carries(request)
    departure.post(Pong(3))
    assert [type(frame) for frame in leaving(departure)] == [Pong, MessageChunk, MessageEnd]


SESSION, COORDINATOR = b"m" * 16, b"c" * 16


def back(*, received: int, coordinator: bytes = COORDINATOR) -> Hello:
    """The same process of the member, on a new stream."""
    return Hello(
        version_min=1,
        version_max=1,
        software_version="1.0",
        session=SESSION,
        coordinator_session=coordinator,
        received=received,
    )


def test_what_a_member_acknowledged_is_kept_no_more_and_its_answer_is_awaited_on_a_new_stream(
    desk: Desk,
) -> None:
    desk.mailbox.resume(back(received=0, coordinator=b""), COORDINATOR)
    request = desk.ask(1, b"parcels")
    leaving(Departure(desk.mailbox, control_burst=8))
    assert request.parts
    request.arrived()
    assert not request.parts
    assert desk.mailbox.resume(back(received=1), COORDINATOR) == 1
    assert desk.mailbox.awaited(1) is request
    assert desk.results == []


def test_what_was_not_acknowledged_leaves_again_on_a_new_stream_or_counts_if_it_had_come(desk: Desk) -> None:
    desk.mailbox.resume(back(received=0, coordinator=b""), COORDINATOR)
    desk.ask(1)
    first = leaving(Departure(desk.mailbox, control_burst=8))
    assert desk.mailbox.resume(back(received=0), COORDINATOR) == 0
    assert leaving(Departure(desk.mailbox, control_burst=8), now=40.0) == first
    assert desk.mailbox.resume(back(received=1), COORDINATOR) == 1
    assert leaving(Departure(desk.mailbox, control_burst=8)) == []


@pytest.mark.parametrize("again", [back(received=0), back(received=1, coordinator=b"other" + bytes(11))])
def test_a_member_that_denies_what_it_acknowledged_loses_the_request_and_no_empty_one_leaves(
    desk: Desk, again: Hello
) -> None:
    desk.mailbox.resume(back(received=0, coordinator=b""), COORDINATOR)
    request = desk.ask(1)
    leaving(Departure(desk.mailbox, control_burst=8))
    request.arrived()
    assert desk.mailbox.resume(again, COORDINATOR) == 0
    assert desk.results == [LostRequest(member="alice", in_reply_to=1, reason=Loss.INVALID)]
    assert leaving(Departure(desk.mailbox, control_burst=8)) == []


def test_a_deadline_that_is_over_is_not_sent_as_none(desk: Desk) -> None:
    desk.ask(1)
    start, *_ = leaving(Departure(desk.mailbox, control_burst=8), now=1000.0)
    assert isinstance(start, MessageStart)
    assert start.deadline_millis == 1


def test_a_member_that_may_not_be_asked_gets_not_even_the_start(desk: Desk) -> None:
    def retired() -> None:
        raise StreamEnding(GoodbyeReason.IDENTITY, "retired", Rejection.UNKNOWN_CLIENT)

    desk.ask(1)
    departure = Departure(desk.mailbox, control_burst=8)
    with pytest.raises(StreamEnding, match="retired"):
        leaving(departure, admit=retired)
    assert not departure.busy


def test_a_stream_that_is_over_starts_nothing_more(desk: Desk) -> None:
    desk.ask(1)
    departure = Departure(desk.mailbox, control_burst=8)
    departure.post(Pong(3))
    departure.close()
    assert leaving(departure) == [Pong(3)]
    assert desk.mailbox.current is None, "the next stream takes it"


def test_what_is_abandoned_stops_in_the_middle(desk: Desk) -> None:
    request = desk.ask(1)
    departure = Departure(desk.mailbox, control_burst=8)
    assert isinstance(departure.next(now=0.0, admit=fine), MessageStart)
    departure.abandon(desk.ask(2))
    assert departure.busy
    departure.abandon(request)
    assert not departure.busy


def test_a_member_that_does_not_read_is_not_waited_for(desk: Desk) -> None:
    departure = Departure(desk.mailbox, control_burst=2)
    departure.post(Pong(1))
    departure.post(Pong(2))
    with pytest.raises(StreamEnding, match="wait to be read") as raised:
        departure.post(Pong(3))
    assert raised.value.goodbye.reason is GoodbyeReason.UNRESPONSIVE


def test_every_problem_of_a_stream_is_its_members_own(caplog: pytest.LogCaptureFixture) -> None:
    own = StreamEnding(GoodbyeReason.EXPIRED)
    assert ending_of(own) is own
    assert ending_of(ConnectionResetError()) is Disconnection.LOST
    broken, unforeseen = ending_of(ProtocolError("no frame")), ending_of(RecursionError("secret"))
    assert isinstance(broken, StreamEnding)
    assert isinstance(unforeseen, StreamEnding)
    assert (broken.rejection, unforeseen.rejection) == (Rejection.SCHEMA, Rejection.UNEXPECTED)
    assert broken.goodbye.reason is unforeseen.goodbye.reason is GoodbyeReason.PROTOCOL
    assert "secret" not in caplog.text + unforeseen.goodbye.detail
