"""Finds the paths that the owner of a repository told git to leave out, by the rules of gitignore(5), as git matches
them.

Rules that are kept:

* Sources, the closer one wins: the `.gitignore` of the entry's own directory, then those of its parents up to the top
  of the git work tree (which may lie above the folder that was named), then those of the repository (`worktree`).
  Within one source the last pattern that matches decides; `!` takes a path back in.
* A directory that is left out is not entered, so nothing below it can be taken back in.
* A `.sordinoignore` uses the same syntax but stands apart: it can only take away, never bring back what git ignores.
* A path that git tracks although a pattern names it is left out as well (`git check-ignore --no-index`): the pattern
says what the owner does not want to share. * Not read: `core.ignoreCase`. Names are compared as they are, as git does
on Linux.

Why not `pathspec`, which has gitignore patterns: it lets `[!a]` match a slash, knows no `[[:alpha:]]`, and raises on
patterns that git accepts; on random rules one tree in ten came out different from git's. Here a pattern is matched
against one entry at a time while the tree is walked from the top, as git's `dir.c` and `wildmatch.c` do, and the tests
compare with git itself.

Paths and patterns are compared byte by byte, as in git: bytes are carried in `str` as Latin-1.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_GLOB_SPECIAL = frozenset("*?[\\")
_NEVER = "(?!)"  # the regular expression that matches nothing

_CLASSES: dict[str, frozenset[str]] = {
    "alnum": frozenset(string.ascii_letters + string.digits),
    "alpha": frozenset(string.ascii_letters),
    "blank": frozenset(" \t"),
    "cntrl": frozenset(map(chr, (*range(32), 127))),
    "digit": frozenset(string.digits),
    "graph": frozenset(map(chr, range(33, 127))),
    "lower": frozenset(string.ascii_lowercase),
    "print": frozenset(map(chr, range(32, 127))),
    "punct": frozenset(string.punctuation),
    "space": frozenset(" \t\n\v\f\r"),
    "upper": frozenset(string.ascii_uppercase),
    "xdigit": frozenset(string.hexdigits),
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of an ignore file, ready to be matched against one entry of a directory."""

    ignores: bool  # False for a `!` line
    directories_only: bool
    basename_only: bool
    expression: re.Pattern[str]

    def matches(self, path: str, *, is_directory: bool) -> bool:
        """Whether this line speaks of the entry `path` (relative to the ignore file's directory, as Latin-1)."""
        if self.directories_only and not is_directory:
            return False
        text = path[path.rfind("/") + 1 :] if self.basename_only else path
        return self.expression.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The patterns of one ignore file and the directory they are relative to ("" or "a/b", as Latin-1)."""

    base: str
    patterns: tuple[Pattern, ...]

    def verdict(self, path: str, *, is_directory: bool) -> bool | None:
        """True: leave out. False: taken back in. None: this file says nothing. `path` is relative to the top."""
        relative = path[len(self.base) + 1 :] if self.base else path
        for pattern in reversed(self.patterns):
            if pattern.matches(relative, is_directory=is_directory):
                return pattern.ignores
        return None


def ignored(rules: Sequence[RuleFile], path: str, *, is_directory: bool) -> bool:
    """Whether git would leave out the entry `path`, given that none of its parents is left out.

    `rules` goes from the weakest source (`info/exclude`) to the strongest (the entry's own directory).
    """
    name = os.fsencode(path).decode("latin-1")
    for rule in reversed(rules):
        verdict = rule.verdict(name, is_directory=is_directory)
        if verdict is not None:
            return verdict
    return False


def parse_rules(content: bytes, *, base: str = "") -> RuleFile:
    """Read the bytes of an ignore file. No line is an error: a malformed pattern matches nothing, as in git."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    patterns = (_parse_line(line.removesuffix("\r")) for line in text.split("\n"))
    return RuleFile(
        os.fsencode(base).decode("latin-1"), tuple(pattern for pattern in patterns if pattern is not None)
    )


def _parse_line(line: str) -> Pattern | None:
    if not line or line.startswith("#"):
        return None
    glob = _without_trailing_spaces(line)
    negated = glob.startswith("!")
    glob = glob[negated:]
    directories_only = glob.endswith("/")
    glob = glob[: len(glob) - directories_only]
    basename_only = "/" not in glob
    if basename_only:
        expression = _translate(glob) if glob else _NEVER
    else:
        # git compares the part before the first wildcard as plain text and gives only the rest to wildmatch, which
        # is why `**` right behind that prefix counts as standing at the start.
        glob = glob.removeprefix("/")
        prefix = next((i for i, char in enumerate(glob) if char in _GLOB_SPECIAL), len(glob))
        expression = re.escape(glob[:prefix]) + _translate(glob[prefix:])
    return Pattern(not negated, directories_only, basename_only, re.compile(expression, re.DOTALL))


def _without_trailing_spaces(line: str) -> str:
    """Drop unescaped spaces at the end; a backslash protects the character behind it."""
    keep = i = 0
    while i < len(line):
        i += 2 if line[i] == "\\" else 1
        if line[i - 1 : i] != " " or (i >= 2 and line[i - 2] == "\\" and _escapes(line, i - 2)):
            keep = i
    return line[:keep]


def _escapes(line: str, at: int) -> bool:
    """Whether the backslash at `at` is itself unescaped."""
    run = len(line[:at]) - len(line[:at].rstrip("\\"))
    return run % 2 == 0


def _translate(glob: str) -> str:
    """A wildmatch pattern as a regular expression for `fullmatch`.

    Atomic groups keep the matching time polynomial: behind a `*` the leftmost place where the text up to the next `*`
    fits is always good enough, and so is the first run of directories behind a `**`.
    """
    groups: list[tuple[str, list[str]]] = [
        ("", [""])
    ]  # what a `**` may skip, then the pieces between single stars
    i = 0
    while i < len(glob):
        char = glob[i]
        if char == "*":
            end = i
            while end < len(glob) and glob[end] == "*":
                end += 1
            rest = glob[end:]
            whole = end - i > 1 and (i == 0 or glob[i - 1] == "/")
            if whole and not rest:
                groups[-1][1][-1] += ".*"
            elif whole and rest.startswith("/"):
                groups.append(("(?:.*?/)??", [""]))
                end += 1
            elif whole and rest.startswith("\\/"):
                groups.append((".*?", [""]))
            else:
                groups[-1][1].append("")
            i = end
            continue
        if char == "?":
            piece, i = "[^/]", i + 1
        elif char == "[":
            piece, i = _bracket(glob, i + 1)
        else:
            i += char == "\\"
            if i >= len(glob):
                return _NEVER  # a backslash with nothing behind it
            piece, i = re.escape(glob[i]), i + 1
        groups[-1][1][-1] += piece
    *inner, last = (skip + _stars(pieces) for skip, pieces in groups)
    return "".join(f"(?>{group})" for group in inner) + last


def _stars(pieces: list[str]) -> str:
    """The pieces between single `*`s, joined."""
    first, *rest = pieces
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>[^/]*?{piece})" for piece in middle) + f"[^/]*{last}"


