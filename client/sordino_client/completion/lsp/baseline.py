"""Keeps what a document was before the change that is being made in it. Pure.

A change goes on while the same line is edited; a line that comes or goes ends it, and so does an edit of several
places at once. The VS Code extension keeps the same (client/vscode/src/edits/baseline.ts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sordino_client.completion.edits.change import BREAK


@dataclass(frozen=True, slots=True)
class Edit:
    """`removed` characters at `offset` became `text`."""

    offset: int
    removed: int
    text: str = field(repr=False)


@dataclass(slots=True)
class Baseline:
    """`before` is the text that the change began with, `after` the text as it is."""

    after: str = field(repr=False)
    before: str = field(repr=False, default="")
    line: int | None = None

    def __post_init__(self) -> None:
        self.before = self.after

    def edited(self, edits: Sequence[Edit], after: str) -> None:
        """The document was edited to `after`."""
        now, self.after = self.after, after
        one = edits[0] if len(edits) == 1 else None
        if one is None or BREAK.search(one.text + now[one.offset : one.offset + one.removed]):
            self.before, self.line = after, None
            return
        line = now.count("\n", 0, one.offset)
        if line != self.line:
            self.before, self.line = now, line
