"""Frames: the only place where wire bytes become frozen dataclasses.

`decode_frame` refuses everything that is not a frame of this version: unknown fields and bodies, sizes out of bounds,
unspecified enums. It allocates nothing larger than its input, and gRPC limits that input to `FRAME_BYTES`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sordino_platform.link.limits import (
    CERTIFICATE_BYTES,
    CHUNK_BYTES,
    DETAIL_CHARACTERS,
    FRAME_BYTES,
    RENEWAL_BYTES,
    SESSION_BYTES,
)
from sordino_platform.wire import link_v1_pb2 as wire
from sordino_privacy.errors import LinkError

VERSION_MIN: Final = 1
VERSION_MAX: Final = 3
"""Protocol versions that this software speaks."""
RENEWAL_VERSION: Final = 2
"""The first version in which Renewal and Renewed may be sent."""
BUSY_VERSION: Final = 3
"""The first version in which a coordinator may say that it is busy, and when to come back."""

METHOD: Final = f"/{wire.DESCRIPTOR.services_by_name['Link'].full_name}/Open"
SERVICE: Final = METHOD.split("/")[1]
SOFTWARE_VERSION: Final = re.compile(r"[0-9A-Za-z.+-]{1,64}")
MAX_DEADLINE_SECONDS: Final = 30 * 86_400.0
MAX_RETRY_MILLIS: Final = 3_600_000


class ProtocolError(LinkError):
    """The peer sent something that this version of the link's protocol does not allow."""


class FrameKind(enum.IntEnum):
    """What a message is; see the protocol's file."""

    REQUEST = wire.KIND_REQUEST
    REPLY = wire.KIND_REPLY
    FAILURE = wire.KIND_FAILURE


class GoodbyeReason(enum.IntEnum):
    """Why a side says Goodbye; see the protocol's file."""

    SHUTDOWN = wire.REASON_SHUTDOWN
    VERSION = wire.REASON_VERSION
    IDENTITY = wire.REASON_IDENTITY
    DUPLICATE = wire.REASON_DUPLICATE
    FENCED = wire.REASON_FENCED
    DEADLINE = wire.REASON_DEADLINE
    UNRESPONSIVE = wire.REASON_UNRESPONSIVE
    PROTOCOL = wire.REASON_PROTOCOL
    EXPIRED = wire.REASON_EXPIRED
    BUSY = wire.REASON_BUSY


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    version_min: int
    version_max: int
    software_version: str
    session: bytes
    coordinator_session: bytes
    received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    version: int
    software_version: str
    session: bytes
    awaiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStart:
    id: int
    in_reply_to: int
    kind: FrameKind
    total: int
    deadline_millis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageChunk:
    id: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEnd:
    id: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    id: int


@dataclass(frozen=True, slots=True)
class Ping:
    nonce: int


@dataclass(frozen=True, slots=True)
class Pong:
    nonce: int


@dataclass(frozen=True, slots=True)
class Cancel:
    id: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    reason: GoodbyeReason
    detail: str = ""
    retry_millis: int = 0


@dataclass(frozen=True, slots=True)
class Renewal:
    request: bytes


@dataclass(frozen=True, slots=True)
class Renewed:
    certificate: bytes


Frame: TypeAlias = (
    Hello
    | Welcome
    | MessageStart
    | MessageChunk
    | MessageEnd
    | Ack
    | Ping
    | Pong
    | Cancel
    | Goodbye
    | Renewal
    | Renewed
)


def printable(text: str, characters: int = DETAIL_CHARACTERS) -> str:
    """`text` on one line, truncated, without control characters, so that a peer's text cannot control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:characters]).strip()


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame that this software made. Only the types are relied on; nothing else is checked here."""
    match frame:
        case Hello():
            message = wire.Frame(
                hello=wire.Hello(
                    version_min=frame.version_min,
                    version_max=frame.version_max,
                    software_version=frame.software_version,
                    session=frame.session,
                    coordinator_session=frame.coordinator_session,
                    received=frame.received,
                )
            )
        case Welcome():
            message = wire.Frame(
                welcome=wire.Welcome(
                    version=frame.version,
                    software_version=frame.software_version,
                    session=frame.session,
                    awaiting=frame.awaiting,
                )
            )
        case MessageStart():
            message = wire.Frame(
                start=wire.MessageStart(
                    id=frame.id,
                    in_reply_to=frame.in_reply_to,
                    kind=wire.Kind.ValueType(frame.kind),
                    total=frame.total,
                    deadline_millis=frame.deadline_millis,
                )
            )
        case MessageChunk():
            message = wire.Frame(chunk=wire.MessageChunk(id=frame.id, offset=frame.offset, data=frame.data))
        case MessageEnd():
            message = wire.Frame(end=wire.MessageEnd(id=frame.id, sha256=frame.sha256))
        case Ack():
            message = wire.Frame(ack=wire.Ack(id=frame.id))
        case Ping():
            message = wire.Frame(ping=wire.Ping(nonce=frame.nonce))
        case Pong():
            message = wire.Frame(pong=wire.Pong(nonce=frame.nonce))
        case Cancel():
            message = wire.Frame(cancel=wire.Cancel(id=frame.id))
        case Goodbye():
            detail = printable(frame.detail)
            message = wire.Frame(
                goodbye=wire.Goodbye(
                    reason=wire.Reason.ValueType(frame.reason), detail=detail, retry_millis=frame.retry_millis
                )
            )
        case Renewal():
            message = wire.Frame(renewal=wire.Renewal(request=frame.request))
        case Renewed():
            message = wire.Frame(renewed=wire.Renewed(certificate=frame.certificate))
    return message.SerializeToString()


