"""Finds texts that are near-duplicates: MinHash sketches of token shingles (Broder 1997), and the pairs that agree.

A text is taken as the set of its runs of five tokens (words and single signs; white space does not count). A sketch of
128 permutations estimates the Jaccard index of two such sets with a standard error of at most 0.045. Candidates come
from 32 bands of 4 rows: a pair at 0.7 is missed with probability 1.5e-4, and every candidate is then judged by its
whole sketch.

Sketches come from rensa; a change of its algorithm, of the seed or of the shingles changes `SKETCH_VERSION`, and stored
sketches of another version are not compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

PERMUTATIONS = 128
THRESHOLD = 0.7
SHINGLE = 5
_SEED = 20260701
_BANDS, _ROWS = 32, 4
SKETCH_VERSION = f"rensa{RMinHash.ALGORITHM_VERSION}/{PERMUTATIONS}/{_SEED}/shingle{SHINGLE}"

Sketches = npt.NDArray[np.uint32]  # shape (texts, PERMUTATIONS)

_TOKEN = re.compile(r"\w+|[^\w\s]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: a bijection on 64 bits
_BATCH = 4_000_000  # shingles sketched at once: 32 MB


@lru_cache(maxsize=1 << 18)
def _token_hash(token: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def shingles(text: str) -> npt.NDArray[np.uint64]:
    """The 64-bit hashes `(n,)` of the text's runs of five tokens, each once; a shorter text is one run."""
    tokens = np.fromiter(map(_token_hash, _TOKEN.findall(text)), dtype=np.uint64)
    length = min(SHINGLE, len(tokens))
    if length == 0:
        return tokens
    runs = np.zeros(len(tokens) - length + 1, dtype=np.uint64)
    for i in range(length):
        runs = (runs ^ (runs >> np.uint64(29))) * _MULTIPLIER + tokens[i : i + len(runs)]
    return np.unique(runs)


def sketch(texts: Sequence[str]) -> Sketches:
    """One sketch per text, in order."""
    parts: list[Sketches] = []
    batch: list[npt.NDArray[np.uint64]] = []
    size = 0
    for text in texts:
        runs = shingles(text)
        batch.append(runs)
        size += len(runs)
        if size > _BATCH:
            parts.append(_digest(batch))
            batch, size = [], 0
    if batch:
        parts.append(_digest(batch))
    return np.concatenate(parts) if parts else np.empty((0, PERMUTATIONS), dtype=np.uint32)


def _digest(batch: Sequence[npt.NDArray[np.uint64]]) -> Sketches:
    offsets = np.zeros(len(batch) + 1, dtype=np.uint64)
    np.cumsum([len(runs) for runs in batch], out=offsets[1:])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(batch), offsets, PERMUTATIONS, _SEED
    )
    return np.asarray(matrix.to_rows(), dtype=np.uint32)


def near_duplicates(sketches: Sketches) -> Iterator[tuple[int, int]]:
    """Pairs (i, j) of rows whose sketches agree in at least THRESHOLD of their places: enough pairs to connect every
    group that all such pairs connect (not every pair of a large group)."""
    needed = int(np.ceil(THRESHOLD * PERMUTATIONS))
    parent = np.arange(len(sketches))
    for band in range(_BANDS):
        rows = np.ascontiguousarray(sketches[:, band * _ROWS : (band + 1) * _ROWS])
        keys = rows.view(np.dtype((np.void, rows.itemsize * _ROWS))).ravel()
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        ends = np.cumsum(counts)
        for end, count in zip(ends[counts > 1], counts[counts > 1], strict=True):
            bucket = order[end - count : end]
            yield from _agreeing(bucket, sketches, needed, parent)


def _agreeing(
    bucket: npt.NDArray[np.intp], sketches: Sketches, needed: int, parent: npt.NDArray[np.intp]
) -> Iterator[tuple[int, int]]:
    """Judge the pairs of one bucket that are not yet connected; `parent` is the union-find forest of all rows."""
    for i, first in enumerate(bucket[:-1]):
        root = find(parent, int(first))
        others = np.array([j for j in bucket[i + 1 :] if find(parent, int(j)) != root], dtype=np.intp)
        if len(others) == 0:
            continue
        agreement = (sketches[others] == sketches[first]).sum(axis=1)
        for other in others[agreement >= needed]:
            parent[find(parent, int(other))] = find(parent, int(first))
            yield int(first), int(other)


def find(parent: npt.NDArray[np.intp], node: int) -> int:
    """The root of a node in a union-find forest; `parent` `(nodes,)` holds each node's parent, and the path is halved
    on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = int(parent[node])
    return node


def clusters(nodes: int, pairs: Iterator[tuple[int, int]] | Sequence[tuple[int, int]]) -> list[list[int]]:
    """The connected components of a graph, each sorted, in the order of their smallest node."""
    parent = np.arange(nodes)
    for first, second in pairs:
        a, b = find(parent, first), find(parent, second)
        parent[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for node in range(nodes):
        groups.setdefault(find(parent, node), []).append(node)
    return list(groups.values())
