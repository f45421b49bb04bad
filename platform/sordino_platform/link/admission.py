"""Who may open a stream, and when: the certificate, the charter, the versions, the turns, and one stream per member.

Each refusal is a `StreamEnding` that says Goodbye with its reason. Nothing is read from a member before its certificate
has been checked, and nothing is stored for it before it is admitted.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
from collections.abc import Callable

from sordino_platform.link.allowance import Turns
from sordino_platform.link.ending import StreamEnding
from sordino_platform.link.events import Rejection
from sordino_platform.link.frames import (
    BUSY_VERSION,
    VERSION_MAX,
    VERSION_MIN,
    GoodbyeReason,
    Hello,
    ProtocolError,
    Welcome,
    decode_frame,
)
from sordino_platform.link.limits import SESSION_BYTES
from sordino_platform.link.mailbox import Mailbox
from sordino_platform.link.stream import MemberStream, StreamServices, Wire
from sordino_platform.link.tls import expiry_of
from sordino_privacy.errors import SordinoError


class Admission:
    """Admits streams to one server. `identify` maps a certificate (PEM) to a member's name, or raises a SordinoError.

    Used on the link's own thread only.
    """

    def __init__(
        self, services: StreamServices, *, identify: Callable[[bytes], str], software_version: str
    ) -> None:
        limits = services.limits
        self._services, self._identify, self._software_version = services, identify, software_version
        self._turns = Turns(limits.arrival_burst, limits.arrival_rate, most=limits.busy_seconds)
        self._session = secrets.token_bytes(SESSION_BYTES)

    def identified(self, pem: bytes) -> tuple[str, datetime.datetime]:
        """The member to whom a certificate belongs, and when it expires. Raises StreamEnding."""
        try:
            member, expires = self._identify(pem), expiry_of(pem)
            self._services.admit(member)
        except SordinoError as refusal:
            raise StreamEnding(GoodbyeReason.IDENTITY, refusal.message, Rejection.UNKNOWN_CLIENT) from None
        if self._services.now() >= expires:
            raise StreamEnding(GoodbyeReason.EXPIRED, "the certificate has expired", Rejection.EXPIRED)
        return member, expires

    async def stream(
        self, wire: Wire, mailbox: Mailbox, expires: datetime.datetime, hello: Hello
    ) -> tuple[MemberStream, Welcome]:
        """The stream that replaces the member's older one, and its Welcome. Raises StreamEnding."""
        version = self._common_version(hello)
        now = asyncio.get_running_loop().time()
        if not mailbox.openings.take(now):
            raise StreamEnding(GoodbyeReason.UNRESPONSIVE, "too many connections", Rejection.SCHEMA)
        # A round waits for members that have an open request, so these never wait for a turn.
        if mailbox.current is None and (seconds := self._turns.ask(now)):
            raise _busy(seconds, hello)
        async with mailbox.opening:
            older_stream = mailbox.stream
            if older_stream is not None:
                if hello.session != mailbox.session and await older_stream.alive():
                    raise StreamEnding(
                        GoodbyeReason.DUPLICATE, f"another process is connected as {mailbox.member}"
                    )
                older_stream.end(StreamEnding(GoodbyeReason.FENCED, "a newer connection took over"))
                await older_stream.ended()
            stream = MemberStream(wire, mailbox, self._services, expires, version)
            awaiting = mailbox.resume(hello, self._session)
            mailbox.stream = stream
        return stream, Welcome(
            version=version,
            software_version=self._software_version,
            session=self._session,
            awaiting=awaiting,
        )

    def _common_version(self, hello: Hello) -> int:
        version = min(hello.version_max, VERSION_MAX)
        if version < max(hello.version_min, VERSION_MIN):
            older = "member" if hello.version_max < VERSION_MIN else "coordinator"
            raise StreamEnding(
                GoodbyeReason.VERSION,
                f"the coordinator {self._software_version} speaks versions {VERSION_MIN} to {VERSION_MAX}, "
                f"the member {hello.software_version} {hello.version_min} to {hello.version_max}: upgrade the {older}",
            )
        return version


async def hello_of(wire: Wire) -> Hello | None:
    """The first frame, which must be a Hello; None when the other side closed the stream. Raises StreamEnding."""
    try:
        raw = await wire.read()
        hello = decode_frame(raw) if raw is not None else None
    except ProtocolError as problem:
        raise StreamEnding(GoodbyeReason.PROTOCOL, problem.message, Rejection.SCHEMA) from None
    if hello is not None and not isinstance(hello, Hello):
        raise StreamEnding(GoodbyeReason.PROTOCOL, "the first frame is no Hello", Rejection.SCHEMA)
    return hello


def _busy(seconds: float, hello: Hello) -> StreamEnding:
    """Tells a member to come back at its turn; a member of an older version, without turns, chooses its own wait."""
    if hello.version_max < BUSY_VERSION:
        return StreamEnding(GoodbyeReason.UNRESPONSIVE, "too many members at once", Rejection.BUSY)
    return StreamEnding(
        GoodbyeReason.BUSY,
        "too many members at once",
        Rejection.BUSY,
        retry_millis=max(1, int(seconds * 1000)),
    )
