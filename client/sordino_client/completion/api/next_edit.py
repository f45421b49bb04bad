"""`POST /v1/next-edit`: where the change that was just made applies next.

The editor sends its text before and after the change, and gets a range of the text after it and what that range would
become, or null. The texts are compared and dropped; edits/next.py says what is kept of them.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from sordino_client.completion.api.fields import FilePath, Text
from sordino_client.completion.api.replies import editor_of, reply
from sordino_client.completion.edits.next import EditHistory, next_place
from sordino_client.completion.edits.place import EditPlace
from sordino_client.completion.names import may_hold_secrets
from sordino_client.completion.showing.worth import Show
from sordino_client.completion.text.positions import Encoding, Lines


class Edited(BaseModel):
    """A file before and after a change; `encoding` is what columns of the answer count."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: FilePath
    before: Text = Field(repr=False)
    after: Text = Field(repr=False)
    show: Show = "balanced"
    encoding: Encoding = "utf-16"


def router() -> APIRouter:
    """The one route."""
    routes = APIRouter(tags=["sordino"])
    history = EditHistory()

    @routes.post("/v1/next-edit")
    def next_edit(body: Edited, request: Request) -> Response:
        found = None
        if not may_hold_secrets(body.path):
            found = next_place(
                body.before, body.after, editor=editor_of(request), history=history, show=body.show
            )
        return reply({"place": found and _outward(found, body)})

    return routes


def _outward(place: EditPlace, body: Edited) -> dict[str, Any]:
    lines = Lines(body.after)

    def position(offset: int) -> dict[str, int]:
        line, column = lines.position(offset, body.encoding)
        return {"line": line, "character": column}

    return {"range": {"start": position(place.start), "end": position(place.end)}, "text": place.new}
