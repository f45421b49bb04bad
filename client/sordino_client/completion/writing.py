"""Writes the alternatives of one query: token by token, until each alternative ends.

One loop serves every case. Alternatives are branches that share the prompt's rows of the cache and advance
together, one read per step. A single greedy branch may be given drafts (tokens that the local memory expects next).
They are read in one block and kept only as far as the model itself would have written them, so the text is the same as
without drafts (Leviathan et al. 2023), only sooner. choosing.py chooses a step's token; text/fitting.py cuts the
written text to what fits its place.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sordino_client.completion.cache import KeyValueCache, Network, causal
from sordino_client.completion.choosing import TokenChoice
from sordino_client.completion.prompt import Prompt
from sordino_client.completion.query import (
    MAX_ALTERNATIVES,
    Cancelled,
    Completion,
    OnText,
    Probabilities,
    Query,
    Recall,
    WrittenToken,
)
from sordino_client.completion.showing import judgement
from sordino_client.completion.showing.judgement import Unshown
from sordino_client.completion.stopping import Finish, Stops, judge_stop
from sordino_client.completion.text.fitting import Cut, Fit
from sordino_client.completion.text.place import LF, Place, normal
from sordino_client.completion.text.utf8 import START
from sordino_client.completion.vocabulary import Vocabulary
from sordino_client.corpus import languages
from sordino_platform.tokenizer import END

DRAFT = 8
# An alternative whose first token is less likely than this share of the best one's is not worth showing.
BRANCH_RATIO = 0.02


@dataclass(slots=True)
class Slot:
    """A cache and the tokens whose rows it holds."""

    cache: KeyValueCache
    tokens: list[int] = field(default_factory=list)
    opening: tuple[str, ...] = ()
    used: int = 0


@dataclass(slots=True)
class _Branch:
    """One alternative as it is written. `state` of UTF-8 behind it; `counted`: tokens behind the cursor."""

    written: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    state: int = START
    counted: int = 0
    tokens: list[WrittenToken] = field(default_factory=list)
    logprob: float = 0.0
    sent: int = 0
    sent_tokens: int = 0
    text: str = ""
    finish: Finish | None = None
    cut: Cut | Unshown | None = None


class Writing:
    """The writing of one query's alternatives."""

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        query: Query,
        place: Place,
        prompt: Prompt,
        slot: Slot,
        memory: Recall | None,
        limit: int,
        check: threading.Event,
        on_text: OnText | None,
    ) -> None:
        self.network, self.vocabulary, self.place = network, vocabulary, place
        self.pieces, self.continuations = vocabulary.pieces, vocabulary.continuations
        self.query, self.slot, self.memory, self.check, self.on_text = query, slot, memory, check, on_text
        self.show = query.show if query.show is not None and query.temperature <= 0 else "all"
        self.hopeless = judgement.hopeless(self.show)
        self.typed = prompt.typed
        self.shared = slot.cache.length
        count = max(1, min(query.alternatives, MAX_ALTERNATIVES))
        # Tokens that healing took back are written again and do not count towards the limit; positions end with the
        # context.
        self.limit = limit
        self.rows = min(limit + len(prompt.typed), network.shape.context - len(prompt.tokens))
        if count > 1:
            slot.cache.resize(self.shared + count * self.rows)
        self.count = count
        self.streamed = on_text is not None and count == 1 and self.show == "all"
        self.stops = Stops(
            prefix=place.prefix,
            suffix=place.suffix,
            strings=tuple(normal(string) for string in query.stop),
            multiline=query.multiline,
        )
        self.fit = Fit(place.prefix, place.suffix, (query.path and languages.by_name(query.path)) or "")
        self.block = self.stops.block()
        self.deadline = time.perf_counter() + query.seconds if query.seconds is not None else float("inf")
        self.choice = TokenChoice(vocabulary, query, memory)
        self.generated = self.healed = self.drafted = 0

    def write(self, logits: npt.NDArray[np.float32]) -> tuple[Completion, ...]:
        if self.limit < 1:
            return (Completion("", "length", (), 0.0),)
        branches = [_Branch() for _ in range(self.count)]
        self._first(branches, logits[0])
        while active := [branch for branch in branches if branch.finish is None]:
            if self.check.is_set():
                raise Cancelled
            if self.count == 1:
                self._advance_alone(active[0])
            else:
                self._advance(active)
        if self.count > 1:
            self.slot.cache.truncate(self.shared)
        done = [self._completion(branch) for branch in branches if branch.written or branch.finish == "end"]
        ordered = sorted(enumerate(done), key=lambda item: (item[0] != 0, -item[1].confidence))
        distinct = {completion.text: completion for _, completion in reversed(ordered)}
        unique = [completion for _, completion in ordered if distinct.get(completion.text) is completion]
        # A request that samples n alternatives gets n; among greedy alternatives each text is shown once.
        return tuple(done if self.query.temperature > 0 else unique)

    def _first(self, branches: list[_Branch], logits: npt.NDArray[np.float32]) -> None:
        """The first token of every branch: sampled, or the likeliest few, one each."""
        probabilities = self._distribution(logits, branches[0])
        if self.query.temperature > 0 or self.count == 1:
            for branch in branches:
                self._take(branch, self.choice.choose(probabilities), probabilities)
            return
        best = np.argsort(-probabilities, kind="stable")[: self.count]
        for branch, token in zip(branches, best.tolist(), strict=False):
            if probabilities[token] >= BRANCH_RATIO * probabilities[best[0]] and probabilities[token] > 0:
                self._take(branch, token, probabilities)
        for branch in branches:
            branch.finish = branch.finish or (None if branch.written else "stop")

    def _advance(self, active: list[_Branch]) -> None:
        """One more token for each branch, in one read."""
        cache, count = self.slot.cache, len(active)
        mask = np.zeros((count, cache.length + count), np.bool_)
        mask[:, : self.shared] = True
        for number, branch in enumerate(active):
            branch.rows.append(cache.length + number)
            mask[number, branch.rows] = True
        tokens = np.array([branch.written[-1] for branch in active], np.int64)
        positions = np.array([self.shared + len(branch.written) - 1 for branch in active], np.int64)
        logits = self.network.read(cache, tokens, positions, mask, np.arange(count))
        for branch, row in zip(active, logits, strict=True):
            probabilities = self._distribution(row, branch)
            self._take(branch, self.choice.choose(probabilities), probabilities)

    def _advance_alone(self, branch: _Branch) -> None:
        """One more token, and as many drafted ones as the model agrees with."""
        cache = self.slot.cache
        draft: list[int] = []
        if self.memory is not None and self.query.temperature == 0 and len(branch.raw) >= len(self.typed):
            room = min(DRAFT, self.limit - branch.counted)
            draft = self.memory.draft(branch.written, room) if room > 0 else []
        start = cache.length
        tokens = np.array([branch.written[-1], *draft], np.int64)
        stop = start + len(tokens)
        logits = self.network.read(
            cache, tokens, np.arange(start, stop), causal(start, len(tokens)), np.arange(len(tokens))
        )
        kept = 1
        for row, expected in zip(logits, [*draft, None], strict=True):
            probabilities = self._distribution(row, branch)
            token = self.choice.choose(probabilities)
            self._take(branch, token, probabilities)
            if branch.finish is not None or token != expected:
                break
            kept += 1
            self.drafted += 1
        cache.truncate(start + kept)
        self.slot.tokens.extend(tokens[:kept].tolist())

    def _distribution(self, logits: npt.NDArray[np.float32], branch: _Branch) -> Probabilities:
        return self.choice.distribution(
            logits, branch.written, missing=self.typed[len(branch.raw) :], state=branch.state
        )

    def _take(self, branch: _Branch, token: int, probabilities: Probabilities) -> None:
        """Adds a token to the branch and decides whether it ends there."""
        logprob = math.log(max(float(probabilities[token]), 1e-300))
        branch.logprob += logprob
        if token == END:
            self.generated += 1
            branch.finish = "end"
            self._fitted(branch, len(branch.text))
            return
        branch.written.append(token)
        before = branch.text
        branch.raw += self.pieces[token]
        branch.state = int(self.continuations.after[branch.state, token])
        if len(branch.raw) > len(self.typed):
            branch.counted += 1
            self.generated += 1
        else:
            self.healed += 1
        branch.text = _decode(bytes(branch.raw[len(self.typed) :]))
        branch.tokens.append(
            WrittenToken(branch.text[len(before) :], logprob, self._likeliest(probabilities))
        )
        verdict = judge_stop(branch.text, self.stops, self.block)
        if verdict.finish is not None:
            branch.finish = verdict.finish
        elif branch.logprob < self.hopeless:
            branch.finish = "cut"
        elif (
            branch.counted >= self.limit
            or len(branch.written) >= self.rows
            or time.perf_counter() > self.deadline
        ):
            branch.finish = "length"
        self._fitted(branch, verdict.end if branch.finish is not None else verdict.safe)

    def _likeliest(self, probabilities: Probabilities) -> dict[str, float]:
        """The tokens that were likeliest instead. A part of a character is shown by its bytes."""
        if not self.query.top_logprobs:
            return {}
        likeliest = np.argsort(-probabilities, kind="stable")[: self.query.top_logprobs].tolist()
        return {
            _shown(self.pieces[t]): float(np.log(probabilities[t])) for t in likeliest if probabilities[t] > 0
        }

    def _fitted(self, branch: _Branch, upto: int) -> None:
        """Cuts the branch to what is offered at its place, if it ended or should end; streams the text that is certain
        to stay."""
        done = branch.finish is not None
        text = branch.text[:upto] if done else branch.text
        fitted = self.fit(text, done=done, cut_short=branch.finish == "length", streamed=self.streamed)
        if done or fitted.over:
            branch.finish = branch.finish or "cut"
            branch.text, branch.cut = text[: fitted.end], fitted.cut
            branch.tokens = _within(branch.tokens, len(branch.text))
            self._judged(branch)
        self._send(branch, len(branch.text) if branch.finish is not None else min(upto, fitted.safe))

    def _judged(self, branch: _Branch) -> None:
        """Shortens a text that ended to what is worth showing."""
        pieces, logprobs = [t.text for t in branch.tokens], [t.logprob for t in branch.tokens]
        judged = judgement.judge(branch.text, pieces, logprobs, self.place, self.query.path, self.show)
        if judged.end < len(branch.text):
            branch.text, branch.cut = branch.text[: judged.end], branch.cut or judged.why
            branch.tokens = _within(branch.tokens, judged.end)

    def _send(self, branch: _Branch, safe: int) -> None:
        """Streams the first alternative as far as it will certainly stay."""
        if self.on_text is None or self.count != 1 or not (self.streamed or branch.finish):
            return
        upto = len(branch.tokens)
        if branch.finish is None:
            ends = np.cumsum([len(token.text) for token in branch.tokens])
            upto = int(np.searchsorted(ends, safe, side="right"))
        fresh = branch.tokens[branch.sent_tokens : upto]
        if safe > branch.sent or (fresh and branch.finish):
            self.on_text(0, self.place.outward(branch.text[branch.sent : safe]), self._outward(fresh))
            branch.sent, branch.sent_tokens = max(safe, branch.sent), max(upto, branch.sent_tokens)

    def _outward(self, tokens: Sequence[WrittenToken]) -> tuple[WrittenToken, ...]:
        if self.place.ending == LF:
            return tuple(tokens)
        return tuple(replace(token, text=self.place.outward(token.text)) for token in tokens)

    def _completion(self, branch: _Branch) -> Completion:
        count = len(branch.written) + (branch.finish == "end")
        return Completion(
            text=self.place.outward(branch.text),
            cut=branch.cut,
            finish=branch.finish or "length",
            tokens=self._outward(branch.tokens),
            confidence=float(np.exp(branch.logprob / count)) if count else 0.0,
        )


def _within(tokens: Sequence[WrittenToken], length: int) -> list[WrittenToken]:
    """The tokens of the first `length` characters; the last one's text only as far."""
    kept: list[WrittenToken] = []
    at = 0
    for token in tokens:
        end = at + len(token.text)
        if at >= length and token.text:
            break
        kept.append(token if end <= length else replace(token, text=token.text[: length - at]))
        at = end
    return kept


def _shown(piece: bytes) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{value:02x}" for value in piece)


def _decode(data: bytes) -> str:
    """UTF-8, without a character that is not complete yet; impossible bytes become U+FFFD."""
    for missing in range(1, min(4, len(data) + 1)):
        lead = data[-missing]
        if lead & 0xC0 == 0x80:
            continue
        wanted = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        if wanted > missing:
            data = data[:-missing]
        break
    return data.decode("utf-8", "replace")
