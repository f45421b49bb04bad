"""A hash tree over a sender's sealed shares: one signature covers them all, and each recipient can check its own.

Leaves and nodes are hashed under different labels; a node without a sibling moves up unchanged (RFC 6962's shape).
"""

from __future__ import annotations

from collections.abc import Sequence

from sordino_privacy.secagg.encoding import digest

LONGEST_PATH = 16
"""Siblings of a leaf, in the largest tree that a list of the protocol's length can have."""


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        level = levels[-1]
        pairs = [digest("node", *level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
        levels.append(pairs + level[len(level) - len(level) % 2 :])
    return levels


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over at least one leaf of 32 bytes."""
    return _levels(leaves)[-1][0]


def paths(leaves: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """For each leaf the siblings from the bottom up, where there is one."""
    levels = _levels(leaves)
    out = []
    for index in range(len(leaves)):
        path = []
        for depth, level in enumerate(levels[:-1]):
            sibling = (index >> depth) ^ 1
            if sibling < len(level):
                path.append(level[sibling])
        out.append(tuple(path))
    return out


def path_length(index: int, count: int) -> int:
    """The number of siblings of leaf `index` among `count`."""
    length = 0
    while count > 1:
        length += (index ^ 1) < count
        index, count = index >> 1, (count + 1) >> 1
    return length


def climb(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root that leaf `index` of `count` and its `path` (of `path_length`) imply."""
    siblings = iter(path)
    while count > 1:
        if index ^ 1 < count:
            sibling = next(siblings)
            leaf = digest("node", *((sibling, leaf) if index & 1 else (leaf, sibling)))
        index, count = index >> 1, (count + 1) >> 1
    return leaf
