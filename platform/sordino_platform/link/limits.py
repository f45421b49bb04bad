"""The limits of a link: every size, rate and wait that one peer can impose on the other, on one screen.

The defaults are for 200 members and messages of 92 MB. Whatever its members do, a coordinator's memory grows by at most
about `members * (spool.MEMORY_BYTES + 2 * WINDOW_BYTES)`, and its disk use by the replies that it requested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CHUNK_BYTES: Final = 256 * 1024
"""Bytes in every chunk of a message but its last: part of the protocol, not a setting."""

FRAME_BYTES: Final = CHUNK_BYTES + 1024
"""Largest encoded frame: a chunk and its envelope. gRPC refuses larger ones before it allocates memory."""

WINDOW_BYTES: Final = 512 * 1024
"""HTTP/2 window of a stream: the most unread bytes that a peer can make us hold. 512 KiB allows 5 MB/s at 100 ms."""

METADATA_BYTES: Final = 8 * 1024
"""HTTP headers per call: sordino sends none of its own."""

SESSION_BYTES: Final = 16
RENEWAL_BYTES: Final = 32 * 1024
CERTIFICATE_BYTES: Final = 16 * 1024
DETAIL_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, waits in seconds. Raises ValueError for an impossible limit."""

    message_bytes: int = 256 * 1024 * 1024
    """Largest payload that is accepted; a request can set a lower limit for its reply."""

    connections: int = 1024
    """Server: TCP connections at once, handshakes included."""

    pending_requests: int = 16
    """Server: messages to one member that wait for their turn."""

    hello_seconds: float = 10.0
    """From the stream's opening to Hello (Welcome at the client), and for the TLS handshake."""

    stall_seconds: float = 30.0
    """Longest wait between two frames of one message. With 256 KiB chunks: at least 70 kbit/s."""

    probe_seconds: float = 10.0
    """Longest wait for any frame after Ping, before a stream counts as dead."""

    keepalive_seconds: float = 30.0
    """HTTP/2 ping interval of an idle connection; an unanswered ping ends it after a third of this."""

    admission_seconds: float = 15.0
    """Server: how often it is checked for every open stream, idle ones too, whether its member is still admitted."""

    handshake_seconds: float = 86_400.0
    """Client: a connection older than this is replaced, so that the coordinator's certificate is verified again."""

    control_burst: int = 64
    """Frames other than chunks that a peer may send at once ..."""

    control_rate: float = 16.0
    """... and per second thereafter. More is a flood."""

    renewal_burst: int = 4
    """Requests for a certificate that a member may send at once ..."""

    renewal_rate: float = 1 / 30
    """... and per second thereafter. Each costs the verification of two signatures and, if it is new, a file."""

    opening_burst: int = 32
    """Streams that one member may open at once ..."""

    opening_rate: float = 0.5
    """... and per second thereafter. An honest member waits longer after each failure."""

    arrival_burst: int = 64
    """Server: streams of all members together that may open at once ..."""

    arrival_rate: float = 20.0
    """... and per second thereafter. Further ones are told when to come back: after a restart all come at once.
    """

    busy_seconds: float = 60.0
    """The longest wait that a busy coordinator may ask of a member, and that a member accepts."""

    def __post_init__(self) -> None:
        waits = (
            self.hello_seconds,
            self.stall_seconds,
            self.probe_seconds,
            self.keepalive_seconds,
            self.admission_seconds,
            self.handshake_seconds,
            self.control_rate,
            self.opening_rate,
            self.arrival_rate,
            self.busy_seconds,
        )
        counts = (
            self.message_bytes,
            self.connections,
            self.pending_requests,
            self.control_burst,
            self.opening_burst,
            self.arrival_burst,
        )
        if min(waits) <= 0 or min(counts) < 1:
            raise ValueError("every limit must be positive")
