"""Fill-in-the-middle that a client has written into the prompt, as clients do for models with such tokens.

The sentinels delimit a whole prompt and never become tokens: they count only if a prompt *ends* in the form of one
template, and the text between them is plain text to the tokenizer. Source code that merely contains `<fim_prefix>` is
source code.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sordino_client.completion.context import Snippet


class Filled(NamedTuple):
    """The text before and behind the cursor; where the template has them, the path and other files, last first."""

    prefix: str
    suffix: str
    path: str | None = None
    others: tuple[Snippet, ...] = ()


class _Template(NamedTuple):
    begin: str
    hole: str
    end: str


TEMPLATES = (
    _Template("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, SantaCoder
    _Template("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    _Template("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
    _Template("<PRE> ", " <SUF>", " <MID>"),  # CodeLlama
)
SEPARATED = re.compile(r"<\|?file_sep\|?>([^\n<]{1,4096})\n")
NAMED = re.compile(r"<\|?file_sep\|?>([^\n<]{1,4096})\n?\s*\Z")
CODESTRAL_SUFFIX, CODESTRAL_PREFIX = "[SUFFIX]", "[PREFIX]"


def split(prompt: str, suffix: str) -> Filled:
    """The text before and behind the cursor. A prompt that is not of a template's form is all before it."""
    if suffix:
        return Filled(
            prompt, suffix
        )  # the client gives both sides itself: nothing in its text is a delimiter
    for template in TEMPLATES:
        if prompt.endswith(template.end):
            inner = prompt.removesuffix(template.end)
            # What stands before the first sentinel describes other files (`<|repo_name|>...`), and this one's name.
            others, begin, rest = inner.partition(template.begin)
            before, hole, behind = rest.rpartition(template.hole)
            if begin and hole:
                return Filled(before, behind, _named(others), _files(others))
    if prompt.startswith(CODESTRAL_SUFFIX) and CODESTRAL_PREFIX in prompt:
        behind, _, before = prompt.removeprefix(CODESTRAL_SUFFIX).partition(CODESTRAL_PREFIX)
        return Filled(before, behind)
    return Filled(prompt, suffix)


def _named(others: str) -> str | None:
    """The path behind the last separator of files, if no text of a file follows it."""
    found = NAMED.search(others)
    return found.group(1) if found else None


def _files(others: str) -> tuple[Snippet, ...]:
    """The files that stand before this one, each behind a separator and its path."""
    _, *parts = SEPARATED.split(NAMED.sub("", others))
    found = [Snippet(path=path, text=text) for path, text in zip(parts[::2], parts[1::2], strict=True)]
    return tuple(reversed([snippet for snippet in found if snippet.text.strip()]))
