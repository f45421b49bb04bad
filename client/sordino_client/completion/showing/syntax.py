"""The syntax gate: how much of a text can stand at a cursor before it is a syntax error, whatever follows.

While someone types, a line is unfinished and so are its brackets: parsing the file as it would stand says little. What
the parser itself knows is exact: reading from left to right, an LR parser stops at the first token that no continuation
could make right (the valid prefix property; Aho, Sethi and Ullman 1986, section 4.7). So the text up to the cursor is
parsed, then the same with the suggestion behind it, and every end before the first refused token stands. tree-sitter
repairs errors and goes on, but its log says where: `detect_error` where one reading of the text ends, `resume` where
none is left.

The rest of the cursor's line must fit too: for that the whole file is parsed with the text in it. Within strings and
comments everything passes, and so does a text at lines that have a syntax error already. Judging one text costs at most
MAX_PARSES parses, each of them incremental. Texts in a language without a grammar pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import PurePosixPath

from tree_sitter import Language, Node, Parser, Tree

# More of a file than this is not parsed: a gate must never cost more than the text that it judges.
MAX_CHARACTERS = 64 << 10
ERRORS_SEEN = 64
# Ends that are tried with the rest of the line behind them.
MAX_JOINED = 3
# The file as it is, the file up to the cursor, the file with the text, and the parses for the rest of a line.
MAX_PARSES = 3 + MAX_JOINED
# An error in so many lines above the cursor's own means that nothing can be judged here.
LINES_ABOVE = 1
# Suffix of the file's name -> (module, its function).
GRAMMARS = {
    ".java": ("tree_sitter_java", "language"),
    ".py": ("tree_sitter_python", "language"),
    ".pyi": ("tree_sitter_python", "language"),
    ".js": ("tree_sitter_javascript", "language"),
    ".mjs": ("tree_sitter_javascript", "language"),
    ".jsx": ("tree_sitter_javascript", "language"),
    ".ts": ("tree_sitter_typescript", "language_typescript"),
    ".tsx": ("tree_sitter_typescript", "language_tsx"),
    ".go": ("tree_sitter_go", "language"),
    ".c": ("tree_sitter_c", "language"),
    ".h": ("tree_sitter_cpp", "language"),
    ".cc": ("tree_sitter_cpp", "language"),
    ".cpp": ("tree_sitter_cpp", "language"),
    ".hpp": ("tree_sitter_cpp", "language"),
    ".rs": ("tree_sitter_rust", "language"),
    ".cs": ("tree_sitter_c_sharp", "language"),
}
# Nodes within which a grammar has no say, by a part of their names.
FREE_TEXT = ("comment", "string", "regex")
ENDS_COMMENT = "*/"
# A string or a comment from its beginning to its end; or only its beginning, where it does not end.
QUOTED = re.compile(
    r"\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|/\*[\s\S]*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
    r"|(?P<open>\"{3}|'{3}|/\*|`|[\"'](?=[^\n]*\Z))"
)
PROCESS = re.compile(r"process version:\d+, .* row:(\d+), col:(\d+)")
SIZE = re.compile(r"lexed_lookahead .*, size:(\d+)\Z")

# A row and a column in bytes.
Point = tuple[int, int]


@lru_cache(maxsize=16)
def gate_for(path: str) -> Gate | None:
    """The gate of a file by its name; None where there is no grammar. One a language: it keeps the last file's tree."""
    found = GRAMMARS.get(PurePosixPath(path.replace("\\", "/")).suffix.lower())
    return None if found is None else _gate(*found)


@lru_cache(maxsize=16)
def _gate(module: str, function: str) -> Gate:
    return Gate(Parser(Language(getattr(import_module(module), function)())))


@dataclass(frozen=True, slots=True)
class _Parsed:
    text: bytes
    tree: Tree


