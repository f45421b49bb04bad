"""`POST /v1/secret-name`: whether an editor may offer completions in a file of this name.

Every dialect refuses by the same rule (sordino_client.completion.names); here an editor can ask before it sends any
text.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from sordino_client.completion.api.replies import reply
from sordino_client.completion.names import may_hold_secrets


class FileName(BaseModel):
    """A path as the editor has it; only its parts' names count."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(min_length=1, max_length=4096)]


def router() -> APIRouter:
    """The one route."""
    routes = APIRouter(tags=["sordino"])

    @routes.post("/v1/secret-name")
    async def secret_name(body: FileName) -> Response:
        return reply({"secret": may_hold_secrets(body.path)})

    return routes
