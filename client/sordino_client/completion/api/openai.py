"""The OpenAI dialect: `POST /v1/completions` with prompt and suffix, and `GET /v1/models`.

Clients send fields that we do not have and names of models that we do not serve: both are ignored, as other local
servers do. `echo` is refused: the prompt is never sent back. A prompt of token numbers is refused: they are of another
vocabulary. Our additions: `multiline` overrides the choice by the cursor's place; `show` says how sure a text must be;
`path` names the file, and in one that may hold secrets nothing is completed; `context` are pieces of other files, the
nearest first.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from sordino_client.completion.api import sentinels, tabby
from sordino_client.completion.api.fields import MAX_GIVEN, Asked, FilePath, Stop, Text
from sordino_client.completion.api.problems import Problem
from sordino_client.completion.api.replies import Seed, also, compact_json, editor_of, explain
from sordino_client.completion.api.service import Service
from sordino_client.completion.context import Snippet
from sordino_client.completion.query import MAX_ALTERNATIVES, Completion, Query, WrittenToken
from sordino_client.completion.reasons import why
from sordino_client.completion.showing.worth import Show


class OpenFilePiece(Asked):
    """A piece of another file that is open in the editor, or was just edited there."""

    path: FilePath = ""
    text: Text = ""


class CompletionRequest(Asked):
    """The fields that are used; all others are ignored."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)] = ""
    suffix: Text | None = None
    max_tokens: Annotated[int, Field(ge=0, le=1 << 20)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ALTERNATIVES)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_ALTERNATIVES)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    seed: Seed | None = None
    stream: bool | None = None
    echo: Annotated[bool | None, Field(json_schema_extra={"enum": [False, None]})] = None
    multiline: bool | None = None
    segments: tabby.Segments | None = None
    path: FilePath | None = None
    show: Show | None = None
    context: Annotated[tuple[OpenFilePiece, ...], Field(max_length=MAX_GIVEN)] = ()

    def query(self) -> Query:
        """The engine's form of it."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        prompt = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        filled = sentinels.split(prompt, self.suffix or "")
        return Query(
            prefix=filled.prefix,
            suffix=filled.suffix,
            path=self.path or filled.path,
            max_tokens=48 if self.max_tokens is None else self.max_tokens,
            alternatives=self.n or 1,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=tuple(stop),
            multiline=self.multiline,
            # A client that asks for probabilities measures the model, so nothing is held back from it.
            show=self.show or ("all" if self.logprobs is not None else None),
            top_logprobs=self.logprobs or 0,
            context=(*(Snippet(path=one.path, text=one.text) for one in self.context), *filled.others),
        )


def router(service: Service) -> APIRouter:
    """The routes of this dialect."""
    routes = APIRouter(tags=["OpenAI"])
    started = int(time.time())

    @routes.post("/v1/completions", responses=also("text/event-stream"))
    async def complete(body: CompletionRequest, request: Request) -> Response:
        if body.echo:
            raise Problem(400, "echo is not offered: a prompt is never sent back", code="echo")
        if body.segments is not None:
            return await tabby.complete(service, body.segments, editor_of(request))
        if body.stream:
            return StreamingResponse(
                await _stream(service, body, editor_of(request)), media_type="text/event-stream"
            )
        answer = await service.complete(body.query(), editor=editor_of(request))
        choices = [
            _choice(number, c.text, _finish(c), _logprobs(c.tokens, body.logprobs))
            for number, c in enumerate(answer.completions)
        ] or [_choice(0, "", "stop", None)]
        document = _envelope(service.issue(answer), answer.model, choices) | {
            "sordino": explain(answer),
            "usage": {
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.generated_tokens,
                "total_tokens": answer.prompt_tokens + answer.generated_tokens,
                "prompt_tokens_details": {"cached_tokens": answer.reused_tokens},
            },
        }
        return Response(
            compact_json(document), media_type="application/json", headers={"X-Sordino-Reason": why(answer)}
        )

    @routes.get("/v1/models")
    async def models() -> Response:
        service.engine.refresh()
        model = service.engine.model
        entries = (
            [{"id": model, "object": "model", "created": started, "owned_by": "sordino"}] if model else []
        )
        return Response(compact_json({"object": "list", "data": entries}), media_type="application/json")

    return routes


async def _stream(service: Service, body: CompletionRequest, editor: str) -> AsyncIterator[bytes]:
    pieces, whole = await service.stream(body.query(), editor=editor)
    model, name = service.engine.model or "", f"cmpl-{secrets.token_hex(12)}"

    async def events() -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield _event(name, model, [_choice(0, piece.text, None, _logprobs(piece.tokens, body.logprobs))])
        answer = await whole()
        if len(answer.completions) > 1 or body.n not in {None, 1}:
            # Alternatives are written side by side and sent when all are done.
            for number, completion in enumerate(answer.completions):
                logprobs = _logprobs(completion.tokens, body.logprobs)
                yield _event(name, model, [_choice(number, completion.text, None, logprobs)])
        for number, completion in enumerate(answer.completions):
            yield _event(name, model, [_choice(number, "", _finish(completion), None)])
        if not answer.completions:
            yield _event(name, model, [_choice(0, "", "stop", None)])
        yield b"data: [DONE]\n\n"

    return events()


def _event(name: str, model: str, choices: list[dict[str, Any]]) -> bytes:
    return b"data: " + compact_json(_envelope(name, model, choices)) + b"\n\n"


def _envelope(name: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": name,
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
    }


def _choice(number: int, text: str, finish: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": finish}


def _finish(completion: Completion) -> Literal["stop", "length"]:
    return "length" if completion.finish == "length" else "stop"


def _logprobs(tokens: tuple[WrittenToken, ...] | Any, wanted: int | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [token.top for token in tokens] if wanted else None,
        "text_offset": offsets,
    }
