"""Keeps brackets and quotes in balance with the text around the cursor. Pure, and not for one language.

Editors close brackets while one types, so the closing one often stands behind the cursor already. The brackets that are
open before the cursor are either *taken* (one behind the cursor closes them) or *free*. A written text may close
brackets that it opened itself, and free ones; never taken ones, and never a bracket that was not opened.

Strings are skipped within a line. Comments are text like any other: a bracket there may make a check more lenient,
seldom stricter. The indentation of their lines tells which bracket below closes which one above.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

OPENS: Final = {"(": ")", "[": "]", "{": "}"}
CLOSES: Final = {closing: opening for opening, closing in OPENS.items()}
QUOTES: Final = "\"'`"
# A string that ends on its line, or one bracket. An apostrophe within a word is no quote. Each branch begins with its
# one character, which lets the search leap from one to the next.
MARKS: Final = re.compile(
    r"\"(?:[^\"\\\n]|\\.)*\"|'(?<![A-Za-z0-9_]{2}')(?:[^'\\\n]|\\.)*'|`(?:[^`\\\n]|\\.)*`|\(|\)|\[|\]|\{|\}"
)
# Text further away than this is not read, so brackets that are open there are unknown.
BEFORE: Final = 8 << 10
BEHIND: Final = 4 << 10


@dataclass(slots=True)
class Open:
    """A bracket that is open before the cursor; `indentation` of its line."""

    mark: str
    indentation: int
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """`end`: where a text closes a bracket that it must not close; `dangling`: where it first opens one that it does
    not close."""

    end: int | None
    dangling: int | None


class Surroundings:
    """The brackets that are open at a cursor.

    >>> around = Surroundings("foo(a, b", ");")
    >>> around.check("ar)").end
    2
    """

    def __init__(self, prefix: str, suffix: str) -> None:
        before = prefix[-BEFORE:]
        self._whole = len(before) == len(prefix)
        rest = suffix.partition("\n")[0]
        line = before.rpartition("\n")[2]
        self._quote = open_quote(line)
        # A string that the rest of the line ends.
        self._quote_taken = self._quote is not None and _string_end(rest, self._quote) is not None
        self._stack = _opened(before)
        quote = self._quote if self._quote_taken else None
        _take(self._stack, suffix[:BEHIND], quote, unknown=not self._whole)

    def check(self, text: str) -> Balance:
        """How `text` would stand in balance here."""
        at, quote = 0, self._quote
        if quote is not None:
            end = _string_end(text, quote)
            if end is None:
                return Balance(None, None)
            if self._quote_taken:
                return Balance(end, None)
            at = end + 1
        # A bracket within the last line's unfinished string is not counted.
        last = max(text.rfind("\n") + 1, at)
        opened = _quote_at(text[last:])
        string = len(text) if opened is None else last + opened
        outer = list(self._stack)
        mine: list[tuple[str, int]] = []
        for found in MARKS.finditer(text, at, string):
            mark = found.group()
            if mark in OPENS:
                mine.append((mark, found.start()))
            elif mark in CLOSES:
                if mine:
                    if mine.pop()[0] != CLOSES[mark]:
                        return Balance(found.start(), None)
                elif not _close(outer, CLOSES[mark], unknown=not self._whole):
                    return Balance(found.start(), None)
        unclosed = [start for _, start in mine] + ([] if opened is None else [string])
        return Balance(None, min(unclosed, default=None))


def balanced(text: str) -> bool:
    """Whether one line closes exactly what it opens, quotes too."""
    mine: list[str] = []
    for found in MARKS.finditer(text):
        mark = found.group()
        if mark in OPENS:
            mine.append(mark)
        elif mark in CLOSES and (not mine or mine.pop() != CLOSES[mark]):
            return False
    return not mine and _quote_at(text) is None


def open_quote(line: str) -> str | None:
    """The quote of the string in which a line ends, None if it ends in no string."""
    at = _quote_at(line)
    return None if at is None else line[at]


def _quote_at(line: str) -> int | None:
    """Where the string begins in which a line ends."""
    at = 0
    while at < len(line):
        found = MARKS.match(line, at)
        if found is not None:
            at = found.end()
        elif line[at] == "\\":
            at += 2
        elif line[at] in '"`' or (
            line[at] == "'" and not line[max(at - 2, 0) : at].strip(" ([{=,:").isalnum()
        ):
            return at
        else:
            at += 1
    return None


def _string_end(text: str, quote: str) -> int | None:
    """Where the first line of `text`, which begins within a string, ends it."""
    at = 0
    while at < len(text) and text[at] != "\n":
        if text[at] == quote:
            return at
        at += 2 if text[at] == "\\" else 1
    return None


def _opened(text: str) -> list[Open]:
    """The brackets that are open at the end of `text`, the innermost last."""
    stack: list[tuple[str, int]] = []
    for found in MARKS.finditer(text):
        mark = found[0]
        opening = CLOSES.get(mark)
        if opening is None:
            if mark in OPENS:
                stack.append((mark, found.start()))
        elif stack and stack[-1][0] == opening:
            stack.pop()
        else:
            at = next((n for n in range(len(stack) - 1, -1, -1) if stack[n][0] == opening), len(stack))
            del stack[at:]
    return [Open(mark, _indentation(text, start)) for mark, start in stack]


def _take(stack: list[Open], suffix: str, quote: str | None, *, unknown: bool) -> None:
    """Marks what the brackets of `suffix` close. `unknown`: what they close may lie too far above to be in `stack`."""
    at = 0 if quote is None else (_string_end(suffix, quote) or 0) + 1
    depth: list[str] = []
    for found in MARKS.finditer(suffix, at):
        mark = found.group()
        if mark in OPENS:
            depth.append(mark)
        elif mark in CLOSES:
            if depth:
                depth.pop()
                continue
            line = suffix.rfind("\n", 0, found.start()) + 1
            leads = line > 0 and not suffix[line : found.start()].strip(" \t)]}")
            level = _indentation(suffix, found.start()) if leads else None
            candidates = [one for one in stack if one.mark == CLOSES[mark] and not one.taken]
            same = [one for one in candidates if one.indentation == level]
            if not same and not (leads and unknown):
                same = candidates
            for one in same[-1:]:
                one.taken = True
            if all(one.taken for one in stack):
                return


def _close(outer: list[Open], opening: str, *, unknown: bool) -> bool:
    """Closes the innermost bracket of this kind, and says whether the text may."""
    at = next((n for n in range(len(outer) - 1, -1, -1) if outer[n].mark == opening), None)
    if at is None:
        return unknown
    if outer[at].taken:
        return False
    del outer[at:]
    return True


def _indentation(text: str, at: int) -> int:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())
