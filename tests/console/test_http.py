"""The console over HTTP: who gets in, what is refused and counted, and what no reply ever holds."""

from __future__ import annotations

import copy
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from tests.ops.observed import make_registries

from sordino_coordinator.console import Console
from sordino_coordinator.console.guard import SECURITY
from sordino_coordinator.federation import Federation
from sordino_coordinator.metrics import Refused
from sordino_privacy.errors import ConfigurationError, PortInUseError

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
# Every kind of reply: pages, files, refusals of the guard, of the routes and of the framework.
REQUESTS = [
    ("GET", "/", {}),
    ("GET", "/console.css", {}),
    ("GET", "/console.js", {}),
    ("GET", "/icon.svg", {}),
    ("GET", "/runbooks/CoordinatorDown", {}),
    ("GET", "/runbooks/nothing", {}),
    ("GET", "/runbooks/..%2f..%2fidentity.key", {}),
    ("GET", "/nothing", {}),
    ("POST", "/", {}),
    ("POST", "/login", {}),
    ("DELETE", "/", {}),
    ("GET", "/", {"Host": "evil.example"}),
    ("GET", "/", {"Origin": "https://evil.example"}),
    ("POST", "/login", {"Content-Length": "5000"}),
]


def count(federation: Federation, reason: Refused) -> float:
    registry = federation.metrics.metrics.registry
    return registry.get_sample_value("sordino_console_refused_total", {"reason": reason.value}) or 0.0


@pytest.fixture
def fresh(federation: Federation, console: Console) -> Iterator[httpx.Client]:
    """A console of its own, with nothing tried yet."""
    serving = Console(federation)
    with httpx.Client(base_url=f"http://127.0.0.1:{serving.port}", timeout=30) as client:
        yield client
    serving.stop()


def with_settings(federation: Federation, **changed: object) -> Federation:
    """The same federation with other settings."""
    same = copy.copy(federation)
    same.settings = type(federation.settings)(**{**federation.settings.model_dump(), **changed})
    return same


# -------------------------------------------------------------------------------------------------------- getting in


def test_without_a_session_there_is_a_form_and_nothing_about_the_federation(
    visitor: httpx.Client, federation: Federation
) -> None:
    for path in ("/", "/runbooks/LedgerFailing"):
        reply = visitor.get(path)
        assert reply.status_code == 401
        assert "<form" in reply.text
        assert federation.charter.hash().hex()[:16] not in reply.text
        for member in federation.charter.members:
            assert member.name not in reply.text


def test_the_token_opens_a_session_whose_cookie_no_script_and_no_other_site_gets(
    visitor: httpx.Client, token: str
) -> None:
    reply = visitor.post("/login", data={"token": f" {token}\n"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    attributes = {part.strip().lower() for part in reply.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)
    assert token not in str(reply.headers)
    assert visitor.get("/").status_code == 200


def test_signing_out_ends_the_session_for_whoever_kept_the_cookie(operator: httpx.Client) -> None:
    kept = dict(operator.cookies)
    assert operator.post("/logout").status_code == 303
    assert "sordino" not in "".join(operator.cookies)
    operator.cookies.update(kept)
    assert operator.get("/").status_code == 401


def test_a_cookie_that_is_no_session_is_counted(
    visitor: httpx.Client, federation: Federation, console: Console
) -> None:
    before = count(federation, Refused.SESSION)
    visitor.cookies.set(f"sordino-{console.port}", "x" * 43)
    assert visitor.get("/").status_code == 401
    assert count(federation, Refused.SESSION) == before + 1


def test_guessing_is_slowed_down_and_never_keeps_out_the_right_token(
    fresh: httpx.Client, federation: Federation, token: str
) -> None:
    wrong, rate = count(federation, Refused.TOKEN), count(federation, Refused.RATE)
    statuses = [fresh.post("/login", data={"token": f"guess-{index}"}).status_code for index in range(20)]
    assert set(statuses) == {403, 429}
    assert statuses.count(403) < 10
    last = fresh.post("/login", data={"token": token})
    assert last.status_code == 303
    assert "set-cookie" in last.headers
    again = fresh.post("/login", data={"token": "one more"})
    assert again.status_code == 429
    assert int(again.headers["retry-after"]) > 0
    assert "set-cookie" not in again.headers
    assert count(federation, Refused.TOKEN) - wrong == statuses.count(403)
    assert count(federation, Refused.RATE) - rate == statuses.count(429) + 1


@pytest.mark.parametrize(
    "form", [b"", b"token=", b"token", b"other=1", b"token=%ff%00", b"&".join([b"token=x"] * 9)]
)
def test_a_form_without_the_token_is_refused(fresh: httpx.Client, form: bytes) -> None:
    reply = fresh.post("/login", content=form)
    assert reply.status_code == 403
    assert "set-cookie" not in reply.headers


# --------------------------------------------------------------------------------------------------------- the guard


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "localhost:x"]
)
def test_a_foreign_host_is_refused_and_counted(
    visitor: httpx.Client, federation: Federation, host: str
) -> None:
    before = count(federation, Refused.HOST)
    assert visitor.get("/", headers={"Host": host}).status_code == 421
    assert count(federation, Refused.HOST) == before + 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9467", "LOCALHOST", "[::1]:1"])
