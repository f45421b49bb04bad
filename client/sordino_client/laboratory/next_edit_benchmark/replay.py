"""Replays the changes of a file from one release to the next, edit by edit, with the offers after each edit. Pure.

Only lines that were replaced one for one are edited. They are typed in order from a line that a hash chooses to the end
of the file, then from its beginning; within a line one token after the other. Added lines are there from the start, and
deleted lines stay: an offer in a deleted line counts as wrong.
"""

from __future__ import annotations

import bisect
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Final

from sordino_client.completion.edits.change import TOKEN, LineChange, change_between
from sordino_client.completion.edits.place import EditPlace, places

MAX_EDITS: Final = 40
MAX_STEPS: Final = 6
# A line that differs in more tokens than this is typed in one edit.
MAX_TOKENS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One place where a change could be offered. `right`: the new release has this change."""

    place: EditPlace
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One edit.

    `change` is the edit, `after` the text after it, `made` how often it was made before. `repeated`: it is made again
    later.
    """

    change: LineChange
    after: str = field(repr=False)
    made: int
    considered: tuple[Considered, ...]
    repeated: bool


def replayed(old: str, new: str) -> Iterator[Replayed]:
    """At most MAX_EDITS edits of one file."""
    lines = _Lines(old, new)
    made: Counter[tuple[str, str]] = Counter()
    for count, (before, after) in enumerate(lines.edits()):
        if count == MAX_EDITS:
            return
        change = change_between(before, after)
        if change is None:
            continue
        step = (change.old, change.new)
        yield Replayed(
            change=change,
            after=after,
            made=made[step],
            considered=tuple(lines.judged(after, place) for place in places(after, change)),
            repeated=lines.holds(step),
        )
        made[step] += 1


class _Lines:
    """The lines of a file as they are now and as they will be; `None` for deleted lines."""

    def __init__(self, old: str, new: str) -> None:
        was, will = old.split("\n"), new.split("\n")
        self.now: list[str] = []
        self.then: list[str | None] = []
        for kind, a, b, c, d in SequenceMatcher(None, was, will, autojunk=False).get_opcodes():
            if kind == "insert":
                continue
            self.now += was[a:b]
            self.then += will[c:d] if b - a == d - c else [None] * (b - a)

    def edits(self) -> Iterator[tuple[str, str]]:
        """The text before and after each edit."""
        todo = [
            n for n, (a, b) in enumerate(zip(self.now, self.then, strict=True)) if b is not None and a != b
        ]
        turn = zlib.crc32("\n".join(self.now).encode()) % max(1, len(todo))
        for number in (*todo[turn:], *todo[:turn]):
            for _ in range(MAX_STEPS):
                target = self.then[number]
                if target is None or self.now[number] == target:
                    break
                before = "\n".join(self.now)
                self.now[number] = _first_step(self.now[number], target)
                yield before, "\n".join(self.now)
            self.now[number] = self.then[number] or ""

    def judged(self, after: str, place: EditPlace) -> Considered:
        """Whether the change at this place brings the line closer to its final text."""
        starts = [0]
        for line in self.now:
            starts.append(starts[-1] + len(line) + 1)
        number = bisect.bisect_right(starts, place.start) - 1
        target, start = self.then[number], starts[number]
        if target is None:
            return Considered(place=place, right=False)
        made = after[start : place.start] + place.new + after[place.end : starts[number + 1] - 1]
        return Considered(place=place, right=_distance(made, target) < _distance(self.now[number], target))

    def holds(self, step: tuple[str, str]) -> bool:
        """Whether that change is still needed somewhere in the file."""
        pairs = zip(self.now, self.then, strict=True)
        return any(b is not None and a != b and step in _steps(a, b) for a, b in pairs)


def _codes(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    codes = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return [code for code in codes if code[0] != "equal"]


def _distance(one: str, other: str) -> int:
    return sum(max(b - a, d - c) for _, a, b, c, d in _codes(TOKEN.findall(one), TOKEN.findall(other)))


def _steps(one: str, other: str) -> list[tuple[str, str]]:
    was, will = TOKEN.findall(one), TOKEN.findall(other)
    return [("".join(was[a:b]), "".join(will[c:d])) for _, a, b, c, d in _codes(was, will)]


def _first_step(line: str, target: str) -> str:
    """The line after its first change, or after all of them if there are many."""
    if _distance(line, target) > MAX_TOKENS:
        return target
    was, will = TOKEN.findall(line), TOKEN.findall(target)
    _, a, b, c, d = _codes(was, will)[0]
    return "".join((*was[:a], *will[c:d], *was[b:]))
