"""Messages: a payload cut into frames, and put together again. Pure: no I/O, no clock.

    >>> parts = [b"header", memoryview(model)]       # sent one after the other, never joined in memory
    >>> for frame in outgoing(parts, id=1, kind=FrameKind.REQUEST, deadline_millis=60_000): ...

The frames of a payload are a function of the payload: full chunks and a rest. So `Assembly` needs no choice, and
refuses whatever is out of order, short, long or empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from sordino_platform.link.frames import (
    Frame,
    FrameKind,
    MessageChunk,
    MessageEnd,
    MessageStart,
    ProtocolError,
)
from sordino_platform.link.limits import CHUNK_BYTES

BytesLike: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamedPart:
    """A part that is made while it is sent: `nbytes` bytes, the same ones from each `pieces()`, which is called anew
    whenever the message is sent from its start."""

    nbytes: int
    pieces: Callable[[], Iterator[BytesLike]]


Part: TypeAlias = memoryview | StreamedPart
Payload: TypeAlias = BytesLike | Sequence[BytesLike | StreamedPart]
"""What can be sent: bytes, or parts that are sent as if they were joined. Not an iterator, because a message is sent
again from its start after a reconnection. Parts may be shared by many messages; they must not change before the Ack."""


def parts_of(payload: Payload) -> tuple[Part, ...]:
    """The payload's parts as flat byte views; nothing is copied. Raises TypeError for parts that are not contiguous."""
    parts = [payload] if isinstance(payload, bytes | bytearray | memoryview) else payload
    return tuple(part if isinstance(part, StreamedPart) else memoryview(part).cast("B") for part in parts)


def views(parts: Sequence[Part]) -> Iterator[memoryview]:
    """The bytes of all parts, piece by piece. Raises ValueError when a part makes other than `nbytes` bytes."""
    for part in parts:
        if isinstance(part, memoryview):
            yield part
            continue
        left = part.nbytes
        for piece in part.pieces():
            view = memoryview(piece).cast("B")
            left -= view.nbytes
            if left < 0:
                break
            yield view
        if left:
            raise ValueError("a part of a message made another number of bytes than it announced")


def total_of(parts: Sequence[Part]) -> int:
    """Bytes in all parts."""
    return sum(part.nbytes for part in parts)


def chunks(parts: Sequence[Part], size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The joined parts in chunks of `size` bytes, the last with the rest; an empty payload has none."""
    pending = bytearray()
    for part in views(parts):
        start = 0
        if pending:
            start = min(size - len(pending), part.nbytes)
            pending += part[:start]
            if len(pending) < size:
                continue
            yield _taken(pending)
        whole = start + (part.nbytes - start) // size * size
        for offset in range(start, whole, size):
            yield bytes(part[offset : offset + size])
        pending += part[whole:]
    if pending:
        yield _taken(pending)


def _taken(pending: bytearray) -> bytes:
    data = bytes(pending)
    pending.clear()
    return data


def outgoing(
    parts: Sequence[Part], *, id: int, kind: FrameKind, in_reply_to: int = 0, deadline_millis: int = 0
) -> Iterator[Frame]:
    """The frames of one message, made as they are asked for. The generator keeps none of them: a thousand streams may
    each wait within a write, and every copy of a chunk that lives then is 256 KiB."""
    yield MessageStart(
        id=id, in_reply_to=in_reply_to, kind=kind, total=total_of(parts), deadline_millis=deadline_millis
    )
    digest, offset = hashlib.sha256(), 0

    def chunk(data: bytes) -> Frame:
        nonlocal offset
        digest.update(data)
        frame = MessageChunk(id=id, offset=offset, data=data)
        offset += len(data)
        return frame

    yield from map(chunk, chunks(parts))
    yield MessageEnd(id=id, sha256=digest.digest())


class Storage(Protocol):
    """Where a payload is kept while it arrives."""

    def add(self, data: bytes) -> None: ...
    def whole(self) -> memoryview: ...
    def drop(self) -> None: ...


class MemoryPayload:
    """A payload in memory, which grows with what has arrived: who announces much and sends little costs little."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def add(self, data: bytes) -> None:
        """Appends `data`."""
        self._buffer += data

    def whole(self) -> memoryview:
        """All of it, read-only."""
        return memoryview(self._buffer).toreadonly()

    def drop(self) -> None:
        """Frees it."""
        self._buffer = bytearray()


class Assembly:
    """Puts one message together in `storage`. Without one the frames are checked and dropped, for a message that nobody
    wants any more."""

    def __init__(self, start: MessageStart, storage: Storage | None) -> None:
        self.start = start
        self._storage = storage
        self._received = 0
        self._digest = hashlib.sha256()

    @property
    def kept(self) -> bool:
        """Whether the payload is wanted."""
        return self._storage is not None

    def drop(self) -> None:
        """Frees what has arrived, and keeps nothing of the rest."""
        if self._storage is not None:
            self._storage.drop()
            self._storage = None

    def add(self, chunk: MessageChunk) -> None:
        """Takes the next chunk.

        Raises ProtocolError unless it is exactly the one that must follow; what the storage raises.
        """
        size = min(CHUNK_BYTES, self.start.total - self._received)
        if chunk.id != self.start.id or chunk.offset != self._received or len(chunk.data) != size:
            raise ProtocolError("a chunk that does not continue its message")
        self._received += size
        if self._storage is not None:
            self._storage.add(chunk.data)
            self._digest.update(chunk.data)

    def finish(self, end: MessageEnd) -> memoryview:
        """The payload, read-only; empty if it was dropped.

        Raises ProtocolError when bytes are missing or the digest differs; what the storage raises.
        """
        if end.id != self.start.id or self._received != self.start.total:
            raise ProtocolError("a message that ends before its last byte")
        if self._storage is None:
            return memoryview(b"")
        if self._digest.digest() != end.sha256:
            raise ProtocolError("a message that differs from its digest")
        return self._storage.whole()
