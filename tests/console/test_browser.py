"""The console in Chromium: what a person sees, with what they see it by, and what the browser itself complains about.

`SORDINO_SCREENSHOTS` names a folder that keeps what was looked at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.console.conftest import ORGANISATIONS

from sordino_coordinator.console import Console
from sordino_coordinator.console.state import ConsoleState, StateReader
from sordino_coordinator.control.live import Doing
from sordino_coordinator.federation import Federation
from sordino_platform.offer import Unready
from sordino_platform.telemetry import log

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

DESKTOP, PHONE = (1280, 900), (390, 844)
LOOKS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium. The driver has no types in our lock: only `make test-browser` installs it."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no Chromium; on Debian: apt-get install chromium"
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        # Chromium's own sandbox needs a user that is not root; CI containers are root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


class Seen:
    """A page, and everything that the browser said about it."""

    def __init__(self, context: Any, address: str) -> None:
        self.page, self.address = context.new_page(), address
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _dialog(self, dialog: Any) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def sign_in(self, token: str) -> None:
        self.page.goto(self.address)
        self.page.wait_for_function("document.activeElement.id === 'token'")
        self.page.keyboard.type(token)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#verdict")
        self.said.clear()  # that the form comes with status 401


def look(
    chromium: Any,
    console: Console,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: str = "light",
    script: bool = True,
) -> Any:
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=script,
        device_scale_factor=2 if size is PHONE else 1,
    )
    return Seen(context, f"http://127.0.0.1:{console.port}/")


def keep(page: Any, name: str) -> None:
    if folder := os.environ.get("SORDINO_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def complaints(page: Any) -> list[str]:
    """What axe finds against WCAG 2.1 A and AA."""
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
    found = import_module("axe_playwright_python.sync_playwright").Axe().run(page, options=rules).response
    assert len(found["passes"]) > 5, "axe looked at nothing"
    return [f"{one['id']}: {node['html'][:120]}" for one in found["violations"] for node in one["nodes"]]


@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=lambda value: str(value))
def test_every_page_fits_its_screen_can_be_read_and_breaks_no_rule(
    chromium: Any, console: Console, token: str, size: tuple[int, int], scheme: str
) -> None:
    seen = look(chromium, console, size=size, scheme=scheme)
    seen.page.goto(seen.address)
    name = f"{size[0]}-{scheme}"
    pages = {"login": None, "page": seen.address, "runbook": f"{seen.address}runbooks/CertificateExpiring"}
    for what, address in pages.items():
        if address == seen.address:
            seen.sign_in(token)
        elif address:
            seen.page.goto(address)
        seen.page.wait_for_load_state(
            "load"
        )  # the style sheet too: without it a table is as wide as it likes
        width = seen.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], f"{what} is {width} pixels wide"
        assert complaints(seen.page) == [], what
        keep(seen.page, f"{what}-{name}")
    assert seen.said == []
    assert all(url.startswith(seen.address) for url in seen.asked)


def blocked(state: ConsoleState) -> ConsoleState:
    reasons = {"birch": Unready.BUDGET, "cedar": Unready.PAUSED}
    members = tuple(replace(one, unready=reasons.get(one.name)) for one in state.members)
    return replace(state, doing=Doing.WAITING, members=members)


def burning(state: ConsoleState) -> ConsoleState:
    aborted = state.rounds[-1]
    return replace(state, rounds=(*state.rounds, replace(aborted, round=aborted.round + 1)))


def expired(state: ConsoleState) -> ConsoleState:
    first, *others = state.endings
    return replace(state, endings=(replace(first, ends=state.at - timedelta(days=1)), *others))


@pytest.mark.parametrize(
    ("change", "title", "words"),
    [
        (lambda state: state, "Healthy: nothing to do", "no round is running"),
        (blocked, "Act now", "3 member(s) are ready and a round needs 4"),
        (burning, "Act now", "sordino coordinator pause"),
        (expired, "Act now", "Members cannot connect, or refuse to take part"),
    ],
    ids=["healthy", "blocked", "burning", "expired"],
)
def test_what_the_operator_must_act_on_stands_first_with_what_to_do(
    chromium: Any,
    console: Console,
    token: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    change: Callable[[ConsoleState], ConsoleState],
    title: str,
    words: str,
) -> None:
    honest = StateReader.read
    monkeypatch.setattr(StateReader, "read", lambda reader: change(honest(reader)))
    seen = look(chromium, console)
    seen.sign_in(token)
    seen.page.wait_for_selector(f"#verdict:has-text({json.dumps(words)})")
    assert title in seen.page.inner_text("#verdict")
    assert complaints(seen.page) == []
    keep(seen.page, request.node.callspec.id)
    assert seen.said == []


def test_hostile_names_run_nothing(chromium: Any, console: Console, token: str) -> None:
    seen = look(chromium, console)
    seen.sign_in(token)
    assert seen.said == []
    cells = seen.page.locator("#members tbody tr td:nth-child(2)").all_inner_texts()
    assert [" ".join(cell.split()) for cell in cells] == [
        " ".join(name.split()) for name in ORGANISATIONS.values()
    ]


def test_the_page_changes_by_itself_without_being_loaded_again(
    chromium: Any, console: Console, token: str, federation: Federation
) -> None:
    seen = look(chromium, console)
    seen.sign_in(token)
    seen.page.evaluate("window.mark = 'the same document'")
    assert federation.folder.exists()
    log().info("member_disconnected", member="elm", reason="lost")
    seen.page.wait_for_selector("#events li:has-text('elm went away')")
    seen.page.wait_for_selector("#figures:has-text('4 of 5 members')")
    assert seen.page.evaluate("window.mark") == "the same document"
    log().info("member_connected", member="elm")
    seen.page.wait_for_selector("#figures:has-text('5 of 5 members')")


def test_a_coordinator_that_is_gone_is_said(
    chromium: Any, federation: Federation, console: Console, token: str
) -> None:
    other = Console(federation)
    seen = look(chromium, other)
    seen.sign_in(token)
    seen.page.wait_for_selector("#live:has-text('live')")
    other.stop()
    seen.page.wait_for_selector("body.stale #live:has-text('does not answer')")


def test_everything_can_be_reached_by_keyboard(chromium: Any, console: Console, token: str) -> None:
    seen = look(chromium, console)
    seen.sign_in(token)
    reached = []
    for _ in range(12):
        seen.page.keyboard.press("Tab")
        reached.append(seen.page.evaluate("(document.activeElement.textContent || '').trim().slice(0, 24)"))
    assert reached[0] == "Skip to the content"
    assert {"sordino", "Sign out", "The figures", "All runbooks"} <= set(reached)


def test_without_script_the_page_is_whole(chromium: Any, console: Console, token: str) -> None:
    seen = look(chromium, console, script=False)
    seen.page.goto(seen.address)
    seen.page.fill("#token", token)
    seen.page.click("button")
    seen.page.wait_for_selector("#verdict")  # a click does not wait for the page that it leads to
    for name in (
        "verdict",
        "figures",
        "round",
        "loss",
        "members",
        "certificates",
        "rounds",
        "releases",
        "audit",
    ):
        assert seen.page.locator(f"#{name}").is_visible(), name


def test_a_session_that_ended_leads_back_to_the_form(chromium: Any, console: Console, token: str) -> None:
    seen = look(chromium, console)
    seen.sign_in(token)
    seen.page.context.clear_cookies()
    seen.page.wait_for_selector("#token")
