"""The console's routes. What the page shows is in `shown`; the script only asks for it again.

GET  /?members=2&before=900    the page, or the login form (401): members 51 to 100, and rounds before round 900
POST /login, /logout    the token for a session, and its end
GET  /oidc/...          signing in by the company's provider, where there is one (signing_in)
GET  /runbooks/NAME     a runbook
GET  /console.css, /console.js, /icon.svg    without a session: they hold nothing about the federation
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sordino_coordinator.console.access import SESSION_SECONDS, Access
from sordino_coordinator.console.health import unreadable_records
from sordino_coordinator.console.runbooks import read_runbooks
from sordino_coordinator.console.shown import FIRST, SHOWN_ROUNDS, Part, environment, part_of, view
from sordino_coordinator.console.signing_in import SignIn
from sordino_coordinator.console.state import ConsoleState, StateReader
from sordino_coordinator.metrics import Refused
from sordino_platform.telemetry import log
from sordino_platform.web.connections import PROVED
from sordino_privacy.errors import SordinoError, StorageError

if TYPE_CHECKING:
    from sordino_coordinator.oidc.login import ConsoleLogin

FRESH_SECONDS: Final = 1.0
BODY_SECONDS: Final = 5.0
STATIC: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(slots=True)
class Rendered:
    """A part of the page as it was last rendered. All viewers share it."""

    body: bytes
    tag: str


class Pages:
    """The routes over one reader. Used on the server's event loop only."""

    def __init__(
        self,
        reader: StateReader,
        access: Access,
        *,
        cookie: str,
        secure: bool,
        refused: Callable[[Refused], None],
        login: ConsoleLogin | None = None,
        takes_token: bool = True,
        opened: Callable[[str], object] = len,
    ) -> None:
        """`login` signs in by a provider; `opened` is told who was; `takes_token`: whether the form with the token is
        there."""
        self._reader, self._access, self._refused = reader, access, refused
        self._cookie, self._secure = cookie, secure
        self._templates = environment()
        self._runbooks = read_runbooks()
        self._reading = asyncio.Lock()
        self._state: ConsoleState | SordinoError | None = None
        self._read_at = -math.inf
        self._rendered: dict[Part, Rendered] = {}  # of the newest state only
        folder = files("sordino_coordinator.console") / "static"
        self._static = {name: (folder / name).read_bytes() for name in STATIC}
        self._takes_token = takes_token
        self._person_minutes = None if login is None else login.session_minutes
        self._sign_in: SignIn | None = None
        if login is not None:
            self._sign_in = SignIn(
                login,
                access,
                cookie=f"{cookie}-login",
                secure=secure,
                templates=self._templates,
                form=partial(self._form, at_token=False),
                session=self._put_session,
                refused=refused,
                opened=opened,
            )

    def app(self) -> Starlette:
        """The application, to be put behind the guard."""
        routes = [
            Route("/", self._page),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/runbooks/{name}", self._runbook),
            *(self._sign_in.routes() if self._sign_in is not None else ()),
            *(Route(f"/{name}", self._file) for name in STATIC),
        ]
        return Starlette(routes=routes)

    async def look(self, part: Part = FIRST) -> Rendered:
        """The page, at most FRESH_SECONDS old; reading and rendering do not hold up the event loop."""
        async with self._reading:
            if time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._state = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
                self._rendered.clear()
            if part not in self._rendered:
                body = await asyncio.to_thread(self._render, part)
                self._rendered[part] = Rendered(body, f'"{sha256(body).hexdigest()[:32]}"')
            return self._rendered[part]

    def render(self, part: Part = FIRST) -> bytes:
        """The page as it is now."""
        self._state = self._read()
        return self._render(part)

    def _read(self) -> ConsoleState | SordinoError:
        try:
            return self._reader.read()
        except SordinoError as error:
            return error

    def _render(self, part: Part) -> bytes:
        state = self._state
        try:
            if not isinstance(state, ConsoleState):
                raise state or StorageError("nothing was read yet")
            rounds = self._reader.rounds(last=SHOWN_ROUNDS, before=part.before)
        except SordinoError as error:
            page = self._templates.get_template("unreadable.html").render(
                verdict=unreadable_records(error.message)
            )
        else:
            page = self._templates.get_template("page.html").render(**view(state, part, rounds))
        return page.encode()

    async def _page(self, request: Request) -> Response:
        if not self._known(request):
            return self._form(401)
        page = await self.look(part_of(request.query_params))
        if request.headers.get("if-none-match") == page.tag:
            return Response(status_code=304, headers={"ETag": page.tag})
        return Response(page.body, headers={"ETag": page.tag}, media_type="text/html")

    async def _runbook(self, request: Request) -> Response:
        if not self._known(request):
            return self._form(401)
        name = request.path_params["name"]
        if name not in self._runbooks:
            return Response("there is no such runbook\n", 404, media_type="text/plain")
        page = self._templates.get_template("runbook.html").render(name=name, text=self._runbooks[name])
        return Response(page, media_type="text/html")

    async def _file(self, request: Request) -> Response:
        name = request.url.path[1:]
        return Response(self._static[name], headers={"Content-Type": STATIC[name]})

    async def _login(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.body()
        except TimeoutError:
            self._refused(Refused.SIZE)
            return self._form(408, "The form was not sent in time.")
        wait = self._access.wait_seconds()
        session = self._access.open(token_of(body))
        if session is None and wait > 0:
            self._refused(Refused.RATE)
            return self._form(
                429, "Too many wrong tokens. Wait a moment.", {"Retry-After": str(int(wait) + 1)}
            )
        if session is None:
            self._refused(Refused.TOKEN)
            log().warning("console_token_wrong")
            return self._form(403, "That is not the token.")
        log().info("console_opened")
        reply = RedirectResponse("/", 303)
        self._put_session(reply, session, SESSION_SECONDS)
        return reply

    def _put_session(self, reply: Response, session: str, seconds: float) -> None:
        reply.set_cookie(
            self._cookie,
            session,
            max_age=int(seconds),
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )

    async def _logout(self, request: Request) -> Response:
        self._access.close(request.cookies.get(self._cookie, ""))
        reply = RedirectResponse("/", 303)
        reply.delete_cookie(self._cookie, httponly=True, samesite="strict", secure=self._secure)
        return reply

    def _known(self, request: Request) -> bool:
        session = request.cookies.get(self._cookie)
        if session is None:
            return False
        known = self._access.knows(session)
        if not known:
            self._refused(Refused.SESSION)
        elif PROVED in request.scope:
            request.scope[PROVED]()
        return known

    def _form(
        self,
        status: int,
        problem: str = "",
        headers: dict[str, str] | None = None,
        *,
        at_token: bool = True,
    ) -> Response:
        """The form; `at_token` says whether the problem is the token's or the company's account's."""
        page = self._templates.get_template("login.html").render(
            problem=problem,
            at_token=at_token,
            takes_token=self._takes_token,
            person_minutes=self._person_minutes,
        )
        return Response(page, status, headers, "text/html")


def token_of(form: bytes) -> bytes:
    """The token in a form; empty where there is none, or where the form is something else."""
    try:
        fields = parse_qs(form.decode("ascii", "replace"), max_num_fields=4)
    except ValueError:  # more fields than the form has
        return b""
    return fields.get("token", [""])[0].strip().encode("utf-8", "replace")
