"""The console's pages and routes. Everything is rendered here, escaped by Jinja; the script only asks for it again.

GET  /?members=2&before=900    the page, or the login form (401): members 51 to 100, and rounds before round 900
POST /login, /logout    the token for a session, and its end
GET  /oidc/...          signing in by the company's provider, where there is one (signing_in)
GET  /runbooks/NAME     a runbook
GET  /console.css, /console.js, /icon.svg    without a session: they hold nothing about the federation
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sordino_coordinator.console.access import SESSION_SECONDS, Access
from sordino_coordinator.console.curve import curve
from sordino_coordinator.console.health import CERTIFICATE_SOON, Level, span, unreadable_records, verdict
from sordino_coordinator.console.runbooks import read_runbooks
from sordino_coordinator.console.signing_in import SignIn
from sordino_coordinator.console.state import ConsoleState, StateReader
from sordino_coordinator.control.view import some
from sordino_coordinator.metrics import Refused
from sordino_coordinator.rounds import RoundRecord
from sordino_platform.flower.phases import Phase
from sordino_platform.offer import STEPS
from sordino_platform.telemetry import log
from sordino_platform.web.connections import PROVED
from sordino_privacy.errors import SordinoError, StorageError

if TYPE_CHECKING:
    from sordino_coordinator.oidc.login import ConsoleLogin

FRESH_SECONDS: Final = 1.0
BODY_SECONDS: Final = 5.0
SHOWN_ROUNDS: Final = 20
SHOWN_MEMBERS: Final = 50
SHOWN_RELEASES: Final = 10
SHOWN_LOSSES: Final = 60
STATIC: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
PHASES: Final = {
    Phase.TRAIN: "train",
    Phase.SHARE: "share keys",
    Phase.UPLOAD: "masked input",
    Phase.MUSTER: "muster",
    Phase.SOUND: "sound",
    Phase.SURVIVORS: "survivors",
    Phase.UNMASK: "unmask",
    Phase.RESULT: "result",
}
EXPLAINED: Final = {
    Phase.TRAIN: "members train on their own machines",
    Phase.SHARE: "members share keys that can recover a mask",
    Phase.UPLOAD: "members send their masked updates",
    Phase.MUSTER: "members of a large cohort say that they are there",
    Phase.SOUND: "members of a large cohort say what they sent, before they sign",
    Phase.SURVIVORS: "members sign who is in the sum",
    Phase.UNMASK: "members open the masks of the sum, and no other",
    Phase.RESULT: "members take the new release",
}


def environment() -> Environment:
    """The templates: everything is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=PackageLoader("sordino_coordinator.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"utc": utc, "span": span, "phase": lambda name: PHASES[Phase(name)]}
    made.globals |= {
        "Level": Level,
        "phases": PHASES,
        "explained": EXPLAINED,
        "soon": CERTIFICATE_SOON.total_seconds(),
        "departed": departed,
    }
    return made


def departed(dropped: Mapping[str, str], count: int) -> str:
    """A few of the members that left a round, with their reasons, and how many more there are."""
    return (
        some([f"{member} ({why.replace('_', ' ')})" for member, why in dropped.items()], of=count)
        if count
        else ""
    )


def utc(moment: datetime | float) -> str:
    """A time as the page writes it, in UTC."""
    at = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}"


@dataclass(slots=True)
class Rendered:
    """A part of the page as it was last rendered. All viewers share it."""

    body: bytes
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of the long lists is shown: a page of members, from 1, and the rounds before one (None: newest)."""

    members: int = 1
    before: int | None = None

    def address(self) -> str:
        """Where this part is."""
        return f"/?members={self.members}" + ("" if self.before is None else f"&before={self.before}")

    def with_members(self, page: int) -> str:
        """The address of another page of members."""
        return replace(self, members=page).address()

    def with_rounds(self, before: int | None) -> str:
        """The address of another page of rounds."""
        return replace(self, before=before).address()


FIRST: Final = Part()


def part_of(query: Mapping[str, str]) -> Part:
    """The part that an address asks for; what is no number in bounds is taken as not said."""
    said = {
        name: int(text)
        for name in ("members", "before")
        if re.fullmatch(r"[1-9]\d{0,8}", text := query.get(name, ""), re.ASCII)
    }
    return Part(members=said.get("members", 1), before=said.get("before"))


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


def view(state: ConsoleState, part: Part, rounds: Sequence[RoundRecord]) -> dict[str, object]:
    """What the template needs beside the state itself."""
    losses = [(one.number, one.heldout_loss) for one in state.releases if one.heldout_loss is not None]
    shown = losses[-SHOWN_LOSSES:]
    pages = max(1, math.ceil(len(state.members) / SHOWN_MEMBERS))
    page = min(part.members, pages)
    return {
        "state": state,
        "verdict": verdict(state),
        "losses": shown,
        "broad": curve(shown, width=720, height=240),
        "slim": curve(shown, width=340, height=220),
        "part": replace(part, members=page),
        "pages": pages,
        "members": state.members[SHOWN_MEMBERS * (page - 1) : SHOWN_MEMBERS * page],
        "rounds": rounds,
        "releases": list(reversed(state.releases[-SHOWN_RELEASES:])),
        "counts": [(outcome.value.replace("_", " "), count) for outcome, count in state.outcomes.items()],
        "round": state.latest,
        "steps": STEPS,
    }
