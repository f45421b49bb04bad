"""The syntax gate: how much of a text can be put at a cursor without a new syntax error in the file.

Files are parsed by tree-sitter's grammars, incrementally: a keystroke or a text put in costs a fraction of a
millisecond. While someone types, a line is unfinished and so are its brackets, so a text is given every chance: it
passes if any of a few endings (close what is open, end the statement, open a block) makes the file as free of errors as
it was without the line. What passes no ending is wrong whatever follows. Languages without a grammar pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import PurePosixPath

from tree_sitter import Language, Node, Parser, Tree

# More of a file than this is not parsed: a gate must never cost more than the text that it judges.
MAX_CHARACTERS = 64 << 10
MAX_ENDS = 24
ERRORS_SEEN = 64
IN_BRACES = ("", ";", " {}", " x;", ":", " int x;", " x) {}", "\nvoid x() {}", " x")
IN_PYTHON = (
    "",
    ":\n{indent}    pass",
    " x",
    " x:\n{indent}    pass",
    "\n{indent}def x(): pass",
    "\n{indent}    pass",
)
# Suffix of the file's name -> (module, its function, endings).
GRAMMARS = {
    ".java": ("tree_sitter_java", "language", IN_BRACES),
    ".py": ("tree_sitter_python", "language", IN_PYTHON),
    ".pyi": ("tree_sitter_python", "language", IN_PYTHON),
    ".js": ("tree_sitter_javascript", "language", IN_BRACES),
    ".mjs": ("tree_sitter_javascript", "language", IN_BRACES),
    ".jsx": ("tree_sitter_javascript", "language", IN_BRACES),
    ".ts": ("tree_sitter_typescript", "language_typescript", IN_BRACES),
    ".tsx": ("tree_sitter_typescript", "language_tsx", IN_BRACES),
    ".go": ("tree_sitter_go", "language", IN_BRACES),
    ".c": ("tree_sitter_c", "language", IN_BRACES),
    ".h": ("tree_sitter_cpp", "language", IN_BRACES),
    ".cc": ("tree_sitter_cpp", "language", IN_BRACES),
    ".cpp": ("tree_sitter_cpp", "language", IN_BRACES),
    ".hpp": ("tree_sitter_cpp", "language", IN_BRACES),
    ".rs": ("tree_sitter_rust", "language", IN_BRACES),
    ".cs": ("tree_sitter_c_sharp", "language", IN_BRACES),
}
PAIRS = {"(": ")", "[": "]", "{": "}"}
QUOTED = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`")


@lru_cache(maxsize=16)
def gate_for(path: str) -> Gate | None:
    """The gate of a file by its name; None where there is no grammar. One a language: it keeps the last file's tree."""
    found = GRAMMARS.get(PurePosixPath(path.replace("\\", "/")).suffix.lower())
    return None if found is None else _gate(*found)


@lru_cache(maxsize=16)
def _gate(module: str, function: str, endings: tuple[str, ...]) -> Gate:
    return Gate(Parser(Language(getattr(import_module(module), function)())), endings)


@dataclass(frozen=True, slots=True)
class _Parsed:
    text: bytes
    tree: Tree


class Gate:
    """One language. Not thread-safe: the engine's worker is its only caller."""

    def __init__(self, parser: Parser, endings: tuple[str, ...]) -> None:
        self._parser, self._endings = parser, endings
        self._last = _Parsed(b"", parser.parse(b""))

    def errors(self, text: str) -> int:
        """How many places of a file are wrong or missing; at most ERRORS_SEEN are counted."""
        self._last = self._parse(text)
        return _errors(self._last.tree.root_node)

    def passes(self, prefix: str, text: str, suffix: str) -> bool:
        """Whether all of `text` can stand between `prefix` and `suffix` (LF only)."""
        return self.end(prefix, text, suffix, ends=[len(text)]) == len(text)

    def end(self, prefix: str, text: str, suffix: str, *, ends: list[int]) -> int:
        """The first of `ends` (places in `text`, the caller's order) up to which it adds no error; else 0."""
        prefix, suffix = _near(prefix, suffix)
        line = prefix.rfind("\n") + 1
        below = suffix.find("\n")
        rest = suffix[below:] if below >= 0 else ""
        self._last = self._parse(prefix[:line] + rest)
        allowed = _errors(self._last.tree.root_node)
        wanted = next((end for end in ends[:MAX_ENDS] if self._fits(prefix, text[:end], suffix, allowed)), 0)
        if wanted or not ends:
            return wanted
        # The line as it was typed may be beyond repair: then nothing can be held against what follows.
        return 0 if self._fits(prefix, "", suffix, allowed) else ends[0]

    def _fits(self, prefix: str, text: str, suffix: str, allowed: int) -> bool:
        return any(
            _errors(self._parse(prefix + text + ending + suffix).tree.root_node) <= allowed
            for ending in self._possible(prefix, text, suffix)
        )

    def _possible(self, prefix: str, text: str, suffix: str) -> Iterator[str]:
        """The endings to try; a rest of the line must follow as it stands."""
        if suffix.partition("\n")[0].strip():
            yield ""
            return
        line = (prefix[prefix.rfind("\n") + 1 :] + text).lstrip("\n")
        last = line.rsplit("\n", 1)[-1]
        indent = last[: len(last) - len(last.lstrip())]
        closing = _closing(line)
        for closers in dict.fromkeys((closing, "")):
            for ending in self._endings:
                yield closers + ending.replace("{indent}", indent)
        # Inside what is open: an operand is missing before it closes.
        yield " x" + closing
        yield f" x{closing};"

    def _parse(self, text: str) -> _Parsed:
        """Parses `text`, which differs from the last file in one place."""
        data = text.encode()
        old = self._last.text
        start = _common(old, data)
        behind = _common_end(old[start:], data[start:])
        tree = self._last.tree.copy()
        tree.edit(
            start,
            len(old) - behind,
            len(data) - behind,
            _point(old, start),
            _point(old, len(old) - behind),
            _point(data, len(data) - behind),
        )
        return _Parsed(data, self._parser.parse(data, tree))


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


def _closing(line: str) -> str:
    """The brackets that close what `line` leaves open; strings are looked over."""
    open_: list[str] = []
    for character in QUOTED.sub("", line):
        if character in PAIRS:
            open_.append(PAIRS[character])
        elif open_ and character == open_[-1]:
            open_.pop()
    return "".join(reversed(open_))


def _common(one: bytes, other: bytes) -> int:
    """How many bytes two texts begin with in common, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _common_end(one: bytes, other: bytes) -> int:
    return _common(one[::-1], other[::-1])


def _point(data: bytes, at: int) -> tuple[int, int]:
    return data.count(b"\n", 0, at), at - (data.rfind(b"\n", 0, at) + 1)
