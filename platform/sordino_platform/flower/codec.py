"""A Flower message on our link: a small header, and its vectors beside it without a copy.

    payload = u32 header length (big-endian) | header | the bytes of each vector, in the header's order

The header is Flower's own protobuf of the message with the vectors' bytes left out: first the metadata, then the
content. A broadcast to many members therefore holds a model once, and through `ContentCoder` everything else in it too:
every message refers to the same bytes.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence

from flwr.app import Array, ArrayRecord, Message, RecordDict

from sordino_platform.flower.phases import VECTORS, vectors_of
from sordino_platform.flower.shape import require_shape, vector_bytes
from sordino_platform.flower.shim import content_to_proto, from_proto, metadata_to_bytes, to_proto
from sordino_platform.link.messages import StreamedPart
from sordino_privacy.errors import LinkError

MAX_HEADER_BYTES = 16 << 20  # shares and signatures of a large cohort; vectors are not in it
ENVELOPE_BYTES = 4096
"""The most that a message takes beside what its sender was asked for: Flower's metadata, names, lengths, a number or
two. A receiver that knows how much it asked for adds this."""
CONTENTS = 8
"""Contents of one type of message that are kept encoded, for the next message that has the same."""
_LENGTH = struct.Struct(">I")


class ContentCoder:
    """Encodes messages, and the content of many that share one `RecordDict` once: a broadcast to a thousand members is
    in memory once, whatever is in it. A few contents can take turns within one type of message. Not thread-safe."""

    def __init__(self) -> None:
        self._type = ""
        self._known = deque[tuple[RecordDict, bytes]](maxlen=CONTENTS)

    def encode(self, message: Message, shared: Sequence[bytes] = ()) -> list[bytes | StreamedPart]:
        """The parts of the payload, which joined are those of `encode_message`. What contents that differ have in
        common, in the order in which it is in them, is `shared`: each is a part by itself then, and not copied. The
        content must not be changed afterwards."""
        if message.metadata.message_type != self._type:
            self._type = message.metadata.message_type
            self._known.clear()
        encoded = next((known for content, known in self._known if content is message.content), None)
        if encoded is None:
            encoded = _without_vectors(message.content)
            self._known.append((message.content, encoded))
        metadata = metadata_to_bytes(message)
        length = _LENGTH.pack(len(metadata) + len(encoded))
        return [length + metadata, *_around(encoded, shared), *_vectors_of(message.content, {})]


def _around(encoded: bytes, shared: Sequence[bytes]) -> list[bytes]:
    """`encoded` in parts, of which each of `shared` is one where it is in there behind the one before."""
    parts, done = [], 0
    for one in shared:
        start = encoded.find(one, done)
        if one and start >= 0:
            parts += [encoded[done:start], one]
            done = start + len(one)
    return [*parts, encoded[done:]]


def encode_message(
    message: Message, streamed: Mapping[str, StreamedPart] | None = None
) -> list[bytes | StreamedPart]:
    """The parts of the payload. The message itself is left as it was. `streamed` has vectors that are made while they
    are sent, in place of empty ones in the message."""
    if not message.has_content():
        header = to_proto(message)
        return [_LENGTH.pack(len(header)), header]
    metadata, content = metadata_to_bytes(message), _without_vectors(message.content)
    length = _LENGTH.pack(len(metadata) + len(content))
    return [length + metadata, content, *_vectors_of(message.content, streamed or {})]


def _vectors_of(content: RecordDict, made: Mapping[str, StreamedPart]) -> list[bytes | StreamedPart]:
    record = vectors_of(content)
    return [] if record is None else [made.get(name, array.data) for name, array in record.items()]


def _without_vectors(content: RecordDict) -> bytes:
    """The encoded content, its vectors named but empty."""
    record = vectors_of(content)
    if record is None:
        return content_to_proto(content)
    content[VECTORS] = ArrayRecord(
        {name: Array(array.dtype, array.shape, array.stype, b"") for name, array in record.items()}
    )
    try:
        return content_to_proto(content)
    finally:
        content[VECTORS] = record


def decode_message(payload: bytes | bytearray | memoryview) -> Message:
    """The message in a payload. Raises LinkError for anything that `encode_message` would not have made."""
    view = memoryview(payload).cast("B")
    if len(view) < _LENGTH.size:
        raise LinkError("the peer's message is shorter than its header")
    (size,) = _LENGTH.unpack(view[: _LENGTH.size])
    start = _LENGTH.size + size
    if size > MAX_HEADER_BYTES or start > len(view):
        raise LinkError("the peer's message has a header of an impossible length")
    message = from_proto(bytes(view[_LENGTH.size : start]), require=require_shape)
    record = vectors_of(message.content) if message.has_content() else None
    if record is not None:
        filled = {}
        for name, array in record.items():
            stop = start + vector_bytes(array.dtype, array.shape[0])
            if stop > len(view):
                raise LinkError("the peer's message has vectors of another length than it says")
            filled[name] = Array(array.dtype, array.shape, array.stype, bytes(view[start:stop]))
            start = stop
        message.content[VECTORS] = ArrayRecord(filled)
    if start != len(view):
        raise LinkError("the peer's message has bytes that nothing in it names")
    return message
