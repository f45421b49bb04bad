"""What the link tells its operator: closed enums, the labels of the metrics, and a protocol to receive them.

Callbacks run on the link's own thread: they count or log, and return at once.
"""

from __future__ import annotations

import enum
from typing import Protocol


class Direction(enum.StrEnum):
    """Label `direction` of `sordino_message_bytes_total`, seen from the process that counts."""

    RECEIVED = "received"
    SENT = "sent"


class Rejection(enum.StrEnum):
    """Label `reason` of `sordino_messages_rejected_total`, as far as the link can tell (the rest is the protocol's)."""

    REPLAY = "replay"  # an answer to something that was answered, or never asked
    SIZE = "size"  # larger than allowed
    SCHEMA = "schema"  # bytes that are no frame of this version, in an order that is none, or a flood of them
    UNKNOWN_CLIENT = "unknown_client"  # a certificate that names nobody, or a member that was retired
    EXPIRED = "expired"  # the certificate ran out while connected, or the message came after its deadline
    BUSY = "busy"  # too many came at once: told when to come back
    UNEXPECTED = (
        "unexpected"  # bytes that raised what nobody foresaw: a bug of this side, at that member's cost
    )


class Disconnection(enum.StrEnum):
    """Why a stream ended."""

    LEFT = "left"  # the member said Goodbye
    LOST = "lost"  # the connection broke
    FENCED = "fenced"  # a newer stream of the same identity took over
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
    """Receives what happens; implement what you need by deriving from `IgnoreEvents`."""

    def connected(self, member: str) -> None: ...
    def disconnected(self, member: str, reason: Disconnection) -> None: ...
    def rejected(self, reason: Rejection) -> None: ...
    def bytes(self, direction: Direction, count: int) -> None: ...


class IgnoreEvents:
    """Receives and ignores; the base for those who want one event."""

    def connected(self, member: str) -> None:
        """The stream of `member` is open and welcomed."""

    def disconnected(self, member: str, reason: Disconnection) -> None:
        """The stream of `member` has ended."""

    def rejected(self, reason: Rejection) -> None:
        """A message or a connection was refused."""

    def bytes(self, direction: Direction, count: int) -> None:
        """`count` payload bytes passed."""
