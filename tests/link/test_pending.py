"""What a member owes the coordinator outlives every connection: each request is answered once."""

from __future__ import annotations

import time

from sordino_platform.link.frames import VERSION_MAX, FrameKind, Welcome
from sordino_platform.link.pending import Pending
from sordino_platform.link.request import Request

SESSION, OTHER = b"s" * 16, b"o" * 16


def request(number: int) -> Request:
    return Request(id=number, payload=memoryview(b"asked"), deadline=time.monotonic() + 3600)


def welcome(session: bytes = SESSION, awaiting: int = 0) -> Welcome:
    return Welcome(version=VERSION_MAX, software_version="1", session=session, awaiting=awaiting)


def connected() -> Pending:
    pending = Pending()
    pending.resume(welcome())
    return pending


def test_a_reply_is_held_over_connections_until_the_coordinator_has_it() -> None:
    pending = connected()
    pending.arrived(asked := request(7))
    assert pending.begin() is asked
    assert pending.begin() is None, "a request is handled once"
    assert pending.answered(asked, FrameKind.REPLY, ())
    pending.resume(welcome(awaiting=7))
    held = pending.held
    assert held is not None
    assert held.request is asked
    pending.acknowledged(held.id + 1)
    assert pending.held is held
    pending.acknowledged(held.id)
    assert pending.held is None


def test_a_request_that_nobody_waits_for_is_given_up_whether_it_waits_runs_or_is_answered() -> None:
    for steps in range(3):
        pending = connected()
        pending.arrived(asked := request(7))
        if steps > 0:
            pending.begin()
        if steps > 1:
            pending.answered(asked, FrameKind.REPLY, ())
        told = []
        for awaiting in (7, 0):
            pending.resume(welcome(awaiting=awaiting))
            told.append(asked.cancelled)
        assert told == [False, True]
        assert [pending.waiting, pending.held] == [None, None]
        assert pending.received == 7, "the same coordinator's numbers go on"


def test_a_newer_request_ends_the_one_that_runs_and_its_late_reply_is_dropped() -> None:
    pending = connected()
    pending.arrived(old := request(7))
    pending.begin()
    pending.arrived(new := request(8))
    assert [one.cancelled for one in (old, new)] == [True, False]
    assert not pending.answered(old, FrameKind.REPLY, ())
    assert pending.held is None
    assert pending.begin() is new


def test_a_coordinator_that_was_started_anew_begins_its_numbers_anew() -> None:
    pending = connected()
    pending.arrived(old := request(7))
    pending.resume(welcome(session=OTHER, awaiting=7))
    assert old.cancelled
    assert pending.received == 0
