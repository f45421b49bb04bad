"""The documentation site and its first page, the README, in Chromium: at a desk and on a phone.

It stands with the console's tests because it needs the same browser. `make test-browser` builds the site first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.console.browsing import DESKTOP, PHONE, keep

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
SITE = Path(__file__).resolve().parents[2] / "build" / "site"
NOT_LOADED = "[...document.images].filter(one => !(one.complete && one.naturalWidth)).map(one => one.src)"
TOO_WIDE = """
() => document.documentElement.scrollWidth <= window.innerWidth ? []
    : [...document.querySelectorAll("main *")].filter(one => one.getBoundingClientRect().right > window.innerWidth + 1)
        .map(one => one.outerHTML.slice(0, 120)).slice(0, 5)
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    assert (SITE / "index.html").exists(), "the site is not built: make docs"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def pages() -> list[str]:
    return sorted(str(path.parent.relative_to(SITE)) for path in SITE.rglob("index.html"))


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=str)
def test_every_page_fits_its_screen_shows_its_pictures_and_asks_nobody_else(
    chromium: Any, site: str, size: tuple[int, int]
) -> None:
    page = chromium.new_context(viewport={"width": size[0], "height": size[1]}).new_page()
    said, asked = list[str](), list[str]()
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    found = {}
    for name in pages():
        page.goto(f"{site}{name}/", wait_until="load")
        if wrong := [*page.evaluate(TOO_WIDE), *page.evaluate(NOT_LOADED)]:
            found[name] = wrong
        if name in (".", "start", "guides/operator", "reference/settings"):
            keep(page, f"site-{name.replace('/', '-').strip('.') or 'readme'}-{size[0]}")
    assert not found
    assert not said
    assert not [url for url in asked if not url.startswith((site, "data:"))]
    page.context.close()


def test_a_newcomer_finds_on_the_first_page_what_it_is_for_whom_and_where_it_ends(
    chromium: Any, site: str
) -> None:
    page = chromium.new_context(viewport={"width": PHONE[0], "height": PHONE[1]}).new_page()
    page.goto(site)
    sources = page.locator("article img").evaluate_all("all => all.map(one => one.src)")
    pictures = [source.rpartition("/")[2] for source in sources]
    assert pictures[:3] == ["whole.svg", "ghost-text.gif", "demo.gif"]
    text = page.inner_text("article")
    order = [
        text.index(words) for words in ("Companies train one", "Is it for you?", "Honest limits", "Try it")
    ]
    assert order == sorted(order)
    headings = page.locator("article table").first.locator("th").all_inner_texts()
    assert headings == ["you are", "what you gain, as measured", "what it costs you"]
    page.context.close()
