"""The guard in front of every dialect: one small ASGI layer, and nothing is parsed before it agrees.

A port on loopback is reachable by every page in the developer's browser and every process of every user of the
machine. Each rule answers an attack that has been made on a local model server:

    Host allow-list          DNS rebinding (CVE-2024-28224): a foreign name that resolves to 127.0.0.1
    Origin, Sec-Fetch-Site   a web page that posts to loopback; only an editor's web view may
    bearer token             another local user, or any program that was not given the token file
    content type             a form post, which needs no CORS preflight
    size, time               memory and patience: the body is bounded and read whole before anyone parses it
    rate                     a client in a loop; only requests with the token count, so nobody else can use it up

How long a head may take and how many connections there are is decided below (sordino_platform.web.connections).

Refusals are counted by reason and carry no echo of the request. At most the class of a failure is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol

from prometheus_client import Counter

from sordino_platform import telemetry
from sordino_platform.web.callers import STRANGER_STATUS, RequestHeaders, stranger
from sordino_platform.web.connections import PROVED

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES: Final = 4 << 20
BODY_SECONDS: Final = 10.0
LINGER_SECONDS: Final = 1.0
RATE_PER_SECOND: Final = 50.0
BURST: Final = 100.0
EDITOR_ORIGINS: Final = (b"vscode-webview://",)
# The statistics page is markup without data; the browser cannot send a token before it has loaded it.
OPEN_PATHS: Final = frozenset({"/", "/page.js", "/page.css"})

STATUS: Final[Mapping[str, int]] = {
    **STRANGER_STATUS,
    "token": 401,
    "size": 413,
    "rate": 429,
    "content_type": 415,
}
REASONS: Final = tuple(STATUS)
"""Every rule by its label in `sordino_http_rejected_total`."""
EXPLANATION: Final = {
    "host": "this name is not the endpoint's; use 127.0.0.1",
    "origin": "web pages may not use this endpoint",
    "token": "the token is missing or wrong; it stands in the file `token` of the state folder",
    "content_type": "send application/json",
    "size": "the request is larger than 4 MiB: send what stands near the cursor, or was not sent in time",
    "rate": "too many requests; wait a moment",
}


class Counting(Protocol):
    """Where refusals are counted, by reason."""

    http_rejected: Counter


class EndpointGuard:
    """Wraps an ASGI application. `clock` is monotonic seconds."""

    def __init__(
        self, app: App, *, token: str, metrics: Counting, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.app = app
        self._token = token.encode()
        self._metrics = metrics
        self._clock = clock
        self._allowance, self._filled = BURST, clock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses the request, or reads its body and passes it on; it is cancelled if the client goes away."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")
        reason = self._refusal(scope)
        body = b""
        if reason is None:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    body = await _read(receive)
            except (_TooLarge, TimeoutError):
                reason = "size"
        if reason is not None:
            self._metrics.http_rejected.labels(reason).inc()
            await _refuse(receive, send, reason)
            return
        await _with_abort(self.app, scope, body, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        """The first rule that the request's head breaks."""
        head = RequestHeaders(scope["headers"])
        foreign = stranger(head, origins=EDITOR_ORIGINS)
        if foreign is not None:
            return foreign
        known = self._knows(head[b"authorization"], head[b"api-key"] or head[b"x-api-key"])
        if known and PROVED in scope:
            scope[PROVED]()
        open_to_all = scope["method"] == "GET" and scope["path"] in OPEN_PATHS
        if not (known or open_to_all):
            return "token"
        length, given = head[b"content-length"], head[b"content-type"]
        # POST is the only method with a body here, and the only one with a body that a form can send.
        empty = given is None and length in {None, b"0"} and b"transfer-encoding" not in head
        if scope["method"] == "POST" and not empty:
            kind = (given or b"").split(b";", 1)[0].strip().lower()
            if kind != b"application/json":
                return "content_type"
        if length is not None and (not length.isdigit() or int(length[:12]) > MAX_BODY_BYTES):
            return "size"
        return "rate" if known and not self._within_rate() else None

    def _knows(self, authorization: bytes | None, key: bytes | None) -> bool:
        scheme, _, credential = (authorization or b"").partition(b" ")
        given = credential.strip() if scheme.lower() == b"bearer" else key or b""
        return hmac.compare_digest(given, self._token)

    def _within_rate(self) -> bool:
        """A token bucket over all requests with the token. The open paths are three small files: counting their
        requests would cost as much as answering them, and a stranger could use up the rate that the owner's page
        needs."""
        now = self._clock()
        self._allowance = min(BURST, self._allowance + (now - self._filled) * RATE_PER_SECOND)
        self._filled = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


class _TooLarge(Exception):  # noqa: N818 - becomes a refusal
    """The body passed the limit while it was read."""


async def _read(receive: Receive) -> bytes:
    """The whole body. Raises _TooLarge as soon as it passes the limit."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _TooLarge
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _TooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _drop(receive: Receive) -> None:
    """Reads at most a body's limit and keeps nothing: a refused client, which may have no token, must not fill
    memory."""
    size = 0
    while size <= MAX_BODY_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _with_abort(app: App, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Runs the application on a body that was read; cancels it when the client disconnects."""
    gone = asyncio.Event()
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async def run() -> None:
        await app(scope, replay, send)

    answering = asyncio.create_task(run())
    watching = asyncio.create_task(watch())
    try:
        await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            answering.cancel()
        try:
            await answering
        except asyncio.CancelledError:
            if not gone.is_set():
                raise
        except Exception as error:  # noqa: BLE001 - the server would log the message, which may quote the body
            telemetry.log().error("request_failed", error=type(error).__name__)
    finally:
        watching.cancel()
        answering.cancel()


async def _refuse(receive: Receive, send: Send, reason: str) -> None:
    """Answers, and then reads for a moment what the client still sends. Closing with an unread body would reset the
    connection, and the client might never see the answer (RFC 9112, section 9.6)."""
    body = json.dumps(
        {"error": {"message": EXPLANATION[reason], "type": "refused", "code": reason}}, separators=(",", ":")
    ).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # A refused body may not have been read: the connection cannot be used again.
    headers += [(b"connection", b"close"), (b"x-sordino-reason", reason.encode())]
    if reason == "rate":
        headers.append((b"retry-after", b"1"))
    if reason == "token":
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": STATUS[reason], "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            await _drop(receive)
    await send({"type": "http.response.body", "body": b""})