def _bracket(glob: str, i: int) -> tuple[str, int]:
    """A bracket expression from behind its `[`: the regular expression and the index behind its `]`."""
    negated = glob[i : i + 1] in ("!", "^")
    i += negated
    members: set[str] = set()
    previous = ""
    first = True
    while i < len(glob) and (first or glob[i] != "]"):
        first = False
        char = glob[i]
        if char == "\\":
            i += 1
            if i >= len(glob):
                break
            previous = glob[i]
            members.add(previous)
        elif char == "-" and previous and glob[i + 1 : i + 2] not in ("", "]"):
            i += 1 + (glob[i + 1] == "\\")
            if i >= len(glob):
                break
            members.update(map(chr, range(ord(previous), ord(glob[i]) + 1)))
            previous = ""
        elif glob.startswith("[:", i) and (close := glob.find("]", i + 2)) >= 0 and _is_class(glob, i, close):
            name = glob[i + 2 : close - 1]
            if name not in _CLASSES:
                return _NEVER, len(glob)
            members.update(_CLASSES[name])
            i, previous = close, ""
        elif glob.startswith("[:", i) and glob.find("]", i + 2) < 0:
            break
        else:
            members.add(char)
            previous = char
        i += 1
    if i >= len(glob):
        return _NEVER, len(glob)  # never closed
    members.discard("/")  # no bracket expression matches a slash
    inside = "".join(map(re.escape, sorted(members)))
    if negated:
        return f"[^/{inside}]", i + 1
    return (f"[{inside}]" if inside else _NEVER), i + 1


def _is_class(glob: str, start: int, close: int) -> bool:
    return close - 1 >= start + 2 and glob[close - 1] == ":"


def read_rules(contents: Iterable[tuple[str, bytes]]) -> tuple[RuleFile, ...]:
    """Parse several ignore files, weakest first, each given as (directory it is relative to, content)."""
    return tuple(parse_rules(content, base=base) for base, content in contents)
