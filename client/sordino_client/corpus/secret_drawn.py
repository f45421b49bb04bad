"""Finds long literals that were drawn at random and not written by a person, wherever they stand: the net below the
other two modules.

A digest looks random, too, but is not a secret: it stays if its line says that it is a digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sordino_client.corpus.secret_rules import Span
from sordino_client.corpus.secret_syntax import DIGEST
from sordino_client.corpus.secret_values import is_hex, is_uuid, looks_random, randomness


def drawn_spans(text: str) -> Iterator[Span]:
    """Every long run of drawn characters that is no identifier, unless its line speaks of a digest."""
    for match in _RUN.finditer(text):
        value = match[0]
        if not any(map(str.isdigit, value)) or is_uuid(value):
            continue
        quoted = (
            text[max(match.start() - 1, 0) : match.start()] in _QUOTES
            and text[match.end() : match.end() + 1] in _QUOTES
        )
        if not looks_random(value, least=24 if quoted else 40) or _is_digest_line(text, match.start()):
            continue
        if quoted or _all_classes(value) or (len(value) >= 64 and is_hex(value)):
            yield Span(start=match.start(), end=match.end(), rule="random-literal")


_RUN = re.compile(r"(?<![\w+/=~.-])[A-Za-z0-9+/_=~-]{24,}(?![\w.])")
_QUOTES = frozenset("\"'`")


def _all_classes(value: str) -> bool:
    return any(map(str.isupper, value)) and any(map(str.islower, value)) and randomness(value) >= 0.4


def _is_digest_line(text: str, at: int) -> bool:
    return DIGEST.search(text, max(text.rfind("\n", 0, at) + 1, at - 200), at) is not None
