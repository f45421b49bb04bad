"""The project's runbooks as pages: the person on call has them beside the alert, without a network.

Rendered from docs/runbooks by markdown-it with raw HTML off. A wheel carries a copy; a checkout reads the originals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from sordino_privacy.errors import StorageError


def read_runbooks() -> Mapping[str, Markup]:
    """Every runbook as HTML by its name, `README` among them. Raises StorageError when the installation lacks them."""
    shipped = Path(str(files("sordino_coordinator.console"))) / "runbooks"
    folder = shipped if shipped.is_dir() else Path(__file__).parents[3] / "docs" / "runbooks"
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    if not texts:
        raise StorageError(f"the runbooks are missing from {folder}", hint="install sordino anew")
    return {name: render(text, set(texts)) for name, text in texts.items()}


def render(text: str, known: set[str]) -> Markup:
    """One page. Links to other runbooks lead to their pages; links to other documents keep their text only."""

    def target(link: re.Match[str]) -> str:
        name = link["name"]
        return f"[{link['text']}](/runbooks/{name})" if name in known else link["text"]

    text = re.sub(r"\[(?P<text>[^\]]+)\]\((?:[\w./-]*/)?(?P<name>[\w-]+)\.md(?:#[\w-]*)?\)", target, text)
    # commonmark with html off: whatever looks like a tag is shown as text.
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return Markup(html)  # noqa: S704 - our own documents through an escaping renderer
