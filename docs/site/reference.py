"""The reference of the site, made from the product itself: commands, settings, alerts, local HTTP interfaces.

Each function returns one page of Markdown. Nothing is written by hand here, so a page cannot say what the code does
not do; `docs/metrics.md` is written by hand and compared with the code by a test of its own.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Any, get_args, get_origin

import click
import yaml
from fastapi import FastAPI
from pydantic import BaseModel

from sordino_client.completion.api import app as completion
from sordino_client.control import api as control
from sordino_client.settings import COMMENTS as MEMBER
from sordino_client.settings import MemberSettings
from sordino_coordinator.control.api import Endpoints
from sordino_coordinator.oidc.settings import OIDC_COMMENTS, OidcSettings
from sordino_coordinator.settings import COMMENTS as COORDINATOR
from sordino_coordinator.settings import CoordinatorSettings
from sordino_platform import cli

ROOT = Path(__file__).resolve().parents[2]
NO_TOKEN = "-" * 43  # a token's length: no server is started here


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar within a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def commands() -> str:
    """Every command with its options, from the command line's own tree."""
    root = cli.LazyCommands()
    parts = [
        "# Commands",
        "Every command, as `--help` tells it. [Exit codes](../exit-codes.md).",
    ]
    for name in root.list_commands(click.Context(root)):
        command = root.get_command(click.Context(root), name)
        assert command is not None
        parts += _command(command, ("sordino", name))
    return "\n\n".join(parts) + "\n"


def _command(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    yield f"{'#' * min(len(path), 4)} `{' '.join(path)}`"
    yield _help(command.help or command.short_help or "")
    rows = []
    for option in command.params:
        if option.name in {"help", "install_completion", "show_completion"}:
            continue
        names = ", ".join(f"`{one}`" for one in (*option.opts, *option.secondary_opts))
        if isinstance(option, click.Argument):
            names = f"`{option.make_metavar(click.Context(command))}`"
        told = getattr(option, "help", None) or ""
        rows.append([names, _kind(option), told])
    if rows:
        yield table(["option", "value", "meaning"], rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from _command(below, (*path, name))


def _kind(option: click.Parameter) -> str:
    if isinstance(option, click.Option) and option.is_flag:
        return "switch"
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{one}`" for one in option.type.choices)
    return option.type.name + (", repeated" if option.multiple or option.nargs == -1 else "")


def _help(text: str) -> str:
    """The help, with its examples as code."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        plain = " ".join(line.strip() for line in paragraph.replace("\b", "").splitlines() if line.strip())
        if plain.startswith("Example"):
            lines = plain.split(": ", 1)[-1].replace(" sordino ", "\nsordino ")
            parts.append(f"```sh\n{lines}\n```")
        elif plain:
            parts.append(plain)
    return "\n\n".join(parts)


def settings() -> str:
    """The settings of a member, of a coordinator and of the VS Code extension, with their defaults."""
    parts = ["# Settings", "An unknown setting is refused, and the nearest known one is named."]
    for title, model, comments in (
        ("A member: `member.toml`", MemberSettings, MEMBER),
        ("The coordinator: `coordinator.toml`", CoordinatorSettings, COORDINATOR),
        ("The coordinator: `[oidc]` of `coordinator.toml`", OidcSettings, OIDC_COMMENTS),
    ):
        parts += [f"## {title}", _settings(model, comments)]
    manifest = json.loads((ROOT / "client/vscode/package.json").read_text(encoding="utf-8"))
    rows = [
        [
            f"`{name}`",
            f"`{json.dumps(one.get('default'))}`",
            one.get("markdownDescription") or one.get("description", ""),
        ]
        for name, one in manifest["contributes"]["configuration"]["properties"].items()
    ]
    parts += ["## The VS Code extension", table(["setting", "default", "meaning"], rows)]
    return "\n\n".join(parts) + "\n"


def _settings(model: type[BaseModel], comments: dict[str, str]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        if field.is_required():
            default = "needed"
        else:
            value = field.get_default(call_default_factory=True)
            default = f"`{json.dumps(value, default=str)}`" if not isinstance(value, BaseModel) else "a table"
        rows.append([f"`{name}`", f"`{_type(field.annotation)}`", default, comments.get(name, "")])
    return table(["setting", "type", "default", "meaning"], rows)


def _type(annotation: Any) -> str:
    if get_args(annotation) and get_origin(annotation) is not None:
        inner = ", ".join(_type(one) for one in get_args(annotation) if one is not NoneType)
        name = getattr(get_origin(annotation), "__name__", "")
        return (
            inner.replace(", ", " or ") if name in {"Literal", "UnionType", "Union"} else f"{name} of {inner}"
        )
    return (
        repr(annotation) if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    )


def alerts() -> str:
    """Every alert, with its runbook and its rule."""
    parts = ["# Alerts", "**page** wakes somebody; **ticket** waits for the next working day."]
    for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" not in rule:
                    continue
                runbook = rule["annotations"]["runbook"].removeprefix("docs/")
                parts += [
                    f"## {rule['alert']}",
                    f"{rule['annotations']['summary']}. **{rule['labels']['severity']}**"
                    f", after {rule.get('for', '0m')}. [Runbook](../{runbook}).",
                    f"```\n{rule['expr'].strip()}\n```",
                ]
    return "\n\n".join(parts) + "\n"


def interfaces() -> str:
    """The local HTTP interfaces: path, method, what it takes."""
    parts = [
        "# Local HTTP interfaces",
        "All on loopback (the completion endpoint on a Unix socket too), each behind its own bearer token.",
    ]
    nothing: Any = None
    desk: Any = SimpleNamespace(
        member=SimpleNamespace(participation=None, metrics=None)
    )  # its routes are listed, none is called
    for title, guard in (
        (
            "Completions, at a member's machine",
            completion.build(nothing, nothing, nothing, token=NO_TOKEN),
        ),
        ("A member's control, for editors", control.control_app(desk, token=NO_TOKEN)),
    ):
        parts += [f"## {title}", _routes(guard.app)]
    rows = [
        [method, f"`{path}`"]
        for method, answers in (("GET", Endpoints.get), ("POST", Endpoints.post))
        for path in re.findall(r'"(/v1/\w+)"', inspect.getsource(answers))
    ]
    parts += ["## The operator's API, at the coordinator (HTTPS)", table(["method", "path"], rows)]
    return "\n\n".join(parts) + "\n"


def _routes(app: FastAPI) -> str:
    described = app.openapi()["paths"]
    rows = []
    for path, methods in described.items():
        for method, operation in methods.items():
            reference = (
                operation.get("requestBody", {})
                .get("content", {})
                .get("application/json", {})
                .get("schema", {})
            )
            body = str(reference.get("$ref", "")).rsplit("/", 1)[-1]
            rows.append(
                [method.upper(), f"`{path}`", f"`{body}`" if body else "", operation.get("summary", "")]
            )
    return table(["method", "path", "body", "what"], rows)


PAGES = {"commands": commands, "settings": settings, "alerts": alerts, "interfaces": interfaces}
