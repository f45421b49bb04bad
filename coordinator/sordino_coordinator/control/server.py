"""The operator's API as a port: TLS, a token for every request, bounded requests, and no caller can hold up another.

TLS is the coordinator's own certificate, read anew at each handshake, so that a renewal needs no restart; a client
trusts the charter's TLS authority. Every request says who asks (`callers`); a connection that showed no token is the
first to give way when the port is full (sordino_platform.web.connections). A body has at most 16 KiB and comes within
REQUEST_SECONDS. A browser has no way in: there are no cookies and no CORS, and the content type must be JSON. Each
connection carries one request, so that no body can pass for the next request.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sordino_coordinator.control.api import Endpoints, page_of
from sordino_coordinator.control.callers import ApiError, Caller, Callers, require
from sordino_coordinator.control.copying import Stand
from sordino_coordinator.control.streaming import CopyResponse
from sordino_platform.durable import read_secret
from sordino_platform.identity.site import TLS
from sordino_platform.link.address import parse_address
from sordino_platform.telemetry import log
from sordino_platform.web.callers import AMBIGUOUS, RequestHeaders
from sordino_platform.web.connections import PROVED
from sordino_platform.web.server import Server
from sordino_privacy.errors import PortInUseError, SordinoError

T = TypeVar("T")
MAX_BODY_BYTES: Final = 16 << 10
REQUEST_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
WORKERS: Final = 16
"""How many requests of known callers are answered at a time, and how many strangers' tokens are checked at a time."""
COPIES: Final = 2
"""Copies that are written at a time. One can take hours, of a follower that takes a little now and then."""
ANSWERED: Final = {"Cache-Control": "no-store", "Connection": "close"}
REFUSED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
Act = Callable[[Caller], Awaitable[Response]]


