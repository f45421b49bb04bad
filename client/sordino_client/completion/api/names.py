"""`POST /v1/secret-name`: whether an editor may offer completions in a file of this name.

The rules are the corpus's own (sordino_client.corpus.secret_names), so that a file that is never trained on is never
completed in either, in any editor. Only the name is sent; nothing is opened.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from sordino_client.completion.api.replies import reply
from sordino_client.corpus.secret_names import is_secret_directory, is_secret_name


class FileName(BaseModel):
    """A path as the editor has it; only its parts' names count."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(min_length=1, max_length=4096)]


def router() -> APIRouter:
    """The one route."""
    routes = APIRouter(tags=["sordino"])

    @routes.post("/v1/secret-name")
    async def secret_name(body: FileName) -> Response:
        *folders, name = body.path.replace("\\", "/").split("/")
        return reply({"secret": is_secret_name(name) or any(map(is_secret_directory, folders))})

    return routes
