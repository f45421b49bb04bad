"""Decides how much of a written text is offered at its place. Pure.

A text is cut only at its end, so a stream and a whole answer give the same: the part that `Fitted.safe` has let out is
always a beginning of the final text. A stream goes line by line, because how the last line is cut depends on the whole
line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from sordino_client.completion.text import following, loops
from sordino_client.completion.text.brackets import Surroundings
from sordino_client.corpus.secrets import credential_in

Cut = Literal["repeats_suffix", "loop", "credential"]

CLOSING: Final = re.compile(r"[)\]}\"'`]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """`text[:end]` is offered; `text[:safe]` stays, whatever is written after it; `over`: further text cannot change
    the result."""

    end: int
    safe: int = 0
    cut: Cut | None = None
    over: bool = False


class Fit:
    """The rules of one place. `prefix` and `suffix` with LF only; `language` where it is known (corpus/languages.py).

    >>> Fit("foo(a, b", ");")("ar)", done=True).end
    2
    """

    def __init__(self, prefix: str, suffix: str, language: str = "") -> None:
        self._prefix, self._suffix, self._language = prefix, suffix, language
        self._clean = 0  # this much of the text has been searched: no credential is in it
        self._line = prefix[prefix.rfind("\n") + 1 :]
        self._rest = suffix.partition("\n")[0].rstrip()
        self._below = following.next_lines(suffix)
        self._around: Surroundings | None = None

    def __call__(self, text: str, *, done: bool, cut_short: bool = False, streamed: bool = True) -> Fitted:
        """`done`: the text is complete; `cut_short`: it ended at a limit, so its last line may be unfinished. If the
        text is not `streamed`, `safe` is 0 until the end, because nobody needs it at each token."""
        fitted = self._fitted(text, done=done, cut_short=cut_short, streamed=streamed)
        offered = fitted.end if done or fitted.over else fitted.safe
        if offered <= self._clean:
            return fitted
        # The last of three defences: whatever the model or the memory recalls, no credential is shown.
        credential = credential_in(self._prefix, text[:offered], self._rest, self._language)
        if credential is None:
            self._clean = offered
            return fitted
        end = max(len(text[:credential].rstrip()), self._clean)
        return Fitted(end=end, safe=end, cut="credential", over=True)

    def _fitted(self, text: str, *, done: bool, cut_short: bool, streamed: bool) -> Fitted:
        wrong = self._wrong(text, done=done, cut_short=cut_short)
        if wrong is None and not done:
            return Fitted(end=len(text), safe=self._safe(text) if streamed else 0)
        kept = self._joined(text if wrong is None else text[: wrong[0]].rstrip())
        cut: Cut | None = wrong[1] if wrong is not None else None
        if cut is None and len(kept.rstrip()) < len(text.rstrip()):
            cut = "repeats_suffix"
        return Fitted(end=len(kept), safe=len(kept), cut=cut, over=True)

    def _wrong(self, text: str, *, done: bool, cut_short: bool) -> tuple[int, Cut] | None:
        """The first place at which the text is certainly wrong, and why."""
        found: list[tuple[int, Cut]] = []
        last = text.rfind("\n") + 1
        looped = loops.in_line(text[last:])
        if looped is not None:
            found.append((last + looped, "loop"))
        if last:
            lines = text[: last - 1].split("\n")
            run, loop = loops.repeated_lines(lines)
            if loop:
                found.append((len("\n".join(lines[: len(lines) - run])), "loop"))
        if self._below and (last or done):
            whole = text if done else text[: last - 1]
            repeated = following.repeated_from(whole, self._line, self._below, cut_short=cut_short)
            if repeated is not None:
                found.append((repeated, "repeats_suffix"))
        if CLOSING.search(text):
            balance = self._surroundings().check(text)
            if balance.end is not None:
                found.append((balance.end, "repeats_suffix"))
        return min(found, key=lambda item: item[0], default=None)

    def _joined(self, text: str) -> str:
        """The text before a rest of the line: it leaves no bracket or quote open that would swallow the rest, and
        repeats nothing of it."""
        if not self._rest:
            return text
        dangling = self._surroundings().check(text).dangling
        if dangling is not None:
            text = text[:dangling]
        return text[: len(text) - following.overlap(text, self._rest)]

    def _safe(self, text: str) -> int:
        """Whole lines, without blank ones at the end and without those that repeat earlier ones: they may become a
        loop. If a rest of the line follows, nothing: an offered text must fit before it."""
        last = text.rfind("\n")
        if last < 0 or self._rest:
            return 0
        lines = text[:last].split("\n")
        run, _ = loops.repeated_lines(lines)
        return len("\n".join(lines[: len(lines) - run]).rstrip())

    def _surroundings(self) -> Surroundings:
        if self._around is None:
            self._around = Surroundings(self._prefix, self._suffix)
        return self._around
