"""What the page shows, and what a hostile name in it cannot do."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser

import httpx
import pytest
from tests.console.conftest import ORGANISATIONS

from sordino_coordinator.console import Console
from sordino_coordinator.console.curve import curve, nice
from sordino_coordinator.console.runbooks import read_runbooks, render
from sordino_coordinator.console.shown import FIRST, environment, part_of, view
from sordino_coordinator.console.state import StateReader
from sordino_coordinator.control.audit import newest
from sordino_coordinator.federation import Federation
from sordino_coordinator.metrics import WORDS, Dropped
from sordino_coordinator.noted import note_epsilon
from sordino_coordinator.rounds import RoundRecord
from sordino_platform.telemetry import follow_log, log

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """The page's elements, and the text of each section by its id."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id") or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        for _, name in self._open:
            if name:
                self.sections[name] = self.sections.get(name, "") + data

    def section(self, name: str) -> str:
        return " ".join(self.sections[name].split())


@pytest.fixture
def page(operator: httpx.Client) -> Page:
    return Page(operator.get("/").text)


def test_the_head_says_how_the_federation_is_and_what_happened_last(page: Page) -> None:
    verdict = page.section("verdict")
    assert verdict.startswith("Healthy: nothing to do Round 2 completed")
    assert "Round 3, the newest, made no release: aborted dropouts" in verdict
    assert "5 of 5 members are connected" in verdict


def test_every_round_stands_in_the_table_with_its_outcome_and_who_left(page: Page) -> None:
    rounds = page.section("rounds")
    assert "of the last 3: 2 completed, 1 aborted dropouts" in rounds
    assert "elm (timeout)" in rounds
    assert "3 of 3 survivors uploaded, below the floor of 4" in rounds


def test_the_funnel_shows_where_members_were_lost(page: Page) -> None:
    funnel = page.section("round")
    assert "Round 3 aborted dropouts" in funnel
    assert "5 of 5" in funnel
    assert "3 of 5" in funnel
    assert "cedar (timeout in masked input), elm (timeout in masked input)" in funnel


def test_who_left_a_round_is_told_with_a_reason_in_words(page: Page, federation: Federation) -> None:
    events, _ = follow_log(federation.folder / "events.jsonl")
    left = [event["error"] for event in events if event["event"] == "member_dropped"]
    assert len(left) >= 3  # the silent ones; a silent member says nothing of itself
    assert all(left)
    assert f"round 3 goes on without elm: timeout ({WORDS[Dropped.TIMEOUT]})" in page.section("events")
    assert set(WORDS) == set(Dropped)


