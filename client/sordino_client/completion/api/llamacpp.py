"""The dialect of llama.cpp's server, as llama.vim and llama.vscode speak it: `/infill`, `/health`, `/props`.

Learned from those clients: the real prefix is `input_prefix + prompt`; `n_predict: 0` reads the prompt ahead;
`n_cmpl` above 1 is answered with an array; a `response_fields` entry such as `timings/prompt_n` becomes a key of
that very name; JSON carries no spaces, because llama.vim searches the text for `"content":"`. `input_extra` (pieces
of other files) is recalled from, the last first: those clients append what is newest, as llama.cpp keeps the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from sordino_client.completion.api.fields import MAX_GIVEN, Asked, FilePath, Stop, Text
from sordino_client.completion.api.replies import SeedOrNone, also, compact_json, editor_of, reply
from sordino_client.completion.api.service import Service
from sordino_client.completion.context import Snippet
from sordino_client.completion.query import MAX_ALTERNATIVES, Answer, Completion, Query

Milliseconds = Annotated[float, Field(ge=0, le=3_600_000)]
STOP_TYPES = {"length": "limit", "stop": "word"}


class Extra(Asked):
    """A piece of another file."""

    filename: FilePath = ""
    text: Text = ""


class InfillRequest(Asked):
    """The fields that are used; all others are ignored."""

    input_prefix: Text = ""
    input_suffix: Text = ""
    prompt: Text = ""
    input_extra: Annotated[tuple[Extra, ...], Field(max_length=MAX_GIVEN)] = ()
    n_predict: Annotated[int, Field(ge=-1, le=1 << 20)] = -1
    n_cmpl: Annotated[int, Field(ge=1, le=1 << 10)] = 1
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: SeedOrNone = -1
    stop: Annotated[tuple[Stop, ...], Field(max_length=64)] = ()
    stream: bool = False
    path: FilePath | None = None
    t_max_predict_ms: Milliseconds = 0
    response_fields: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=128)] = ()

    def query(self) -> Query:
        """This request as the engine takes it. These clients sample by default; for code the likeliest text is
        better."""
        return Query(
            prefix=self.input_prefix + self.prompt,
            suffix=self.input_suffix,
            path=self.path,
            max_tokens=self.n_predict if self.n_predict >= 0 else 64,
            alternatives=min(self.n_cmpl, MAX_ALTERNATIVES),
            temperature=self.temperature if self.n_cmpl > 1 else 0.0,
            top_p=self.top_p or 1.0,
            seed=self.seed if self.seed >= 0 else None,
            stop=self.stop,
            seconds=self.t_max_predict_ms / 1000 or None,
            context=tuple(Snippet(path=one.filename, text=one.text) for one in reversed(self.input_extra)),
        )


def router(service: Service) -> APIRouter:
    """The routes of this dialect."""
    routes = APIRouter(tags=["llama.cpp"])

    @routes.post("/infill", responses=also("text/event-stream"))
    async def infill(body: InfillRequest, request: Request) -> Response:
        if body.stream and body.n_predict != 0:
            return StreamingResponse(
                await _stream(service, body, editor_of(request)), media_type="text/event-stream"
            )
        answer = await service.complete(body.query(), editor=editor_of(request), warm=body.n_predict == 0)
        documents = [
            _selected(_final(answer, completion, number), body.response_fields)
            for number, completion in enumerate(answer.completions or (None,))
        ]
        return reply(documents if body.n_cmpl > 1 else documents[0], answer)

    @routes.get("/health")
    async def health() -> Response:
        service.engine.refresh()
        if service.engine.model:
            return reply({"status": "ok"})
        error = {"code": 503, "message": service.engine.state[1], "type": "unavailable_error"}
        return reply({"error": error}, status=503)

    @routes.get("/props")
    async def props() -> Response:
        document = {
            "default_generation_settings": {"n_ctx": service.engine.context, "params": {}},
            "total_slots": 1,
            "model_alias": service.engine.model or "",
            "model_path": service.engine.model or "",
            "chat_template": "",
            "build_info": "sordino",
        }
        return reply(document)

    return routes


async def _stream(service: Service, body: InfillRequest, editor: str) -> AsyncIterator[bytes]:
    pieces, whole = await service.stream(body.query(), editor=editor)

    async def events() -> AsyncIterator[bytes]:
        async for piece in pieces:
            document = {"index": 0, "content": piece.text, "tokens": [], "stop": False, "id_slot": 0}
            yield b"data: " + compact_json(document) + b"\n\n"
        answer = await whole()
        for number, completion in enumerate(answer.completions or (None,)):
            document = _final(answer, completion, number)
            if body.n_cmpl == 1:
                document["content"] = ""  # its text was streamed before
            yield b"data: " + compact_json(_selected(document, body.response_fields)) + b"\n\n"

    return events()


def _final(answer: Answer, completion: Completion | None, number: int) -> dict[str, Any]:
    """The object that ends a completion. The prompt is not sent back, unlike there."""
    read = answer.prompt_tokens - answer.reused_tokens
    reading = answer.first_token_seconds * 1000
    writing = max(answer.seconds * 1000 - reading, 0.0)
    return {
        "index": number,
        "content": completion.text if completion else "",
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": answer.model,
        "tokens_predicted": answer.generated_tokens,
        "tokens_evaluated": answer.prompt_tokens,
        "generation_settings": {},
        "prompt": "",
        "has_new_line": "\n" in completion.text if completion else False,
        "truncated": False,
        "stop_type": STOP_TYPES.get(completion.finish, "eos") if completion else "limit",
        "stopping_word": "",
        "tokens_cached": answer.prompt_tokens + answer.generated_tokens,
        "timings": {
            "cache_n": answer.reused_tokens,
            "prompt_n": read,
            "prompt_ms": reading,
            "prompt_per_token_ms": reading / max(read, 1),
            "prompt_per_second": 1000 * read / max(reading, 1e-3),
            "predicted_n": answer.generated_tokens,
            "predicted_ms": writing,
            "predicted_per_token_ms": writing / max(answer.generated_tokens, 1),
            "predicted_per_second": 1000 * answer.generated_tokens / max(writing, 1e-3),
        },
    }


def _selected(document: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Only the wanted fields; a path keeps its slashes as the key's name, as in llama.cpp."""
    if not fields:
        return document
    chosen = {}
    for field in fields:
        value: Any = document
        for part in field.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            chosen[field] = value
    return chosen
