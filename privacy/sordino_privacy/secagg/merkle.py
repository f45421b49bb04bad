"""A hash tree over a sender's sealed shares: one signature covers them all, and each recipient can check its own.

Leaves and nodes are hashed under different labels; a node without a sibling moves up unchanged (RFC 6962's shape).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sordino_privacy.secagg.encoding import HASH_BYTES, digest

LONGEST_PATH = 16
"""The most siblings that a path can have, in the tree over the longest list that the protocol allows."""


@dataclass(frozen=True, slots=True)
class HashTree:
    """The whole tree over at least one leaf of 32 bytes: each level's hashes one after the other, leaves first."""

    levels: tuple[bytes, ...]

    @classmethod
    def over(cls, leaves: Sequence[bytes]) -> Self:
        """The tree over these leaves."""
        level, levels = list(leaves), [b"".join(leaves)]
        while len(level) > 1:
            pairs = [digest("node", *level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
            level = pairs + level[len(level) - len(level) % 2 :]
            levels.append(b"".join(level))
        return cls(tuple(levels))

    @property
    def root(self) -> bytes:
        return self.levels[-1]

    def path(self, index: int) -> tuple[bytes, ...]:
        """The siblings on the path from leaf `index` to the root, bottom up; levels without a sibling are skipped."""
        out = []
        for level in self.levels[:-1]:
            start = HASH_BYTES * (index ^ 1)
            if start < len(level):
                out.append(level[start : start + HASH_BYTES])
            index >>= 1
        return tuple(out)


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over at least one leaf of 32 bytes."""
    return HashTree.over(leaves).root


def paths(leaves: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """For each leaf the siblings on its path to the root, bottom up; levels without a sibling are skipped."""
    tree = HashTree.over(leaves)
    return [tree.path(index) for index in range(len(leaves))]


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
