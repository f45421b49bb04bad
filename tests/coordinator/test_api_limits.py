"""What a caller may cost the operator's API: no place, no thread and no answer more than its request is worth."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.coordinator.api_client import SECONDS, Operator

from sordino_coordinator.control import server, streaming
from sordino_coordinator.control.callers import STANDBY_TOKEN_FILE, token_of
from sordino_coordinator.control.orders import read_orders
from sordino_platform.durable import make_folder, write_file
from sordino_platform.identity.site import TLS
from sordino_platform.web.connections import ROOM

COPY = "/v1/copy?release=-1&epoch=0&audit=0&state="


@pytest.fixture
def operator(hub: Path) -> Iterator[Operator]:
    asked = Operator(hub)
    yield asked
    asked.server.stop()


def said(operator: Operator, *lines: str, body: bytes = b"") -> bytes:
    """Everything that comes back until the other side closes, for a request of these lines with the true token."""
    token = token_of(operator.hub)
    head = "\r\n".join([lines[0], "Host: x", f"Authorization: Bearer {token}", *lines[1:], "", ""])
    answer = b""
    with operator.connect() as connection:
        connection.sendall(head.encode("ascii") + body)
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            while chunk := connection.recv(1 << 16):
                answer += chunk
    return answer


def large_copy(operator: Operator, content: bytes) -> None:
    """A file that every copy holds."""
    make_folder(operator.hub / "proofs")
    write_file(operator.hub / "proofs" / "000001-elm.bin", content)


def test_a_connection_carries_one_request_and_a_body_never_passes_for_the_next_one(
    operator: Operator,
) -> None:
    second = b"POST /v1/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    for smuggled in (
        second,
        second.replace(b"Host: x", f"Authorization: Bearer {token_of(operator.hub)}".encode()),
    ):
        answer = said(operator, "GET /v1/status HTTP/1.1", body=smuggled)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1") == 1
    assert not read_orders(operator.hub).paused


def test_of_two_tokens_none_counts(operator: Operator) -> None:
    assert said(operator, "GET /v1/status HTTP/1.1", "Authorization: Bearer x").startswith(b"HTTP/1.1 401")


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_the_limit(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    lines = "POST /v1/pause HTTP/1.1", "Content-Type: application/json", "Content-Length: 2"
    assert said(operator, *lines, body=b"{").startswith(b"HTTP/1.1 408")
    assert not read_orders(operator.hub).paused


def test_whoever_has_no_token_cannot_fill_the_port(operator: Operator) -> None:
    """More connections than there is room for, half of them without a handshake: the operator is answered."""
    with contextlib.ExitStack() as open_connections:
        for number in range(ROOM + 8):
            if number % 2:
                address = ("127.0.0.1", operator.server.port)
                open_connections.enter_context(socket.create_connection(address, timeout=SECONDS))
            else:
                open_connections.enter_context(operator.connect())
        assert operator.ask("GET", "/v1/status")[0] == 200
        assert operator.ask("POST", "/v1/pause", b"{}")[1]["paused"] is True


def test_a_follower_that_takes_nothing_is_given_up_and_leaves_no_thread_at_work(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy is far larger than what a socket holds. Every place for work is taken that way, and given back."""
    monkeypatch.setattr(streaming, "STALL_SECONDS", 0.2)
    with contextlib.ExitStack() as followers:
        large_copy(operator, bytes(32 << 20))
        request = f"GET {COPY} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token_of(operator.hub)}\r\n\r\n"
        for _ in range(server.WORKERS):
            followers.enter_context(operator.connect()).sendall(request.encode())
        assert operator.ask("GET", "/v1/status")[0] == 200
    assert operator.counted == {"ok": 1}


def test_followers_that_take_a_little_now_and_then_keep_no_operator_waiting(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standby's token gives no order, and must not keep the operator from giving one: it reads, as slowly as it
    likes, on as many connections as there are places for work."""
    monkeypatch.setattr(streaming, "STALL_SECONDS", 3600.0)
    token = token_of(operator.hub, STANDBY_TOKEN_FILE)
    with contextlib.ExitStack() as followers:
        large_copy(operator, bytes(32 << 20))
        request = f"GET {COPY} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        for _ in range(server.WORKERS + server.COPIES):
            follower = followers.enter_context(operator.connect())
            follower.sendall(request.encode())
            assert follower.recv(12) == b"HTTP/1.1 200"
        assert operator.ask("POST", "/v1/pause", b"{}")[1]["paused"] is True


def test_a_copy_goes_on_for_a_follower_that_is_slow_but_takes_it(operator: Operator) -> None:
    large_copy(operator, bytes(range(256)) * 4096)
    answer = said(operator, f"GET {COPY} HTTP/1.1")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"application/x-tar" in head
    assert body.endswith(b"0\r\n\r\n")
    assert body.count(bytes(range(256))) >= 4000
    assert operator.counted == {"ok": 1}


def test_a_certificate_that_cannot_be_used_fails_handshakes_and_its_successor_is_served(
    operator: Operator,
) -> None:
    good = (operator.hub / TLS).read_bytes()
    for bad, mode in ((b"none", 0o600), (good, 0o644)):
        (operator.hub / TLS).write_bytes(bad)
        (operator.hub / TLS).chmod(mode)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            operator.connect()
    (operator.hub / TLS).write_bytes(good)
    (operator.hub / TLS).chmod(0o600)
    assert operator.ask("GET", "/v1/status")[0] == 200


def test_the_port_is_closed_at_once_while_a_copy_is_under_way(operator: Operator) -> None:
    large_copy(operator, bytes(32 << 20))
    request = f"GET {COPY} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token_of(operator.hub)}\r\n\r\n"
    with operator.connect() as follower:
        follower.sendall(request.encode())
        assert follower.recv(4096).startswith(b"HTTP/1.1 200")
        operator.server.stop()
        assert not operator.server._thread.is_alive()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", operator.server.port), timeout=SECONDS)
