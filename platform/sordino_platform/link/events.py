"""What the link reports to its operator: enums, which are the metrics' labels, and a protocol to receive events.

Callbacks run on the link's own thread: they count or log, and return at once.
"""

from __future__ import annotations

import enum
from typing import Protocol


class Direction(enum.StrEnum):
    """Label `direction` of `sordino_message_bytes_total`, from the view of the process that counts."""

    RECEIVED = "received"
    SENT = "sent"


class Rejection(enum.StrEnum):
    """Label `reason` of `sordino_messages_rejected_total`, as far as the link can see (the protocol adds others)."""

    REPLAY = "replay"  # an answer to a request that was already answered, or to none
    SIZE = "size"  # larger than allowed
    SCHEMA = "schema"  # bytes that are no frame of this version, frames in a wrong order, or too many frames
    UNKNOWN_CLIENT = "unknown_client"  # a certificate of no member, or of a member that was retired
    EXPIRED = "expired"  # the certificate expired while connected, or the message came after its deadline
    BUSY = "busy"  # too many came at once: the member was told when to come back
    UNEXPECTED = (
        "unexpected"  # bytes that raised an unexpected exception: a bug on this side, which costs that member
    )


class Disconnection(enum.StrEnum):
    """Why a stream ended."""

    LEFT = "left"  # the member said Goodbye
    LOST = "lost"  # the connection broke
    FENCED = "fenced"  # a newer stream of the same identity replaced it
    DEADLINE = "deadline"
    UNRESPONSIVE = "unresponsive"
    PROTOCOL = "protocol"
    IDENTITY = "identity"
    EXPIRED = "expired"
    SHUTDOWN = "shutdown"


class Loss(enum.StrEnum):
    """Why a request has no reply: label `reason` of `sordino_client_dropouts_total`."""

    TIMEOUT = "timeout"
    DISCONNECT = "disconnect"
    INVALID = "invalid"  # the member broke the link's protocol in its reply
    REFUSED = "refused"  # the member's handler failed or declined
    REVOKED = "revoked"
    STORAGE = "storage"  # this side could not keep the reply: its disk is full


class LinkEvents(Protocol):
    """Receives events. Derive from `IgnoreEvents` and implement the events that you need."""

    def connected(self, member: str) -> None: ...
    def disconnected(self, member: str, reason: Disconnection) -> None: ...
    def rejected(self, reason: Rejection) -> None: ...
    def bytes(self, direction: Direction, count: int) -> None: ...


class IgnoreEvents:
    """Ignores all events; a base class for receivers of only some events."""

    def connected(self, member: str) -> None:
        """The stream of `member` is open and welcomed."""

    def disconnected(self, member: str, reason: Disconnection) -> None:
        """The stream of `member` has ended."""

    def rejected(self, reason: Rejection) -> None:
        """A message or a connection was refused."""

    def bytes(self, direction: Direction, count: int) -> None:
        """`count` payload bytes were sent or received."""
