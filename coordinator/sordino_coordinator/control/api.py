"""The operator's API: orders and status over HTTPS, for whoever holds the token, or is known to the provider.

    GET  /v1/copy?release=7&epoch=1&audit=4096&state=...   what a standby lacks, as a tar stream (see standby)
    GET  /v1/status  /v1/rounds?last=20&before=900  /v1/releases  /v1/audit?last=50
    POST /v1/hand-over {"tenure": "..."}: the coordinator stops, and never holds a round again
    POST /v1/pause  /v1/resume  /v1/rollback {"release": 7}  /v1/pace {"pause_seconds": 600.0, ...}

TLS with the coordinator's own certificate, read anew at each handshake, so that a renewal needs no restart; a
client trusts the charter's TLS authority. Every request says who asks (`callers`). Bodies are JSON of at most 16 KiB,
unknown fields are refused, and there is no browser's way in: no cookie, no CORS, and the content type must be JSON.
Orders are durable before the answer leaves; they take effect between two rounds.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, ValidationError

from sordino_coordinator.control import desk, view
from sordino_coordinator.control.audit import Action, AuditLog
from sordino_coordinator.control.callers import ApiError, Caller, Callers, require
from sordino_coordinator.control.orders import Pace
from sordino_coordinator.settings import CoordinatorSettings
from sordino_coordinator.standby.copying import Stand, write_copy
from sordino_platform.canonical import Document, first_problem
from sordino_platform.durable import read_secret
from sordino_platform.identity.site import TLS
from sordino_platform.link.address import parse_address
from sordino_platform.release.manifest import MAX_NUMBER
from sordino_platform.telemetry import log
from sordino_platform.tenure import MAX_TENURE_BYTES
from sordino_privacy.errors import PortInUseError, SordinoError

MAX_BODY_BYTES = 16 << 10
MAX_LAST = 1000
MAX_BEFORE = 1 << 32
REQUEST_SECONDS = 10.0
CONNECTIONS = 16
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """Which part of a list is asked for: the newest `last` of what is before number `before`."""

    last: int | None = None
    before: int | None = None


class NoTerms(Document):
    """The body of an order that has no terms."""


class HandOver(Document):
    """The body of `/v1/hand-over`: a signed tenure in hexadecimal."""

    tenure: str = Field(pattern=r"^([0-9a-f]{2})+$", max_length=2 * MAX_TENURE_BYTES)


class Rollback(Document):
    """The body of `/v1/rollback`."""

    release: int = Field(ge=0, le=MAX_NUMBER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """What the API may do, over one coordinator's folder. Answers are JSON values."""

    folder: Path
    defaults: CoordinatorSettings
    audit: AuditLog
    hand_over: Callable[[bytes], None] | None = None

    def get(self, path: str, page: ListPage, caller: Caller) -> Any:
        """The answer to a GET. Raises ApiError, SordinoError."""
        require(caller.may_read, "read")
        last, before = page.last, page.before
        reads: dict[str, Callable[[], Any]] = {
            "/v1/status": lambda: view.status_facts(self.folder),
            "/v1/rounds": lambda: view.round_facts(self.folder, last=last or 20, before=before),
            "/v1/releases": lambda: view.release_facts(self.folder),
            "/v1/audit": lambda: view.audit_facts(self.folder, last=last or 50),
        }
        if path not in reads:
            raise ApiError(HTTPStatus.NOT_FOUND, f"there is nothing to read at {path}")
        if before is not None and path != "/v1/rounds":
            raise ApiError(HTTPStatus.BAD_REQUEST, "only /v1/rounds takes before")
        return reads[path]()

    def post(self, path: str, body: bytes, caller: Caller) -> Any:
        """Gives an order and answers with the orders that hold now. Raises ApiError, SordinoError."""
        hand_over = self.hand_over if path == "/v1/hand-over" else None
        if hand_over is None:
            require(caller.may_operate, "give orders")
        else:
            require(caller.machine, "hand over: the other machine does, with standby.token")
        self.audit.require_signs()
        if hand_over is not None:
            hand_over(bytes.fromhex(parse(HandOver, body).tenure))
            return {"stopping": True}
        if path == "/v1/pause":
            parse(NoTerms, body)
            orders, action, detail = desk.pause(self.folder), Action.PAUSED, ""
        elif path == "/v1/resume":
            parse(NoTerms, body)
            orders, action, detail = desk.resume(self.folder), Action.RESUMED, ""
        elif path == "/v1/rollback":
            number = parse(Rollback, body).release
            orders = desk.order_rollback(self.folder, number)
            action, detail = Action.ROLLBACK_ORDERED, f"release {number}"
        elif path == "/v1/pace":
            changes = parse(Pace, body).model_dump(exclude_unset=True)
            orders = desk.set_pace(self.folder, self.defaults, changes)
            action, detail = Action.PACE_CHANGED, json.dumps(changes)
        else:
            raise ApiError(HTTPStatus.NOT_FOUND, f"there is no order {path}")
        self.audit.append(action, detail, by=caller.by)
        return orders.model_dump(mode="json")


