"""Sends a member that was away for long the part of the history that it lacks, in parts, before a round.

A release's manifest names its members: a thousand of them take 12 KB, and those of some hundred releases would not fit
into one proposal. So the coordinator sends them before the proposal, a part at a time. After each part the member says
which release it wants next. A part that begins anywhere else is ignored, so nothing verified is sent twice, and nothing
can be left out.

The coordinator chooses how much it sends and when it stops. It gains nothing by that. Everything it sends must be
signed and in its place in the chain, or it is refused. It binds the coordinator: a later history that differs is
refused. And it is used for nothing until a release follows that its round's members signed
(sordino_platform.following).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from flwr.app import RecordDict

from sordino_platform.flower.phases import Fields, Scalar, pack
from sordino_platform.history import BATCH_BYTES
from sordino_platform.release.manifest import MAX_MANIFEST_BYTES, MAX_NUMBER
from sordino_platform.tenure import optional_tenure
from sordino_privacy.errors import LinkError

CATCH_UP: Final = "query.catch_up"
MAX_PART_BYTES: Final = BATCH_BYTES + MAX_MANIFEST_BYTES
_LENGTH: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPart:
    """The content of a CATCH_UP message.

    `manifests` are signed, from the release `first` on, of a history whose newest release is `newest`. Without
    manifests, the message only asks what the member wants. `charters` are the signed epochs that the member lacks;
    `tenure` is the coordinator's, as in a proposal.
    """

    first: int
    newest: int
    manifests: tuple[bytes, ...] = ()
    charters: tuple[bytes, ...] = ()
    tenure: bytes = b""

    def pack(self) -> RecordDict:
        """As Flower records. The manifests are one vector: our link keeps its bytes once for all members that it is
        sent to."""
        fields: dict[str, Scalar] = {"first": self.first, "newest": self.newest}
        if self.charters:
            fields["charters"] = list(self.charters)
        if self.tenure:
            fields["tenure"] = self.tenure
        return pack(fields, {"manifests": np.frombuffer(framed(self.manifests), np.uint8)})

    @classmethod
    def parse(cls, fields: Fields) -> HistoryPart:
        """Parses the message. Raises LinkError."""
        first, newest = fields.integer("first"), fields.integer("newest")
        if not 0 <= first <= newest <= MAX_NUMBER:
            raise LinkError("the coordinator brings a part of a history that cannot be")
        manifests = unframed(fields.raw("manifests"))
        charters = tuple(fields.blobs("charters")) if "charters" in fields else ()
        tenure = optional_tenure(fields)
        fields.done()
        return cls(first=first, newest=newest, manifests=manifests, charters=charters, tenure=tenure)


def framed(items: Iterable[bytes]) -> bytes:
    """Byte strings one after the other, each after its length (u32, big-endian)."""
    return b"".join(len(item).to_bytes(_LENGTH, "big") + item for item in items)


def unframed(data: bytes | memoryview) -> tuple[bytes, ...]:
    """The byte strings of `framed`, each at most as long as a manifest may be. Raises LinkError for anything else."""
    if len(data) > MAX_PART_BYTES:
        raise LinkError("a part of a history is larger than it may be")
    items, rest = [], memoryview(data)
    while rest:
        size = int.from_bytes(rest[:_LENGTH], "big")
        item = bytes(rest[_LENGTH : _LENGTH + size])
        if not 0 < size <= MAX_MANIFEST_BYTES or len(item) != size:
            raise LinkError("a part of a history has a manifest of an impossible length")
        items.append(item)
        rest = rest[_LENGTH + size :]
    return tuple(items)
