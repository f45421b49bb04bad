"""Signing in to the console by a provider: authorization code with PKCE, and every answer that must sign nobody in.

The console is real; the provider is in the test's hand, so that it can be evil.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trustme
from tests.console.test_http import with_settings
from tests.coordinator.issuer import CLIENT, SUBJECT, Issuer

from sordino_coordinator.console import TOKEN_FILE, Console
from sordino_coordinator.control.audit import Action, newest
from sordino_coordinator.federation import Federation
from sordino_coordinator.oidc.settings import OidcSettings

URL = "https://console.example"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.stop()


@pytest.fixture
def browser(federation: Federation, issuer: Issuer) -> Iterator[httpx.Client]:
    """A browser at a console that has a provider."""
    yield from at(federation, issuer)


def at(federation: Federation, issuer: Issuer, **changed: Any) -> Iterator[httpx.Client]:
    settings = OidcSettings(**issuer.settings(console_url=URL, **changed))
    serving = Console(with_settings(federation, oidc=settings))
    with httpx.Client(base_url=f"http://127.0.0.1:{serving.port}", timeout=60) as client:
        yield client
    serving.stop()


def begun(browser: httpx.Client) -> dict[str, str]:
    """Begins a sign-in; what the browser is sent to the provider with."""
    reply = browser.get("/oidc/login")
    assert reply.status_code == 303, reply.text
    return {name: values[0] for name, values in parse_qs(urlsplit(reply.headers["location"]).query).items()}


def answer(issuer: Issuer, asked: dict[str, str], kid: str = "ec", **changed: Any) -> None:
    """Makes the provider's token endpoint give this ID token."""
    said = {"aud": CLIENT, "nonce": asked["nonce"], "groups": ["sordino-readers"], **changed}
    issuer.token = {"id_token": issuer.issue(kid, **said), "token_type": "Bearer", "access_token": "opaque"}


def back(browser: httpx.Client, asked: dict[str, str], **changed: str) -> httpx.Response:
    return browser.get("/oidc/callback", params={"code": "c0de", "state": asked["state"], **changed})


def signed_in(browser: httpx.Client) -> bool:
    return browser.get("/").status_code == 200


def test_a_reader_of_the_provider_is_signed_in_and_the_audit_log_names_them(
    browser: httpx.Client, issuer: Issuer, federation: Federation
) -> None:
    asked = begun(browser)
    answer(issuer, asked)
    reply = back(browser, asked)
    assert reply.status_code == 200
    assert 'content="0; url=/"' in reply.text
    assert signed_in(browser)
    (entry,) = newest(federation.folder, last=1)
    assert (entry.action, entry.by) == (Action.CONSOLE_OPENED, f"console:{SUBJECT}")


def test_the_code_is_asked_for_and_redeemed_with_pkce_and_one_exact_address(
    browser: httpx.Client, issuer: Issuer
) -> None:
    asked = begun(browser)
    answer(issuer, asked)
    back(browser, asked, next="https://evil.example", redirect_uri="https://evil.example")
    form = issuer.forms[-1]
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == form["redirect_uri"] == f"{URL}/oidc/callback"
    assert (asked["response_type"], asked["scope"], asked["client_id"]) == ("code", "openid", CLIENT)
    assert len({begun(browser)[name] for name in ("state", "nonce", "code_challenge")}) == 3


def test_the_sign_ins_cookie_is_lax_the_sessions_is_strict_and_neither_is_for_scripts(
    browser: httpx.Client, issuer: Issuer
) -> None:
    reply = browser.get("/oidc/login")
    (begin,) = reply.headers.get_list("set-cookie")
    asked = {name: v[0] for name, v in parse_qs(urlsplit(reply.headers["location"]).query).items()}
    answer(issuer, asked)
    session, ended = back(browser, asked).headers.get_list("set-cookie")
    assert "samesite=lax" in begin.lower()
    assert "samesite=strict" in session.lower()
    assert all("httponly" in cookie.lower() for cookie in (begin, session))
    assert "max-age=0" in ended.lower()  # the sign-in's own cookie goes with it
    for secret in (asked["state"], asked["nonce"], issuer.forms[-1]["code_verifier"]):
        assert secret not in begin  # sealed


