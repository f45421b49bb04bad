"""Whoever has no token costs the owner nothing: no allowance, no connection, no wait. Against the real process."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sordino_platform.web.connections import ROOM

FLOOD = 2 * ROOM
HALF = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
WAITING = (
    b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 900000\r\n\r\n"
)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Any], release: Callable[..., Path]
) -> Any:
    state = tmp_path_factory.mktemp("flooded")
    release(state / "serving", 1)
    return start(state)


@pytest.fixture
def strangers(running: Any) -> Iterator[Callable[[bytes, int], list[socket.socket]]]:
    """Opens connections that send these bytes and wait; gives them."""
    with contextlib.ExitStack() as opened:

        def flood(sent: bytes, count: int) -> list[socket.socket]:
            made = []
            for _ in range(count):
                one = socket.create_connection(("127.0.0.1", running.endpoint.port), timeout=60)
                made.append(opened.enter_context(one))
                with contextlib.suppress(OSError):
                    one.sendall(sent)
            return made

        yield flood


def asked(connection: http.client.HTTPConnection, token: str) -> int:
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {token}", "Host": "localhost"})
    response = connection.getresponse()
    response.read()
    return response.status


def by_tcp(running: Any) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", running.endpoint.port, timeout=60)


def by_unix(running: Any) -> http.client.HTTPConnection:
    connection = by_tcp(running)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(running.state / "completion.sock"))
    return connection


def owner(running: Any) -> list[int]:
    """How the owner's requests are answered, on new connections of both listeners."""
    answered = []
    for connect in (by_tcp, by_unix):
        with contextlib.closing(connect(running)) as connection:
            answered += [asked(connection, running.endpoint.token) for _ in range(5)]
    return answered


def test_a_flood_of_the_open_page_uses_up_nothing_of_the_owners(running: Any) -> None:
    def visit(_: int) -> int:
        with contextlib.closing(by_tcp(running)) as connection:
            connection.request("GET", "/")
            return connection.getresponse().status

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(visit, range(300))) == {200}
    assert owner(running) == [200] * 10


def test_wrong_tokens_never_keep_out_the_right_one(running: Any) -> None:
    with contextlib.closing(by_tcp(running)) as connection:
        for guess in range(200):
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer guess-{guess}"})
            response = connection.getresponse()
            response.read()
            assert response.status == 401
    assert owner(running) == [200] * 10


@pytest.mark.parametrize("sent", [b"", HALF, WAITING], ids=["silent", "half a head", "a refused body"])
def test_connections_that_wait_leave_the_owner_both_doors(
    running: Any, strangers: Callable[[bytes, int], list[socket.socket]], sent: bytes
) -> None:
    with contextlib.closing(by_tcp(running)) as kept:
        assert asked(kept, running.endpoint.token) == 200
        same = kept.sock
        strangers(sent, FLOOD)
        assert owner(running) == [200] * 10
        # A connection that has shown the token gives way to nobody who has not.
        assert asked(kept, running.endpoint.token) == 200
        assert kept.sock is same


def test_half_a_head_is_not_waited_for(
    strangers: Callable[[bytes, int], list[socket.socket]],
) -> None:
    for one in strangers(HALF, 3):
        with contextlib.suppress(ConnectionError):
            assert one.recv(1) == b""


def test_a_head_that_drips_is_cut_off_at_its_time(
    strangers: Callable[[bytes, int], list[socket.socket]],
) -> None:
    (one,) = strangers(HALF, 1)
    one.settimeout(0.5)
    with pytest.raises(ConnectionError):  # noqa: PT012 - every byte may be the one that fails
        for _ in range(120):
            one.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                if one.recv(1) == b"":
                    raise ConnectionResetError
