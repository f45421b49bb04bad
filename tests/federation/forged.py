"""Replies that no honest member sends: each forgery takes a true payload and gives one that must cost its sender only.

The first ones are what stopped a coordinator once: a type of vector that numpy parses as code, a shape of 150,000
dimensions whose product takes half a minute, records of another kind under the known names, a negative release.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from flwr.proto.message_pb2 import Message as MessageProto

from sordino_platform.flower.phases import FIELDS, VECTORS

Forge = Callable[[bytes], bytes]
LENGTH = struct.Struct(">I")


def parts(payload: bytes) -> tuple[Any, bytes]:
    """The protobuf of a payload's header, and the vectors behind it."""
    (size,) = LENGTH.unpack(payload[:4])
    message = MessageProto()
    message.ParseFromString(payload[4 : 4 + size])
    return message, payload[4 + size :]


def joined(message: Any, vectors: bytes) -> bytes:
    header: bytes = message.SerializeToString()
    return LENGTH.pack(len(header)) + header + vectors


def altered(change: Callable[[Any], object]) -> Forge:
    """A forgery that changes the header's protobuf."""

    def forge(payload: bytes) -> bytes:
        message, vectors = parts(payload)
        change(message)
        return joined(message, vectors)

    return forge


def vector(message: Any, name: str = "upload", **fields: Any) -> Any:
    """The message's vector of that name, made if it has none, with `fields` set."""
    records = [item for item in message.content.items if item.key == VECTORS]
    record = records[0] if records else message.content.items.add(key=VECTORS)
    found = [item for item in record.array_record.items if item.key == name]
    item = found[0] if found else record.array_record.items.add(key=name)
    item.value.stype = "sordino.raw"
    item.value.dtype = fields.get("dtype", "uint8")
    if "shape" in fields:
        del item.value.shape[:]
        item.value.shape.extend(fields["shape"])
    item.value.data = fields.get("data", b"")
    return message


def fields(message: Any) -> Any:
    """The items of the message's record of fields."""
    (record,) = [item for item in message.content.items if item.key == FIELDS]
    return record.config_record.items


def first(message: Any) -> Any:
    """The first field, made if the message has none: an upload is a vector alone."""
    items = fields(message)
    return items[0] if items else items.add(key="a")


def numbers(message: Any, value: int) -> None:
    """Sets every whole number of the message."""
    for item in fields(message):
        if item.value.WhichOneof("value") == "sint64":
            item.value.sint64 = value


def metrics_under_the_name_of_vectors(message: Any) -> None:
    del message.content.items[1:]
    message.content.items.add(key=VECTORS).metric_record.items.add(key="a").value.double = 1.0


def fields_as_vectors(message: Any) -> None:
    (record,) = [item for item in message.content.items if item.key == FIELDS]
    record.array_record.Clear()
    record.array_record.SetInParent()


FORGERIES: dict[str, Forge] = {
    "a dtype that numpy takes for code": altered(lambda m: vector(m, dtype="(", shape=[1])),
    "a dtype of objects": altered(lambda m: vector(m, dtype="object", shape=[1])),
    "150,000 dimensions": altered(lambda m: vector(m, shape=[2**31 - 1] * 150_000)),
    "a shape without dimensions": altered(lambda m: vector(m, shape=[])),
    "a negative edge": altered(lambda m: vector(m, shape=[-1])),
    "more bytes than there are": altered(lambda m: vector(m, shape=[2**31 - 1])),
    "metrics where vectors belong": altered(metrics_under_the_name_of_vectors),
    "vectors where fields belong": altered(fields_as_vectors),
    "a record of an unknown name": altered(
        lambda m: m.content.items.add(key="x").config_record.SetInParent()
    ),
    "a record without a value": altered(lambda m: m.content.items.add(key=VECTORS)),
    "no content": altered(lambda m: m.ClearField("content")),
    "content and an error": altered(lambda m: setattr(m.error, "code", 1)),
    "a field twice": altered(lambda m: [fields(m).add().CopyFrom(first(m)) for _ in range(2)]),
    "a thousand fields": altered(lambda m: [fields(m).add(key=f"f{n}") for n in range(1000)]),
    "a field without a value": altered(lambda m: first(m).value.Clear()),
    "a field of another kind": altered(lambda m: setattr(first(m).value, "bool", True)),
    "an unknown field": altered(lambda m: setattr(fields(m).add(key="more").value, "sint64", 1)),
    "negative numbers": altered(lambda m: numbers(m, -7)),
    "enormous numbers": altered(lambda m: numbers(m, 2**62)),
    "a time that is none": altered(lambda m: setattr(m.metadata, "ttl", float("nan"))),
    "an endless name": altered(lambda m: setattr(m.metadata, "message_type", "x" * 5000)),
    "nothing": lambda _: b"",
    "half a header": lambda payload: payload[: len(payload) // 2],
    "a header of four gigabytes": lambda payload: b"\xff\xff\xff\xff" + payload[4:],
    "noise": lambda payload: LENGTH.pack(500) + bytes(range(250)) * 2,
    "bytes that nothing names": lambda payload: payload + b"\0",
}
