"""Certificates over the link: asked for again and again, handed over when they are there, never on an older stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
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

from sordino_platform.link import LinkState, Rejection
from sordino_platform.link.frames import Goodbye, GoodbyeReason, Ping, Pong, Renewal, Renewed, Welcome
from sordino_privacy.errors import ConfigurationError, LinkError

Start = Callable[[Party], Party]
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class Desk:
    """Keeps what was asked; issues once it may."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.open = threading.Event()

    def __call__(self, member: str, request: bytes) -> bytes | None:
        self.asked.append((member, request))
        if request == b"nonsense":
            raise ConfigurationError("not a request")
        return CERTIFICATE if self.open.is_set() else None


@pytest.fixture
def desk(coordinator: Coordinator) -> Desk:
    desk = Desk()
    object.__setattr__(coordinator.link._shared, "renew", desk)
    return desk


def test_a_member_asks_at_each_connection_and_gets_its_certificate_once_it_is_there(
    coordinator: Coordinator, authority: Authority, launch: Start, desk: Desk
) -> None:
    came: list[bytes] = []
    member = Member(coordinator.target, authority, on_renewed=came.append)
    member.client.ask_renewal(b"request")
    launch(member)
    member.until(LinkState.CONNECTED)
    eventually(lambda: desk.asked)
    assert (desk.asked, came) == ([("alice", b"request")], [])
    desk.open.set()
    member.client.ask_renewal(b"request")
    eventually(lambda: came)
    assert came == [CERTIFICATE]
    assert coordinator.ask("alice", b"work") == b"work"


def test_a_request_that_is_refused_costs_its_sender_no_stream_and_a_flood_of_them_does(
    coordinator: Coordinator, authority: Authority, launch: Start, desk: Desk
) -> None:
    raw = RawMember(coordinator, authority)
    launch(raw)
    raw.send(raw.hello(version_max=2))
    assert isinstance(raw.receive(), Welcome)
    raw.send(Renewal(b"nonsense"), Ping(5))
    assert raw.receive() == Pong(5)
    assert coordinator.events.rejections[Rejection.SCHEMA] == 1
    raw.send(*[Renewal(b"request")] * QUICK.renewal_burst)
    farewell = raw.receive()
    assert isinstance(farewell, Goodbye)
    assert farewell.reason is GoodbyeReason.PROTOCOL
    assert "too many requests for a certificate" in farewell.detail
    assert len(desk.asked) == QUICK.renewal_burst


def test_a_stream_of_version_1_carries_no_renewal(
    coordinator: Coordinator, authority: Authority, launch: Start, desk: Desk
) -> None:
    raw = RawMember(coordinator, authority)
    launch(raw)
    assert raw.open().version == 1
    raw.send(Renewal(b"request"))
    assert isinstance(farewell := raw.receive(), Goodbye)
    assert farewell.reason is GoodbyeReason.PROTOCOL
    assert not desk.asked


def test_a_member_that_was_retired_gets_no_certificate(
    coordinator: Coordinator, authority: Authority, launch: Start, desk: Desk
) -> None:
    desk.open.set()
    came: list[bytes] = []
    member = Member(coordinator.target, authority, on_renewed=came.append)
    launch(member)
    member.until(LinkState.CONNECTED)
    coordinator.retired.add("alice")
    member.client.ask_renewal(b"request")
    assert isinstance(member.failure(), LinkError)
    assert not came
    assert not desk.asked


@pytest.mark.parametrize(("version", "asked"), [(1, True), (2, False)])
def test_a_certificate_that_nobody_asked_for_is_an_offence(
    authority: Authority, launch: Start, version: int, asked: bool
) -> None:
    def push(conversation: Conversation) -> None:
        conversation.receive()
        conversation.send(Welcome(version=version, software_version="1", session=bytes(16), awaiting=0))
        conversation.send(Renewed(CERTIFICATE))
        assert conversation.until(Goodbye).reason is GoodbyeReason.PROTOCOL

    came: list[bytes] = []
    coordinator = RawCoordinator(authority, push)
    launch(coordinator)
    member = Member(coordinator.target, authority, on_renewed=came.append, limits=replace(QUICK))
    if asked:
        member.client.ask_renewal(b"request")
    launch(member)
    assert "a certificate that was not asked for" in member.until(LinkState.WAITING).message
    assert not came
    assert not coordinator.failures
