"""The open documents of one editor, and the window around a cursor. The only text that the server keeps. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sordino_client.completion.context import MAX_PIECES, PIECE_BYTES, Snippet, around
from sordino_client.completion.lsp.baseline import Baseline, Edit
from sordino_client.completion.prompt import MAX_PREFIX_CHARACTERS, MAX_SUFFIX_CHARACTERS
from sordino_client.completion.text.positions import Encoding, Lines

# Larger documents get nothing, as in our VS Code extension: nobody writes them by hand.
MAX_CHARACTERS: Final = 2_000_000
# The window moves in steps, not with each key, so that a suggestion known for a place can be found again.
STEP: Final = 4 << 10


@dataclass(frozen=True, slots=True)
class Cursor:
    """What stands around a cursor in a document, as far as the engine reads. `offset` counts from its beginning."""

    document: str
    prefix: str = field(repr=False)
    suffix: str = field(repr=False)
    offset: int


class Documents:
    """By URI. `encoding` is the one that was agreed on with the editor. Methods raise KeyError, TypeError or
    ValueError where an editor's parameters are not the protocol's."""

    def __init__(self, encoding: Encoding = "utf-16") -> None:
        self.encoding = encoding
        self._open: dict[str, Lines] = {}
        self._baselines: dict[str, Baseline] = {}
        # Where each was last edited, the one that was edited or opened last at the end.
        self._edited: dict[str, int] = {}

    def opened(self, parameters: Any) -> None:
        """`textDocument/didOpen`."""
        document = parameters["textDocument"]
        self._open[str(document["uri"])] = Lines(str(document["text"]))
        self._baselines[str(document["uri"])] = Baseline(str(document["text"]))
        self._touched(str(document["uri"]), 0)

    def closed(self, parameters: Any) -> None:
        """`textDocument/didClose`."""
        self._open.pop(str(parameters["textDocument"]["uri"]), None)
        self._edited.pop(str(parameters["textDocument"]["uri"]), None)
        self._baselines.pop(str(parameters["textDocument"]["uri"]), None)

    def changed(self, parameters: Any) -> tuple[str, Sequence[Edit]]:
        """`textDocument/didChange`: the document, and what was done to it."""
        uri, edits = str(parameters["textDocument"]["uri"]), []
        lines = self._open[uri]
        for change in parameters["contentChanges"]:
            text = str(change["text"])
            start, end = 0, len(lines.text)
            if change.get("range") is not None:
                start, end = (
                    self.offset(lines, change["range"]["start"]),
                    self.offset(lines, change["range"]["end"]),
                )
                end = max(start, end)
            lines = lines.replaced(start, end, text)
            edits.append(Edit(start, end - start, text))
        self._open[uri] = lines
        if edits:
            self._touched(uri, edits[-1].offset)
            self._baselines[uri].edited(edits, lines.text)
        return uri, edits

    def change(self, uri: str) -> tuple[str, str]:
        """A document as it was before the change that is being made in it, and as it is. Raises KeyError."""
        return self._baselines[uri].before, self._baselines[uri].after

    def beside(self, uri: str) -> list[Snippet]:
        """Pieces of the other documents, around their last edits, the one that was touched last first."""
        others = [
            other for other in reversed(self._edited) if other != uri and self.size(other) <= MAX_CHARACTERS
        ]
        return [
            Snippet(path=other, text=around(self._open[other].text, self._edited[other], PIECE_BYTES))
            for other in others[:MAX_PIECES]
        ]

    def _touched(self, uri: str, offset: int) -> None:
        self._edited.pop(uri, None)
        self._edited[uri] = offset

    def size(self, uri: str) -> int:
        """Characters of a document. Raises KeyError."""
        return len(self._open[uri].text)

    def cursor(self, uri: str, start: Any, end: Any, chosen: str = "") -> Cursor:
        """The text up to `start` with `chosen` added, and from `end` on."""
        lines = self._open[uri]
        before, behind = self.offset(lines, start), self.offset(lines, end)
        # Rounded up: what is sent is never more than the engine reads.
        first = max(0, -(-(before - MAX_PREFIX_CHARACTERS) // STEP) * STEP)
        return Cursor(
            document=uri,
            prefix=lines.text[first:before] + chosen,
            suffix=lines.text[behind : behind + MAX_SUFFIX_CHARACTERS],
            offset=behind,
        )

    def offset(self, lines: Lines, position: Any) -> int:
        return lines.offset(int(position["line"]), int(position["character"]), self.encoding)