def parse(kind: type[Any], body: bytes) -> Any:
    """A body as `kind`; an empty one counts as `{}`. Raises ApiError."""
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, first_problem(error)) from None


class ApiServer:
    """Serves `endpoints` on one address. Raises PortInUseError, ConfigurationError."""

    def __init__(self, address: str, endpoints: Endpoints, *, on_request: Callable[[str], None]) -> None:
        host, port = parse_address(address)
        callers = Callers(endpoints.folder, endpoints.defaults.oidc, endpoints.audit)
        places = threading.BoundedSemaphore(CONNECTIONS)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # one request a connection: no body can pass for the next request
            server_version, sys_version = "sordino", ""
            timeout = REQUEST_SECONDS

            def do_GET(self) -> None:
                if urlsplit(self.path).path == "/v1/copy":
                    self._copy(urlsplit(self.path).query)
                    return
                self._answer(endpoints.get)

            def do_POST(self) -> None:
                self._answer(lambda path, _, caller: endpoints.post(path, self._body(), caller))

            def _answer(self, act: Callable[[str, ListPage, Caller], Any]) -> None:
                outcome, status, answer = "ok", HTTPStatus.OK, None
                try:
                    caller = self._caller()
                    url = urlsplit(self.path)
                    answer = act(url.path, page_of(url.query), caller)
                except ApiError as error:
                    status, answer = error.status, {"error": error.message, "hint": error.hint}
                    outcome = "refused" if status in REFUSED else "invalid"
                except SordinoError as error:
                    status, outcome = HTTPStatus.CONFLICT, "invalid"
                    answer = {"error": error.message, "hint": error.hint}
                on_request(outcome)
                self._send(status, answer)

            def _copy(self, query: str) -> None:
                try:
                    require(self._caller().machine, "copy the folder: the standby does, with standby.token")
                    stand = Stand.parse(query)
                except ApiError as error:
                    on_request("refused")
                    self._send(error.status, {"error": error.message, "hint": error.hint})
                    return
                except SordinoError as error:
                    on_request("invalid")
                    self._send(HTTPStatus.BAD_REQUEST, {"error": error.message, "hint": error.hint})
                    return
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "application/x-tar")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                try:
                    write_copy(endpoints.folder, stand, cast(IO[bytes], self.wfile))
                except SordinoError as error:
                    log().error("copy_failed", error=error.message)  # the stream ends without its last entry
                    on_request("invalid")
                    return
                on_request("ok")

            def _caller(self) -> Caller:
                return callers.caller(self.headers.get("Authorization", ""))

            def _body(self) -> bytes:
                length = self.headers.get("Content-Length", "")
                if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
                    raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
                if re.fullmatch(r"\d{1,9}", length, re.ASCII) is None or int(length) > MAX_BODY_BYTES:
                    raise ApiError(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY_BYTES} bytes"
                    )
                return self.rfile.read(int(length))

            def _send(self, status: HTTPStatus, answer: Any) -> None:
                body = json.dumps(answer).encode() + b"\n"
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                if status is HTTPStatus.UNAUTHORIZED:
                    self.send_header("WWW-Authenticate", "Bearer")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """The audit log holds what was ordered; reads are not logged."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                # The handshake is made here, on the connection's own thread: one that stalls holds up nobody.
                if not places.acquire(blocking=False):
                    self.shutdown_request(request)
                    return
                try:
                    secure = secured(request, endpoints.folder)
                    if secure is not None:
                        super().process_request_thread(secure, client_address)
                finally:
                    places.release()

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is no event."""

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            raise PortInUseError(
                f"{address} cannot be used for the operator's API: {error.strerror}",
                hint="set another api_listen in coordinator.toml",
            ) from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="operator-api", daemon=True).start()

    def stop(self) -> None:
        """Closes the port."""
        self._server.shutdown()
        self._server.server_close()


def page_of(query: str) -> ListPage:
    """The parameters that a read takes, `last` and `before`. Raises ApiError for any other, or one out of bounds."""
    given = parse_qs(query, keep_blank_values=True)
    found: dict[str, int] = {}
    for name, most in (("last", MAX_LAST), ("before", MAX_BEFORE)):
        for text in given.pop(name, []):
            good = name not in found and re.fullmatch(r"\d{1,10}", text, re.ASCII) and 1 <= int(text) <= most
            if not good:
                raise ApiError(HTTPStatus.BAD_REQUEST, f"{name} is one number from 1 to {most}")
            found[name] = int(text)
    if given:
        raise ApiError(HTTPStatus.BAD_REQUEST, "the only parameters are last and before")
    return ListPage(**found)


def secured(plain: socket.socket, folder: Path) -> ssl.SSLSocket | None:
    """The connection after its handshake, or None when the other end does not finish one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        read_secret(folder / TLS)  # refuses a key that others can read
        context.load_cert_chain(folder / TLS)
        plain.settimeout(REQUEST_SECONDS)
        return context.wrap_socket(plain, server_side=True)
    except (OSError, SordinoError):
        plain.close()
        return None
