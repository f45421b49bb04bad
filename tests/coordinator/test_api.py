"""The operator's API: real TLS, a token for everything, strict bodies, orders that are durable when it answers."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.coordinator.api_client import SECONDS, Operator

from sordino_coordinator.control.audit import Action, read_lines
from sordino_coordinator.control.callers import STANDBY_TOKEN_FILE, TOKEN_FILE, token_of
from sordino_coordinator.control.orders import read_orders
from sordino_coordinator.control.server import MAX_BODY_BYTES
from sordino_coordinator.standby.following import Follower
from sordino_platform.identity import authority as root
from sordino_platform.identity import site
from sordino_privacy.errors import ConfigurationError, LinkError

COPY = "/v1/copy?release=0&epoch=1&audit=0&state=" + "ab" * 32


@pytest.fixture
def operator(hub: Path) -> Iterator[Operator]:
    asked = Operator(hub)
    yield asked
    asked.server.stop()


def test_status_rounds_releases_and_audit_can_be_read(operator: Operator) -> None:
    status, facts = operator.ask("GET", "/v1/status")
    assert (status, facts["release"], facts["running"]) == (200, 0, False)
    assert operator.ask("GET", "/v1/rounds?last=5") == (200, [])
    assert operator.ask("GET", "/v1/releases")[1][0]["number"] == 0
    assert operator.ask("GET", "/v1/audit?last=1")[0] == 200


def test_an_order_is_durable_and_noted_when_the_answer_is_there(operator: Operator) -> None:
    assert operator.ask("POST", "/v1/pause", b"")[1]["paused"] is True
    assert operator.ask("POST", "/v1/pace", b'{"pause_seconds": 600.0, "quorum": 5}')[0] == 200
    assert operator.ask("POST", "/v1/rollback", b'{"release": 3}')[0] == 200
    orders = read_orders(operator.hub)
    assert (orders.paused, orders.restore, orders.pace.pause_seconds, orders.pace.quorum) == (
        True,
        3,
        600.0,
        5,
    )
    assert operator.ask("POST", "/v1/resume", b"{}")[1]["paused"] is False
    noted = [(line.entry.action, line.entry.by) for line in read_lines(operator.hub)]
    assert (Action.PACE_CHANGED, "api") in noted
    assert (Action.ROLLBACK_ORDERED, "api") in noted


def test_the_standbys_token_copies_and_neither_reads_the_api_nor_orders(operator: Operator) -> None:
    token = token_of(operator.hub, STANDBY_TOKEN_FILE)
    assert operator.ask("GET", COPY, token=token)[0] == 200
    assert operator.ask("GET", "/v1/status", token=token)[0] == 403
    assert operator.ask("POST", "/v1/pause", b"{}", token=token)[0] == 403
    assert not read_orders(operator.hub).paused


def test_a_standby_that_an_older_version_prepared_follows_with_the_operators_token(
    operator: Operator, tmp_path: Path
) -> None:
    standby = tmp_path / "standby"
    standby.mkdir(mode=0o700)
    for name in ("root.pin", TOKEN_FILE):
        shutil.copy2(operator.hub / name, standby / name)
    shutil.copytree(operator.hub / "charters", standby / "charters")
    follower = Follower(standby, f"127.0.0.1:{operator.server.port}")
    assert follower.once().epoch == 1
    (standby / STANDBY_TOKEN_FILE).touch(mode=0o600)
    (standby / STANDBY_TOKEN_FILE).write_text("another coordinator's")
    with pytest.raises(LinkError, match="refused: 401"):
        Follower(standby, f"127.0.0.1:{operator.server.port}").once()


@pytest.mark.parametrize("token", [None, "wrong", "Ünicode", "x" * 10_000])
def test_without_the_token_nothing_is_read_or_ordered_and_it_is_noted(
    operator: Operator, token: str | None
) -> None:
    for method, path in (("GET", "/v1/status"), ("POST", "/v1/pause"), ("GET", "/nothing")):
        body = b"{}" if method == "POST" else None
        quoted = None if token is None else token.encode("latin-1").decode("latin-1")
        status, answer = operator.ask(method, path, body, token=quoted)
        assert status == 401, answer
    assert not read_orders(operator.hub).paused
    assert operator.counted == {"refused": 3}
    refused = [line for line in read_lines(operator.hub) if line.entry.action is Action.OPERATOR_REFUSED]
    assert len(refused) == 1  # at most one a minute


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/v1/pause", b'{"now": true}', {}, 400),
        ("POST", "/v1/pace", b'{"pause_secs": 1.0}', {}, 400),
        ("POST", "/v1/pace", b'{"attempts": 99}', {}, 409),
        ("POST", "/v1/pace", b'{"schedule": ["whenever"]}', {}, 409),
        ("POST", "/v1/rollback", b'{"release": -1}', {}, 400),
        ("POST", "/v1/rollback", b'{"release": "1"}', {}, 400),
        ("POST", "/v1/rollback", b"[" * 10_000, {}, 400),
        ("POST", "/v1/pause", b"{}", {"Content_Type": "text/plain"}, 415),
        ("POST", "/v1/pause", b"{}", {"Content_Length": "-1"}, 400),  # no HTTP: RFC 9112, section 6.3
        ("POST", "/v1/pause", b"{}", {"Transfer_Encoding": "chunked"}, 413),
        ("POST", "/v1/pause", b"", {"Content_Length": str(MAX_BODY_BYTES + 1)}, 413),
        ("POST", "/v1/stop", b"{}", {}, 404),
        ("GET", "/v1/pause", None, {}, 404),
        ("GET", "/v1/rounds?last=0", None, {}, 400),
        ("GET", "/v1/rounds?last=1&last=2;x", None, {}, 400),
        ("GET", "/v1/status?folder=/etc", None, {}, 400),
        ("PUT", "/v1/pause", b"{}", {}, 501),
        ("OPTIONS", "/v1/pause", None, {}, 501),
        ("HEAD", "/v1/copy?release=0&epoch=1&audit=0&state=", None, {}, 501),
    ],
)
def test_what_is_not_exactly_an_order_is_refused_and_changes_nothing(
    operator: Operator, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    assert operator.ask(method, path, body, **headers)[0] == status
    assert read_orders(operator.hub) == type(read_orders(operator.hub))()


def test_a_connection_that_stalls_holds_up_nobody(operator: Operator) -> None:
    with socket.create_connection(("127.0.0.1", operator.server.port)) as silent, operator.connect() as slow:
        slow.sendall(b"POST /v1/pause HTTP/1.1\r\nContent-Len")
        silent.sendall(b"\x16\x03")
        assert operator.ask("GET", "/v1/status")[0] == 200


def test_without_tls_and_without_the_federations_authority_there_is_no_answer(operator: Operator) -> None:
    with socket.create_connection(("127.0.0.1", operator.server.port), timeout=SECONDS) as plain:
        plain.sendall(b"GET /v1/status HTTP/1.1\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := plain.recv(100):
                answer += chunk
    assert b"HTTP" not in answer
    operator.trust = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        operator.connect()


def test_a_renewed_certificate_is_served_without_a_restart(operator: Operator, place: Path) -> None:
    operator.ask("GET", "/v1/status")
    before = operator.certificate
    reply = root.approve(place / "root", site.make_request(operator.hub))
    site.install(operator.hub, reply)
    operator.ask("GET", "/v1/status")
    assert operator.certificate not in (None, before)


def test_a_token_that_others_could_read_is_refused(hub: Path) -> None:
    assert len(token_of(hub)) >= 43
    assert (hub / TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    (hub / TOKEN_FILE).chmod(0o644)
    with pytest.raises(ConfigurationError, match="other users"):
        token_of(hub)