class Gate:
    """One language. Not thread-safe: the engine's worker is its only caller. `parses` counts what was parsed."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._last = _Parsed(b"", parser.parse(b""))
        self.parses = 0

    def errors(self, text: str) -> int:
        """How many places of a file are wrong or missing; at most ERRORS_SEEN are counted."""
        self._last = self._parse(text.encode(), self._last)
        return _errors(self._last.tree.root_node)

    def end(self, prefix: str, text: str, suffix: str, *, ends: list[int]) -> int:
        """The first of `ends` (places in `text`, the caller's order) up to which it can stand between `prefix` and
        `suffix` (LF only); else 0."""
        if not ends:
            return 0
        prefix, suffix = _near(prefix, suffix)
        allowed = self.errors(prefix + suffix)
        whole, before = self._last, prefix.encode()

        def joins(end: int) -> bool:
            joined = self._parse((prefix + text[:end] + suffix).encode(), whole)
            return _errors(joined.tree.root_node) <= allowed

        kind = _free_text(whole.tree.root_node, len(before))
        line_opens = "comment" not in kind and _opens(_line(prefix))
        if line_opens and _opens(_line(prefix) + text.partition("\n")[0]):
            return ends[0]
        free = bool(kind) and not line_opens
        rest = bool(suffix.partition("\n")[0].strip())
        if not free:
            viable = self._viable(before, text[: max(ends)], whole)
            ends = [end for end in ends if end <= viable]
        left = MAX_JOINED
        for end in ends:
            if not (ENDS_COMMENT in text[:end] if free else rest):
                return end
            if left and joins(end):
                return end
            left = max(left - 1, 0)
        return 0

    def _viable(self, before: bytes, text: str, whole: _Parsed) -> int:
        """How many characters of `text` stand before the first token that nothing could make right."""
        judged = _closed(text)
        added = text[:judged].encode()
        start, end = len(before), len((before + added).rstrip())
        refused: list[_Refused] = []
        above = self._parse(before, whole)
        self._parse(before + added, above, log=_listening(refused))
        near = (max(_point(before, start)[0] - LINES_ABOVE, 0), 0)
        lines = _Lines(before + added)
        for one in refused:
            at = lines.offset(one.place)
            if at + one.size <= start:
                if one.place >= near:
                    break  # beyond repair before the text began
            elif at < end:
                return len(added[: max(at - start, 0)].decode(errors="ignore"))
        return len(text)

    def _parse(self, data: bytes, last: _Parsed, log: Callable[[str], None] | None = None) -> _Parsed:
        """Parses `data`, which differs from the file of `last` in one place."""
        self.parses += 1
        old = last.text
        start = _common(old, data)
        behind = _common_end(old[start:], data[start:])
        tree = last.tree.copy()
        tree.edit(
            start,
            len(old) - behind,
            len(data) - behind,
            _point(old, start),
            _point(old, len(old) - behind),
            _point(data, len(data) - behind),
        )
        if log is None:
            return _Parsed(data, self._parser.parse(data, tree))
        self._parser.logger = lambda _, message: log(message)
        try:
            return _Parsed(data, self._parser.parse(data, tree))
        finally:
            del self._parser.logger


@dataclass(frozen=True, slots=True)
class _Refused:
    """A token of `size` bytes, blanks before it counted, that no reading of the text before `place` allows."""

    place: Point
    size: int


def _listening(refused: list[_Refused]) -> Callable[[str], None]:
    """A reader of tree-sitter's log that notes the refused tokens. Of several readings of a text the one that came
    furthest counts."""
    at: Point = (0, 0)
    size = 0
    furthest: _Refused | None = None

    def read(message: str) -> None:
        nonlocal at, size, furthest
        if message.startswith("process"):
            if (found := PROCESS.match(message)) is not None:
                at, size = (int(found[1]), int(found[2])), 0
        elif message.startswith("lexed_lookahead"):
            if (found := SIZE.match(message)) is not None:
                size = int(found[1])
        elif message.startswith("detect_error"):
            if furthest is None or at > furthest.place:
                furthest = _Refused(at, size)
        elif message.startswith("resume") and furthest is not None:
            refused.append(furthest)
            furthest = None

    return read


class _Lines:
    """Places in a text by row and column in bytes."""

    def __init__(self, data: bytes) -> None:
        self._starts = [0]
        at = data.find(b"\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = data.find(b"\n", at + 1)

    def offset(self, place: Point) -> int:
        return self._starts[min(place[0], len(self._starts) - 1)] + place[1]


def _free_text(root: Node, at: int) -> str:
    """The kind of string or comment that a place lies within; "" where it lies within none."""
    node = root.descendant_for_byte_range(max(at - 1, 0), at)
    while node is not None:
        if node.start_byte < at < node.end_byte and any(kind in node.type for kind in FREE_TEXT):
            return node.type
        node = node.parent
    return ""


def _line(prefix: str) -> str:
    return prefix[prefix.rfind("\n") + 1 :]


def _opens(line: str) -> bool:
    """Whether a line leaves a string or a comment open: grammars know whole strings only."""
    return any(found["open"] for found in QUOTED.finditer(line))


def _closed(text: str) -> int:
    """So much of a text stands before the contents of a string, or before a comment, that does not end within it."""
    for found in QUOTED.finditer(text):
        if found["open"]:
            return found.start() + (0 if found["open"] == "/*" else len(found["open"]))
    return len(text)


def _near(prefix: str, suffix: str) -> tuple[str, str]:
    """Both sides, cut at lines so that together they stay within MAX_CHARACTERS."""
    if len(prefix) + len(suffix) <= MAX_CHARACTERS:
        return prefix, suffix
    half = MAX_CHARACTERS // 2
    if len(prefix) > half:
        prefix = prefix[-half:]
        prefix = prefix[prefix.find("\n") + 1 :]
    return prefix, suffix[: suffix.rfind("\n", 0, half) + 1 or half]


def _errors(root: Node) -> int:
    """How many places of a tree are wrong or missing; at most ERRORS_SEEN are counted."""
    if not root.has_error:
        return 0
    found, waiting = 0, [root]
    while waiting and found < ERRORS_SEEN:
        node = waiting.pop()
        if node.is_error or node.is_missing:
            found += 1
        waiting += [child for child in node.children if child.has_error or child.is_missing]
    return found


def _common(one: bytes, other: bytes) -> int:
    """How many bytes two texts begin with in common, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _common_end(one: bytes, other: bytes) -> int:
    return _common(one[::-1], other[::-1])


def _point(data: bytes, at: int) -> Point:
    return data.count(b"\n", 0, at), at - (data.rfind(b"\n", 0, at) + 1)
