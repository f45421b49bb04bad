"""Positions of the Language Server Protocol: lines, and columns in units of an encoding. Pure.

A line ends with LF, CRLF or CR and with nothing else (LSP 3.17, "Text Documents"): not with a form feed, NEL or
U+2028, at which Python's own `splitlines` would end it and shift every line below. A position within a character, or
behind a line's end, is taken back to the nearest that exists.
"""

from __future__ import annotations

import bisect
from typing import Final, Literal

from sordino_client.completion.text.place import BREAK

Encoding = Literal["utf-8", "utf-16", "utf-32"]
ENCODINGS: Final[tuple[Encoding, ...]] = ("utf-8", "utf-16", "utf-32")


class Lines:
    """A text and where its lines begin.

    >>> Lines("a\\r\\nb\\fc\\n").starts
    [0, 3, 7]
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(found.end() for found in BREAK.finditer(text))]

    def offset(self, line: int, column: int, encoding: Encoding) -> int:
        """The place in the text, in characters, of `column` units into `line`; both count from 0."""
        if line >= len(self.starts):
            return len(self.text)
        start = self.starts[max(line, 0)]
        content = self._content(max(line, 0))
        return start + characters(content, column, encoding)

    def position(self, offset: int, encoding: Encoding) -> tuple[int, int]:
        """The line and column of a place in the text."""
        line = bisect.bisect_right(self.starts, offset) - 1
        content = self._content(line)
        return line, units(content[: offset - self.starts[line]], encoding)

    def replaced(self, start: int, end: int, text: str) -> Lines:
        """The text with what stands between two places replaced."""
        return Lines(self.text[:start] + text + self.text[end:])

    def _content(self, line: int) -> str:
        end = self.starts[line + 1] if line + 1 < len(self.starts) else len(self.text)
        return self.text[self.starts[line] : end].rstrip("\r\n")


def units(text: str, encoding: Encoding) -> int:
    """How long a text is in units of an encoding."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-8":
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text) + sum(char > "\uffff" for char in text)


def characters(text: str, column: int, encoding: Encoding) -> int:
    """How many whole characters the first `column` units of a text are."""
    if encoding == "utf-32" or text.isascii():
        return min(max(column, 0), len(text))
    passed = 0
    for number, char in enumerate(text):
        passed += units(char, encoding)
        if passed > column:
            return number
    return len(text)
