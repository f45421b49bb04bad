"""The one boundary between a member's bytes and the coordinator: whatever the bytes cause, it costs that member and
nobody else.

A reply is taken apart, parsed and accepted inside `judge`. Any exception on the way, expected or not, becomes a
`LostMember` with its reason, and the exchange goes on with the others. The text of an unexpected exception may hold a
member's words, so only its class and its place in the code are noted.

Nothing else in the coordinator may touch what a member sent: a second boundary would be one that somebody forgets.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from flwr.app import Message

from sordino_coordinator.metrics import Dropped, RejectionReason
from sordino_platform.flower.phases import Fields
from sordino_platform.flower.shim import is_gone
from sordino_platform.link.frames import printable
from sordino_privacy.errors import LinkError, SordinoError, StorageError
from sordino_privacy.secagg import (
    CheatError,
    IdentityError,
    MalformedError,
    QuorumError,
    ReplayError,
    ShareError,
    UploadSignatureError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberReply:
    """A member's reply, for `accept`. `member` is who was asked, never who the reply says it is."""

    member: str
    fields: Fields

    def only(self, name: str) -> bytes:
        """The byte string `name`, which must be all that the reply holds. Raises LinkError."""
        value = self.fields.blob(name)
        self.fields.done()
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A member whose reply was accepted, `seconds` after the exchange began."""

    member: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LostMember:
    """A member that gave no acceptable reply. `rejected` is the label of the message that was refused, if one was;
    `error` is one line for the operator. `cheated`: a message that the member signed proves that it cheated; `proof` is
    there if a third party can judge it."""

    member: str
    reason: Dropped
    error: str = ""
    rejected: RejectionReason | None = None
    cheated: bool = False
    proof: bytes = b""


Accept = Callable[[MemberReply], None]


def judge(
    member: str, opened: Callable[[], Message], accept: Accept, *, seconds: float
) -> Answered | LostMember:
    """Takes one reply apart and accepts it. `opened` decodes it.

    Raises only StorageError: a full disk is this side's own fault, and no member is blamed for it.
    """
    try:
        reply = opened()
        if reply.has_error():
            return LostMember(member=member, reason=lost_because(reply))
        answer = MemberReply(member=member, fields=Fields(reply))
        accept(answer)
        answer.fields.done()
    except StorageError:
        raise
    except SordinoError as error:
        return LostMember(
            member=member,
            reason=Dropped.INVALID,
            error=printable(error.message),
            rejected=rejection_of(error),
            cheated=isinstance(error, CheatError) and error.culprit == member,
            proof=error.proof if isinstance(error, CheatError) else b"",
        )
    except Exception as error:  # noqa: BLE001 - the boundary: whatever it is, it ends here
        return LostMember(
            member=member,
            reason=Dropped.INVALID,
            error=f"{type(error).__name__} at {place_of(error)}",
            rejected=RejectionReason.UNEXPECTED,
        )
    return Answered(member=member, seconds=seconds)


def place_of(error: BaseException) -> str:
    """File and line of where `error` was raised: all that may be said of an exception that nobody expected."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"


def lost_because(reply: Message) -> Dropped:
    """Our grid puts the link's reason into Flower's error, and Flower's own has a code for a node that is gone; any
    other error is a member that refused."""
    if is_gone(reply.error):
        return Dropped.DISCONNECT
    reason = reply.error.reason or ""
    return Dropped(reason) if reason in set(Dropped) else Dropped.REFUSED


def rejection_of(error: SordinoError) -> RejectionReason:
    """The metric's label for a message that was refused: only a broken signature or a lie counts as forged."""
    if isinstance(error, UploadSignatureError | CheatError | QuorumError | ShareError):
        return RejectionReason.SIGNATURE
    if isinstance(error, IdentityError):
        return RejectionReason.UNKNOWN_CLIENT
    if isinstance(error, ReplayError):
        return RejectionReason.REPLAY
    if isinstance(error, LinkError | MalformedError):
        return RejectionReason.SCHEMA
    return RejectionReason.ROUND
