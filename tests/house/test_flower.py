"""Flower messages on our link: what goes in comes out, and what is damaged is refused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from sordino_coordinator.stock_grid import content_bytes
from sordino_platform.flower import shim
from sordino_platform.flower.codec import ContentCoder, decode_message, encode_message
from sordino_platform.flower.phases import FIELDS, STREAMED, Fields, Phase, node_id, pack, vectors_of
from sordino_platform.link.messages import Payload, StreamedPart, parts_of, views
from sordino_privacy.errors import LinkError


def joined(parts: Payload) -> bytes:
    return b"".join(views(parts_of(parts)))


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
    parts = encode_message(sent)
    assert parts[-1] is next(iter(sent.content.array_records.values()))["y"].data
    got = decode_message(joined(parts))
    assert (got.metadata.message_type, got.metadata.dst_node_id) == ("train.masked_input", node_id("alpha"))
    fields = Fields(got)
    assert (fields.integer("n"), fields.blob("b")) == (3, b"x" * 9)
    np.testing.assert_array_equal(fields.vector("y", np.uint16), VECTOR)
    fields.done()


def test_the_parts_are_flowers_own_bytes_and_a_broadcast_is_in_memory_once() -> None:
    fields_only = pack({"roster": b"r" * 100_000})
    sent = message(fields_only)
    assert joined(encode_message(sent))[4:] == shim.to_proto(sent)
    coder = ContentCoder()
    for content in (fields_only, pack({"n": 3}, {"y": VECTOR})):
        first, second, third = (coder.encode(message(content)) for _ in range(3))
        assert first[0] != second[0], "each has its own id"
        assert all(
            one is other is another
            for one, other, another in zip(first[1:], second[1:], third[1:], strict=True)
        )
        assert Fields(decode_message(joined(second))).__contains__(
            "n" if "n" in content[FIELDS] else "roster"
        )
    other = coder.encode(message(pack({"roster": b"another"})))
    assert Fields(decode_message(joined(other))).blob("roster") == b"another"


@given(
    head=st.binary(max_size=300),
    tails=st.lists(st.binary(max_size=300), min_size=2, max_size=4),
    other=st.binary(),
)
def test_what_messages_have_in_common_is_in_memory_once_and_their_bytes_are_the_same(
    head: bytes, tails: list[bytes], other: bytes
) -> None:
    coder, contents = ContentCoder(), [pack({"delivery": head + tail}) for tail in tails]
    for content in contents:
        sent = message(content)
        parts = coder.encode(sent, [head])
        assert joined(parts) == joined(encode_message(sent)) == joined(coder.encode(sent, [other]))
        assert not head or any(part is head for part in parts)


@given(
    every=st.lists(st.binary(min_size=40, max_size=300), min_size=1, max_size=6, unique=True),
    others=st.lists(st.binary(max_size=50), max_size=3),
)
def test_whoever_lacks_another_end_of_a_list_is_sent_the_same_bytes_of_it(
    every: list[bytes], others: list[bytes]
) -> None:
    """As epochs of a charter are: each member may say that it lacks others."""
    coder = ContentCoder()
    for start in range(len(every)):
        lacking = every[start:]
        sent = message(pack({"charters": list(lacking)}))
        parts = coder.encode(sent, lacking)
        assert joined(parts) == joined(encode_message(sent)) == joined(coder.encode(sent, others + lacking))
        assert [part for part in parts if any(part is one for one in every)] == lacking


def test_a_message_that_is_let_go_leaves_memory_at_once_and_waits_for_no_collection() -> None:
    """Of a round's uploads thirteen of 9 MB were in the coordinator's memory at once: Flower's views of a message refer
    to themselves."""
    payload, coder = joined(encode_message(message())), ContentCoder()
    gc.collect()
    gc.disable()
    try:
        got = decode_message(payload)
        read = weakref.ref(vectors_of(got.content)["y"])  # type: ignore[index]
        fields = Fields(got)
        np.testing.assert_array_equal(fields.vector("y", np.uint16), VECTOR)
        content_bytes(got)
        encode_message(got)
        coder.encode(message())
        coder.encode(got)
        del got, fields
        coder = ContentCoder()
        assert read() is None
    finally:
        gc.enable()


ROOT = Path(__file__).parents[2]


def test_no_view_of_flowers_that_keeps_its_message_alive_is_used() -> None:
    views_of = [f".{kind}_records" for kind in ("array", "config", "metric")]
    for room in ("platform", "client/sordino_client", "coordinator", "privacy"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8").replace("`RecordDict.array_records`", "")
            assert not [word for word in views_of if word in text], path


@given(st.data())
def test_a_truncated_or_extended_payload_is_refused(data: st.DataObject) -> None:
    payload = joined(encode_message(message()))
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(LinkError):
        Fields(decode_message(payload[:cut]))
    with pytest.raises(LinkError):
        decode_message(payload + b"\0" * data.draw(st.integers(1, 10)))


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise_anything_but_a_link_error(data: bytes) -> None:
    with pytest.raises(LinkError):
        Fields(decode_message(data)).done()


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
        Fields(decode_message(joined(encode_message(reply))))


def test_node_ids_are_distinct_and_never_flowers_own() -> None:
    ids = {node_id(f"member-{number}") for number in range(10_000)}
    assert len(ids) == 10_000
    assert min(ids) > 1 << 19


def test_a_vector_that_is_made_while_it_is_sent_arrives_like_any_other_and_is_made_anew_each_time() -> None:
    made, times = VECTOR.tobytes(), list[int]()

    def pieces() -> Iterator[bytes]:
        times.append(len(times))
        yield made[:700]
        yield made[700:]

    part = StreamedPart(nbytes=len(made), pieces=pieces)
    streamed: dict[str, StreamedPart] = {}
    token = STREAMED.set(streamed)
    try:
        sent = message(pack({}, {"y": part}))
    finally:
        STREAMED.reset(token)
    assert not times, "nothing is made before it is sent"
    parts = encode_message(sent, streamed)
    assert joined(parts) == joined(parts)
    assert len(times) == 2
    assert bytes(Fields(decode_message(joined(parts))).raw("y")) == made
    # A carrier that cannot stream gets the bytes.
    assert (
        bytes(Fields(decode_message(joined(encode_message(message(pack({}, {"y": part})))))).raw("y")) == made
    )


@pytest.mark.parametrize("announced", [9, 11])
def test_a_part_that_makes_more_or_fewer_bytes_than_announced_is_not_sent_whole(announced: int) -> None:
    with pytest.raises(ValueError, match="another number of bytes"):
        joined([StreamedPart(nbytes=announced, pieces=lambda: iter([b"12345", b"67890"]))])
