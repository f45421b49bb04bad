"""Flower messages on our link: what goes in comes out, and what is damaged is refused."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode, encode
from sordino_platform.flower.phases import FIELDS, Fields, Phase, node_id, pack
from sordino_privacy.errors import LinkError

VECTOR = np.arange(1000, dtype=np.uint16)


def message(content: RecordDict | None = None) -> Message:
    shim.identify(run=7, node=1)
    made = Message(
        content or pack({"n": 3, "b": b"x" * 9}, {"y": VECTOR}), node_id("alpha"), Phase.UPLOAD.message_type
    )
    shim.stamp(made)
    return made


def test_a_message_round_trips_and_its_vector_is_not_copied_on_the_way_out() -> None:
    sent = message()
    parts = encode(sent)
    assert parts[-1] is next(iter(sent.content.array_records.values()))["y"].data
    got = decode(b"".join(parts))
    assert (got.metadata.message_type, got.metadata.dst_node_id) == ("train.masked_input", node_id("alpha"))
    fields = Fields(got)
    assert (fields.integer("n"), fields.blob("b")) == (3, b"x" * 9)
    np.testing.assert_array_equal(fields.vector("y", np.uint16), VECTOR)
    fields.done()


@given(st.data())
def test_a_truncated_or_extended_payload_is_refused(data: st.DataObject) -> None:
    payload = b"".join(encode(message()))
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(LinkError):
        Fields(decode(payload[:cut]))
    with pytest.raises(LinkError):
        decode(payload + b"\0" * data.draw(st.integers(1, 10)))


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise_anything_but_a_link_error(data: bytes) -> None:
    with pytest.raises(LinkError):
        Fields(decode(data)).done()


def test_unknown_records_fields_and_types_are_refused() -> None:
    with pytest.raises(LinkError):
        Fields(message(RecordDict({FIELDS: MetricRecord({"a": 1})})))
    with pytest.raises(LinkError):
        Fields(message(RecordDict({FIELDS: ConfigRecord({}), "more": ConfigRecord({})})))
    fields = Fields(message(pack({"n": 3, "flag": True})))
    with pytest.raises(LinkError):
        fields.integer("flag")  # a bool is no number here
    with pytest.raises(LinkError):
        fields.text("n")
    with pytest.raises(LinkError):
        fields.done()


def test_a_vector_of_another_type_is_refused() -> None:
    with pytest.raises(LinkError):
        Fields(message()).vector("y", np.float32)


def test_an_error_reply_is_a_link_error() -> None:
    reply = Message(Error(1, "ValueError"), reply_to=message())
    with pytest.raises(LinkError):
        Fields(decode(b"".join(encode(reply))))


def test_node_ids_are_distinct_and_never_flowers_own() -> None:
    ids = {node_id(f"member-{number}") for number in range(10_000)}
    assert len(ids) == 10_000
    assert min(ids) > 1 << 19
