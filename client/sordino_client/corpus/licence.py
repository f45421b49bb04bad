"""Takes licence headers off, and leaves licence texts out.

A header is the same in every file of an organisation. Left in, it would make short files look like near-duplicates of
each other, and the model would learn to write it.
"""

from __future__ import annotations

import re

_NAMES = re.compile(
    r"(?:un)?licen[cs]es?(?:[.-].*)?|copying(?:[.-].*)?|notices?(?:\.(?:txt|md|rst|html))?|copyright(?:\..*)?"
    r"|patents|eula(?:\..*)?|third.?party.*notices.*",
    re.IGNORECASE,
)
_SOURCE_SUFFIX = re.compile(
    r"\.(?:py|pyi|java|js|ts|go|rs|c|h|cc|cpp|cs|rb|kt|php|swift|scala)", re.IGNORECASE
)
_WORDS = re.compile(
    r"SPDX-License-Identifier|\blicen[cs]ed? (?:under|to|is|file)\b|\bcopyright\b|\(c\) ?\d{4}|©|all rights reserved"
    r"|permission is hereby granted|redistribution and use|GNU (?:Lesser |Affero )?General Public|Apache License"
    r"|Mozilla Public License|MIT License|BSD.{0,12}licen[cs]e|public domain|NOTICE file|LICEN[CS]E file",
    re.IGNORECASE,
)
_LITERALS = (  # every match of _WORDS contains one of these
    *("licen", "copyright", "(c)", "©", "reserved", "permission", "redistribution", "general public", "bsd"),
    *("domain", "notice"),
)
# Lines that must stay at the very top: interpreter, encoding, opening tag.
_PREAMBLE = re.compile(r"#!.*|#.*?coding[:=].*|<\?(?:php|xml).*|<!doctype.*|\s*", re.IGNORECASE)
_BLOCKS = (
    ("/*", "*/"),
    ("<!--", "-->"),
    ("(*", "*)"),
    ("{-", "-}"),
    ('"""', '"""'),
    ("'''", "'''"),
    ("=begin", "=end"),
)
_LINE_COMMENT = re.compile(r"\s*(//|#|--|;|%|'|dnl\b|REM\b)")


def is_licence_name(path: str) -> bool:
    """Whether a file is named as a licence, copyright or notice text (and is not a source file of that name)."""
    name = path[path.rfind("/") + 1 :]
    return _NAMES.fullmatch(name) is not None and _SOURCE_SUFFIX.search(name) is None


def strip_header(text: str) -> str:
    """The text without the comment blocks at its top that speak of licence or copyright.

    Other comments stay, and so do the lines that must come first (`#!`, encoding, `<?php`). Stripping twice changes
    nothing more.
    """
    while (shorter := _strip_once(text)) != text:
        text = shorter
    return text


def _strip_once(text: str) -> str:
    folded = text[:16384].lower()
    if not any(literal in folded for literal in _LITERALS):
        return text
    lines = text.split("\n")
    start = 0
    while start < len(lines) and _PREAMBLE.fullmatch(lines[start]):
        start += 1
    preamble = [line for line in lines[:start] if line.strip()]
    position = start
    while position < len(lines):
        end = _block_end(lines, position)
        if end == position or _WORDS.search("\n".join(lines[position:end])) is None:
            break
        position = end
        while position < len(lines) and not lines[position].strip():
            position += 1
    if position == start:
        return text
    return "\n".join(preamble + lines[position:])


def _block_end(lines: list[str], start: int) -> int:
    """The index behind the comment block that begins at `start`, or `start` when there is none."""
    first = lines[start].lstrip()
    for opening, closing in _BLOCKS:
        if first.startswith(opening):
            if closing in first[len(opening) :]:
                # If code follows the comment on its last line, the whole block is kept.
                return start + 1 if first.rstrip().endswith(closing) else start
            for end in range(start + 1, len(lines)):
                if closing in lines[end]:
                    return end + 1 if lines[end].rstrip().endswith(closing) else start
            return start
    mark = _LINE_COMMENT.match(first)
    if mark is None:
        return start
    end = start
    while end < len(lines) and lines[end].lstrip().startswith(mark[1]):
        end += 1
    return end
