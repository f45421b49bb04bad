"""Payloads become frames and payloads again; anything but the one right sequence is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.link.parties import open_files

from sordino_platform.link.allowance import Allowance
from sordino_platform.link.frames import (
    Frame,
    FrameKind,
    MessageChunk,
    MessageEnd,
    MessageStart,
    ProtocolError,
)
from sordino_platform.link.limits import CHUNK_BYTES, Limits
from sordino_platform.link.messages import Assembly, MemoryPayload, chunks, outgoing, parts_of, total_of
from sordino_platform.link.spool import MEMORY_BYTES, storage_for
from sordino_platform.link.status import BACKOFF_CAP_SECONDS, backoff_seconds

PARTS = st.lists(st.binary(max_size=60), max_size=12)


@given(PARTS, st.integers(1, 50))
def test_chunks_are_full_but_the_last_and_join_to_the_payload(parts: list[bytes], size: int) -> None:
    made = list(chunks(parts_of(parts), size))
    assert b"".join(made) == b"".join(parts)
    assert all(len(chunk) == size for chunk in made[:-1])
    assert all(made)


@given(PARTS, st.integers(1, 50))
def test_how_a_payload_is_split_into_parts_does_not_show_on_the_wire(parts: list[bytes], size: int) -> None:
    assert list(chunks(parts_of(parts), size)) == list(chunks(parts_of(b"".join(parts)), size))


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 1_000_003]
)
def test_a_message_is_put_together_again(size: int) -> None:
    payload = hashlib.shake_128(b"payload").digest(size)
    start, *middle, end = frames_of(payload)
    assert isinstance(start, MessageStart)
    assert len(middle) == -(-size // CHUNK_BYTES)
    assembly = Assembly(start, MemoryPayload())
    for chunk in middle:
        assert isinstance(chunk, MessageChunk)
        assembly.add(chunk)
    assert isinstance(end, MessageEnd)
    result = assembly.finish(end)
    assert result == payload
    assert result.readonly


def frames_of(payload: bytes) -> list[Frame]:
    return list(outgoing(parts_of(payload), id=7, kind=FrameKind.REPLY, in_reply_to=3))


def put_together(frames: list[Frame]) -> bytes:
    start, *rest = frames
    assert isinstance(start, MessageStart)
    assembly = Assembly(start, MemoryPayload())
    for frame in rest:
        if isinstance(frame, MessageChunk):
            assembly.add(frame)
        elif isinstance(frame, MessageEnd):
            return bytes(assembly.finish(frame))
    raise ProtocolError("no end")


@settings(max_examples=40)
@given(st.integers(1, 3), st.data())
def test_a_missing_repeated_or_exchanged_frame_is_refused(count: int, data: st.DataObject) -> None:
    payload = hashlib.shake_128(b"p").digest(count * CHUNK_BYTES + 5)
    frames = frames_of(payload)
    broken = list(frames)
    position = data.draw(st.integers(1, len(frames) - 1))
    match data.draw(st.sampled_from(["drop", "repeat", "exchange"])):
        case "drop":
            del broken[position]
        case "repeat" if position < len(frames) - 1:
            broken.insert(position, broken[position])
        case _:
            other = data.draw(st.integers(1, len(frames) - 1).filter(lambda i: i != position))
            broken[position], broken[other] = broken[other], broken[position]
    assert put_together(frames) == payload
    with pytest.raises(ProtocolError):
        put_together(broken)


@pytest.mark.parametrize(
    "chunk",
    [
        MessageChunk(id=8, offset=0, data=b"12345"),
        MessageChunk(id=7, offset=1, data=b"12345"),
        MessageChunk(id=7, offset=0, data=b"1234"),
        MessageChunk(id=7, offset=0, data=b"123456"),
    ],
)
def test_a_chunk_of_another_message_place_or_size_is_refused(chunk: MessageChunk) -> None:
    assembly = Assembly(
        MessageStart(id=7, in_reply_to=3, kind=FrameKind.REPLY, total=5, deadline_millis=0), MemoryPayload()
    )
    with pytest.raises(ProtocolError):
        assembly.add(chunk)


def test_altered_bytes_are_noticed() -> None:
    start, chunk, end = frames_of(b"hello")
    with pytest.raises(ProtocolError, match="digest"):
        put_together([start, MessageChunk(id=7, offset=0, data=b"hellO"), end])
    assert put_together([start, chunk, end]) == b"hello"


def test_a_dropped_message_keeps_nothing_and_is_still_checked() -> None:
    start, chunk, end = frames_of(b"hello")
    assert isinstance(start, MessageStart)
    assert isinstance(chunk, MessageChunk)
    assert isinstance(end, MessageEnd)
    assembly = Assembly(start, MemoryPayload())
    assembly.add(chunk)
    assembly.drop()
    assert not assembly.kept
    assert assembly.finish(end).nbytes == 0
    with pytest.raises(ProtocolError):
        assembly.add(chunk)


def test_parts_are_views_of_what_was_given() -> None:
    source = bytearray(b"abc")
    (view,) = parts_of(source)
    assert isinstance(view, memoryview)
    source[0:1] = b"x"
    assert bytes(view) == b"xbc"
    assert total_of(parts_of([b"ab", memoryview(b"cde")])) == 5


def test_a_large_reply_lies_in_a_file_without_a_name_and_is_gone_with_its_view(tmp_path: Path) -> None:
    assert isinstance(storage_for(MEMORY_BYTES, tmp_path), MemoryPayload)
    storage = storage_for(MEMORY_BYTES + 1, tmp_path)
    storage.add(b"ab")
    storage.add(b"c")
    assert list(tmp_path.iterdir()) == []
    assert len(open_files(tmp_path)) == 1
    payload = storage.whole()
    assert bytes(payload) == b"abc"
    assert payload.readonly
    del payload, storage
    assert open_files(tmp_path) == []


def test_a_large_reply_that_is_dropped_leaves_no_open_file(tmp_path: Path) -> None:
    storage = storage_for(MEMORY_BYTES + 1, tmp_path)
    storage.add(b"ab")
    storage.drop()
    assert open_files(tmp_path) == []


@given(st.lists(st.floats(0, 2), max_size=200), st.integers(1, 8), st.floats(0.1, 10))
def test_an_allowance_grants_a_burst_and_a_rate(gaps: list[float], burst: int, rate: float) -> None:
    allowance, at, granted = Allowance(burst, rate), 1000.0, 0
    for gap in gaps:
        at += gap
        granted += allowance.take(at)
    assert granted <= burst + rate * sum(gaps) + 1


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_are_jittered_over_the_whole_span_and_capped(attempt: int, share: float) -> None:
    assert 0 <= backoff_seconds(attempt, share) <= BACKOFF_CAP_SECONDS
    assert backoff_seconds(attempt, 0.0) == 0.0
    assert backoff_seconds(attempt + 1, share) >= backoff_seconds(attempt, share)


def test_a_limit_of_nothing_is_refused() -> None:
    for limit in ("message_bytes", "opening_burst", "stall_seconds", "opening_rate"):
        with pytest.raises(ValueError, match="positive"):
            Limits(**{limit: 0})
