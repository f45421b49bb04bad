"""Recent suggestions, by the text that they continue. Typing along one, accepting a part of it or going back needs no
request: the rest of the known suggestion is the answer. Pure; the same rules as in our VS Code extension
(ghost/cache.ts)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

from sordino_client.completion.lsp.documents import Cursor

ENTRIES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """An answer of the endpoint: its name, its one text ("" for none) and the reason, for one cursor. `by_hand`: it was
    asked for, so all that was written is shown."""

    id: str
    model: str
    text: str = field(repr=False)
    reason: str
    by_hand: bool = False


class Suggestions:
    """The newest few."""

    def __init__(self) -> None:
        self._known: deque[tuple[Cursor, Suggestion]] = deque(maxlen=ENTRIES)

    def put(self, cursor: Cursor, suggestion: Suggestion) -> None:
        """If the name differs, another model answers now, and the old one's suggestions are dropped."""
        if self._known and self._known[0][1].model != suggestion.model:
            self._known.clear()
        self._known.appendleft((cursor, suggestion))

    def find(self, cursor: Cursor, *, by_hand: bool = False) -> Suggestion | None:
        """The rest of the newest suggestion that the text at the cursor follows. A person who asks by hand gets only a
        suggestion that was made by hand too."""
        for then, known in self._known:
            if by_hand and not known.by_hand:
                continue
            if then.document != cursor.document or then.suffix != cursor.suffix:
                continue
            if not cursor.prefix.startswith(then.prefix):
                continue
            typed = cursor.prefix[len(then.prefix) :]
            if not typed or (known.text.startswith(typed) and len(known.text) > len(typed)):
                return replace(known, text=known.text[len(typed) :])
        return None
