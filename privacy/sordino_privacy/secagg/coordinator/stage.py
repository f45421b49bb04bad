"""What all phases of the coordinator's side have in common: what an attempt is about, and what a phase can be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol

from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.refusals import IdentityError


class Stage(IntEnum):
    """What the coordinator waits for."""

    ADVERTISEMENTS = 1
    SHARES = 2
    UPLOADS = 3
    MUSTER = 4
    SOUNDINGS = 5
    SURVIVORS = 6
    REVEALS = 7
    OPENED = 8
    ABORTED = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTerms:
    """What is fixed before the first message of an attempt; `ctx` is the digest of `context`, made once."""

    membership: Membership
    context: RoundContext
    ctx: bytes


class CollectingPhase(Protocol):
    """A phase that takes one message of each member. Accepting a message is all or nothing."""

    stage: ClassVar[Stage]

    def awaiting(self) -> frozenset[str]:
        """Who could still be accepted."""

    def largest_answer(self, member: str) -> int:
        """Bytes of the longest message that `member` can send."""


def require_sender(sender: str, name: str) -> None:
    """Raises IdentityError unless `name`, which a message gives for its sender, is who the link says it is."""
    if sender != name:
        raise IdentityError(f"{sender!r} sent a message in the name of {name!r}", culprit=sender)


class PerMember(Mapping[str, bytes]):
    """One message per member, built when it is asked for: all of them at once would be O(members^2) bytes. Each
    begins with the same `head`, so whoever sends them need not hold that more than once."""

    def __init__(self, names: Iterable[str], head: bytes, build: Callable[[str], bytes]) -> None:
        self._names, self.head, self._build = dict.fromkeys(names), head, build

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        return self._build(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