def test_a_persons_session_ends_with_their_minutes_however_much_it_is_used_and_the_tokens_does_not(
    federation: Federation, issuer: Issuer
) -> None:
    """Groups are looked at when somebody signs in: this is how long a right outlives its loss."""
    now, settings = [1000.0], OidcSettings(**issuer.settings(console_url=URL, session_minutes=20))
    serving = Console(with_settings(federation, oidc=settings), clock=lambda: now[0])
    token = (federation.folder / TOKEN_FILE).read_text().strip()
    address = f"http://127.0.0.1:{serving.port}"
    with httpx.Client(base_url=address, timeout=60) as person, httpx.Client(base_url=address) as holder:
        asked = begun(person)
        assert "after 20 minutes" in person.get("/").text, "the form says so"
        answer(issuer, asked)
        session = back(person, asked).headers.get_list("set-cookie")[0]
        assert "max-age=1200" in session.lower()
        assert holder.post("/login", data={"token": token}).status_code == 303
        for now[0] in (1600.0, 2199.0):
            assert signed_in(person)
            assert signed_in(holder)
        now[0] = 2200.0
        person.cookies.set(*session.partition(";")[0].split("="))  # a browser that keeps it for longer
        assert not signed_in(person)
        assert signed_in(holder)
        asked = begun(person)
        answer(issuer, asked, groups=["another-team"])
        assert back(person, asked).status_code == 403, "who lost the group meanwhile does not come back"
    serving.stop()


def test_over_tls_both_cookies_are_secure_and_bound_to_the_host(
    federation: Federation, issuer: Issuer, tmp_path: Path
) -> None:
    authority = trustme.CA()
    pem = tmp_path / "console.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    pem.chmod(0o600)
    settings = OidcSettings(**issuer.settings(console_url=URL))
    serving = Console(with_settings(federation, oidc=settings, console_tls=pem))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    import ssl

    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with httpx.Client(base_url=f"https://127.0.0.1:{serving.port}", verify=trust, timeout=60) as browser:
        reply = browser.get("/oidc/login")
        (begin,) = reply.headers.get_list("set-cookie")
        asked = {name: v[0] for name, v in parse_qs(urlsplit(reply.headers["location"]).query).items()}
        answer(issuer, asked)
        session = back(browser, asked).headers.get_list("set-cookie")[0]
    serving.stop()
    for cookie in (begin, session):
        assert cookie.startswith("__Host-sordino-")
        assert {"secure", "httponly", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}


def test_an_answer_that_was_given_before_signs_nobody_in(browser: httpx.Client, issuer: Issuer) -> None:
    asked = begun(browser)
    answer(issuer, asked)
    cookies = dict(browser.cookies)
    assert back(browser, asked).status_code == 200
    redeemed = len(issuer.forms)
    browser.cookies.clear()
    for name, value in cookies.items():
        browser.cookies.set(name, value, domain="127.0.0.1")
    assert back(browser, asked).status_code == 403
    assert len(issuer.forms) == redeemed, "the code was not even sent to the provider"
    assert not signed_in(browser)


def test_an_answer_to_another_browser_signs_nobody_in(browser: httpx.Client, issuer: Issuer) -> None:
    """Login CSRF: the attacker's own answer, opened in the victim's browser, with or without a sign-in of its own."""
    theirs = begun(browser)
    answer(issuer, theirs)
    browser.cookies.clear()
    assert back(browser, theirs).status_code == 403
    begun(browser)
    assert back(browser, theirs).status_code == 403
    assert not signed_in(browser)


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "sordino-api"},
        {"aud": [CLIENT, "another"]},
        {"azp": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"sub": None},
    ],
)
def test_an_id_token_of_another_sign_in_party_or_time_signs_nobody_in(
    browser: httpx.Client, issuer: Issuer, changed: dict[str, Any]
) -> None:
    asked = begun(browser)
    answer(issuer, asked, **changed)
    assert back(browser, asked).status_code == 403
    assert not signed_in(browser)


