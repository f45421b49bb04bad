"""Parts of requests and answers that the dialects share."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field

from sordino_client.completion.query import Answer
from sordino_client.completion.reasons import EXPLANATION, why

# Seeds are 64-bit where they come from; the document promises what JSON's numbers hold exactly.
_PROMISED = {"exclusiveMaximum": 1 << 53}
Seed = Annotated[int, Field(ge=0, lt=1 << 63, json_schema_extra=_PROMISED)]
SeedOrNone = Annotated[int, Field(ge=-1, lt=1 << 63, json_schema_extra=_PROMISED)]


def also(media_type: str) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: the same answer may come as a stream of this type."""
    return {200: {"content": {media_type: {"schema": {}}}}}


def editor_of(request: Request) -> str:
    """The editor's own name for itself: a new request replaces its earlier one. An editor without a name replaces no
    request; it withdraws one by hanging up."""
    name = request.headers.get("x-sordino-editor")
    return name[:128] if name else secrets.token_hex(8)


def explain(answer: Answer) -> dict[str, Any]:
    """Our own addition to an answer: the reason for the outcome, and how long it took."""
    confidence = answer.completions[0].confidence if answer.completions else 0.0
    return {
        "reason": EXPLANATION[why(answer)],
        "seconds": round(answer.seconds, 6),
        "first_token_seconds": round(answer.first_token_seconds, 6),
        "confidence": round(confidence, 6),
        "healed_tokens": answer.healed_tokens,
    }


def compact_json(document: Any) -> bytes:
    """JSON without spaces: some editors search the text for `"content":"`."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def reply(document: Any, answer: Answer | None = None, *, status: int = 200) -> Response:
    """A JSON answer; with the reason for silence in a header where it answers a completion."""
    headers = {"X-Sordino-Reason": why(answer)} if answer is not None else None
    return Response(compact_json(document), status, headers, "application/json")
