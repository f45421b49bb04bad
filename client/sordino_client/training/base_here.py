"""The charter's base on a member's machine: where it lies, and what it reads with. Loads no weights."""

from __future__ import annotations

from pathlib import Path

from sordino_client.settings import MemberSettings
from sordino_platform.bases import find_base, find_by_digest, known_name, tokenizer_at
from sordino_platform.charter import HuggingFaceTerms, ModelTerms
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import ConfigurationError


def base_of(settings: MemberSettings, model: ModelTerms | HuggingFaceTerms) -> Path | None:
    """The folder or the .gguf file of the charter's base; None for the base that ships.

    It is the one that the settings name, else the base on this machine with the charter's digest. Raises
    ConfigurationError, with what to do, if there is none.
    """
    if isinstance(model, ModelTerms):
        return None
    digest = model.base_sha256.hex()
    if settings.base_model is not None:
        place = Path(settings.base_model).expanduser()
        # A name is never taken for a path, whatever lies in the folder that the agent was started in.
        if place.is_absolute() and place.exists():
            return place
        try:
            return find_base(settings.base_model).place
        except ConfigurationError as error:
            raise _missing(model, f"base_model of member.toml: {error.message}; ") from error
    found = find_by_digest(digest)
    if found is not None:
        return found.place
    raise _missing(model, "")


def _missing(model: HuggingFaceTerms, why: str) -> ConfigurationError:
    """The message for a member that lacks the charter's base: its name, its digest, and the command that adds it."""
    digest = model.base_sha256.hex()
    name = known_name(digest)
    called = f"{name or model.name}, " if name or model.name else ""
    return ConfigurationError(
        f"{why}this federation trains adapters on a base that is not here: {called}digest {digest}",
        hint=f"run `sordino base add {name}`"
        if name
        else "fetch its files as the federation's founder has them, then `sordino base add FOLDER`",
    )


def tokenizer_of(
    settings: MemberSettings, model: ModelTerms | HuggingFaceTerms
) -> Tokenizer | HuggingFaceTokenizer:
    """The tokenizer of the charter's model. Raises ConfigurationError if its base is not here."""
    place = base_of(settings, model)
    return Tokenizer.shipped() if place is None else tokenizer_at(place)
