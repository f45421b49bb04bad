"""Connections break; work does not (FAULTS rows 11, 12, 13, 14, 22, 37). Real processes where a signal matters."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from tests.link.parties import QUICK, Coordinator, Member, Party, RawMember, eventually
from tests.link.pki import Authority
from tests.link.proxy import Proxy

from sordino_platform.link import (
    ClientTls,
    Direction,
    Disconnection,
    LinkState,
    Loss,
    LostRequest,
    Rejection,
    Reply,
    Request,
    StreamedPart,
)
from sordino_platform.link.frames import Goodbye, GoodbyeReason, Ping, Pong, Welcome

Start = Callable[[Party], Party]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def proxy(coordinator: Coordinator, launch: Start) -> Proxy:
    """Between members and the coordinator."""
    between = Proxy(coordinator.port)
    launch(between)
    return between


class Counting:
    """A handler that counts how often each request is handled."""

    def __init__(self, size: int = 0) -> None:
        self.handled: list[bytes] = []
        self.size = size

    def __call__(self, request: Request) -> list[bytes]:
        self.handled.append(bytes(request.payload[:16]))
        return [bytes(request.payload[:16]), bytes(self.size)]


def test_an_upload_that_breaks_is_sent_again_and_the_work_is_not_done_again(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start
) -> None:
    handler = Counting(4_000_000)
    launch(Member(proxy.target, authority, handler=handler))
    eventually(coordinator.link.connected)
    proxy.cut_after = proxy.passed_upstream + 2_000_000
    assert len(coordinator.ask("alice", b"train", 60)) == 4_000_005
    assert handler.handled == [b"train"]
    assert coordinator.events.connections == {"alice": 2}
    assert coordinator.events.counted[Direction.RECEIVED] > 4_000_005
    assert coordinator.events.disconnections == [("alice", Disconnection.LOST)]
    assert not coordinator.events.rejections


def test_an_upload_that_is_made_while_it_is_sent_is_made_again_when_the_connection_breaks(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start
) -> None:
    started = list[int]()

    def pieces() -> Iterator[bytes]:
        started.append(len(started))
        for number in range(40):
            yield bytes([number]) * 100_003

    launch(
        Member(
            proxy.target,
            authority,
            handler=lambda _: [b"y", StreamedPart(nbytes=40 * 100_003, pieces=pieces)],
        )
    )
    eventually(coordinator.link.connected)
    proxy.cut_after = proxy.passed_upstream + 2_000_000
    assert coordinator.ask("alice", b"train", 60) == b"y" + b"".join(pieces())
    assert started == [0, 1, 2]  # cut, whole, and once for this comparison


def test_a_download_that_breaks_is_sent_again(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start
) -> None:
    handler = Counting()
    member = Member(proxy.target, authority, handler=handler)
    launch(member)
    eventually(coordinator.link.connected)
    request = coordinator.link.send("alice", bytes(8_000_000), deadline_seconds=60)
    eventually(lambda: member.events.counted[Direction.RECEIVED] > 500_000)
    proxy.reset()
    result = coordinator.result(60)
    assert isinstance(result, Reply)
    assert result.in_reply_to == request
    assert handler.handled == [bytes(16)]


def test_work_goes_on_while_the_connection_is_gone(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start
) -> None:
    started, finish = threading.Event(), threading.Event()

    def handler(_: Request) -> bytes:
        started.set()
        assert finish.wait(20)
        return b"result"

    member = Member(proxy.target, authority, handler=handler)
    launch(member)
    coordinator.link.send("alice", b"", deadline_seconds=60)
    assert started.wait(20)
    member.until(LinkState.CONNECTED)
    proxy.reset()
    member.until(LinkState.WAITING)
    finish.set()
    result = coordinator.result(60)
    assert isinstance(result, Reply)
    assert bytes(result.payload) == b"result"


def test_many_breaks_lose_and_double_nothing(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start
) -> None:
    handler = Counting(300_000)
    launch(Member(proxy.target, authority, handler=handler))
    names = [f"request {n}".encode() for n in range(12)]
    sent = [coordinator.link.send("alice", name, deadline_seconds=100) for name in names]
    replies = []
    for n in range(12):
        if n % 3 == 0:
            proxy.cut_after = proxy.passed_upstream + 50_000 * (n + 1)
        replies.append(coordinator.result(60))
    assert [reply.in_reply_to for reply in replies] == sent
    assert [
        bytes(r.payload[: len(n)]) for r, n in zip(replies, names, strict=True) if isinstance(r, Reply)
    ] == names
    assert handler.handled == names
    assert not coordinator.events.rejections


def test_a_slow_and_distant_link_is_only_slow(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start
) -> None:
    proxy.latency = 0.005
    proxy.rate = 2_000_000.0
    launch(Member(proxy.target, authority, handler=Counting(500_000)))
    assert len(coordinator.ask("alice", bytes(500_000), 60)) == 500_016


def test_a_black_hole_is_a_loss_at_the_deadline_and_heals(
    authority: Authority, coordinator: Coordinator, proxy: Proxy, launch: Start
) -> None:
    launch(Member(proxy.target, authority, handler=Counting()))
    assert coordinator.ask("alice", b"before") == b"before"
    proxy.stall()
    request = coordinator.link.send("alice", b"into the dark", deadline_seconds=1)
    result = coordinator.result()
    assert isinstance(result, LostRequest)
    assert (result.in_reply_to, result.reason) == (request, Loss.TIMEOUT)
    eventually(lambda: coordinator.events.disconnections)
    proxy.flow()
    assert coordinator.ask("alice", b"after", 60) == b"after"


def test_a_trickling_member_is_evicted_and_others_are_not_held_up(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start
) -> None:
    launch(Member(coordinator.target, authority, "bob"))
    launch(Member(proxy.target, authority, "alice", handler=Counting(4_000_000)))
    assert coordinator.ask("bob", b"warm") == b"warm"
    eventually(lambda: "alice" in coordinator.link.connected())
    proxy.rate = 4000.0
    request = coordinator.link.send("alice", b"", deadline_seconds=600)
    eventually(lambda: coordinator.spooled() == 1)
    for _ in range(5):
        assert coordinator.ask("bob", bytes(100_000)) == bytes(100_000)
    eventually(lambda: ("alice", Disconnection.UNRESPONSIVE) in coordinator.events.disconnections)
    proxy.rate = 0.0
    result = coordinator.result(60)
    assert isinstance(result, Reply)
    assert result.in_reply_to == request


def test_a_coordinator_that_restarts_gets_no_stale_replies(authority: Authority, launch: Start) -> None:
    first = Coordinator(authority)
    first.start()
    given_up, working = threading.Event(), threading.Event()

    def handler(request: Request) -> bytes:
        if bytes(request.payload) == b"before":
            working.set()
            if request.wait(30):
                given_up.set()
        return bytes(request.payload)

    launch(Member(first.target, authority, handler=handler))
    first.link.send("alice", b"before", deadline_seconds=60)
    assert working.wait(20)
    first.stop()
    second = Coordinator(authority, port=first.port)
    launch(second)
    assert given_up.wait(30)
    assert second.ask("alice", b"after", 60) == b"after"
    assert second.link.receive(timeout=0.05) is None
    assert not second.events.rejections


# Processes: what SIGKILL and SIGSTOP do.

PROCESS = textwrap.dedent("""
    import sys
    from pathlib import Path
    from sordino_platform.link import ClientTls, LinkClient
    folder = Path(sys.argv[2])
    tls = ClientTls.load(key=folder / "key", certificate=folder / "certificate", ca=folder / "ca")
    LinkClient(sys.argv[1], tls=tls, handler=lambda request: bytes(int(sys.argv[3]))).run()
