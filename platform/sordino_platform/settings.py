"""Settings files: TOML, typed, frozen; an unknown key is refused and the nearest known one is suggested.

Secrets are never settings: a setting may name the file that holds one.

    >>> settings = load_toml(Path("member.toml"), MemberSettings)
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sordino_privacy.errors import ConfigurationError

MAX_SETTINGS_BYTES = 1 << 20


class SettingsModel(BaseModel):
    """The base of every settings model."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, str_max_length=4096)


Model = TypeVar("Model", bound=SettingsModel)


def load_toml(path: Path, model: type[Model]) -> Model:
    """Reads `path` into `model`. Raises ConfigurationError naming the key and the nearest known one."""
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise ConfigurationError(f"{path} is larger than a settings file can be")
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no settings file {path}", hint=creation_hint(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}", hint="correct that line") from error
    return parse_settings(data, model, where=str(path))


def parse_settings(data: dict[str, object], model: type[Model], *, where: str) -> Model:
    """Validates a mapping into `model`; `where` names its origin in the error."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(first["loc"][-1]), model.model_fields, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(model.model_fields)}"
            )
            raise ConfigurationError(f"{where}: unknown setting {key!r}", hint=hint) from None
        raise ConfigurationError(
            f"{where}: {key}: {first['msg'].lower()}", hint="correct this setting"
        ) from None


def creation_hint(path: Path) -> str:
    """The command that makes the missing file."""
    makers = {"member.toml": "sordino client join", "coordinator.toml": "sordino coordinator new"}
    maker = makers.get(path.name)
    return f"make one with `{maker} --help`" if maker else "check the path"


def toml_text(values: dict[str, object], *, comments: dict[str, str]) -> str:
    """A settings file as text, each key under its comment; values are scalars, lists of them, or tables.

    A key whose value is None is written as a comment, after a `#`, so that a person can see in the file what can be
    set.
    """
    plain = {k: v for k, v in values.items() if not isinstance(v, dict)}
    tables = {k: v for k, v in values.items() if isinstance(v, dict)}
    lines: list[str] = []
    for key, value in plain.items():
        if key in comments:
            lines.append(f"# {comments[key]}")
        # JSON's strings, numbers, booleans and arrays are TOML's.
        lines.append(
            f'# {key} = "..."' if value is None else f"{key} = {json.dumps(value, ensure_ascii=False)}"
        )
    for name, table in tables.items():
        lines += ["", *([f"# {comments[name]}"] if name in comments else []), f"[{name}]"]
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in table.items()
            if value is not None
        ]
    return "\n".join(lines) + "\n"


def default_folder() -> Path:
    """The default folder of a member's state (XDG base directories)."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "sordino"
