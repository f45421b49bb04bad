"""Cleans a document before training: removes licence headers, and refuses generated and copyleft files.

>>> clean("/*\\n * Licensed to the ASF ...\\n */\\npackage a;\\n\\nclass A { int x; }\\n...", "java")
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MIN_CHARACTERS = 200
MAX_LINE = 1_000
MAX_MEAN_LINE = 120

_LICENCE = re.compile(r"licen[cs]e|copyright|\(c\)|©|all rights reserved|spdx|warrant", re.IGNORECASE)
_COPYLEFT = re.compile(
    r"\b(?:A|L)?GPL|general public licen[cs]e|mozilla public|common development and distribution|eclipse public"
    r"|\b(?:MPL|CDDL|EPL)\b|creative commons|proprietary and confidential",
    re.IGNORECASE,
)
_GENERATED = re.compile(
    r"do not (?:edit|modify)|(?:auto[- ]?|automatically |machine[- ])generated|generated (?:by|from|code|automatically)"
    r"|@generated\b|this (?:file|class) (?:is|was) generated",
    re.IGNORECASE,
)
_JAVA_HEADER = re.compile(r"\s*(?:/\*.*?\*/|(?://[^\n]*\n\s*)+)", re.DOTALL)
# One comment per match: in Go the comment after the licence is the package's documentation.
_SCRIPT_HEADER = re.compile(r"\s*(?:#!/[^\n]*\n\s*)?(?:/\*.*?\*/|(?://[^\n]*(?:\n|$))+)", re.DOTALL)
_PYTHON_HEADER = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)+")
_HEADERS = {"java": _JAVA_HEADER, "python": _PYTHON_HEADER}
_BLANK_RUN = re.compile(r"\n{4,}")
_TRAILING_SPACE = re.compile(r"[ \t\f\v]+$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedFile:
    """A file that is not used, and the reason in one word."""

    reason: str


def strip_header(text: str, language: str) -> tuple[str, str]:
    """Splits `text` into its leading licence comments and the rest. Other comments stay in the rest."""
    header, pattern = "", _HEADERS.get(language, _SCRIPT_HEADER)
    while match := pattern.match(text):
        comment = match.group()
        if not comment.strip() and language == "python":
            break
        if not _LICENCE.search(comment):
            break
        header += comment
        text = text[match.end() :]
    return header, text


def clean(text: str, language: str, *, permissive_only: bool) -> str | RejectedFile:
    """The text to train on, ending in one newline, or the reason why there is none.

    `permissive_only` refuses a file whose own header names a copyleft licence, whatever its project declares.
    """
    header, body = strip_header(text, language)
    # Some projects put the licence after the package line or in the module's docstring: search a little further.
    if permissive_only and (_COPYLEFT.search(header) or _COPYLEFT.search(body[:1500])):
        return RejectedFile(reason="licence")
    if _GENERATED.search(header) or _GENERATED.search(body[:800]):
        return RejectedFile(reason="generated")
    body = _BLANK_RUN.sub("\n\n\n", _TRAILING_SPACE.sub("", body)).strip("\n") + "\n"
    if len(body) < MIN_CHARACTERS:
        return RejectedFile(reason="too small")
    lines = body.split("\n")
    if max(map(len, lines)) > MAX_LINE or len(body) / len(lines) > MAX_MEAN_LINE:
        return RejectedFile(reason="minified or data")
    digits = sum(map(body.count, "0123456789"))
    if digits > len(body) // 5:
        return RejectedFile(reason="minified or data")
    return body
