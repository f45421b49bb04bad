"""Baselines without gradient training: compression, and an n-gram model that also remembers the file it is in.

Both see the same text as the model, in the same run, so that a model's figure never stands alone.
"""

from __future__ import annotations

import importlib.util
import lzma
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_platform.evaluation.loss import Scores
from sordino_platform.tokenizer import END

Ids = npt.NDArray[np.int64]
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def xz_bits_per_byte(texts: Sequence[str]) -> float:
    """`xz -9e` over all texts joined, in bits per byte. It sees all files as one stream, which makes its figure look
    better."""
    raw = "\n".join(texts).encode()
    packed = lzma.compress(
        raw, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    )
    return 8 * len(packed) / len(raw)


PPMD_ORDER, PPMD_MEMORY = 12, 256 << 20


def ppmd_bits_per_byte(texts: Sequence[str], *, prime: Sequence[str] = ()) -> float | None:
    """PPMd variant H of order 12 (Shkarin 2002) over all texts joined, in bits per byte, after it has read `prime`.

    The cost of the texts is the length of the stream with prime and texts, less that of the prime alone. None without
    the library `pyppmd`, which is a development dependency and not part of the product.
    """
    if importlib.util.find_spec("pyppmd") is None:
        return None
    import pyppmd

    def packed(raw: bytes) -> int:
        encoder = pyppmd.Ppmd7Encoder(PPMD_ORDER, PPMD_MEMORY)
        return len(encoder.encode(raw)) + len(encoder.flush())

    before, raw = "\n".join(prime).encode(), "\n".join(texts).encode()
    return 8 * (packed(before + raw) - (packed(before) if before else 0)) / len(raw)


@dataclass(frozen=True, slots=True)
class _Table:
    """Counts of one order over the training text: contexts, and contexts with their next token, both sorted."""

    contexts: npt.NDArray[np.uint64]
    totals: Ids
    followers: Ids
    likeliest: Ids
    grams: npt.NDArray[np.uint64]
    counts: Ids


class NGram:
    """Token n-grams of every order up to `order`, interpolated by Witten and Bell (1991), with a cache of the file.

    The counts of the training text and of the file so far are added before they are interpolated, so a name that the
    file has just used is likely at once. Contexts are 64-bit hashes; collisions do not matter at these sizes.
    """

    def __init__(self, tokens: npt.NDArray[np.uint16], *, vocabulary: int, order: int = 8) -> None:
        self.order, self.vocabulary = order, vocabulary
        # Document ends before the text, so that even an empty text has a context of every length to count.
        ids = np.concatenate((np.full(order, END), tokens.astype(np.int64)))
        self._tables = [_count(ids, length) for length in range(order)]

    def score(self, ids: Sequence[int]) -> Scores:
        """The same three arrays as for a model. A guess is the most likely next token after the longest known
        context."""
        memory = _Memory(self)
        array = np.asarray(ids, dtype=np.int64)
        nats, correct, sure = np.zeros(len(ids)), np.zeros(len(ids), dtype=np.bool_), np.zeros(len(ids))
        prior = self._look_up(array)
        for at, token in enumerate(ids):
            keys = memory.keys(array, at)
            probability, guess = 1 / self.vocabulary, -1
            for length, key in enumerate(keys):
                total, followers, likeliest, count = (int(column[length][at]) for column in prior)
                seen = memory.counts[length].get(key)
                if seen is not None:
                    total, followers, count = (
                        total + sum(seen.values()),
                        followers + len(seen),
                        count + seen.get(token, 0),
                    )
                    likeliest = max(seen, key=seen.__getitem__)
                if total:
                    probability = (count + followers * probability) / (total + followers)
                    guess = likeliest
            nats[at], correct[at], sure[at] = -np.log(probability), guess == token, probability
            memory.add(keys, token)
        return Scores(nats=nats.astype(np.float32), correct=correct, confidence=sure.astype(np.float32))

    def complete(
        self, before: Sequence[int], heal: bytes, pieces: Sequence[bytes], *, max_tokens: int
    ) -> bytes:
        """The greedy continuation to the end of the line, as `greedy.complete` would give it."""
        memory = _Memory(self)
        ids = list(before)
        array = np.asarray(ids, dtype=np.int64)
        for at, token in enumerate(ids):
            memory.add(memory.keys(array, at), token)
        written = b""
        for _ in range(max_tokens):
            array = np.asarray(ids[-self.order :], dtype=np.int64)
            guess = self._guess(memory.keys(array, len(array)), memory, b"" if written else heal, pieces)
            if guess is None:
                break
            written += pieces[guess]
            ids.append(guess)
            if not pieces[guess] or b"\n" in written:
                break
        return written

    def _guess(self, keys: list[int], memory: _Memory, begun: bytes, pieces: Sequence[bytes]) -> int | None:
        for length in range(len(keys) - 1, -1, -1):
            seen = memory.counts[length].get(keys[length], {})
            candidates = sorted(seen, key=lambda token: (-seen[token], token))
            table = self._tables[length]
            at = int(np.searchsorted(table.contexts, np.uint64(keys[length])))
            if at < len(table.contexts) and int(table.contexts[at]) == keys[length]:
                candidates.append(int(table.likeliest[at]))
            for token in candidates:
                if pieces[token].startswith(begun):
                    return token
        return None

    def _look_up(self, ids: Ids) -> tuple[list[Ids], list[Ids], list[Ids], list[Ids]]:
        """Per context length, for every position: total count, number of different next tokens, the most likely next
        token, and the count of the actual token."""
        columns: tuple[list[Ids], list[Ids], list[Ids], list[Ids]] = ([], [], [], [])
        for length, table in enumerate(self._tables):
            keys = _keys(ids, length)
            at = np.minimum(np.searchsorted(table.contexts, keys), len(table.contexts) - 1)
            known = table.contexts[at] == keys
            for column, source in zip(
                columns[:3], (table.totals, table.followers, table.likeliest), strict=True
            ):
                column.append(np.where(known, source[at], 0))
            grams = _with_token(keys, ids)
            at = np.minimum(np.searchsorted(table.grams, grams), len(table.grams) - 1)
            columns[3].append(np.where(table.grams[at] == grams, table.counts[at], 0))
        return columns