class ApiServer:
    """Serves `endpoints` on one address from construction until `stop`. `on_request` counts outcomes: ok, refused,
    invalid. Raises PortInUseError, ConfigurationError."""

    def __init__(self, address: str, endpoints: Endpoints, *, on_request: Callable[[str], None]) -> None:
        host, port = parse_address(address)
        self._routes = ApiRoutes(endpoints, on_request=on_request)
        try:
            self._socket = socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
            )
        except OSError as error:
            raise PortInUseError(
                f"{address} cannot be used for the operator's API: {error.strerror}",
                hint="set another api_listen in coordinator.toml",
            ) from error
        self.port: int = self._socket.getsockname()[1]
        folder = endpoints.folder
        self._server = Server(
            self._routes.app(), keep_alive=1, grace=1, ssl_context_factory=lambda *_: renewing(folder)
        )
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="operator-api", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Closes the port."""
        self._server.end()
        self._thread.join(STOP_SECONDS)
        self._routes.close()

    async def _serve(self) -> None:
        await self._server.serve([self._socket])


class ApiRoutes:
    """The application over `endpoints`: who asks, then what is asked, then one JSON answer, counted by its outcome."""

    def __init__(self, endpoints: Endpoints, *, on_request: Callable[[str], None]) -> None:
        self._endpoints, self._on_request = endpoints, on_request
        self._callers = Callers(endpoints.folder, endpoints.defaults.oidc, endpoints.audit)
        # Two pools: a token that a provider must be asked about can hold up other strangers only.
        self._asking = ThreadPoolExecutor(WORKERS, thread_name_prefix="operator-callers")
        self._working = ThreadPoolExecutor(WORKERS, thread_name_prefix="operator-work")
        self._copying = ThreadPoolExecutor(COPIES, thread_name_prefix="operator-copies")

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/copy", self._copy, methods=["GET"]),
                Route("/{path:path}", self._read, methods=["GET"]),
                Route("/{path:path}", self._order, methods=["POST"]),
            ],
            exception_handlers={HTTPStatus.METHOD_NOT_ALLOWED: unspoken},
        )

    def close(self) -> None:
        """Ends the pools without waiting for requests that still run."""
        for pool in (self._asking, self._working, self._copying):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _read(self, request: Request) -> Response:
        async def read(caller: Caller) -> Response:
            page = page_of(query_of(request))
            facts = await self._worked(lambda: self._endpoints.get(request.url.path, page, caller))
            return JSONResponse(facts, headers=ANSWERED)

        return await self._answered(request, read)

    async def _order(self, request: Request) -> Response:
        async def order(caller: Caller) -> Response:
            page_of(query_of(request))
            body = await body_of(request)
            orders = await self._worked(lambda: self._endpoints.post(request.url.path, body, caller))
            return JSONResponse(orders, headers=ANSWERED)

        return await self._answered(request, order)

    async def _copy(self, request: Request) -> Response:
        async def copy(caller: Caller) -> Response:
            require(caller.machine, "copy the folder: the standby does, with standby.token")
            try:
                stand = Stand.parse(query_of(request))
            except SordinoError as error:
                raise ApiError(HTTPStatus.BAD_REQUEST, error.message, error.hint) from None
            return CopyResponse(
                self._endpoints.folder, stand, pool=self._copying, counted=self._on_request, headers=ANSWERED
            )

        return await self._answered(request, copy)

    async def _worked(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._working, act)

    async def _caller(self, request: Request) -> Caller:
        """Raises ApiError."""
        given = RequestHeaders(request.scope["headers"])[b"authorization"] or b""
        authorization = "" if given == AMBIGUOUS else given.decode("latin-1")
        caller = self._callers.holder(authorization)
        if caller is None:
            loop = asyncio.get_running_loop()
            caller = await loop.run_in_executor(self._asking, self._callers.caller, authorization)
        if caller.may_read or caller.may_operate or caller.machine:
            request.scope[PROVED]()
        return caller

    async def _answered(self, request: Request, act: Act) -> Response:
        """The answer of `act` to the caller, or the refusal. It is counted here, except for a copy, which is counted
        when it ends."""
        try:
            if request.method == "HEAD":  # Starlette takes it for a GET
                return await unspoken(request)
            response = await act(await self._caller(request))
        except ApiError as error:
            self._on_request("refused" if error.status in REFUSED else "invalid")
            return problem(error.status, error.message, error.hint)
        except SordinoError as error:
            self._on_request("invalid")
            return problem(HTTPStatus.CONFLICT, error.message, error.hint)
        except Exception as error:  # noqa: BLE001 - the server would log the message, which may quote the request
            log().error("request_failed", error=type(error).__name__)
            return problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the coordinator's log says where"
            )
        if not isinstance(response, CopyResponse):
            self._on_request("ok")
        return response


def problem(status: HTTPStatus, message: str, hint: str = "") -> JSONResponse:
    """The answer for an error."""
    headers = {**ANSWERED, **({"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else {})}
    return JSONResponse({"error": message, "hint": hint}, status, headers)


async def unspoken(request: Request, error: Exception | None = None) -> Response:
    """The answer to another method than the two of this API."""
    return problem(HTTPStatus.NOT_IMPLEMENTED, "only GET and POST are spoken here")


def query_of(request: Request) -> str:
    """The query as it was sent."""
    return bytes(request.scope["query_string"]).decode("latin-1")


async def body_of(request: Request) -> bytes:
    """The whole body. Raises ApiError for another content type, a body that does not say its length, is too long, or
    does not come in time."""
    head = RequestHeaders(request.scope["headers"])
    kind, length = head[b"content-type"] or b"", head[b"content-length"] or b""
    if kind.partition(b";")[0].strip() != b"application/json":
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
    # Of two lengths, one reader might take the first and another the second.
    said = b"transfer-encoding" not in head and re.fullmatch(rb"\d{1,9}", length) is not None
    if not said or int(length) > MAX_BODY_BYTES:
        raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY_BYTES} bytes")
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return await request.body()
    except (TimeoutError, ClientDisconnect):
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "the body was not sent in time") from None


def renewing(folder: Path) -> ssl.SSLContext:
    """TLS 1.3 with the certificate that lies in the folder when a client says hello. Where it cannot be used, or others
    could read its key, the handshake fails and nothing else does."""

    def certified(connection: Any, name: str | None, before: ssl.SSLContext) -> int | None:
        try:
            read_secret(folder / TLS)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(folder / TLS)
        except (OSError, SordinoError):
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = context
        return None

    first = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    first.minimum_version = ssl.TLSVersion.TLSv1_3
    first.sni_callback = certified  # called for every hello, one that names no server too
    return first
