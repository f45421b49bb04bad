"""A page of the console in Chromium, and what a person and the browser itself would say of it.

`SORDINO_SCREENSHOTS` names a folder that keeps what was looked at.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from sordino_coordinator.console import Console

DESKTOP, PHONE = (1280, 900), (390, 844)


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
        self.page.wait_for_selector(
            "#token:focus"
        )  # a function would be evaluated in the page, which its policy forbids
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
