"""The Mistral dialect: `POST /v1/fim/completions`, answered in the shape of a chat."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from sordino_client.completion.api.fields import Asked, FilePath, Stop, Text
from sordino_client.completion.api.replies import Seed, also, compact_json, editor_of, reply
from sordino_client.completion.api.service import Service
from sordino_client.completion.query import Query


class FillRequest(Asked):
    """The fields that are used; all others are ignored."""

    prompt: Text
    suffix: Text | None = None
    max_tokens: Annotated[int, Field(ge=0, le=1 << 20)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    random_seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    path: FilePath | None = None

    def query(self) -> Query:
        """The engine's form of it."""
        return Query(
            prefix=self.prompt,
            suffix=self.suffix or "",
            path=self.path,
            max_tokens=64 if self.max_tokens is None else self.max_tokens,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.random_seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
        )


def router(service: Service) -> APIRouter:
    """The routes of this dialect."""
    routes = APIRouter(tags=["Mistral"])

    @routes.post("/v1/fim/completions", responses=also("text/event-stream"))
    async def fill(body: FillRequest, request: Request) -> Response:
        if body.stream:
            return StreamingResponse(
                await _stream(service, body, editor_of(request)), media_type="text/event-stream"
            )
        answer = await service.complete(body.query(), editor=editor_of(request))
        text = answer.completions[0].text if answer.completions else ""
        finish = _finish(answer.completions[0].finish if answer.completions else "end")
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "tool_calls": None},
            "finish_reason": finish,
        }
        usage = {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.generated_tokens,
            "total_tokens": answer.prompt_tokens + answer.generated_tokens,
        }
        document = _envelope(service.issue(answer), "chat.completion", answer.model, [choice])
        return reply(document | {"usage": usage}, answer)

    return routes


async def _stream(service: Service, body: FillRequest, editor: str) -> AsyncIterator[bytes]:
    pieces, whole = await service.stream(body.query(), editor=editor)
    name, model = f"cmpl-{secrets.token_hex(12)}", service.engine.model or ""

    def event(text: str, finish: str | None) -> bytes:
        choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
        return b"data: " + compact_json(_envelope(name, "chat.completion.chunk", model, [choice])) + b"\n\n"

    async def events() -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield event(piece.text, None)
        answer = await whole()
        yield event("", _finish(answer.completions[0].finish if answer.completions else "end"))
        yield b"data: [DONE]\n\n"

    return events()


def _envelope(name: str, kind: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": name, "object": kind, "created": int(time.time()), "model": model, "choices": choices}


def _finish(finish: str) -> str:
    return "length" if finish == "length" else "stop"
