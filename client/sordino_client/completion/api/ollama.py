"""The Ollama dialect: `/api/generate` (NDJSON), `/api/show`, `/api/tags`, `/api/version`.

`suffix` asks to fill in; without it, sentinels in a prompt do (clients that send `raw`).
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from sordino_client.completion.api import sentinels
from sordino_client.completion.api.fields import Asked, FilePath, Stop, Text
from sordino_client.completion.api.replies import SeedOrNone, also, compact_json, editor_of, reply
from sordino_client.completion.api.service import Service
from sordino_client.completion.query import Answer, Query


class Options(Asked):
    """The options that are used; all others are ignored."""

    num_predict: Annotated[int, Field(ge=-2, le=1 << 20)] = 64
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: SeedOrNone = -1
    stop: Stop | Annotated[tuple[Stop, ...], Field(max_length=32)] = ()


class GenerateRequest(Asked):
    """The fields that are used; all others are ignored."""

    prompt: Text = ""
    suffix: Text | None = None
    stream: bool = True
    options: Options | None = None
    path: FilePath | None = None

    def query(self) -> Query:
        """The engine's form of it."""
        options = self.options or Options()
        filled = sentinels.split(self.prompt, self.suffix or "")
        return Query(
            prefix=filled.prefix,
            suffix=filled.suffix,
            path=self.path or filled.path,
            context=filled.others,
            max_tokens=options.num_predict if options.num_predict >= 0 else 64,
            temperature=options.temperature,
            top_p=options.top_p or 1.0,
            seed=options.seed if options.seed >= 0 else None,
            stop=(options.stop,) if isinstance(options.stop, str) else options.stop,
        )


class ShowRequest(Asked):
    """The model that a client asks for; there is only one, so any name will do."""


def router(service: Service) -> APIRouter:
    """The routes of this dialect."""
    routes = APIRouter(prefix="/api", tags=["Ollama"])
    details = {"family": "sordino", "families": ["sordino"], "format": "onnx", "parameter_size": ""}

    @routes.post("/generate", responses=also("application/x-ndjson"))
    async def generate(body: GenerateRequest, request: Request) -> Response:
        editor = editor_of(request)
        if not body.prompt:
            # An empty prompt is how these clients ask to load a model.
            return reply(_piece(service.engine.model or "", "") | {"done": True, "done_reason": "load"})
        if body.stream:
            return StreamingResponse(await _stream(service, body, editor), media_type="application/x-ndjson")
        answer = await service.complete(body.query(), editor=editor)
        text = answer.completions[0].text if answer.completions else ""
        return reply(_piece(answer.model, text) | _figures(answer), answer)

    @routes.get("/tags")
    async def tags() -> Response:
        service.engine.refresh()
        model = service.engine.model
        entry = {
            "name": model,
            "model": model,
            "modified_at": _now(),
            "size": 0,
            "digest": "",
            "details": details,
        }
        return reply({"models": [entry] if model else []})

    @routes.post("/show")
    async def show(_: ShowRequest) -> Response:
        document = {
            "modelfile": "",
            "parameters": "",
            "template": "{{ .Prompt }}{{ .Suffix }}",
            "details": details,
            "model_info": {
                "general.architecture": "sordino",
                "sordino.context_length": service.engine.context,
            },
            "capabilities": ["completion", "insert"],
        }
        return reply(document)

    @routes.get("/version")
    async def version() -> Response:
        return reply({"version": "0.9.0"})

    return routes


async def _stream(service: Service, body: GenerateRequest, editor: str) -> AsyncIterator[bytes]:
    pieces, whole = await service.stream(body.query(), editor=editor)
    model = service.engine.model or ""

    async def lines() -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield compact_json(_piece(model, piece.text)) + b"\n"
        yield compact_json(_piece(model, "") | _figures(await whole())) + b"\n"

    return lines()


def _piece(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "created_at": _now(), "response": text, "done": False}


def _figures(answer: Answer) -> dict[str, Any]:
    """The last object of an answer; durations in nanoseconds."""
    finish = answer.completions[0].finish if answer.completions else "end"
    reading, whole = int(answer.first_token_seconds * 1e9), int(answer.seconds * 1e9)
    return {
        "done": True,
        "done_reason": "length" if finish == "length" else "stop",
        "context": [],
        "total_duration": whole,
        "load_duration": 0,
        "prompt_eval_count": answer.prompt_tokens,
        "prompt_eval_duration": reading,
        "eval_count": answer.generated_tokens,
        "eval_duration": whole - reading,
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
