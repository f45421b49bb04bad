"""The Tabby dialect, as tabby-agent speaks it for VS Code, IntelliJ and Vim.

`POST /v1/completions` with `segments` (dispatched by openai.py: the path is shared), `/v1/health`,
`/v1beta/server_setting`, `/v1/events`. The memory recalls from the declarations and snippets of other files that the
agent adds, in the order in which Tabby's own server takes them; its clipboard and edit history are not used. Events are
counted on this machine; the agent's own telemetry is switched off.
"""

from __future__ import annotations

import platform
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from sordino_client.completion.api.fields import MAX_GIVEN, Asked, FilePath, Text
from sordino_client.completion.api.replies import explain, reply
from sordino_client.completion.api.service import Service
from sordino_client.completion.context import Snippet
from sordino_client.completion.query import Query
from sordino_client.completion.statistics import Event

EVENTS: dict[str, Event] = {"view": "shown", "select": "accepted", "dismiss": "dismissed"}


class TabbySnippet(Asked):
    """A declaration or a snippet of another file."""

    filepath: FilePath = ""
    body: Text = ""


Pieces = Annotated[tuple[TabbySnippet, ...], Field(max_length=MAX_GIVEN)]


class Segments(Asked):
    """The text around the cursor, and its file; all other fields are ignored."""

    prefix: Text = ""
    suffix: Text | None = None
    filepath: FilePath | None = None
    declarations: Pieces = ()
    relevant_snippets_from_changed_files: Pieces = ()
    relevant_code_snippets: Pieces = ()
    relevant_snippets_from_recently_opened_files: Pieces = ()

    def query(self) -> Query:
        """The engine's form of it."""
        pieces = (
            *self.declarations,
            *self.relevant_snippets_from_changed_files,
            *self.relevant_code_snippets,
            *self.relevant_snippets_from_recently_opened_files,
        )
        return Query(
            prefix=self.prefix,
            suffix=self.suffix or "",
            max_tokens=64,
            path=self.filepath,
            context=tuple(Snippet(path=one.filepath, text=one.body) for one in pieces),
        )


class EventReport(Asked):
    """What happened to a completion. `characters` is our addition: with `typed` the keys pressed since the last report,
    with `partial` the part that was accepted, with `select` how much of the text was still missing (0: all of it)."""

    type: Annotated[str, Field(max_length=64)]
    completion_id: Annotated[str, Field(max_length=128)] = ""
    choice_index: Annotated[int, Field(ge=0, lt=1 << 16)] = 0
    characters: Annotated[int, Field(ge=0, le=1 << 24)] = 0


class ServerSetting(BaseModel):
    """The server's settings, which switch off what the agent may not do."""

    disable_client_side_telemetry: Literal[True] = True


async def complete(service: Service, segments: Segments, editor: str) -> Response:
    """Answers the shared path's `segments` form."""
    answer = await service.complete(segments.query(), editor=editor)
    choices = [{"index": n, "text": c.text} for n, c in enumerate(answer.completions) if c.text]
    document: dict[str, Any] = {"id": service.issue(answer), "choices": choices, "sordino": explain(answer)}
    return reply(document, answer)


def router(service: Service) -> APIRouter:
    """The routes of this dialect."""
    routes = APIRouter(tags=["Tabby"])

    @routes.get("/v1/health")
    @routes.post("/v1/health", operation_id="health_by_post")
    async def health() -> Response:
        engine = service.engine
        engine.refresh()
        state, reason = engine.state
        document: dict[str, Any] = {
            "status": state,
            "reason": reason,
            "model": engine.model,
            "context": engine.context,
            "device": "cpu",
            "arch": platform.machine(),
            "cpu_info": "",
            "cpu_count": 1,
            "cuda_devices": [],
            "version": {"build_date": "", "build_timestamp": "", "git_sha": "", "git_describe": "sordino"},
        }
        return reply(document, status=200 if engine.model else 503)

    @routes.get("/v1beta/server_setting")
    async def setting() -> ServerSetting:
        return ServerSetting()

    @routes.post("/v1/events", response_class=Response)
    async def events(report: EventReport) -> Response:
        if report.type == "typed":
            service.statistics.typed(report.characters)
        elif report.type == "partial":
            service.statistics.completed(report.characters)
        elif report.type in EVENTS:
            service.report(
                EVENTS[report.type], report.completion_id, report.choice_index, rest=report.characters
            )
        # Unknown kinds of events are ignored: an editor must not fail because of statistics.
        return Response()

    return routes