""")


@contextmanager
def member_process(
    target: str, authority: Authority, folder: Path, *, reply: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """Alice as a process of her own; killed at the end whatever her state."""
    if not folder.exists():
        folder.mkdir()
        for name, pem in authority.issue("alice").items():
            (folder / name).write_bytes(pem)  # type: ignore[arg-type]
    process = subprocess.Popen([sys.executable, "-c", PROCESS, target, str(folder), str(reply)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_member_killed_in_the_middle_of_its_upload_is_lost_when_its_next_process_comes(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start, tmp_path: Path
) -> None:
    with member_process(proxy.target, authority, tmp_path / "alice", reply=8_000_000) as process:
        eventually(coordinator.link.connected, 60)
        proxy.rate = 1_000_000.0
        request = coordinator.link.send("alice", b"", deadline_seconds=600)
        eventually(lambda: coordinator.events.counted[Direction.RECEIVED] > 1_000_000)
        process.send_signal(signal.SIGKILL)
        eventually(lambda: not coordinator.link.connected())
    eventually(lambda: coordinator.spooled() == 0)
    proxy.rate = 0.0
    with member_process(proxy.target, authority, tmp_path / "alice", reply=7):
        assert coordinator.result(60) == LostRequest(
            member="alice", in_reply_to=request, reason=Loss.DISCONNECT
        )
        assert coordinator.ask("alice", b"again", 60) == bytes(7)


def test_a_stopped_member_is_evicted_at_the_deadline_and_harms_nobody(
    coordinator: Coordinator, authority: Authority, launch: Start, tmp_path: Path
) -> None:
    launch(Member(coordinator.target, authority, "bob"))
    with member_process(coordinator.target, authority, tmp_path / "alice", reply=8_000_000) as process:
        eventually(lambda: coordinator.link.connected() == {"alice", "bob"}, 60)
        process.send_signal(signal.SIGSTOP)
        request = coordinator.link.send("alice", bytes(4_000_000), deadline_seconds=1.5)
        assert coordinator.ask("bob", b"unharmed") == b"unharmed"
        assert coordinator.result() == LostRequest(member="alice", in_reply_to=request, reason=Loss.TIMEOUT)
        eventually(lambda: coordinator.link.connected() == {"bob"})
        assert coordinator.events.disconnections == [("alice", Disconnection.DEADLINE)]
        process.send_signal(signal.SIGCONT)
        eventually(lambda: coordinator.link.connected() == {"alice", "bob"}, 60)


def test_a_member_stopped_while_it_works_is_evicted_after_the_deadline(
    coordinator: Coordinator, authority: Authority, tmp_path: Path
) -> None:
    with member_process(coordinator.target, authority, tmp_path / "alice") as process:
        eventually(coordinator.link.connected, 60)
        process.send_signal(signal.SIGSTOP)
        request = coordinator.link.send("alice", b"small enough for the socket", deadline_seconds=0.5)
        assert coordinator.result() == LostRequest(member="alice", in_reply_to=request, reason=Loss.TIMEOUT)
        eventually(lambda: coordinator.events.disconnections)
        assert coordinator.events.disconnections[0][1] in (Disconnection.DEADLINE, Disconnection.UNRESPONSIVE)


# Two with one identity.


def test_a_second_process_with_the_same_identity_is_refused_while_the_first_lives(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    launch(Member(coordinator.target, authority, handler=lambda _: b"the first"))
    eventually(coordinator.link.connected)
    second = Member(coordinator.target, authority, handler=lambda _: b"the second")
    second.start()
    problem = second.failure()
    assert "another process is connected as alice" in problem.message
    assert "an identity must never be copied" in problem.hint
    assert coordinator.ask("alice", b"") == b"the first"
    assert coordinator.events.connections == {"alice": 1}


def test_a_second_process_takes_over_when_the_first_gives_no_sign_of_life(
    coordinator: Coordinator, authority: Authority, proxy: Proxy, launch: Start
) -> None:
    first = Member(proxy.target, authority, handler=lambda _: b"the first")
    launch(first)
    eventually(coordinator.link.connected)
    proxy.stall()
    launch(Member(coordinator.target, authority, handler=lambda _: b"the second"))
    eventually(lambda: coordinator.events.connections == {"alice": 2})
    assert coordinator.events.disconnections == [("alice", Disconnection.FENCED)]
    assert coordinator.ask("alice", b"") == b"the second"
    proxy.flow()
    assert "refuses this member" in first.failure().message
    assert coordinator.ask("alice", b"") == b"the second"


def test_a_reconnection_of_the_same_process_does_not_wait_for_its_dead_stream(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    old, new = RawMember(coordinator, authority), RawMember(coordinator, authority)
    launch(old)
    launch(new)
    welcome = old.open()
    request = coordinator.link.send("mallory", b"work", deadline_seconds=60)
    old.receive_request()
    new.session = old.session
    new.send(new.hello(coordinator_session=welcome.session, received=request))
    resumed = new.receive()
    assert isinstance(resumed, Welcome)
    assert resumed.awaiting == request
    farewell = old.receive()
    assert isinstance(farewell, Goodbye)
    assert farewell.reason is GoodbyeReason.FENCED
    new.send(*new.reply(request, b"from the new stream"))
    result = coordinator.result()
    assert isinstance(result, Reply)
    assert bytes(result.payload) == b"from the new stream"


def test_three_at_once_with_one_identity_leave_exactly_one(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    contenders = [RawMember(coordinator, authority) for _ in range(3)]
    answers: list[object] = []

    def contend(raw: RawMember) -> None:
        raw.send(raw.hello())
        answers.append(raw.receive())
        if isinstance(answers[-1], Welcome):
            while True:
                try:
                    frame = raw.receive()
                except grpc.RpcError:  # the test is over
                    return
                if isinstance(frame, Ping):
                    raw.send(Pong(frame.nonce))

    for raw in contenders:
        launch(raw)
        threading.Thread(target=contend, args=(raw,), daemon=True).start()
    eventually(lambda: len(answers) == 3)
    assert sum(isinstance(answer, Welcome) for answer in answers) == 1
    refusals = [answer for answer in answers if isinstance(answer, Goodbye)]
    assert [refusal.reason for refusal in refusals] == [GoodbyeReason.DUPLICATE] * 2
    assert coordinator.events.connections == {"mallory": 1}
    assert Rejection.SCHEMA not in coordinator.events.rejections


def test_members_that_all_lost_their_coordinator_do_not_come_back_all_at_once(authority: Authority) -> None:
    first = Coordinator(authority)
    first.start()
    members = [Member(first.target, authority, f"member-{n}") for n in range(12)]
    for member in members:
        member.start()
    eventually(lambda: len(first.link.connected()) == 12)
    first.stop()
    pauses = [member.until(LinkState.WAITING).retry_seconds for member in members]
    assert len(set(pauses)) == 12
    assert max(pauses) - min(pauses) > 0.01
    for member in members:
        member.stop()


def test_keepalive_notices_a_dead_connection_in_silence(authority: Authority, launch: Start) -> None:
    coordinator = Coordinator(authority, limits=replace(QUICK, keepalive_seconds=1.0))
    launch(coordinator)
    proxy = Proxy(coordinator.port)
    launch(proxy)
    launch(Member(proxy.target, authority))
    eventually(coordinator.link.connected)
    proxy.stall()
    eventually(lambda: coordinator.events.disconnections == [("alice", Disconnection.LOST)])


def test_a_member_that_is_stopped_between_two_connections_opens_no_other(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    def stopped_while_it_reads_its_files() -> ClientTls:
        member.client.stop()
        eventually(lambda: all(thread.name != "sordino-link-stop" for thread in threading.enumerate()))
        return ClientTls(**authority.issue("alice"))

    member = Member(coordinator.target, authority, tls=stopped_while_it_reads_its_files)
    launch(member)
    member._thread.join(20)
    assert not member._thread.is_alive()
    assert coordinator.link.connected() == frozenset()
