"""From a query to completions: reads the prompt, writes tokens, ends where it should.

One loop serves every case. Alternatives are branches that share the prompt's rows of the cache and advance
together, one read per step. A single greedy branch may be given drafts (what the local memory expects next): they
are read in one block and kept only as far as the model itself would have written them, so the text is the same as
without (Leviathan et al. 2023), only sooner.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sordino_client.completion import prompt as prompts
from sordino_client.completion.cache import MAX_BRANCHES, KeyValueCache, Network, causal
from sordino_client.completion.stopping import Finish, Stops, judge, without_repeated_suffix
from sordino_client.completion.vocabulary import Vocabulary
from sordino_platform.tokenizer import END, SPECIALS

# A prompt is read in pieces: the scratch memory stays small, and a cancelled request ends within one of them.
CHUNK = 128
DRAFT = 8
MAX_ALTERNATIVES = MAX_BRANCHES
MAX_TOKENS = 256
RESERVE = 64
# Prompts of several files stay read, within so much memory.
SLOTS = 3
SLOT_BYTES = 32 << 20
# An alternative whose first token is less likely than this, next to the best, is not worth showing.
BRANCH_RATIO = 0.02

Probabilities = npt.NDArray[np.float64]


class Cancelled(Exception):  # noqa: N818 - not an error: a newer request came, or nobody listens any more
    """The query was withdrawn while it was answered."""


class Recall(Protocol):
    """What the local memory contributes to one query."""

    def mix(self, probabilities: Probabilities, written: Sequence[int]) -> Probabilities:
        """The model's next-token distribution, `(vocabulary,)`, mixed with the memory's after `written`."""
        ...

    def draft(self, written: Sequence[int], count: int) -> list[int]:
        """Up to `count` tokens that followed the same text before; empty when nothing matches well."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One request, whatever its dialect. `prefix` and `suffix` are text; bounds are the dialects' to check."""

    prefix: str = field(repr=False)
    suffix: str = field(default="", repr=False)
    max_tokens: int = 48
    alternatives: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)
    multiline: bool | None = None
    top_logprobs: int = 0
    heal: bool = True
    # After so long, writing ends with the token in hand.
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """One written token: its text as far as it lies behind the cursor, log-probability, and the likeliest instead."""

    text: str = field(repr=False)
    logprob: float
    top: dict[str, float] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """One alternative. `confidence` is the geometric mean of its tokens' probabilities, 0 when there are none;
    `repeats`: an ending that already stands behind the cursor was cut off."""

    text: str = field(repr=False)
    finish: Finish
    tokens: tuple[Token, ...]
    confidence: float
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All alternatives, best first, and what they cost (tokens; seconds)."""

    completions: tuple[Completion, ...]
    model: str
    prompt_tokens: int
    reused_tokens: int
    generated_tokens: int
    drafted_tokens: int
    first_token_seconds: float
    seconds: float


OnText = Callable[[int, str, Sequence[Token]], None]


@dataclass(slots=True)
class _Slot:
    """A cache and the tokens whose rows it holds."""

    cache: KeyValueCache
    tokens: list[int] = field(default_factory=list)
    opening: tuple[str, ...] = ()
    used: int = 0


@dataclass(slots=True)
class _Branch:
    typed: bytes
    written: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    tokens: list[Token] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    logprob: float = 0.0
    sent: int = 0
    sent_tokens: int = 0
    text: str = ""
    finish: Finish | None = None


class Generator:
    """One loaded model. Not thread-safe: the engine's worker is its only caller."""

    def __init__(self, network: Network, vocabulary: Vocabulary, *, name: str) -> None:
        self.network = network
        self.vocabulary = vocabulary
        self.name = name
        config = network.config
        self.context = config.context
        self.slots = max(1, min(SLOTS, SLOT_BYTES // (8 * config.layers * config.width * config.context)))
        self._slots: list[_Slot] = []
        self._clock = 0

    def answer(
        self,
        query: Query,
        *,
        recall: Callable[[prompts.Prompt], Recall | None] | None = None,
        on_text: OnText | None = None,
        cancelled: threading.Event | None = None,
    ) -> Answer:
        """Completes. `on_text(alternative, text, tokens)` gets what will certainly stay, as soon as that is known.

        Raises Cancelled between two reads once `cancelled` is set.
        """
        started = time.perf_counter()
        check = cancelled or threading.Event()
        limit = max(1, min(query.max_tokens, MAX_TOKENS, self.context // 2))
        prompt = prompts.build(
            self.vocabulary,
            query.prefix,
            query.suffix,
            budget=self.context - max(limit, min(RESERVE, self.context // 4)),
            openings=[slot.opening for slot in self._slots],
            heal=query.heal,
        )
        slot, reused = self._slot(prompt)
        logits = self._read_prompt(slot, prompt.tokens, check)
        first_token = time.perf_counter() - started
        memory = recall(prompt) if recall is not None else None
        run = _Run(self, query, prompt, slot, memory, limit, check, on_text)
        try:
            completions = run.write(logits)
        finally:
            slot.cache.truncate(self.context)
            slot.cache.resize(self.context)
            slot.tokens = slot.tokens[: slot.cache.length]
        return Answer(
            completions=completions,
            model=self.name,
            prompt_tokens=len(prompt.tokens),
            reused_tokens=reused,
            generated_tokens=run.generated,
            drafted_tokens=run.drafted,
            first_token_seconds=first_token,
            seconds=time.perf_counter() - started,
        )

    def warm(self, query: Query, cancelled: threading.Event | None = None) -> int:
        """Reads a query's prompt without writing anything; returns its tokens. The next query begins warm."""
        prompt = prompts.build(
            self.vocabulary,
            query.prefix,
            query.suffix,
            budget=self.context - min(RESERVE, self.context // 4),
            openings=[slot.opening for slot in self._slots],
        )
        slot, _ = self._slot(prompt)
        self._read_prompt(slot, prompt.tokens, cancelled or threading.Event())
        return len(prompt.tokens)

    def _slot(self, prompt: prompts.Prompt) -> tuple[_Slot, int]:
        """The cache that shares the longest beginning with the prompt, cut to it; or the one unused for longest."""
        self._clock += 1
        best = max(self._slots, key=lambda slot: _common(slot.tokens, prompt.tokens), default=None)
        shared = _common(best.tokens, prompt.tokens) if best else 0
        if best is None or (shared < min(16, len(prompt.tokens) // 2) and len(self._slots) < self.slots):
            best, shared = _Slot(KeyValueCache(self.network.config, self.context)), 0
            self._slots.append(best)
        elif shared < min(16, len(prompt.tokens) // 2):
            best, shared = min(self._slots, key=lambda slot: slot.used), 0
        # At least one token is read anew: its logits are needed.
        shared = min(shared, len(prompt.tokens) - 1)
        best.cache.truncate(shared)
        best.tokens = best.tokens[:shared]
        best.opening, best.used = prompt.opening, self._clock
        return best, shared

    def _read_prompt(
        self, slot: _Slot, tokens: Sequence[int], check: threading.Event
    ) -> npt.NDArray[np.float32]:
        logits = np.empty((0, 0), np.float32)
        while slot.cache.length < len(tokens):
            if check.is_set():
                raise Cancelled
            start = slot.cache.length
            part = np.array(tokens[start : start + CHUNK], np.int64)
            stop = start + len(part)
            logits = self.network.read(
                slot.cache, part, np.arange(start, stop), causal(start, len(part)), np.array([len(part) - 1])
            )
            slot.tokens.extend(part.tolist())
        return logits


class _Run:
    """The writing of one query's alternatives."""

    def __init__(
        self,
        generator: Generator,
        query: Query,
        prompt: prompts.Prompt,
        slot: _Slot,
        memory: Recall | None,
        limit: int,
        check: threading.Event,
        on_text: OnText | None,
    ) -> None:
        self.network = generator.network
        self.pieces = generator.vocabulary.pieces
        self.vocabulary = generator.vocabulary
        self.query, self.slot, self.memory, self.check, self.on_text = query, slot, memory, check, on_text
        self.typed = prompt.typed
        self.shared = slot.cache.length
        count = max(1, min(query.alternatives, MAX_ALTERNATIVES))
        # What healing took back is written again on top; positions end with the context.
        self.limit = max(1, min(limit + prompt.healed, generator.context - len(prompt.tokens)))
        if count > 1:
            slot.cache.resize(self.shared + count * self.limit)
        self.count = count
        self.stops = Stops(
            prefix=query.prefix, suffix=query.suffix, strings=query.stop, multiline=query.multiline
        )
        self.block = self.stops.block()
        self.deadline = time.perf_counter() + query.seconds if query.seconds is not None else float("inf")
        self.random = np.random.default_rng(query.seed)
        self.generated = self.drafted = 0

    def write(self, logits: npt.NDArray[np.float32]) -> tuple[Completion, ...]:
        branches = [_Branch(typed=self.typed) for _ in range(self.count)]
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
        # A sampler was asked for n and gets n; a list of greedy alternatives shows each text once.
        return tuple(done if self.query.temperature > 0 else unique)

    def _first(self, branches: list[_Branch], logits: npt.NDArray[np.float32]) -> None:
        """The first token of every branch: sampled, or the likeliest few, one each."""
        probabilities = self._distribution(logits, branches[0])
        if self.query.temperature > 0 or self.count == 1:
            for branch in branches:
                self._take(branch, self._choose(probabilities), probabilities)
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
            self._take(branch, self._choose(probabilities), probabilities)

    def _advance_alone(self, branch: _Branch) -> None:
        """One more token, and as many drafted ones as the model agrees with."""
        cache = self.slot.cache
        draft: list[int] = []
        if self.memory is not None and self.query.temperature == 0 and len(branch.raw) >= len(self.typed):
            room = min(DRAFT, self.limit - len(branch.written))
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
            token = self._choose(probabilities)
            self._take(branch, token, probabilities)
            if branch.finish is not None or token != expected:
                break
            kept += 1
            self.drafted += 1
        cache.truncate(start + kept)
        self.slot.tokens.extend(tokens[:kept].tolist())

    def _distribution(self, logits: npt.NDArray[np.float32], branch: _Branch) -> Probabilities:
        """Next-token probabilities of model and memory, restricted to what agrees with the text already typed."""
        shifted = np.exp(logits.astype(np.float64) - float(logits.max()))
        shifted[END + 1 : len(SPECIALS)] = 0
        probabilities: Probabilities = shifted / shifted.sum()
        if self.memory is not None:
            probabilities = self.memory.mix(probabilities, branch.written)
        missing = self.typed[len(branch.raw) :]
        if missing:
            allowed = self.vocabulary.agreeing(missing)
            restricted = np.zeros_like(probabilities)
            # The floor keeps what is typed possible even where the model holds it for impossible.
            restricted[allowed] = probabilities[allowed] + 1e-12
            probabilities = restricted / restricted.sum()
        return probabilities

    def _choose(self, probabilities: Probabilities) -> int:
        temperature = self.query.temperature
        if temperature <= 0:
            return int(probabilities.argmax())
        scaled = np.where(probabilities > 0, probabilities, 0) ** (1 / temperature)
        if not np.isfinite(total := scaled.sum()) or total <= 0:
            return int(probabilities.argmax())  # so cold that everything but the best underflows
        scaled /= total
        if self.query.top_p < 1:
            order = np.argsort(-scaled, kind="stable")
            behind = np.cumsum(scaled[order]) - scaled[order] >= self.query.top_p
            scaled[order[behind]] = 0
            scaled /= scaled.sum()
        return int(self.random.choice(len(scaled), p=scaled))

    def _take(self, branch: _Branch, token: int, probabilities: Probabilities) -> None:
        """Adds a token to the branch and decides whether it ends there."""
        self.generated += 1
        logprob = float(np.log(max(probabilities[token], 1e-300)))
        branch.logprob += logprob
        if token == END:
            branch.finish = "end"
            self._send(branch, len(branch.text))
            return
        branch.written.append(token)
        before = branch.text
        branch.raw += self.pieces[token]
        visible = bytes(branch.raw[len(self.typed) :])
        branch.text = _decode(visible)
        top = {}
        if self.query.top_logprobs:
            # Rarest first: of bytes that print alike, the likelier one stays.
            likeliest = np.argsort(-probabilities, kind="stable")[: self.query.top_logprobs][::-1].tolist()
            top = {
                self.pieces[t].decode("utf-8", "replace"): float(np.log(probabilities[t]))
                for t in likeliest
                if probabilities[t] > 0
            }
        branch.tokens.append(Token(branch.text[len(before) :], logprob, top))
        branch.ends.append(len(branch.text))
        verdict = judge(branch.text, self.stops, self.block)
        if verdict.finish is not None:
            branch.finish = verdict.finish
        elif len(branch.written) >= self.limit or time.perf_counter() > self.deadline:
            branch.finish = "length"
        branch.text = branch.text if branch.finish is None else branch.text[: verdict.end]
        self._send(branch, verdict.end if branch.finish is not None else verdict.safe)

    def _send(self, branch: _Branch, safe: int) -> None:
        """Streams the first alternative as far as it will certainly stay. What may still be the repeated rest of
        the line waits until the end."""
        if self.on_text is None or self.count != 1:
            return
        text = branch.text[:safe]
        if branch.finish is not None:
            text = without_repeated_suffix(text, self.query.suffix)
        else:
            text = text[: max(len(text) - len(self.query.suffix.split("\n", 1)[0].rstrip()), 0)]
        upto = (
            sum(1 for end in branch.ends if end <= len(text)) if branch.finish is None else len(branch.ends)
        )
        fresh = branch.tokens[branch.sent_tokens : upto]
        if len(text) > branch.sent or (fresh and branch.finish):
            self.on_text(0, text[branch.sent :], fresh)
            branch.sent, branch.sent_tokens = max(len(text), branch.sent), upto

    def _completion(self, branch: _Branch) -> Completion:
        count = len(branch.written) + (branch.finish == "end")
        text = without_repeated_suffix(branch.text, self.query.suffix)
        return Completion(
            text=text,
            repeats=len(text) < len(branch.text),
            finish=branch.finish or "length",
            tokens=tuple(branch.tokens),
            confidence=float(np.exp(branch.logprob / count)) if count else 0.0,
        )


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common beginning."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


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