def decode_frame(raw: bytes) -> Frame:
    """The frame that `raw` encodes.

    Raises ProtocolError for everything that is not exactly one frame of this version.
    """
    if len(raw) > FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(raw)} bytes where at most {FRAME_BYTES} are allowed")
    try:
        message = wire.Frame.FromString(raw)
    except DecodeError:
        raise ProtocolError("bytes that are no frame of sordino's link") from None
    name = message.WhichOneof("body")
    if name is None:
        raise ProtocolError("a frame without a body that this version knows")
    body = getattr(message, name)
    if _unknown(message) or (name not in ("hello", "welcome") and _unknown(body)):
        raise ProtocolError(f"a frame {name} with a field that this version does not know")
    return _checked(body)


def _unknown(message: Message) -> bool:
    return len(UnknownFieldSet(message)) > 0


def _require(fine: bool, what: str) -> None:
    if not fine:
        raise ProtocolError(f"a frame with {what}")


def _checked(body: Message) -> Frame:
    match body:
        case wire.Hello():
            _require(0 < body.version_min <= body.version_max, "an impossible range of versions")
            _require(
                SOFTWARE_VERSION.fullmatch(body.software_version) is not None,
                "an unreadable software version",
            )
            _require(len(body.session) == SESSION_BYTES, "a session of the wrong length")
            _require(len(body.coordinator_session) in (0, SESSION_BYTES), "a session of the wrong length")
            return Hello(
                version_min=body.version_min,
                version_max=body.version_max,
                software_version=body.software_version,
                session=body.session,
                coordinator_session=body.coordinator_session,
                received=body.received,
            )
        case wire.Welcome():
            _require(VERSION_MIN <= body.version <= VERSION_MAX, "a version that this side does not speak")
            _require(
                SOFTWARE_VERSION.fullmatch(body.software_version) is not None,
                "an unreadable software version",
            )
            _require(len(body.session) == SESSION_BYTES, "a session of the wrong length")
            return Welcome(
                version=body.version,
                software_version=body.software_version,
                session=body.session,
                awaiting=body.awaiting,
            )
        case wire.MessageStart():
            _require(int(body.kind) in frozenset(FrameKind), "an unknown kind of message")
            kind = FrameKind(body.kind)
            _require(body.id > 0, "no message id")
            _require(
                (body.in_reply_to == 0) == (kind is FrameKind.REQUEST),
                "a reply to nothing, or a request that replies",
            )
            _require((body.deadline_millis == 0) != (kind is FrameKind.REQUEST), "a deadline out of place")
            _require(body.deadline_millis <= MAX_DEADLINE_SECONDS * 1000, "a deadline too far away")
            _require(kind is not FrameKind.FAILURE or body.total == 0, "a failure that carries a payload")
            return MessageStart(
                id=body.id,
                in_reply_to=body.in_reply_to,
                kind=kind,
                total=body.total,
                deadline_millis=body.deadline_millis,
            )
        case wire.MessageChunk():
            _require(0 < len(body.data) <= CHUNK_BYTES, "a chunk of the wrong size")
            return MessageChunk(id=body.id, offset=body.offset, data=body.data)
        case wire.MessageEnd():
            _require(len(body.sha256) == 32, "a digest of the wrong length")
            return MessageEnd(id=body.id, sha256=body.sha256)
        case wire.Ack():
            return Ack(body.id)
        case wire.Ping():
            return Ping(body.nonce)
        case wire.Pong():
            return Pong(body.nonce)
        case wire.Cancel():
            return Cancel(body.id)
        case wire.Goodbye():
            _require(int(body.reason) in frozenset(GoodbyeReason), "an unknown reason")
            reason = GoodbyeReason(body.reason)
            _require(
                (body.retry_millis == 0) != (reason is GoodbyeReason.BUSY), "a time to come back out of place"
            )
            _require(body.retry_millis <= MAX_RETRY_MILLIS, "a time to come back too far away")
            return Goodbye(reason, printable(body.detail), body.retry_millis)
        case wire.Renewal():
            _require(0 < len(body.request) <= RENEWAL_BYTES, "a renewal of the wrong size")
            return Renewal(body.request)
        case wire.Renewed():
            _require(0 < len(body.certificate) <= CERTIFICATE_BYTES, "a certificate of the wrong size")
            return Renewed(body.certificate)
        case _:
            raise ProtocolError("a frame without a body that this version knows")