class _Memory:
    """The counts of one file up to a position."""

    def __init__(self, model: NGram) -> None:
        self.counts: list[dict[int, dict[int, int]]] = [defaultdict(dict) for _ in range(model.order)]
        self._order = model.order

    def keys(self, ids: Ids, at: int) -> list[int]:
        """The hash of each context that ends before position `at`, shortest first. Near the start of the text there are
        fewer."""
        key, found = 0, [0]
        for back in range(1, min(self._order - 1, at) + 1):
            key = (key * int(_MULTIPLIER) + int(ids[at - back]) + 1) % (1 << 64)
            found.append(key)
        return found

    def add(self, keys: list[int], token: int) -> None:
        for length, key in enumerate(keys):
            seen = self.counts[length][key]
            seen[token] = seen.get(token, 0) + 1


def _keys(ids: Ids, length: int) -> npt.NDArray[np.uint64]:
    """The hash of the `length` tokens before each position (`_Memory.keys` in bulk); 1 when there are too few."""
    key = np.zeros(len(ids), dtype=np.uint64)
    for back in range(1, length + 1):
        key[back:] = key[back:] * _MULTIPLIER + ids[: len(ids) - back].astype(np.uint64) + np.uint64(1)
    key[:length] = 1  # no text has this hash in practice, so the context is unknown
    return key


def _with_token(keys: npt.NDArray[np.uint64], ids: Ids) -> npt.NDArray[np.uint64]:
    mixed = (keys ^ (keys >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed + (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x94D049BB133111EB)


def _count(ids: Ids, length: int) -> _Table:
    keys = _keys(ids, length)[length:]
    following = ids[length:]
    grams, first, counts = np.unique(_with_token(keys, ids[length:]), return_index=True, return_counts=True)
    # One row per distinct (context, token): sorted by context, then by falling count.
    rows = np.lexsort((following[first], -counts, keys[first]))
    contexts, starts = np.unique(keys[first][rows], return_index=True)
    followers = np.diff(np.append(starts, len(rows)))
    totals = np.add.reduceat(counts[rows], starts)
    return _Table(contexts, totals, followers, following[first][rows][starts], grams, counts)