def test_the_console_s_own_names_are_accepted_at_any_port_a_tunnel_may_have(
    visitor: httpx.Client, host: str
) -> None:
    assert visitor.get("/", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_another_site_s_page_is_refused_whatever_cookie_it_has(
    operator: httpx.Client, federation: Federation, headers: dict[str, str]
) -> None:
    before = count(federation, Refused.ORIGIN)
    assert operator.get("/", headers=headers).status_code == 403
    assert operator.post("/logout", headers=headers).status_code == 403
    assert count(federation, Refused.ORIGIN) == before + 2
    assert operator.get("/").status_code == 200


def test_a_link_from_elsewhere_leads_to_the_console(visitor: httpx.Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert visitor.get("/", headers=headers).status_code == 401
    assert visitor.post("/login", headers=headers, data={"token": "x"}).status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_there_is_nothing_to_write(operator: httpx.Client, federation: Federation, method: str) -> None:
    before = count(federation, Refused.METHOD)
    assert operator.request(method, "/").status_code == 405
    assert count(federation, Refused.METHOD) == before + 1


def test_a_large_body_or_one_of_unknown_length_is_not_read(
    visitor: httpx.Client, federation: Federation
) -> None:
    before = count(federation, Refused.SIZE)
    assert visitor.post("/login", content=b"x" * 5000).status_code == 413
    assert visitor.post("/login", content=iter([b"token=x"])).status_code == 413
    with socket.create_connection((visitor.base_url.host, visitor.base_url.port or 80)) as plain:
        plain.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 00000000000005000\r\n\r\n")
        assert plain.recv(1000).startswith(b"HTTP/1.1 413")
    assert count(federation, Refused.SIZE) == before + 3


@pytest.mark.parametrize(("method", "path", "headers"), REQUESTS)
def test_every_reply_carries_the_policy_and_names_no_other_origin(
    operator: httpx.Client, method: str, path: str, headers: dict[str, str]
) -> None:
    body = b"x" * 5000 if headers.get("Content-Length") else None
    reply = operator.request(method, path, headers=headers, content=body)
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy == POLICY
    assert {name: reply.headers[name] for name in SECURITY} == SECURITY
    assert not [name for name in reply.headers if name.startswith("access-control-")]
    assert "server" not in reply.headers


def test_a_refusal_echoes_nothing_of_the_request(visitor: httpx.Client) -> None:
    mark = "<b>echo</b>"
    for reply in (
        visitor.get("/", headers={"Host": mark}),
        visitor.get("/", headers={"Origin": mark}),
        visitor.get(f"/{mark}"),
        visitor.get(f"/runbooks/{mark}"),
        visitor.post("/login", data={"token": mark}),
    ):
        assert "echo" not in reply.text


# ------------------------------------------------------------------------------------------------------------ privacy


def replies(operator: httpx.Client) -> Iterator[str]:
    """Every kind of reply, heads included."""
    for method, path, headers in REQUESTS:
        body = b"x" * 5000 if headers.get("Content-Length") else None
        reply = operator.request(method, path, headers=headers, content=body)
        yield str(reply.headers) + reply.text


def test_no_reply_holds_a_secret(operator: httpx.Client, federation: Federation, token: str) -> None:
    secrets = [
        path for path in federation.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077 == 0
    ]
    names = {path.name for path in secrets}
    assert {"console.token", "identity.key", "tls.pem"} <= names
    lines = {
        line
        for path in secrets
        if path.name in {"console.token", "identity.key", "tls.pem"}
        for line in path.read_text().splitlines()
        if len(line) > 30 and "---" not in line
    }
    assert token in lines
    for text in replies(operator):
        assert not [line for line in lines if line in text]
        assert str(federation.folder) not in text


def test_no_page_shows_what_only_a_member_may_know(operator: httpx.Client) -> None:
    """The words of the member's own metrics, which are computed on private data without noise."""
    private = re.compile(
        r"train(ing)?[ _]loss|clipped|corpus|units? trained|excluded|accepted", re.IGNORECASE
    )
    own = [
        name for job in ("sordino-member", "sordino-completion") for name in make_registries()[job].families
    ]
    coordinators = set(make_registries()["sordino-coordinator"].families)
    page = operator.get("/").text
    assert not private.search(page)
    assert not [name for name in own if name not in coordinators and name in page]


# ---------------------------------------------------------------------------------------------------- serving and TLS


def test_an_unchanged_page_is_not_sent_again(operator: httpx.Client) -> None:
    first = operator.get("/")
    again = operator.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code in {200, 304}  # the page says how long ago the last round was
    assert operator.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_console_stays_on_loopback_unless_it_speaks_tls(federation: Federation) -> None:
    with pytest.raises(ConfigurationError, match="unencrypted") as caught:
        Console(with_settings(federation, console="0.0.0.0:0"))
    assert "console_tls" in caught.value.hint


def test_a_port_that_is_taken_is_said(federation: Federation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUseError):
        Console(with_settings(federation, console=f"127.0.0.1:{taken.getsockname()[1]}"))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_files(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """The console's own certificate, and the authority of the operators' browsers."""
    pem, ca = tmp_path / "console.pem", tmp_path / "operators.pem"
    pem.touch(mode=0o600)
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    authority.cert_pem.write_to_path(ca)
    return {"console_tls": str(pem), "console_client_authority": str(ca)}


def browser(authority: trustme.CA, port: int, *, certificate: trustme.LeafCert | None = None) -> httpx.Client:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=30)


def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(
    federation: Federation, authority: trustme.CA, tls_files: dict[str, str], token: str
) -> None:
    serving = Console(with_settings(federation, console_tls=Path(tls_files["console_tls"])))
    with browser(authority, serving.port) as client:
        reply = client.post("/login", data={"token": token})
        assert reply.headers["set-cookie"].startswith("__Host-")
        assert "secure" in reply.headers["set-cookie"].lower()
        assert "max-age" in reply.headers["strict-transport-security"]
        assert client.get("/").status_code == 200
    serving.stop()


def test_with_an_authority_for_browsers_others_do_not_get_as_far_as_a_form(
    federation: Federation, authority: trustme.CA, tls_files: dict[str, str]
) -> None:
    serving = Console(with_settings(federation, **{name: Path(path) for name, path in tls_files.items()}))
    with browser(authority, serving.port, certificate=authority.issue_cert("operator@example.org")) as client:
        assert client.get("/").status_code == 401
    for certificate in (None, trustme.CA().issue_cert("operator@example.org")):
        with (
            browser(authority, serving.port, certificate=certificate) as client,
            pytest.raises(httpx.TransportError),
        ):
            client.get("/")
    serving.stop()


def test_certificates_that_cannot_be_used_are_said_at_the_start(
    federation: Federation, tmp_path: Path
) -> None:
    pem = tmp_path / "console.pem"
    pem.touch(mode=0o600)
    pem.write_text("no certificate\n")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Console(with_settings(federation, console_tls=pem))
    pem.chmod(0o644)
    with pytest.raises(ConfigurationError, match="other users"):
        Console(with_settings(federation, console_tls=pem))
    with pytest.raises(ConfigurationError, match="needs console_tls"):
        Console(with_settings(federation, console_client_authority=pem))
