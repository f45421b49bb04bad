"""Decides where a completion ends: at the end of the line, at the end of the block, or where the request asked.

A line is the default, because a developer can judge it at a glance. Where the cursor stands at the start of a block (an
empty line below an opener such as `:` or `{`), the block: until the indentation falls back, a closing bracket included,
a few lines at most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Finish = Literal["stop", "length", "line", "block", "end", "cut"]

MAX_BLOCK_LINES = 12
OPENERS = (":", "{", "(", "[", "=>", "->", " do", " then", " else", "begin")
CLOSERS = re.compile(r"\s*(?:[)\]}]+[;,]?|end\b[;]?)\s*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """With `multiline` None the cursor's place decides between a line and a block."""

    prefix: str
    suffix: str = ""
    strings: tuple[str, ...] = ()
    multiline: bool | None = None

    def block(self) -> int | None:
        """The indentation of the line that opens the block at the cursor; None if a line is completed."""
        if self.multiline is False:
            return None
        *above, last = self.prefix[-4096:].split("\n")
        opener = next((line for line in reversed(above) if line.strip()), "") if not last.strip() else ""
        opens = opener.rstrip().endswith(OPENERS)
        if self.multiline or (opens and not self.suffix.split("\n", 1)[0].strip()):
            return _indentation(opener) if opens else max(_indentation(last) - 1, -1)
        return None


@dataclass(frozen=True, slots=True)
class StopVerdict:
    """`text[:end]` is the completion so far; `finish` is set when nothing may follow; `safe` characters will stay."""

    end: int
    finish: Finish | None
    safe: int


def judge_stop(text: str, stops: Stops, block: int | None) -> StopVerdict:
    """Judges the whole text generated so far. Pure, so a stream and a whole answer end alike."""
    end, finish = len(text), None
    for string in stops.strings:
        at = text.find(string)
        if 0 <= at < end or (at == 0 and end == 0):
            end, finish = at, "stop"
    limit, kind = _line_end(text) if block is None else _block_end(text, stops, block)
    if kind == "block":
        limit = _without_blank_lines(text, limit)
    if kind is not None and limit <= end:
        return StopVerdict(limit, kind, limit)
    if finish is not None:
        return StopVerdict(end, "stop", end)
    held = max((_overlap(text, string) for string in stops.strings), default=0)
    if block is not None:
        # A line break is only sent once it is known that the block goes on behind it.
        tail = text.rfind("\n")
        if tail >= 0 and (not text[tail:].strip() or CLOSERS.match(text[tail + 1 :])):
            held = max(held, len(text) - _without_blank_lines(text, tail))
    return StopVerdict(len(text), None, len(text) - held)


def _line_end(text: str) -> tuple[int, Finish | None]:
    at = text.find("\n")
    return (at, "line") if at >= 0 else (len(text), None)


def _block_end(text: str, stops: Stops, block: int) -> tuple[int, Finish | None]:
    """Ends before the first line that is not deeper than the opener; a closing bracket on that line still belongs to
    the block."""
    start = 0
    lines = text.split("\n")
    following = stops.suffix.lstrip().split("\n", 1)[0]
    for number, line in enumerate(lines):
        complete = number < len(lines) - 1
        if number and line.strip() and _indentation(line) <= block:
            if CLOSERS.match(line) and not following.startswith(line.strip()[0]):
                if complete:
                    return start + len(line), "block"
                return len(text), None
            return max(start - 1, 0), "block"
        if number >= MAX_BLOCK_LINES or (
            number >= 2 and complete and not any(x.strip() for x in lines[number - 1 : number + 1])
        ):
            return max(start - 1, 0), "block"
        start += len(line) + 1
    return len(text), None


def _without_blank_lines(text: str, end: int) -> int:
    """The end of `text[:end]` without its last blank lines; blanks within the last line stay."""
    newline = text.find("\n", len(text[:end].rstrip()), end)
    return newline if newline >= 0 else end


def _indentation(line: str) -> int:
    expanded = line.lstrip("\n").expandtabs(4)
    return len(expanded) - len(expanded.lstrip())


def _overlap(text: str, string: str) -> int:
    """The number of characters at the end of `text` that may be the beginning of `string`."""
    return next((n for n in range(min(len(string) - 1, len(text)), 0, -1) if text.endswith(string[:n])), 0)
