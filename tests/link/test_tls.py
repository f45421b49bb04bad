"""Who may not connect, and how the person at the member's machine is told why (FAULTS row 19)."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from tests.link.parties import QUICK, Coordinator, Member, Party, RawMember, eventually
from tests.link.pki import Authority, Material, key_pem

from sordino_platform.link import (
    Cause,
    ClientTls,
    Disconnection,
    LinkState,
    Rejection,
    Reply,
    Request,
    ServerTls,
    diagnose,
)
from sordino_platform.link.frames import Goodbye
from sordino_privacy.errors import LinkError, PortInUseError

Start = Callable[[Party], Party]


@pytest.fixture(scope="session")
def stranger() -> Authority:
    """A CA that the federation does not know."""
    return Authority("another CA")


def test_a_member_with_a_certificate_of_the_federation_is_welcome(
    coordinator: Coordinator, authority: Authority, launch: Start
) -> None:
    member = Member(coordinator.target, authority)
    launch(member)
    member.until(LinkState.CONNECTED)
    assert coordinator.link.connected() == {"alice"}
    assert diagnose(coordinator.target, tls=ClientTls(**authority.issue("bob"))).cause is Cause.REACHABLE


def refused(coordinator: Coordinator, authority: Authority, material: Material, **options: str) -> LinkError:
    member = Member(options.pop("target", coordinator.target), authority, material=material)
    member.start()
    problem = member.failure()
    assert isinstance(problem, LinkError)
    assert not coordinator.link.connected()
    return problem


def test_a_certificate_of_another_ca_is_refused(
    coordinator: Coordinator, authority: Authority, stranger: Authority
) -> None:
    material = stranger.issue("alice") | {"ca": authority.pem}
    problem = refused(coordinator, authority, Material(**material))
    assert "this member's certificate was issued by another CA" in problem.message
    assert "CN=another CA" in problem.message
    assert "CN=federation CA" in problem.message


def test_another_ca_of_the_same_name_is_refused_too(coordinator: Coordinator, authority: Authority) -> None:
    impostor = Authority("federation CA")
    problem = refused(coordinator, authority, Material(**(impostor.issue("alice") | {"ca": authority.pem})))
    assert "issued by another CA" in problem.message


def test_an_expired_certificate_is_refused(coordinator: Coordinator, authority: Authority) -> None:
    problem = refused(coordinator, authority, authority.issue("alice", days=(-30, -1)))
    assert "this member's certificate expired on" in problem.message
    assert "sordino identity renew" in problem.hint


def test_a_certificate_of_tomorrow_points_at_the_clock(
    coordinator: Coordinator, authority: Authority
) -> None:
    problem = refused(coordinator, authority, authority.issue("alice", days=(1, 30)))
    assert "valid only from" in problem.message
    assert "clock" in problem.hint


def test_a_certificate_that_names_nobody_is_refused(coordinator: Coordinator, authority: Authority) -> None:
    problem = refused(coordinator, authority, authority.issue("stranger"))
    assert "stranger is not a member" in problem.message
    assert coordinator.events.rejections == {Rejection.UNKNOWN_CLIENT: 1}


def test_a_coordinator_of_another_ca_is_not_trusted(
    coordinator: Coordinator, authority: Authority, stranger: Authority
) -> None:
    problem = refused(coordinator, authority, stranger.issue("alice"))
    assert "not from this federation's CA" in problem.message


def test_a_coordinator_of_another_name_is_not_trusted(authority: Authority, launch: Start) -> None:
    elsewhere = Coordinator(authority, material=authority.issue("coordinator", names=("hub.example.org",)))
    launch(elsewhere)
    target = f"localhost:{elsewhere.port}"
    problem = refused(elsewhere, authority, authority.issue("alice"), target=target)
    assert f"the certificate at {target} is not for localhost, but for hub.example.org" in problem.message
    member = Member(target, authority, server_name="hub.example.org")
    launch(member)
    member.until(LinkState.CONNECTED)


def test_an_expired_coordinator_is_waited_for(authority: Authority, launch: Start) -> None:
    stale = Coordinator(authority, material=authority.issue("coordinator", days=(-30, -1)))
    launch(stale)
    member = Member(stale.target, authority)
    launch(member)
    status = member.until(LinkState.WAITING)
    assert "the coordinator's certificate" in status.message
    assert "has expired" in status.message
    assert "operator must renew" in status.hint
    assert not stale.link.connected()


def test_a_coordinator_that_renewed_its_certificate_needs_no_restart(
    authority: Authority, launch: Start
) -> None:
    current = [authority.issue("coordinator", days=(-30, -1))]
    coordinator = Coordinator(authority)
    coordinator.link._tls = lambda: ServerTls(**current[-1])
    launch(coordinator)
    member = Member(coordinator.target, authority)
    launch(member)
    member.until(LinkState.WAITING)
    current.append(authority.issue("coordinator"))
    member.until(LinkState.CONNECTED)


def test_a_plaintext_server_gets_nothing(authority: Authority) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    member = Member(f"127.0.0.1:{port}", authority)
    member.start()
    assert "does not speak TLS" in member.failure().message
    server.stop(0).wait()


def test_a_web_server_is_no_coordinator(authority: Authority, tmp_path: Path) -> None:
    material = authority.issue("web")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "both.pem").write_bytes(material["key"] + material["certificate"])
    context.load_cert_chain(tmp_path / "both.pem")
    with web_server(context) as target:
        found = diagnose(target, tls=ClientTls(**authority.issue("alice")))
    assert found.cause is Cause.NOT_A_COORDINATOR
    assert "speaks TLS but not gRPC" in found.message


@contextmanager
def web_server(context: ssl.SSLContext) -> Iterator[str]:
    """A TLS server without HTTP/2 that takes one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
                secure.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


