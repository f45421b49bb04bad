"""Behind the proxy of a company: the diagnosis names what gRPC really does, checked against gRPC itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.link.parties import Coordinator, Member, Party
from tests.link.pki import Authority
from tests.link.proxy import ConnectProxy

from sordino_platform.link import Cause, ClientTls, LinkState, diagnose
from sordino_platform.link.proxy import EXCEPTIONS, PROXIES, is_loopback, proxy_of

Start = Callable[[Party], Party]
NAME = "coordinator.example.org"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy but a test's own."""
    for name in (*PROXIES, *EXCEPTIONS):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def proxy(coordinator: Coordinator) -> Iterator[ConnectProxy]:
    """A real CONNECT proxy, for which every name is the coordinator."""
    proxy = ConnectProxy(coordinator.port)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def asked() -> Iterator[ConnectProxy]:
    """A CONNECT proxy that lets nobody through, and keeps who asked."""
    proxy = ConnectProxy(1, status="403 Forbidden")
    proxy.start()
    yield proxy
    proxy.stop()


def goes_through_a_proxy(target: str, asked: ConnectProxy) -> bool:
    """What gRPC does: one try to reach `target`."""
    asked.requests.clear()
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(target, options=options) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/a/b")
        with pytest.raises(grpc.RpcError):
            call(b"", timeout=2)
    return bool(asked.requests)


HERE = "http://user:secret@127.0.0.1:{port}"
NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "environment",
    [
        {"https_proxy": HERE},
        {"http_proxy": HERE},
        {"grpc_proxy": HERE, "https_proxy": NOWHERE},
        {"grpc_proxy": "", "https_proxy": HERE},
        {"HTTPS_PROXY": HERE, "GRPC_PROXY": HERE},
        {"https_proxy": "127.0.0.1:{port}"},
        {"https_proxy": "https://127.0.0.1:{port}"},
        {"https_proxy": HERE, "no_proxy": "*"},
        {"https_proxy": HERE, "NO_PROXY": "192.0.2.1"},
        {"https_proxy": HERE, "no_proxy": "10.1.2.3, 192.0.2.1"},
        {"https_proxy": HERE, "no_proxy": "192.0.2.0/24"},
        {"https_proxy": HERE, "no_proxy": "192.0.3.0/24,192.0.2.0/x"},
        {"https_proxy": HERE, "no_grpc_proxy": "example.org", "no_proxy": "192.0.2.1"},
        {"https_proxy": HERE, "no_proxy": "2.1"},
        {"https_proxy": HERE, "no_proxy": " "},
        {"https_proxy": HERE, "no_proxy": ""},
    ],
    ids=repr,
)
def test_which_proxy_is_used_agrees_with_grpc(
    environment: dict[str, str], asked: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(port=asked.port))
    target = "192.0.2.1:9"  # an address of RFC 5737, which leads nowhere
    found = proxy_of(target)
    if found is not None:
        assert (found.host, found.port) == ("127.0.0.1", asked.port)
        assert "secret" not in repr(found)
    assert goes_through_a_proxy(target, asked) is (found is not None)


@given(value=st.text(max_size=60), exceptions=st.text(max_size=60))
def test_no_value_of_a_variable_is_an_error(value: str, exceptions: str) -> None:
    proxy_of("fl.example.org:9443", {"https_proxy": value, "no_proxy": exceptions})


def test_a_coordinator_on_this_machine_is_reached_without_the_proxy(
    coordinator: Coordinator,
    authority: Authority,
    launch: Start,
    asked: ConnectProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [is_loopback(host) for host in ("localhost", "127.1.2.3", "::1", "localhost.example.org")] == [
        True,
        True,
        True,
        False,
    ]
    asked.requests.clear()
    monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{asked.port}")
    member = Member(coordinator.target, authority)
    launch(member)
    member.until(LinkState.CONNECTED)
    assert diagnose(coordinator.target, tls=ClientTls(**authority.issue("bob"))).cause is Cause.REACHABLE
    assert not asked.requests


def test_a_member_and_its_diagnosis_go_through_the_same_proxy(
    proxy: ConnectProxy, authority: Authority, launch: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{proxy.port}")
    member = Member(f"{NAME}:9443", authority, server_name="localhost")
    launch(member)
    member.until(LinkState.CONNECTED)
    found = diagnose(f"{NAME}:9443", tls=ClientTls(**authority.issue("bob")), server_name="localhost")
    assert found.cause is Cause.REACHABLE
    assert f"{NAME}:9443 answers through the proxy in $https_proxy" in found.message
    by_grpc, by_us = proxy.requests[0], proxy.requests[-1]
    for request in (by_grpc, by_us):
        assert request.startswith(f"CONNECT {NAME}:9443 HTTP/1.".encode())
        assert b"proxy-authorization: basic dxnlcjpzzwnyzxq=" in request.lower()


def test_a_proxy_that_does_not_let_the_link_through_is_named_and_waited_for(
    asked: ConnectProxy, authority: Authority, launch: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{asked.port}")
    monkeypatch.setenv("NO_PROXY", "*")
    member = Member(f"{NAME}:9443", authority)
    launch(member)
    status = member.until(LinkState.WAITING)
    assert status.message == f"the proxy in $https_proxy does not connect to {NAME}:9443 (403 Forbidden)"
    assert "no_grpc_proxy" in status.hint
    assert "secret" not in status.message + status.hint


def test_a_proxy_that_is_not_there_or_is_none_is_named(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ClientTls(**authority.issue("alice"))
    monkeypatch.setenv("http_proxy", NOWHERE)
    found = diagnose(f"{NAME}:9443", tls=tls)
    assert found.cause is Cause.PROXY
    assert "the proxy in $http_proxy cannot be reached (Connection refused)" in found.message
    server = grpc.server(ThreadPoolExecutor(1))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    assert diagnose(f"{NAME}:9443", tls=tls, seconds=5).cause is Cause.PROXY
    server.stop(0).wait()
