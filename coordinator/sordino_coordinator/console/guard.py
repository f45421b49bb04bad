"""The guard in front of the console's pages: a small ASGI layer that refuses before anything is parsed.

    Host allow-list           DNS rebinding: a foreign name that resolves to this address
    Origin, Sec-Fetch-Site    another site's page that posts to the console or frames it
    methods and sizes         nothing but GET, HEAD and two small forms
    one policy for all        every reply, errors included, carries the headers of SECURITY

There is no CORS: no reply ever names another origin. Refusals are counted by reason and echo nothing of the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sordino_coordinator.metrics import Refused
from sordino_platform.web.callers import STRANGER_STATUS, host_name_of

MAX_BODY_BYTES: Final = 4096
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not no-referrer: browsers then send `Origin: null` with our own form.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
TRANSPORT: Final = {"Strict-Transport-Security": "max-age=31536000"}

ANSWER: Final = {
    Refused.HOST: (
        STRANGER_STATUS["host"],
        "this name is not the console's; `console_hosts` in coordinator.toml lists its names\n",
    ),
    Refused.ORIGIN: (STRANGER_STATUS["origin"], "other sites may not use the console\n"),
    Refused.METHOD: (405, "the console can be read only\n"),
    Refused.SIZE: (413, "that is larger than any form of the console\n"),
}


class ConsoleGuard:
    """Wraps the console's application. `hosts` are names without ports, in lower case."""

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str], secure: bool, refused: Callable[[Refused], None]
    ) -> None:
        self._app, self._hosts, self._refused = app, hosts, refused
        self._headers = {**SECURITY, **(TRANSPORT if secure else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or passes the request on; adds the headers to whatever is answered."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        if scope["type"] != "http":
            raise RuntimeError("the console speaks HTTP only")
        reason = self._reason(scope["method"], Headers(scope=scope))
        if reason is None:
            await self._app(scope, receive, guarded)
            return
        self._refused(reason)
        status, text = ANSWER[reason]
        # A refused body was not read: the connection cannot be used again.
        await PlainTextResponse(text, status, {"Connection": "close"})(scope, receive, guarded)

    def _reason(self, method: str, headers: Headers) -> Refused | None:
        """The first rule that the request's head breaks."""
        host, origin = headers.getlist("host"), headers.getlist("origin")
        if len(host) != 1 or host_name_of(host[0].encode("latin-1")) not in self._hosts:
            return Refused.HOST
        if origin and (len(origin) != 1 or origin[0] not in {f"http://{host[0]}", f"https://{host[0]}"}):
            return Refused.ORIGIN
        if method not in {"GET", "HEAD", "POST"}:
            return Refused.METHOD
        site = headers.get("sec-fetch-site", "same-origin")
        # Following a link to the console from elsewhere is a navigation; it arrives without the cookie.
        visit = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if site not in {"same-origin", "none"} and not (
            visit and headers.get("sec-fetch-dest") == "document"
        ):
            return Refused.ORIGIN
        # The server reads no more than Content-Length; what does not say its length is not read at all.
        length = headers.get("content-length", "0" if method != "POST" else "")
        if "transfer-encoding" in headers or re.fullmatch(r"\d{1,4}", length, re.ASCII) is None:
            return Refused.SIZE
        return Refused.SIZE if int(length) > MAX_BODY_BYTES else None
