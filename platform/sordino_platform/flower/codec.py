"""A Flower message on our link: a small header, and its vectors beside it without a copy.

    payload = u32 header length (big-endian) | header | the bytes of each vector, in the header's order

The header is Flower's own protobuf of the message with the vectors' bytes left out. A broadcast of one model to many
members therefore holds the model once: every message refers to the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, Message

from sordino_platform.flower.phases import VECTORS
from sordino_platform.flower.shape import require_shape, vector_bytes
from sordino_platform.flower.shim import from_proto, to_proto
from sordino_platform.link.messages import StreamedPart
from sordino_privacy.errors import LinkError

MAX_HEADER_BYTES = 16 << 20  # shares and signatures of a large cohort; vectors are not in it
ENVELOPE_BYTES = 4096
"""The most that a message takes beside what its sender was asked for: Flower's metadata, names, lengths, a number or
two. A receiver that knows how much it asked for adds this."""
_LENGTH = struct.Struct(">I")


def encode_message(
    message: Message, streamed: Mapping[str, StreamedPart] | None = None
) -> list[bytes | StreamedPart]:
    """The parts of the payload. The message itself is left as it was. `streamed` has vectors that are made while they
    are sent, in place of empty ones in the message."""
    if not message.has_content() or VECTORS not in message.content:
        header = to_proto(message)
        return [_LENGTH.pack(len(header)), header]
    record = message.content.array_records[VECTORS]
    message.content[VECTORS] = ArrayRecord(
        {name: Array(array.dtype, array.shape, array.stype, b"") for name, array in record.items()}
    )
    try:
        header = to_proto(message)
    finally:
        message.content[VECTORS] = record
    made = streamed or {}
    vectors = (made.get(name, array.data) for name, array in record.items())
    return [_LENGTH.pack(len(header)), header, *vectors]


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
    if message.has_content() and VECTORS in message.content.array_records:
        filled = {}
        for name, array in message.content.array_records[VECTORS].items():
            stop = start + vector_bytes(array.dtype, array.shape[0])
            if stop > len(view):
                raise LinkError("the peer's message has vectors of another length than it says")
            filled[name] = Array(array.dtype, array.shape, array.stype, bytes(view[start:stop]))
            start = stop
        message.content[VECTORS] = ArrayRecord(filled)
    if start != len(view):
        raise LinkError("the peer's message has bytes that nothing in it names")
    return message
