"""Signing in by the company's identity provider: two routes beside the token's form.

GET /oidc/login       begins: to the provider, with a cookie that only this sign-in's answer goes with
GET /oidc/callback    ends: the provider sent the browser back; a session, or the form with a reason

The session's cookie is SameSite=Strict. A browser that comes from the provider does not send it with that redirect, so
the answer is a page of our own that goes on to `/`. The target is never read from a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sordino_coordinator.console.access import Access
from sordino_coordinator.metrics import Refused
from sordino_coordinator.oidc.settings import CALLBACK
from sordino_platform.telemetry import log
from sordino_privacy.errors import LinkError, SordinoError

if TYPE_CHECKING:
    from sordino_coordinator.oidc.login import ConsoleLogin

BEGIN: Final = "/oidc/login"
LOGIN_COOKIE_SECONDS: Final = 600
WAITING: Final = 4
"""So many may wait for the provider at once: the threads that render the page are the same ones."""

T = TypeVar("T")
Form = Callable[[int, str], Response]


class SignIn:
    """The routes over one login. `opened` notes who was signed in; `session` puts a session's cookie on a reply,
    for so many seconds."""

    def __init__(
        self,
        login: ConsoleLogin,
        access: Access,
        *,
        cookie: str,
        secure: bool,
        templates: Environment,
        form: Form,
        session: Callable[[Response, str, float], None],
        refused: Callable[[Refused], None],
        opened: Callable[[str], object],
    ) -> None:
        self._login, self._access = login, access
        self._cookie, self._secure = cookie, secure
        self._page = templates.get_template("signed_in.html").render()
        self._form, self._session, self._refused, self._opened = form, session, refused, opened
        self._seconds = 60.0 * login.session_minutes
        self._waiting = 0

    def routes(self) -> list[Route]:
        """To be put beside the console's own."""
        return [Route(BEGIN, self._begin), Route(CALLBACK, self._finish)]

    async def _begin(self, request: Request) -> Response:
        try:
            beginning = await self._asked(self._login.begin)
        except LinkError as error:
            return self._form(503, error.message)
        reply = RedirectResponse(beginning.url, 303)
        reply.set_cookie(
            self._cookie,
            beginning.cookie,
            max_age=LOGIN_COOKIE_SECONDS,
            httponly=True,
            samesite="lax",  # it comes back with the provider's redirect
            secure=self._secure,
        )
        return reply

    async def _finish(self, request: Request) -> Response:
        cookie = request.cookies.get(self._cookie, "")
        try:
            person = await self._asked(lambda: self._login.finish(request.url.query, cookie))
        except LinkError as error:
            return self._form(503, error.message)
        except SordinoError as error:
            log().warning("console_sign_in_refused", error=error.message)
            self._refused(Refused.TOKEN)
            return self._done(self._form(403, f"You were not signed in: {error.message}."))
        if not person.may_read:
            self._refused(Refused.TOKEN)
            return self._done(self._form(403, "You were not signed in: none of your groups may read here."))
        await asyncio.to_thread(self._opened, f"console:{person.subject}")
        log().info("console_opened")
        reply = Response(self._page, media_type="text/html")
        self._session(reply, self._access.admit(seconds=self._seconds), self._seconds)
        return self._done(reply)

    async def _asked(self, ask: Callable[[], T]) -> T:
        """Runs `ask`, which needs the provider, on a thread: it may take seconds. Raises LinkError when too many
        wait."""
        if self._waiting >= WAITING:
            raise LinkError("too many sign-ins wait for the identity provider; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.to_thread(ask)
        finally:
            self._waiting -= 1

    def _done(self, reply: Response) -> Response:
        """A sign-in is over, however it ended."""
        reply.delete_cookie(self._cookie, httponly=True, samesite="lax", secure=self._secure)
        return reply