def test_the_loss_is_that_of_the_signed_releases(page: Page, federation: Federation) -> None:
    text = page.section("loss")
    for signed in federation.releases.chain():
        loss = signed.manifest.heldout_loss
        assert loss is not None
        assert f"release {signed.manifest.number}: {loss:.4f}" in text
    charts = [attributes for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert len(charts) == 2  # one for wide screens, one for narrow ones
    assert all("nats per token" in (chart["aria-label"] or "") for chart in charts)


def test_budgets_certificates_and_releases_are_shown_with_their_units(
    page: Page, federation: Federation
) -> None:
    assert "2.62 of 8 (33 %)" in page.section("members")  # three rounds were charged
    assert "at delta 1e-06" in page.section("members")
    assert "valid for 29 days" in page.section("certificates")
    head = federation.releases.head()
    assert head.hash().hex()[:16] in page.section("releases")
    assert "round 2, 4 members" in page.section("releases")


def test_the_newest_entries_of_the_audit_log_are_shown_newest_first(
    page: Page, federation: Federation
) -> None:
    entries = newest(federation.folder, last=3)
    assert [entry.sequence for entry in entries] == [3, 2, 1]
    text = page.section("audit")
    assert text.index(entries[0].detail) < text.index(entries[2].detail)
    assert "round aborted" in text


def test_where_noise_comes_in_shares_the_second_epsilon_stands_beside_the_first(
    federation: Federation, console: Console
) -> None:
    name = federation.charter.members[0].name
    federation.rounds.note_member(name, certificate_expires=time.time() + 1e6)
    note_epsilon(federation, name, 1.25, 17.5)
    with closing(StateReader(federation)) as reader:
        state = reader.read()
        assert state.noise_shares == 1
        local = environment().get_template("page.html").render(**view(state, part_of({}), []))
        shares = replace(state, noise_shares=3)
        shared = environment().get_template("page.html").render(**view(shares, part_of({}), []))
    assert "local epsilon as each chose" in Page(local).section("members")
    said = Page(shared).section("members")
    assert "as the federation holds" in said
    assert "if all others collude with the coordinator" in said
    assert "1.25 of 8" in said
    assert "17.50 if all others collude" in said
    note_epsilon(federation, name, 2.0)
    (kept,) = [one for one in federation.rounds.members() if one.name == name]
    assert (kept.epsilon, kept.epsilon_if_others_collude) == (2.0, None), (
        "no older number stays beside a newer one"
    )


def test_a_thousand_members_come_in_pages_and_no_list_of_names_is_long(
    federation: Federation, console: Console
) -> None:
    with closing(StateReader(federation)) as reader:
        state = reader.read()
    names = [f"member-{number:04d}" for number in range(1000)]
    spent = 0.95 * state.epsilon_budget
    members = tuple(replace(state.members[0], name=name, epsilon=spent) for name in names)
    left = replace(reader_row(federation), dropped=dict.fromkeys(names[:330], "timeout"), departed=330)
    crowd = replace(state, members=members)
    shown = view(crowd, part_of({"members": "3", "before": "9000"}), [left])
    text = environment().get_template("page.html").render(**shown)
    page = Page(text)
    assert "member-0100" in page.section("members")
    assert "member-0149" in page.section("members")
    assert "member-0150" not in page.section("members")
    assert "page 3 of 20" in page.section("members")
    links = [attributes.get("href") for tag, attributes in page.tags if tag == "a"]
    assert {
        "/?members=2&before=9000#members",
        "/?members=4&before=9000#members",
        "/?members=3#rounds",
    } <= set(links)
    assert "member-0004 (timeout) and 325 more" in page.section("rounds")
    assert "and 995 more: more than 90%" in page.section("verdict")
    assert len(text) < 100_000


def test_an_address_asks_for_a_part_or_is_taken_as_the_first(operator: httpx.Client) -> None:
    assert part_of({"members": "2; drop", "before": "-1"}) == part_of({"members": "0" * 99}) == FIRST
    older = operator.get("/?before=3").text
    assert "Rounds before round 3" in older
    assert "below the floor" not in Page(older).section("rounds"), "that is round 3"
    assert operator.get("/?members=999&before=999999999").status_code == 200
    first = operator.get("/?before=1")
    assert "The newest rounds" in first.text, "a page of no rounds leads back"


def reader_row(federation: Federation) -> RoundRecord:
    return federation.rounds.rounds(last=1)[0]


def test_a_hostile_organisation_is_shown_as_text_and_makes_no_element(page: Page) -> None:
    members = page.section("members")
    for organisation in ORGANISATIONS.values():
        assert " ".join(organisation.split()) in members
    tags = {tag for tag, _ in page.tags}
    assert "img" not in tags
    assert not [
        name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"
    ]
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts == [{"src": "/console.js", "defer": None}]


def test_a_hostile_line_in_the_log_is_shown_as_text_or_not_at_all(
    operator: httpx.Client, federation: Federation
) -> None:
    hostile = "</li><script>alert(3)</script>"
    log().warning("member_dropped", round=3, phase="unmask", member=hostile, reason=hostile, error=hostile)
    with (federation.folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": hostile, "timestamp": hostile, "level": hostile}) + "\n")
        file.write(
            json.dumps({"event": "epsilon", "member": "alder", "epsilon": 0, "timestamp": hostile}) + "\n"
        )
    for _ in range(40):
        text = operator.get("/").text
        if "alert(3)" in text:
            break
    shown = Page(text)
    assert hostile in shown.section("events")
    assert [attributes for tag, attributes in shown.tags if tag == "script"] == [
        {"src": "/console.js", "defer": None}
    ]


def test_the_page_is_whole_without_script_and_asks_for_nothing_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), (tag, attributes)
    refresh = [attributes for tag, attributes in page.tags if attributes.get("http-equiv") == "refresh"]
    assert len(refresh) == 1


def test_every_table_and_section_has_a_name_for_a_screen_reader(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        if tag == "section":
            assert attributes.get("aria-label") or attributes.get("aria-labelledby") in ids
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}
    assert sum(tag == "table" for tag, _ in page.tags) == sum(tag == "caption" for tag, _ in page.tags)
    assert sum(tag == "h1" for tag, _ in page.tags) == 1


def test_every_runbook_is_served_and_links_to_the_others(operator: httpx.Client) -> None:
    for name in read_runbooks():
        reply = operator.get(f"/runbooks/{name}")
        assert reply.status_code == 200
        links = [attributes["href"] or "" for tag, attributes in Page(reply.text).tags if tag == "a"]
        for link in links:
            assert link.startswith(("/", "#", "https://")), link
            if link.startswith("/"):
                assert operator.get(link).status_code == 200, link


def test_a_runbook_s_markup_cannot_become_an_element() -> None:
    made = render(
        "<script>alert(1)</script> [x](javascript:alert(1)) [y](Known.md) [z](Unknown.md)", {"Known"}
    )
    assert "<script>" not in made
    assert '<a href="javascript' not in made
    assert '<a href="/runbooks/Known">y</a> z' in made


# --------------------------------------------------------------------------------------------------------- the curve


def test_a_curve_lies_within_its_axes_and_keeps_the_order() -> None:
    points = [(number, 3.3 - 0.01 * number) for number in range(40)]
    drawn = curve(points, width=720, height=240)
    assert drawn is not None
    assert len(drawn.dots) == 40
    assert all(drawn.x0 <= x <= drawn.x1 and drawn.y1 <= y <= drawn.y0 for x, y in drawn.dots)
    assert [y for _, y in drawn.dots] == sorted(y for _, y in drawn.dots)
    assert (drawn.x_ticks[0].label, drawn.x_ticks[-1].label) == ("0", "39")
    assert all(b.at - a.at >= 30 for a, b in zip(drawn.x_ticks, drawn.x_ticks[1:], strict=False))


def test_fewer_than_two_points_are_no_curve() -> None:
    assert curve([], width=1, height=1) is None
    assert curve([(0, 1.0)], width=1, height=1) is None


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.0), (3.3, 3.3), (3.29231, 3.3085), (0.0, 1000.0), (1e-9, 2e-9), (5.0, 5.0001)]
)
def test_ticks_are_round_few_and_enclose_what_is_shown(low: float, high: float) -> None:
    ticks = nice(low, high)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))
