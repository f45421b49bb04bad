"""The link: gRPC over mutual TLS, one stream per member, opened by the member; payloads are opaque bytes.

The wire protocol is defined in `sordino_platform/wire/link_v1.proto`. `LinkServer` is the coordinator's end,
`LinkClient` a member's; `diagnose` says why a connection cannot be made.

    member        client, outbound       threads and gRPC: connect and reconnect; one stream
                  inbox, outbox          frames that come in and go out on one stream
                  pending                what a member owes over all streams
                  reconnecting           whether to try again, and when
    coordinator   server, admission      listen; admit a member
                  stream                 one stream's life and its end
                  arrival, departure     incoming replies; outgoing frames
                  mailbox                a member's requests, over all streams
    both          frames, messages       bytes to frames and back; a payload in frames

inbox, outbox, pending, reconnecting, arrival and departure hold no lock and read no clock, so tests can run them
without a connection.
"""

import os

# gRPC's C core prints its own lines for every handshake that a port scanner breaks off. What an operator needs to know
# comes from `diagnosis` and the events. gRPC reads this variable once, at first use; an operator's own setting has
# priority.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from sordino_platform.link.client import LinkClient
from sordino_platform.link.diagnosis import Cause, Diagnosis
from sordino_platform.link.events import Direction, Disconnection, IgnoreEvents, LinkEvents, Loss, Rejection
from sordino_platform.link.frames import VERSION_MAX as PROTOCOL_VERSION
from sordino_platform.link.limits import Limits
from sordino_platform.link.messages import Payload, StreamedPart
from sordino_platform.link.probe import diagnose
from sordino_platform.link.request import Handler, Request
from sordino_platform.link.server import LinkServer, LostRequest, Reply, Result
from sordino_platform.link.status import LinkState, LinkStatus
from sordino_platform.link.tls import ClientTls, ServerTls

__all__ = [
    "PROTOCOL_VERSION",
    "Cause",
    "ClientTls",
    "Diagnosis",
    "Direction",
    "Disconnection",
    "Handler",
    "IgnoreEvents",
    "Limits",
    "LinkClient",
    "LinkEvents",
    "LinkServer",
    "LinkState",
    "LinkStatus",
    "Loss",
    "LostRequest",
    "Payload",
    "Rejection",
    "Reply",
    "Request",
    "Result",
    "ServerTls",
    "StreamedPart",
    "diagnose",
]