@pytest.fixture
def silence() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("target", "cause", "words"),
    [
        ("127.0.0.1:1", Cause.CONNECTION_REFUSED, "nothing listens on 127.0.0.1:1"),
        ("no-such-host.invalid:9", Cause.NAME_RESOLUTION, "cannot be resolved"),
        ("nonsense", Cause.FILES, "is not an address"),
    ],
)
def test_an_address_that_leads_nowhere_is_explained(
    authority: Authority, target: str, cause: Cause, words: str
) -> None:
    found = diagnose(target, tls=ClientTls(**authority.issue("alice")))
    assert found.cause is cause
    assert words in found.message
    assert found.hint


def test_a_black_hole_is_explained_and_does_not_hang(authority: Authority, silence: str) -> None:
    found = diagnose(silence, tls=ClientTls(**authority.issue("alice")), seconds=0.3)
    assert found.cause is Cause.UNREACHABLE
    assert "firewall" in found.hint


def test_a_coordinator_that_is_full_is_waited_for_not_called_a_refusal(
    authority: Authority, launch: Start
) -> None:
    """Silent TCP connections take every place until their handshake's time is over: that says nothing of a member."""
    full = Coordinator(authority, limits=replace(QUICK, connections=4))
    launch(full)
    with ExitStack() as silent:
        for _ in range(12):
            silent.enter_context(socket.create_connection(("127.0.0.1", full.port)))
        member = Member(full.target, authority)
        launch(member)
        status = member.until(LinkState.WAITING)
        assert "ended the connection during the TLS handshake" in status.message
        assert "full or starting" in status.hint
    member.until(LinkState.CONNECTED)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_alert_about_the_certificate_is_a_refusal(
    authority: Authority, stranger: Authority, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    material = authority.issue("coordinator")
    (tmp_path / "both.pem").write_bytes(material["key"] + material["certificate"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    context.load_verify_locations(cadata=stranger.pem.decode())
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, version
    context.set_alpn_protocols(["h2"])
    with web_server(context) as target:
        found = diagnose(target, tls=ClientTls(**authority.issue("alice")))
    assert found.cause is Cause.OWN_REFUSED
    assert "refuses this member's certificate (unknown ca)" in found.message
    assert found.permanent


@pytest.mark.parametrize("said", [b"", b"\x15\x03\x03\x00\x02\x02\x50"], ids=["nothing", "internal_error"])
def test_an_end_without_a_verdict_on_the_certificate_is_no_refusal(authority: Authority, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            with plain:
                plain.recv(10_000)
                plain.sendall(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = diagnose(f"127.0.0.1:{listener.getsockname()[1]}", tls=ClientTls(**authority.issue("alice")))
        thread.join(10)
    assert found.cause is Cause.CLOSED
    assert not found.permanent


def test_a_coordinator_that_is_not_up_yet_is_waited_for(authority: Authority, launch: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    member = Member(f"127.0.0.1:{port}", authority)
    launch(member)
    assert "nothing listens" in member.until(LinkState.WAITING).message
    launch(Coordinator(authority, port=port))
    member.until(LinkState.CONNECTED)


@pytest.mark.parametrize("certificate", ["none", "other CA"])
def test_the_coordinator_ends_a_handshake_that_proves_nothing(
    coordinator: Coordinator, authority: Authority, stranger: Authority, certificate: str, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    if certificate == "other CA":
        material = stranger.issue("alice")
        (tmp_path / "both.pem").write_bytes(material["key"] + material["certificate"])
        context.load_cert_chain(tmp_path / "both.pem")
    with (
        socket.create_connection(("127.0.0.1", coordinator.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        try:
            assert secure.recv(1) == b""
        except (ssl.SSLError, ConnectionError):
            return


def test_plaintext_gets_no_answer(coordinator: Coordinator) -> None:
    with socket.create_connection(("127.0.0.1", coordinator.port), 10) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))
        try:
            assert b"HTTP" not in plain.recv(100)
        except ConnectionError:
            return


def test_tls_below_1_2_is_not_spoken(coordinator: Coordinator, authority: Authority) -> None:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", coordinator.port), 10) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_certificate_that_expires_while_connected_ends_the_stream_at_its_next_message(
    authority: Authority, launch: Start
) -> None:
    ahead = [datetime.timedelta()]
    coordinator = Coordinator(authority, now=lambda: datetime.datetime.now(datetime.UTC) + ahead[0])
    launch(coordinator)
    raw = RawMember(coordinator, authority)
    launch(raw)
    raw.open()
    coordinator.link.send("mallory", b"work", deadline_seconds=20)
    request = raw.receive_request()
    ahead[0] = datetime.timedelta(days=31)
    raw.send(*raw.reply(request, b"result"))
    assert raw.ended()
    eventually(lambda: coordinator.events.disconnections)
    assert coordinator.events.disconnections == [("mallory", Disconnection.EXPIRED)]
    assert coordinator.events.rejections == {Rejection.EXPIRED: 1}
    assert coordinator.link.receive(timeout=0.05) is None


def test_a_port_in_use_is_said(coordinator: Coordinator, authority: Authority) -> None:
    second = Coordinator(authority, port=coordinator.port)
    with pytest.raises(PortInUseError, match=f"port {coordinator.port} on 127.0.0.1 is in use"):
        second.start()


def test_an_address_that_is_not_this_machines_is_said(authority: Authority) -> None:
    coordinator = Coordinator(authority)
    coordinator.link._host = "192.0.2.1"
    with pytest.raises(LinkError, match=r"cannot listen on 192\.0\.2\.1"):
        coordinator.start()


def test_files_are_checked_before_a_connection_is_tried(authority: Authority, tmp_path: Path) -> None:
    material = authority.issue("alice")
    with pytest.raises(LinkError, match="does not belong"):
        ClientTls(**(material | {"key": key_pem(ec.generate_private_key(ec.SECP256R1()))}))
    with pytest.raises(LinkError, match="not an ECDSA P-256 key"):
        ClientTls(**(material | {"key": key_pem(ec.generate_private_key(ec.SECP384R1()))}))
    with pytest.raises(LinkError, match="not an ECDSA P-256 key"):
        ClientTls(**(material | {"key": key_pem(ed25519.Ed25519PrivateKey.generate())}))
    with pytest.raises(LinkError, match="not an unencrypted PEM private key"):
        ClientTls(**(material | {"key": b"nonsense"}))
    with pytest.raises(LinkError, match="CA certificate is not a PEM certificate"):
        ClientTls(**(material | {"ca": b"nonsense"}))
    with pytest.raises(LinkError, match="cannot read the TLS key"):
        ClientTls.load(key=tmp_path / "k", certificate=tmp_path / "c", ca=tmp_path / "a")
    for name, pem in material.items():
        assert isinstance(pem, bytes)
        (tmp_path / name).write_bytes(pem)
    loaded = ClientTls.load(key=tmp_path / "key", certificate=tmp_path / "certificate", ca=tmp_path / "ca")
    assert loaded == ClientTls(**material)
    (tmp_path / "key").write_bytes(bytes(300_000))
    with pytest.raises(LinkError, match="too large"):
        ClientTls.load(key=tmp_path / "key", certificate=tmp_path / "certificate", ca=tmp_path / "ca")


def test_a_key_is_never_shown(authority: Authority) -> None:
    tls = ClientTls(**authority.issue("alice"))
    assert "PRIVATE" not in repr(tls)
    assert "key" not in repr(tls).split("certificate")[0]


ALERT = replace(QUICK, admission_seconds=0.05)


@pytest.mark.parametrize(
    ("what", "reason", "words"),
    [
        ("the member's certificate", Disconnection.EXPIRED, "the certificate has expired"),
        ("the coordinator's certificate", Disconnection.EXPIRED, "the coordinator's certificate has expired"),
        ("a retirement", Disconnection.IDENTITY, "member mallory was retired in epoch 2"),
    ],
)
def test_an_open_link_outlives_nothing_in_silence_and_the_member_is_told(
    authority: Authority, launch: Start, what: str, reason: Disconnection, words: str
) -> None:
    ahead = [datetime.timedelta()]
    coordinator = Coordinator(
        authority,
        limits=ALERT,
        material=authority.issue("coordinator", days=(-1, 10 if "coordinator" in what else 60)),
        now=lambda: datetime.datetime.now(datetime.UTC) + ahead[0],
    )
    launch(coordinator)
    raw = RawMember(coordinator, authority)
    launch(raw)
    raw.open()
    if what == "a retirement":
        coordinator.retired.add("mallory")
    else:
        ahead[0] = datetime.timedelta(days=31 if "member" in what else 11)
    farewell = raw.receive()  # nobody sent a message
    assert isinstance(farewell, Goodbye)
    assert words in farewell.detail
    eventually(lambda: coordinator.events.disconnections)
    assert coordinator.events.disconnections == [("mallory", reason)]


def test_a_member_that_was_renewed_goes_on_when_the_certificate_of_its_stream_ends(
    authority: Authority, launch: Start
) -> None:
    ahead = [datetime.timedelta()]
    coordinator = Coordinator(
        authority, limits=ALERT, now=lambda: datetime.datetime.now(datetime.UTC) + ahead[0]
    )
    coordinator.link._tls = ServerTls(**authority.issue("coordinator", days=(-1, 90)))
    launch(coordinator)
    current = [authority.issue("alice", days=(-1, 10))]
    member = Member(coordinator.target, authority, tls=lambda: ClientTls(**current[-1]))
    launch(member)
    member.until(LinkState.CONNECTED)
    current.append(authority.issue("alice", days=(-1, 60)))
    ahead[0] = datetime.timedelta(days=11)
    member.until(LinkState.CONNECTED)
    assert coordinator.ask("alice", b"work") == b"work"


def test_a_long_connection_is_made_anew_so_that_the_coordinators_certificate_is_looked_at_again(
    authority: Authority, launch: Start
) -> None:
    current = [authority.issue("coordinator")]
    coordinator = Coordinator(authority)
    coordinator.link._tls = lambda: ServerTls(**current[-1])
    launch(coordinator)
    working = threading.Event()

    def slowly(request: Request) -> bytes:
        working.set()
        request.wait(1.0)
        return b"done"

    member = Member(
        coordinator.target, authority, handler=slowly, limits=replace(QUICK, handshake_seconds=0.3)
    )
    launch(member)
    member.until(LinkState.CONNECTED)
    request = coordinator.link.send("alice", b"work", deadline_seconds=20)
    assert working.wait(10)
    member.until(LinkState.CONNECTED)  # in the middle of the work, which goes on
    result = coordinator.result()
    assert isinstance(result, Reply)
    assert (result.in_reply_to, bytes(result.payload)) == (request, b"done")
    # A coordinator that lies about its clock and keeps the stream open: the next handshake finds it out.
    current.append(authority.issue("coordinator", days=(-30, -1)))
    assert "the coordinator's certificate" in member.until(LinkState.WAITING).message
