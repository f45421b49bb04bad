"""What the operator's API may do, over one coordinator's folder. `sordino_coordinator.control.server` serves it.

    GET  /v1/copy?release=7&epoch=1&audit=4096&state=...   what a standby lacks, as a tar stream (see standby)
    GET  /v1/status  /v1/rounds?last=20&before=900  /v1/releases  /v1/audit?last=50
    POST /v1/hand-over {"tenure": "..."}: the coordinator stops, and never holds a round again
    POST /v1/pause  /v1/resume  /v1/rollback {"release": 7}  /v1/pace {"pause_seconds": 600.0, ...}

Bodies are JSON, and unknown fields are refused. Orders are durable before the answer leaves; they take effect between
two rounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from pydantic import Field, ValidationError

from sordino_coordinator.control import desk, view
from sordino_coordinator.control.audit import Action, AuditLog
from sordino_coordinator.control.callers import ApiError, Caller, require
from sordino_coordinator.control.orders import Pace
from sordino_coordinator.settings import CoordinatorSettings
from sordino_platform.canonical import Document, first_problem
from sordino_platform.release.manifest import MAX_NUMBER
from sordino_platform.tenure import MAX_TENURE_BYTES

MAX_LAST = 1000
MAX_BEFORE = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """The part of a list that is asked for: the newest `last` entries before number `before`."""

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
    """What the API may do, over one coordinator's folder. Answers are JSON values. Any thread may ask."""

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
