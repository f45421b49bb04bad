"""A cursor's place in the form in which a model reads text, and the way back to the editor's text.

Inside, every line ends with LF and every character is whole. An editor's document may end its lines with CRLF or CR,
and a program that counts in UTF-16 may cut a surrogate pair in two. What goes out again has the document's own ending
and never half of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

Ending = Literal["\n", "\r\n", "\r"]
Inside = Literal["line_ending", "character"]

LF: Final = "\n"
SURROGATE: Final = re.compile("[\ud800-\udfff]")
BREAK: Final = re.compile(r"\r\n?|\n")
# More than the engine ever reads (prompt.MAX_PREFIX_CHARACTERS, MAX_SUFFIX_CHARACTERS): what lies further off is
# dropped before anything looks at it.
KEPT_BEFORE: Final = 128 << 10
KEPT_BEHIND: Final = 32 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The text before and behind a cursor, LF only. `inside`: the cursor splits something that must stay whole."""

    prefix: str = field(repr=False)
    suffix: str = field(repr=False)
    ending: Ending = LF
    inside: Inside | None = None

    @classmethod
    def of(cls, prefix: str, suffix: str) -> Place:
        """The place between two texts of an editor, which may hold anything."""
        prefix, suffix = prefix[-KEPT_BEFORE:], suffix[:KEPT_BEHIND]
        inside: Inside | None = None
        if prefix.endswith("\r") and suffix.startswith(LF):
            inside = "line_ending"
        elif "\ud800" <= prefix[-1:] <= "\udbff" and "\udc00" <= suffix[:1] <= "\udfff":
            inside = "character"
        return cls(prefix=normal(prefix), suffix=normal(suffix), ending=ending(prefix, suffix), inside=inside)

    def outward(self, text: str) -> str:
        """A written text with the document's own line endings."""
        return text if self.ending == LF else text.replace(LF, self.ending)


def normal(text: str) -> str:
    """Text with LF only, and U+FFFD for every half of a surrogate pair."""
    if "\r" in text:
        text = BREAK.sub(LF, text)
    return whole(text)


def whole(text: str) -> str:
    """Text with U+FFFD for every half of a surrogate pair; as many characters as before."""
    return text if text.isascii() else SURROGATE.sub("\ufffd", text)


def ending(prefix: str, suffix: str) -> Ending:
    """How the document ends its lines: as the nearest line above the cursor does, else the nearest below."""
    at = max(prefix.rfind(LF), prefix.rfind("\r"))
    if at >= 0:
        if prefix[at] == "\r":
            return "\r\n" if suffix.startswith(LF) and at == len(prefix) - 1 else "\r"
        return "\r\n" if prefix[at - 1 : at] == "\r" else LF
    found = BREAK.search(suffix)
    match found.group() if found else LF:
        case "\r\n":
            return "\r\n"
        case "\r":
            return "\r"
        case _:
            return LF
