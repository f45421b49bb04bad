"""The shape that a Flower message on our link may have, checked on its protobuf before Flower makes objects of it.

Flower's own decoder takes whatever the bytes describe: any dtype, a shape of any number of dimensions, lists of any
length, records of any kind. We use none of that, so the allowed shapes are named here and all others are refused. Time
and memory grow only with the bytes that are present, never with a declared number:

* exactly one of content and error; texts of at most `MAX_TEXT` characters, finite times;
* content: at most a record of fields and one of vectors, under their two names;
* fields: at most `MAX_FIELDS`, each a double, an integer, a text, bytes, or a list of bytes;
* vectors: at most `MAX_FIELDS`, one dimension, a dtype of `DTYPES`, at most `MAX_VECTOR_BYTES`, no bytes of their own.
"""

from __future__ import annotations

import math
from typing import Any, Final

from sordino_platform.flower.phases import DTYPES, FIELDS, MAX_FIELDS, MAX_VECTOR_BYTES, STYPE, VECTORS
from sordino_privacy.errors import LinkError

MAX_TEXT: Final = 256
MAX_BLOBS: Final = 1 << 17
"""The most entries in a list of bytes: the manifests of all releases that a member may lack."""

SCALARS: Final = frozenset({"double", "sint64", "string", "bytes"})
EMPTY_LISTS: Final = frozenset({"double_list", "sint_list", "uint_list", "bool_list", "string_list"})
"""Flower does not keep the type of an empty list and sends the first of these."""


def require_shape(message: Any) -> None:
    """Refuses a parsed `flwr.proto.message_pb2.Message` with a shape that the module's docstring does not allow. Raises
    LinkError."""
    _metadata(message.metadata)
    if message.HasField("content") == message.HasField("error"):
        raise LinkError("the peer's message carries neither content nor an error, or both")
    if message.HasField("error"):
        _text(message.error.reason)
        return
    kinds = {FIELDS: "config_record", VECTORS: "array_record"}
    items = message.content.items
    if len(items) > len(kinds):
        raise LinkError("the peer sent more records than this version knows")
    for item in items:
        if kinds.pop(item.key, "") != item.WhichOneof("value"):
            raise LinkError("the peer sent records that this version does not know")
        if item.key == FIELDS:
            _fields(item.config_record.items)
        else:
            _vectors(item.array_record.items)


def vector_bytes(dtype: str, edge: int) -> int:
    """Bytes of a vector of `edge` elements. Raises LinkError unless the dtype is known and the size is in bounds."""
    size = DTYPES.get(dtype)
    if size is None:
        raise LinkError("the peer's message has a vector of an unknown type")
    if not 0 <= edge <= MAX_VECTOR_BYTES // size:
        raise LinkError("the peer's message has a vector of an impossible size")
    return size * edge


def _metadata(metadata: Any) -> None:
    for text in (
        metadata.message_id,
        metadata.reply_to_message_id,
        metadata.group_id,
        metadata.message_type,
    ):
        _text(text)
    if not (math.isfinite(metadata.ttl) and math.isfinite(metadata.created_at)):
        raise LinkError("the peer's message has a time that is none")


def _text(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise LinkError(f"the peer's message has a text of more than {MAX_TEXT} characters")


def _names(items: Any) -> None:
    if len(items) > MAX_FIELDS:
        raise LinkError("the peer sent too many fields")
    for item in items:
        _text(item.key)
    if len({item.key for item in items}) != len(items):
        raise LinkError("the peer sent one field twice")


def _fields(items: Any) -> None:
    _names(items)
    for item in items:
        kind = item.value.WhichOneof("value")
        if kind in SCALARS:
            continue
        values = getattr(item.value, kind).vals if kind == "bytes_list" or kind in EMPTY_LISTS else None
        if values is None or len(values) > (MAX_BLOBS if kind == "bytes_list" else 0):
            raise LinkError("the peer sent a field of a kind that this version does not know")


def _vectors(items: Any) -> None:
    _names(items)
    for item in items:
        array = item.value
        if len(array.shape) != 1 or array.stype != STYPE or array.data:
            raise LinkError("the peer's message has a vector of another form than this version's")
        vector_bytes(array.dtype, array.shape[0])
