"""The history that a member holds, for a coordinator that was restored from a backup.

There are three questions: the signed charters after an epoch, the signed manifests from a release on, and the vector of
one release. The answers are public in the federation and bounded in size. The coordinator verifies signatures, hashes
and the chain, and trusts nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flwr.app import RecordDict

from sordino_platform.flower.phases import Fields, pack
from sordino_privacy.errors import LinkError

HISTORY: Final = "query.history"
BATCH_BYTES: Final = 1 << 20
"""An answer has as many items as fit, and at least one. A coordinator that wants more asks again. The size is far below
the limit of a message's header (sordino_platform.flower.codec), which leaves room for lengths and names."""
MAX_NUMBER: Final = 1 << 32


class Want(StrEnum):
    """The kinds of question."""

    CHARTERS = "charters"
    MANIFESTS = "manifests"
    WEIGHTS = "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`first`: the first epoch or release that is wanted, or the release whose vector is wanted."""

    want: Want
    first: int

    def pack(self) -> RecordDict:
        """As Flower records."""
        return pack({"want": self.want.value, "first": self.first})

    @classmethod
    def parse(cls, fields: Fields) -> Question:
        """Parses the message. Raises LinkError."""
        want, first = fields.text("want"), fields.integer("first")
        if want not in set(Want) or not 0 <= first < MAX_NUMBER:
            raise LinkError("the coordinator asks for a history that this version does not know")
        return cls(want=Want(want), first=first)


def batch(items: Iterable[bytes]) -> list[bytes]:
    """The first items of `items` that fit into one answer."""
    taken: list[bytes] = []
    total = 0
    for item in items:
        total += len(item)
        if taken and total > BATCH_BYTES:
            break
        taken.append(item)
    return taken
