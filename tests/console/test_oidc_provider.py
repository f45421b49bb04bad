"""A real OpenID Connect provider (Canaille), a process of its own, signs people in at the console and for the API.

Passwords are typed into the provider's own forms. Left out where `make provider` did not install it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from tests.console.browsing import DESKTOP, PHONE, complaints, keep, look
from tests.console.test_http import with_settings
from tests.coordinator.api_client import Operator
from tests.ports import free_port

from sordino_coordinator.console import Console
from sordino_coordinator.control.audit import Action, newest
from sordino_coordinator.federation import Federation
from sordino_coordinator.oidc.settings import OidcSettings

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SORDINO_PROVIDER_PYTHON", ROOT / ".venv-provider/bin/python"))
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no provider is installed: `make provider`")
PASSWORD, SECRET = "correct horse battery staple", "the console's secret at the provider"


@pytest.fixture(scope="module")
def console_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def issuer(console_port: int) -> Iterator[str]:
    port = free_port()
    script = ROOT / "tests/coordinator/real_provider.py"
    redirect = f"http://127.0.0.1:{console_port}/oidc/callback"
    with subprocess.Popen(
        [PYTHON, script, str(port), redirect], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as provider:
        assert provider.stdout is not None
        assert provider.stdout.readline() == "ready\n"
        yield f"http://localhost:{port}"
        provider.terminate()


@pytest.fixture
def settings(issuer: str, console_port: int, tmp_path: Path) -> OidcSettings:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    return OidcSettings(
        issuer=issuer, client_id="sordino-console", client_secret=secret, audience="sordino-api",
        console_url=f"http://127.0.0.1:{console_port}", operators=["sordino-operators"],
        scopes=["openid", "groups"],
    )  # fmt: skip


def types(browser: httpx.Client, reply: httpx.Response, person: str, until: str) -> httpx.Response:
    """Follows redirects and fills in the provider's forms, as a person does, until it is sent to `until`."""
    for _ in range(12):
        if reply.is_redirect:
            place = reply.url.join(reply.headers["location"])
            if str(place).startswith(until):
                return reply
            reply = browser.get(place)
            continue
        hidden = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', reply.text)
        form = {"csrf_token": hidden[1]} if hidden else {}
        if 'name="password"' in reply.text:
            form["password"] = PASSWORD
        elif 'name="login"' in reply.text:
            form["login"] = person
        else:
            form["answer"] = "accept"
        reply = browser.post(reply.url, data=form)
    raise AssertionError("the provider's forms never came to an end")


@pytest.mark.parametrize(("person", "status"), [("olga", 200), ("rolf", 403)])
def test_a_person_signs_in_at_the_console_with_the_companys_password_if_their_group_may(
    federation: Federation, settings: OidcSettings, console_port: int, person: str, status: int
) -> None:
    serving = Console(with_settings(federation, oidc=settings, console=f"127.0.0.1:{console_port}"))
    with closing(SimpleNamespace(close=serving.stop)), httpx.Client(timeout=60) as browser:
        begun = browser.get(f"{settings.console_url}/oidc/login")
        sent_back = types(browser, begun, person, until=settings.redirect_uri)
        ended = browser.get(sent_back.headers["location"])
        assert ended.status_code == status, ended.text
        assert browser.get(f"{settings.console_url}/").status_code == (200 if status == 200 else 401)
        again = browser.get(sent_back.headers["location"])
        assert again.status_code == 403, "an answer is good once"
    if status == 200:
        (entry,) = newest(federation.folder, last=1)
        assert (entry.action, entry.by) == (Action.CONSOLE_OPENED, "console:olga")


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=str)
def test_a_person_clicks_the_link_types_their_password_sees_the_console_and_signs_out(
    chromium: Any, federation: Federation, settings: OidcSettings, console_port: int, size: tuple[int, int]
) -> None:
    serving = Console(with_settings(federation, oidc=settings, console=f"127.0.0.1:{console_port}"))
    with closing(SimpleNamespace(close=serving.stop)):
        seen = look(chromium, serving, size=size)
        page = seen.page
        page.goto(seen.address)
        assert complaints(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        keep(page, f"oidc-form-{size[0]}")
        page.click("text=Sign in with your company's account")
        page.fill("[name=login]", "olga")
        page.keyboard.press("Enter")
        page.fill("[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("#verdict")  # by way of a page of our own: see signing_in
        assert page.url == seen.address, "no code and no state stays in the address"
        keep(page, f"oidc-console-{size[0]}")
        page.click("text=Sign out")
        page.wait_for_selector("text=Sign in with your company's account")
        page.goto(seen.address)
        assert page.locator("#verdict").count() == 0
        # The provider still knows the browser: one click, and no password.
        page.click("text=Sign in with your company's account")
        page.wait_for_selector("#verdict")
        page.context.close()


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_a_person_whose_groups_may_not_is_told_so_and_sees_nothing(
    chromium: Any, federation: Federation, settings: OidcSettings, console_port: int
) -> None:
    serving = Console(with_settings(federation, oidc=settings, console=f"127.0.0.1:{console_port}"))
    with closing(SimpleNamespace(close=serving.stop)):
        seen = look(chromium, serving)
        page = seen.page
        page.goto(seen.address)
        page.click("text=Sign in with your company's account")
        page.fill("[name=login]", "rolf")
        page.keyboard.press("Enter")
        page.fill("[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("#problem:has-text('none of your groups may read here')")
        assert page.get_attribute("#token", "aria-invalid") is None, "nobody typed a token"
        assert complaints(page) == []
        keep(page, "oidc-refused")
        page.context.close()


def api_token(settings: OidcSettings, person: str) -> str:
    """An access token for the API, as a command-line tool of the operator's would get it."""
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code", "client_id": "sordino-cli", "redirect_uri": settings.redirect_uri, "state": "s",
        "scope": "openid groups", "code_challenge": challenge, "code_challenge_method": "S256", "nonce": "n",
    }  # fmt: skip
    with httpx.Client(timeout=60) as browser:
        reply = browser.get(f"{settings.issuer}/oauth/authorize", params=asked)
        back = types(browser, reply, person, until=settings.redirect_uri).headers["location"]
        form = {
            "grant_type": "authorization_code", "code": httpx.URL(back).params["code"], "client_id": "sordino-cli",
            "redirect_uri": settings.redirect_uri, "code_verifier": verifier,
        }  # fmt: skip
        said: dict[str, Any] = browser.post(f"{settings.issuer}/oauth/token", data=form).json()
    return str(said["access_token"])


def test_an_operator_orders_through_the_api_with_a_token_of_the_provider_and_others_do_not(
    federation: Federation, settings: OidcSettings
) -> None:
    operator = Operator(federation.folder, oidc=settings)
    token = api_token(settings, "olga")
    assert operator.ask("GET", "/v1/status", token=token)[0] == 200
    assert operator.ask("POST", "/v1/pause", b"{}", token=token)[1]["paused"] is True
    assert operator.ask("POST", "/v1/resume", b"{}", token=token)[1]["paused"] is False
    assert newest(federation.folder, last=1)[0].by == "api:olga"
    assert operator.ask("POST", "/v1/pause", b"{}", token=api_token(settings, "rolf"))[0] == 403
    assert operator.ask("GET", "/v1/status", token=token[:-6] + "AAAAAA")[0] == 401
    operator.server.stop()
