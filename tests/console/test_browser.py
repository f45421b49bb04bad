"""The console in Chromium: what a person sees, what they see it by, and what the browser itself complains about."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.console.browsing import DESKTOP, PHONE, complaints, keep, look
from tests.console.conftest import ORGANISATIONS

from sordino_coordinator.console import Console
from sordino_coordinator.console.state import ConsoleState, StateReader
from sordino_coordinator.control.live import Doing
from sordino_coordinator.federation import Federation
from sordino_platform.offer import Unready
from sordino_platform.telemetry import log

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

LOOKS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]


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
