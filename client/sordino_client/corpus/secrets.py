"""Finds credentials in a text, masks them, and leaves out what is hardly anything else.

Three sources make one list of spans: shapes that only credentials have (`secret_rules`), the code around a literal
(`secret_context`), and long literals that look drawn at random (`secret_drawn`). A span is replaced by a placeholder
before anything is tokenised or remembered, so that the file is kept and the value is not. A file that consists of
certain credentials (a key file) is left out whole.

Only names of rules leave this module: never the credential, its line or its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from sordino_client.corpus.secret_context import contextual
from sordino_client.corpus.secret_drawn import drawn_spans
from sordino_client.corpus.secret_rules import RULES, Rule, Span
from sordino_client.corpus.secret_values import PLACEHOLDER

# Part of the key of everything on disk that depends on the rules: a change of the rules makes it again.
RULES_VERSION = 2
# If certain credentials are this share of a text, it is a key file, whatever its name.
_DENSE = 0.5
# How much of the line around a suggestion is judged with it, in characters on each side.
_CONTEXT = 500
_QUOTES = ('"', "'", "`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """A text without its credentials. `masked` counts literals by rule; `left_out`: the rule that refused it whole."""

    text: str = field(repr=False)
    masked: Mapping[str, int]
    left_out: str | None = None


def screen(text: str, language: str = "") -> Screened:
    """The text with a placeholder for every literal that may be a credential. `language`: see `languages`."""
    spans = list(find_secrets(text, language))
    if not spans:
        return Screened(text=text, masked=MappingProxyType({}))
    certain = [span for span in spans if span.certain]
    visible = len(text) - sum(map(text.count, " \n\t"))
    if sum(span.end - span.start for span in certain) >= _DENSE * visible:
        return Screened(text="", masked=MappingProxyType({}), left_out=certain[0].rule)
    pieces = []
    at = 0
    for span in spans:
        pieces += [text[at : span.start], PLACEHOLDER]
        at = span.end
    pieces.append(text[at:])
    masked = Counter(span.rule for span in spans)
    return Screened(text="".join(pieces), masked=MappingProxyType(dict(masked)))


def find_secrets(text: str, language: str = "", rules: Sequence[Rule] | None = None) -> Iterator[Span]:
    """Every credential in the text, in order, overlapping ones merged under the rule that was surer.

    `rules`: the only rules whose literals may be in the text, if that is known.
    """
    current: Span | None = None
    found = _all(text, language, _with_literals(text) if rules is None else rules)
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if current is None or span.start >= current.end:
            if current is not None:
                yield current
            current = span
        else:
            surer = span if span.certain and not current.certain else current
            current = Span(
                start=current.start, end=max(current.end, span.end), rule=surer.rule, certain=surer.certain
            )
    if current is not None:
        yield current


def credential_in(before: str, suggestion: str, after: str = "", language: str = "") -> int | None:
    """Where the first line of a suggestion begins that would put a credential, or a part of one, between `before` and
    `after`; None if there is none.

    The cursor's line is judged as a whole, because the name that gives a literal away is often typed already.
    """
    head = before[before.rfind("\n") + 1 :][-_CONTEXT:]
    tail = after.split("\n", 1)[0][:_CONTEXT]
    start, end = len(head), len(head) + len(suggestion)
    found: list[int] = []
    # No literal of a rule holds a quote: a quote that is put in cannot make one that was not there.
    rules = _with_literals(head + suggestion + tail)
    # A suggestion may stop within a literal that it began: closed, it is judged as what it will become.
    for closing in ("", *_QUOTES):
        text = head + suggestion + closing + tail
        for span in find_secrets(text, language, rules):
            first = span.end - len(text[span.start : span.end].lstrip())
            if first < end and span.end > start:
                found.append(max(first, start) - start)
    return suggestion.rfind("\n", 0, min(found)) + 1 if found else None


def _with_literals(text: str) -> Sequence[Rule]:
    """The rules with a literal in the text. Most texts have none, and a substring search is cheaper than an
    expression."""
    folded = _folded(text)
    return [
        rule for rule in RULES if any(literal in (folded if rule.fold else text) for literal in rule.literals)
    ]


def _all(text: str, language: str, rules: Sequence[Rule]) -> Iterator[Span]:
    for rule in rules:
        yield from rule.spans(text)
    yield from contextual(text, _folded(text), language)
    yield from drawn_spans(text)


def _folded(text: str) -> str:
    """Lower case, as long as the text: a few letters (İ) have longer lower forms, and only ASCII is looked for."""
    folded = text.lower()
    return folded if len(folded) == len(text) else "".join(c.lower() if c.isascii() else c for c in text)
