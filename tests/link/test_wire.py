"""The wire format: what is committed is what protoc makes, and only well-formed frames come through the door."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_platform.link.frames import (
    Ack,
    Cancel,
    Frame,
    FrameKind,
    Goodbye,
    GoodbyeReason,
    Hello,
    MessageChunk,
    MessageEnd,
    MessageStart,
    Ping,
    Pong,
    ProtocolError,
    Renewal,
    Renewed,
    Welcome,
    decode_frame,
    encode_frame,
    printable,
)
from sordino_platform.link.limits import CERTIFICATE_BYTES, CHUNK_BYTES, FRAME_BYTES, RENEWAL_BYTES
from sordino_platform.wire import link_v1_pb2 as wire

ROOT = Path(__file__).parents[2]
NUMBERS = st.integers(0, 2**64 - 1)
IDS = st.integers(1, 2**64 - 1)
VERSIONS = st.from_regex(r"[0-9A-Za-z.+-]{1,64}", fullmatch=True)
SESSIONS = st.binary(min_size=16, max_size=16)

FRAMES = st.one_of(
    st.builds(
        Hello,
        version_min=st.integers(1, 5),
        version_max=st.integers(5, 2**32 - 1),
        software_version=VERSIONS,
        session=SESSIONS,
        coordinator_session=SESSIONS | st.just(b""),
        received=NUMBERS,
    ),
    st.builds(Welcome, version=st.just(1), software_version=VERSIONS, session=SESSIONS, awaiting=NUMBERS),
    st.builds(
        MessageStart,
        id=IDS,
        in_reply_to=st.just(0),
        kind=st.just(FrameKind.REQUEST),
        total=NUMBERS,
        deadline_millis=st.integers(1, 30 * 86_400_000),
    ),
    st.builds(
        MessageStart,
        id=IDS,
        in_reply_to=IDS,
        kind=st.just(FrameKind.REPLY),
        total=NUMBERS,
        deadline_millis=st.just(0),
    ),
    st.builds(MessageChunk, id=NUMBERS, offset=NUMBERS, data=st.binary(min_size=1, max_size=400)),
    st.builds(MessageEnd, id=NUMBERS, sha256=st.binary(min_size=32, max_size=32)),
    st.builds(Ack, NUMBERS),
    st.builds(Ping, NUMBERS),
    st.builds(Pong, NUMBERS),
    st.builds(Cancel, NUMBERS),
    st.builds(Renewal, st.binary(min_size=1, max_size=400)),
    st.builds(Renewed, st.binary(min_size=1, max_size=400)),
    st.builds(
        Goodbye,
        st.sampled_from([reason for reason in GoodbyeReason if reason is not GoodbyeReason.BUSY]),
        st.text(max_size=300).map(printable),
    ),
    st.builds(Goodbye, st.just(GoodbyeReason.BUSY), st.just(""), st.integers(1, 3_600_000)),
)


def test_committed_stubs_are_what_protoc_generates_now(tmp_path: Path) -> None:
    proto = "sordino_platform/wire/link_v1.proto"
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", "-I", "platform",
            f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",
            f"--python_out={tmp_path}", f"--mypy_out={tmp_path}", f"platform/{proto}",
        ],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    generated = sorted((tmp_path / "sordino_platform" / "wire").iterdir())
    assert [path.name for path in generated] == ["link_v1_pb2.py", "link_v1_pb2.pyi"]
    for path in generated:
        assert path.read_text() == (ROOT / "platform/sordino_platform/wire" / path.name).read_text(), (
            f"{path.name} is old: run make proto"
        )


@given(FRAMES)
def test_a_frame_survives_the_wire(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(st.binary(max_size=600))
def test_any_bytes_are_a_frame_or_a_protocol_error(raw: bytes) -> None:
    try:
        frame = decode_frame(raw)
    except ProtocolError:
        return
    assert decode_frame(encode_frame(frame)) == frame


@given(FRAMES, st.data())
def test_a_flipped_bit_is_a_frame_or_a_protocol_error(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(encode_frame(frame))
    position = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[position // 8] ^= 1 << position % 8
    try:
        decode_frame(bytes(raw))
    except ProtocolError:
        return


@given(FRAMES, st.data())
def test_a_truncated_frame_never_passes_as_the_whole(frame: Frame, data: st.DataObject) -> None:
    raw = encode_frame(frame)
    cut = data.draw(st.integers(0, len(raw) - 1))
    try:
        assert decode_frame(raw[:cut]) != frame
    except ProtocolError:
        return


UNKNOWN_FIELD = bytes([0xF8, 0x3F, 1])  # field 1023, varint 1


@given(FRAMES)
def test_unknown_fields_end_the_stream_except_in_the_negotiation(frame: Frame) -> None:
    message = wire.Frame.FromString(encode_frame(frame))
    with pytest.raises(ProtocolError):
        decode_frame(encode_frame(frame) + UNKNOWN_FIELD)
    name = message.WhichOneof("body")
    assert name is not None
    body = getattr(message, name)
    body.MergeFromString(UNKNOWN_FIELD)
    body.SetInParent()
    extended = message.SerializeToString()
    if isinstance(frame, Hello | Welcome):
        assert decode_frame(extended) == frame
    else:
        with pytest.raises(ProtocolError, match="does not know"):
            decode_frame(extended)


@pytest.mark.parametrize(
    "message",
    [
        wire.Frame(),
        wire.Frame(hello=wire.Hello()),
        wire.Frame(hello=wire.Hello(version_min=2, version_max=1, software_version="1", session=b"s" * 16)),
        wire.Frame(
            hello=wire.Hello(version_min=1, version_max=1, software_version="1\x1b", session=b"s" * 16)
        ),
        wire.Frame(hello=wire.Hello(version_min=1, version_max=1, software_version="1", session=b"s" * 15)),
        wire.Frame(welcome=wire.Welcome(version=4, software_version="1", session=b"s" * 16)),
        wire.Frame(start=wire.MessageStart(id=1, kind=wire.KIND_UNSPECIFIED)),
        wire.Frame(start=wire.MessageStart(id=0, in_reply_to=1, kind=wire.KIND_REPLY)),
        wire.Frame(start=wire.MessageStart(id=1, in_reply_to=0, kind=wire.KIND_REPLY)),
        wire.Frame(start=wire.MessageStart(id=1, in_reply_to=1, kind=wire.KIND_REPLY, deadline_millis=1)),
        wire.Frame(start=wire.MessageStart(id=1, in_reply_to=1, kind=wire.KIND_FAILURE, total=1)),
        wire.Frame(start=wire.MessageStart(id=1, in_reply_to=0, kind=wire.KIND_REQUEST)),
        wire.Frame(start=wire.MessageStart(id=1, kind=wire.KIND_REQUEST, deadline_millis=2**63)),
        wire.Frame(chunk=wire.MessageChunk(id=1)),
        wire.Frame(chunk=wire.MessageChunk(id=1, data=bytes(CHUNK_BYTES + 1))),
        wire.Frame(end=wire.MessageEnd(id=1, sha256=b"short")),
        wire.Frame(goodbye=wire.Goodbye()),
        wire.Frame(goodbye=wire.Goodbye(reason=wire.REASON_BUSY)),
        wire.Frame(goodbye=wire.Goodbye(reason=wire.REASON_BUSY, retry_millis=3_600_001)),
        wire.Frame(goodbye=wire.Goodbye(reason=wire.REASON_SHUTDOWN, retry_millis=1)),
        wire.Frame(renewal=wire.Renewal()),
        wire.Frame(renewal=wire.Renewal(request=bytes(RENEWAL_BYTES + 1))),
        wire.Frame(renewed=wire.Renewed(certificate=bytes(CERTIFICATE_BYTES + 1))),
    ],
)
def test_a_frame_out_of_bounds_is_refused(message: wire.Frame) -> None:
    with pytest.raises(ProtocolError):
        decode_frame(message.SerializeToString())


def test_an_unknown_kind_or_reason_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_frame(bytes([0x1A, 4, 0x08, 1, 0x18, 99]))  # start { id: 1 kind: 99 }
    with pytest.raises(ProtocolError):
        decode_frame(bytes([0x52, 2, 0x08, 99]))  # goodbye { reason: 99 }


def test_a_frame_is_measured_before_it_is_parsed() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        decode_frame(bytes(FRAME_BYTES + 1))


@given(st.integers(0, CHUNK_BYTES), NUMBERS, NUMBERS)
def test_the_largest_chunk_fits_into_a_frame(size: int, id: int, offset: int) -> None:
    assert len(encode_frame(MessageChunk(id=id, offset=offset, data=bytes(size)))) <= FRAME_BYTES


@given(st.text())
def test_a_peers_words_cannot_drive_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) <= 300