def test_an_unsigned_id_token_signs_nobody_in(browser: httpx.Client, issuer: Issuer) -> None:
    asked = begun(browser)
    answer(issuer, asked)
    _, claims, _ = issuer.token["id_token"].split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    issuer.token = {"id_token": f"{header}.{claims}."}
    assert back(browser, asked).status_code == 403
    assert not signed_in(browser)


@pytest.mark.parametrize(
    "query",
    [
        "code=c0de",
        "code=c0de&state=",
        "code=c0de&state={state}&state={state}",
        "code=c0de&code=other&state={state}",
        "state={state}",
        "state={state}&error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E",
        "code=c0de&state={state}&iss=https%3A%2F%2Fevil.example",
        "code=c0de&state={state}&" + "x" * 9000 + "=1",
        "code=c0de&state={state}&" + "&".join(f"f{number}=1" for number in range(40)),
        "",
    ],
)
def test_a_crooked_answer_signs_nobody_in_and_is_not_echoed(
    browser: httpx.Client, issuer: Issuer, query: str
) -> None:
    asked = begun(browser)
    answer(issuer, asked)
    reply = browser.get("/oidc/callback?" + query.format(state=asked["state"]))
    assert reply.status_code == 403
    assert "alert(1)" not in reply.text
    assert not signed_in(browser)


def test_who_is_in_no_listed_group_is_not_signed_in(browser: httpx.Client, issuer: Issuer) -> None:
    asked = begun(browser)
    answer(issuer, asked, groups=["all-staff"])
    reply = back(browser, asked)
    assert (reply.status_code, "groups" in reply.text) == (403, True)
    assert not signed_in(browser)


@pytest.mark.parametrize(
    "token", [b"no JSON", {}, {"id_token": 7}, {"id_token": "x" * 20_000}, b"x" * (300 << 10)]
)
def test_a_provider_that_gives_no_id_token_signs_nobody_in(
    browser: httpx.Client, issuer: Issuer, token: Any
) -> None:
    asked = begun(browser)
    issuer.token = token
    assert back(browser, asked).status_code in (403, 503)
    assert not signed_in(browser)


def test_where_a_browser_is_sent_never_depends_on_its_request(browser: httpx.Client, issuer: Issuer) -> None:
    reply = browser.get("/oidc/login?redirect_uri=https://evil.example&next=//evil.example")
    assert reply.headers["location"].startswith(f"{issuer.url}/authorize?")
    assert "evil" not in reply.headers["location"]
    assert browser.get("/oidc/login", headers={"Host": "evil.example"}).status_code == 421


def test_the_token_stays_a_way_in_beside_the_provider_and_when_it_is_gone(
    federation: Federation, issuer: Issuer
) -> None:
    gone = Issuer()
    gone.stop()
    for browser in at(federation, gone):
        assert browser.get("/oidc/login").status_code == 503
        token = (federation.folder / TOKEN_FILE).read_text().strip()
        assert browser.post("/login", data={"token": token}).status_code == 303
        assert signed_in(browser)


def test_a_token_that_is_switched_off_opens_nothing(federation: Federation, issuer: Issuer) -> None:
    for browser in at(federation, issuer, static_tokens=False):
        form = browser.get("/").text
        assert "/oidc/login" in form
        assert 'action="/login"' not in form
        for token in ((federation.folder / TOKEN_FILE).read_text().strip(), "", "None"):
            assert browser.post("/login", data={"token": token}).status_code == 403
        assert not signed_in(browser)


def test_without_a_provider_there_is_no_such_route(operator: httpx.Client) -> None:
    assert operator.get("/oidc/login").status_code == 404
    assert operator.get("/oidc/callback").status_code == 404
