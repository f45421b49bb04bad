"""Field types that the dialects' requests share: texts as editors send them, and null for a field that is left out.

A program that counts in UTF-16 may cut a surrogate pair in two; half of one is not a character, and is replaced here
before a later check refuses it. Many clients send null for a field that they leave to the server.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sordino_client.completion.api.guard import MAX_BODY_BYTES
from sordino_client.completion.text.place import whole


def _whole(value: Any) -> Any:
    return whole(value) if isinstance(value, str) else value


# No text of a body can be longer than the body.
Text = Annotated[str, BeforeValidator(_whole), Field(max_length=MAX_BODY_BYTES)]
Stop = Annotated[str, BeforeValidator(_whole), Field(min_length=1, max_length=256)]
# The path of the open file, as the editor has it: our addition to every dialect without such a field.
FilePath = Annotated[str, BeforeValidator(_whole), Field(max_length=4096)]


# A client may send more pieces of other files than are used (context.MAX_PIECES): the rest is ignored.
MAX_GIVEN = 256


class Asked(BaseModel):
    """A request of a foreign client: unknown fields are ignored, and null counts as left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}
