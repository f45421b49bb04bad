"""What happened to each suggestion: shown, accepted whole or in part, dismissed. The same rules as in our VS Code
extension (ghost/outcome.ts). Pure but for the timer that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from sordino_client.completion.lsp.baseline import Edit

# A suggestion counts as shown after this time: one that flickers by between two keys was not seen.
SEEN_SECONDS: Final = 0.25

Happening = Literal["view", "select", "dismiss", "partial", "typed"]
Emit = Callable[[Happening, str, int], None]
Later = Callable[[float, Callable[[], None]], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class _Standing:
    """The rest of a suggestion that the editor was given and that has not been typed yet."""

    document: str
    offset: int
    id: str
    text: str = field(repr=False)
    seen: bool = False


class Outcomes:
    """`emit` takes what happened, the suggestion's name and a number of characters; `later` calls back after
    seconds and gives what takes that back."""

    def __init__(self, emit: Emit, later: Later) -> None:
        self._emit, self._later = emit, later
        self._standing: _Standing | None = None
        self._cancel: Callable[[], None] | None = None
        self._typed = 0

    def offered(self, document: str, offset: int, name: str, text: str) -> None:
        """A suggestion was handed to the editor."""
        if self._standing is not None and self._standing.id == name:
            self._standing = _Standing(document, offset, name, text, self._standing.seen)
            return
        self._gone()
        self._standing = _Standing(document, offset, name, text)
        self._cancel = self._later(SEEN_SECONDS, self._saw)

    def edited(self, document: str, edit: Edit) -> None:
        """A document was edited, by hand or by an acceptance."""
        now = self._standing
        if now is not None and now.document == document and edit.text.endswith(now.text):
            return  # all of it: the acceptance itself follows, as a command
        if not edit.removed and len(edit.text) == 1:
            self._typed += 1
        if now is None or now.document != document:
            return
        if edit.text and not edit.removed and edit.offset == now.offset and now.text.startswith(edit.text):
            size = len(edit.text)
            self._standing = replace(now, offset=now.offset + size, text=now.text[size:])
            if size > 1:
                self._saw()
                self._emit("partial", now.id, size)
            return
        self._gone()

    def accepted(self, name: str, size: int) -> None:
        """A whole suggestion was accepted; `size` characters of it were still missing."""
        if self._standing is not None and self._standing.id == name:
            self._saw()
            self._standing = None
        self.flush()
        self._emit("select", name, size)

    def flush(self) -> None:
        """Reports what was typed by hand since the last report."""
        if self._typed:
            typed, self._typed = self._typed, 0
            self._emit("typed", "", typed)

    def _saw(self) -> None:
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        if self._standing is not None and not self._standing.seen:
            self._standing = replace(self._standing, seen=True)
            self._emit("view", self._standing.id, 0)

    def _gone(self) -> None:
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        if self._standing is not None and self._standing.seen:
            self.flush()
            self._emit("dismiss", self._standing.id, 0)
        self._standing = None
