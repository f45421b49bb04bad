"""A coordinator to which all come at once says when to come back; a member lets itself be sent away for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.link.parties import (
    QUICK,
    Conversation,
    Coordinator,
    Member,
    Party,
    RawCoordinator,
    RawMember,
    eventually,
)
from tests.link.pki import Authority

from sordino_platform.link import LinkState, LinkStatus, Rejection, Reply
from sordino_platform.link.allowance import Turns
from sordino_platform.link.frames import Frame, Goodbye, GoodbyeReason, Hello, Welcome

Start = Callable[[Party], Party]
FEW = replace(QUICK, arrival_burst=2, arrival_rate=8.0)


@given(st.integers(1, 50), st.sampled_from([0.5, 4.0, 20.0]), st.integers(1, 300))
def test_who_comes_back_in_its_turn_is_let_in_and_none_waits_longer_than_all_before_it(
    burst: int, rate: float, members: int
) -> None:
    turns = Turns(burst, rate, most=1e9)
    waits = [turns.ask(10.0) for _ in range(members)]
    assert waits[:burst] == [0.0] * min(burst, members)
    later = waits[burst:]
    assert later == pytest.approx([(number + 1) / rate for number in range(len(later))])
    assert [turns.ask(10.0 + wait + 1e-6) for wait in later] == [0.0] * len(later)


@given(st.lists(st.floats(0, 2), max_size=200), st.integers(1, 5), st.floats(0.5, 20), st.floats(0.5, 5))
def test_no_span_of_time_lets_in_more_than_the_rate_and_nobody_is_sent_away_for_longer_than_the_most(
    pauses: list[float], burst: int, rate: float, most: float
) -> None:
    turns, now, let_in = Turns(burst, rate, most=most), 0.0, list[float]()
    for pause in pauses:
        now += pause
        wait = turns.ask(now)
        assert 0.0 <= wait <= most
        if not wait:
            let_in.append(now)
    for first, begin in enumerate(let_in):
        for last in range(first, len(let_in)):
            assert last - first + 1 <= burst + rate * (let_in[last] - begin) + 1e-6


def test_a_crowd_that_comes_at_once_is_told_its_turns_and_all_are_let_in(
    authority: Authority, launch: Start
) -> None:
    coordinator = Coordinator(authority, limits=FEW)
    launch(coordinator)
    names = [f"member-{number}" for number in range(12)]
    crowd = [Member(coordinator.target, authority, name) for name in names]
    for member in crowd:
        launch(member)
    eventually(lambda: coordinator.link.connected() == set(names), 60)
    assert coordinator.events.rejections[Rejection.BUSY] > 0
    assert set(coordinator.events.rejections) == {Rejection.BUSY}
    waited = [status for member in crowd for status in drained(member) if status.state is LinkState.WAITING]
    assert waited
    assert all("busy (too many members at once)" in status.message for status in waited)
    assert all(0 < status.retry_seconds <= 12 / FEW.arrival_rate + 0.6 for status in waited)


def drained(member: Member) -> list[LinkStatus]:
    found = []
    while not member.statuses.empty():
        found.append(member.statuses.get())
    return found


def test_a_member_of_which_a_round_waits_for_an_answer_is_never_sent_away(
    authority: Authority, launch: Start
) -> None:
    coordinator = Coordinator(authority, limits=replace(QUICK, arrival_burst=1, arrival_rate=0.001))
    launch(coordinator)
    started, finish = threading.Event(), threading.Event()

    def handler(_: object) -> bytes:
        started.set()
        assert finish.wait(20)
        return b"result"

    member = Member(coordinator.target, authority, handler=handler)
    launch(member)  # the one arrival that is free
    coordinator.link.send("alice", b"", deadline_seconds=60)
    assert started.wait(20)
    stream = member.client._stream
    assert stream is not None
    stream.cancel()  # its connection breaks
    finish.set()
    result = coordinator.result(60)
    assert isinstance(result, Reply)
    assert bytes(result.payload) == b"result"
    assert not coordinator.events.rejections


def test_a_member_of_an_older_version_is_sent_away_in_words_that_it_knows(
    authority: Authority, launch: Start
) -> None:
    coordinator = Coordinator(authority, limits=replace(QUICK, arrival_burst=1, arrival_rate=0.001))
    launch(coordinator)
    first, older, newer = (RawMember(coordinator, authority, name) for name in ("alice", "bob", "carol"))

    def said_to(raw: RawMember, version: int) -> Frame:
        launch(raw)
        raw.send(raw.hello(version_max=version))
        return raw.receive()

    assert isinstance(said_to(first, 3), Welcome)
    assert said_to(older, 2) == Goodbye(GoodbyeReason.UNRESPONSIVE, "too many members at once")
    said = said_to(newer, 3)
    assert isinstance(said, Goodbye)
    assert (said.reason, 0 < said.retry_millis <= 60_000) == (GoodbyeReason.BUSY, True)


def test_a_coordinator_that_sends_a_member_away_for_an_hour_gets_no_more_than_the_members_own_bound(
    authority: Authority, launch: Start
) -> None:
    def away(conversation: Conversation) -> None:
        assert isinstance(conversation.receive(), Hello)
        conversation.send(Goodbye(GoodbyeReason.BUSY, "go away", 3_600_000))

    def welcome(conversation: Conversation) -> None:
        conversation.welcome()

    coordinator = RawCoordinator(authority, away, away, welcome)
    launch(coordinator)
    member = Member(coordinator.target, authority, limits=replace(QUICK, busy_seconds=0.2))
    launch(member)
    assert member.until(LinkState.WAITING).retry_seconds == 0.2
    assert member.until(LinkState.WAITING).retry_seconds == 0.2
    member.until(LinkState.CONNECTED)
