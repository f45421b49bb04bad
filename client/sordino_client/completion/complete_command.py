"""`sordino complete FILE:LINE:COL`: one completion on the terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import typer

from sordino_client.completion.text.place import BREAK, KEPT_BEFORE, KEPT_BEHIND
from sordino_privacy.errors import DataError, LinkError, UsageError

MAX_FILE_BYTES = 1 << 20


def default_state() -> Path:
    """Where the endpoint keeps its files by default."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "sordino" / "completion"


def complete(
    place: str = typer.Argument(
        ..., metavar="FILE:LINE:COL", help="Where the cursor stands; both count from 1."
    ),
    state: Path | None = typer.Option(
        None, "--state", envvar="SORDINO_COMPLETION_STATE", help="State folder of the endpoint to ask."
    ),
    base: str | None = typer.Option(
        None,
        "--base",
        metavar="NAME",
        help="Use this base, asking no endpoint: shipped, a name of `sordino base list`, a folder, a .gguf file.",
    ),
    alternatives: int = typer.Option(1, "--alternatives", "-n", min=1, max=8, help="How many to offer."),
    max_tokens: int = typer.Option(48, "--max-tokens", min=1, max=256, help="Length limit in tokens."),
    as_json: bool = typer.Option(False, "--json", help="Print figures and texts as JSON."),
) -> None:
    """Completes code at FILE:LINE:COL.

    Asks the endpoint that runs on this machine; without one, loads the newest released model, or else the base
    model that was installed.

    Example: sordino complete src/billing.py:120:9

    Example: sordino complete --base smollm2 src/billing.py:120:9
    """
    from sordino_client.completion.names import may_hold_secrets
    from sordino_platform import telemetry

    telemetry.configure_logging(console=False)  # standard output is the answer's

    prefix, suffix = text_around(place)
    path = place.rsplit(":", 2)[0]
    if may_hold_secrets(path):
        raise DataError(
            f"{path} may hold secrets, by its name: nothing is completed in it", hint="name a source file"
        )
    folder = (state or default_state()).expanduser().absolute()
    found = None if base is not None else _from_endpoint(folder, prefix, suffix, alternatives, max_tokens)
    if found is None:
        found = _loaded(folder, prefix, suffix, alternatives, max_tokens, base=base)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for text in found["completions"]:
        typer.echo(text)
    if not any(found["completions"]):
        typer.secho(f"no suggestion: {found['reason']}", err=True)
    typer.secho(f"{found['model']}, {found['seconds'] * 1000:.0f} ms", err=True, dim=True)


def text_around(place: str) -> tuple[str, str]:
    """The text before and after FILE:LINE:COL. Raises UsageError or DataError with what to correct."""
    # A file's name may hold colons: the last two parts are the numbers.
    parts = place.rsplit(":", 2)
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()) or not parts[0]:
        raise UsageError(
            f"not a place in a file: {place[:200]}", hint="write FILE:LINE:COL, as in src/a.py:12:5"
        )
    path, line, column = Path(parts[0]), int(parts[1]), int(parts[2])
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file", hint="check the path")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path} is larger than 1 MiB", hint="name a source file")
        text = path.read_bytes().decode()  # its line endings are its own
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8", hint="name a source file") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read", hint="check its permissions") from error
    lines = BREAK.split(text)
    if not 1 <= line <= len(lines):
        raise UsageError(f"{path} has no line {line}", hint=f"it has lines 1 to {len(lines)}")
    if not 1 <= column <= len(lines[line - 1]) + 1:
        raise UsageError(
            f"line {line} of {path} has no column {column}",
            hint=f"it has columns 1 to {len(lines[line - 1]) + 1}",
        )
    breaks = [0, *(found.end() for found in BREAK.finditer(text))]
    offset = breaks[line - 1] + column - 1
    return text[max(0, offset - KEPT_BEFORE) : offset], text[offset : offset + KEPT_BEHIND]


def _from_endpoint(
    state: Path, prefix: str, suffix: str, alternatives: int, max_tokens: int
) -> dict[str, Any] | None:
    """The running endpoint's answer; None if none runs or it has no model."""
    from sordino_client.completion import asking

    endpoint = asking.find_endpoint(state)
    if endpoint is None:
        return None
    request = {"prompt": prefix, "suffix": suffix, "n": alternatives, "max_tokens": max_tokens}
    try:
        answer = endpoint.ask("POST", "/v1/completions", request)
    except LinkError as error:
        if "no model yet" in error.message:
            return None
        raise
    return {
        "source": "endpoint",
        "model": answer["model"],
        "completions": [choice["text"] for choice in answer["choices"]],
        "reason": answer["sordino"]["reason"],
        "prompt_tokens": answer["usage"]["prompt_tokens"],
        "completion_tokens": answer["usage"]["completion_tokens"],
        "seconds": answer["sordino"]["seconds"],
    }


def _loaded(
    state: Path, prefix: str, suffix: str, alternatives: int, max_tokens: int, *, base: str | None
) -> dict[str, Any]:
    """The answer of a model that is loaded here and now."""
    from sordino_client.completion import bundle
    from sordino_client.completion.bases import served
    from sordino_client.completion.loading import load_generator, load_release
    from sordino_client.completion.memory.recall import LocalMemory
    from sordino_client.completion.memory.store import Store
    from sordino_client.completion.query import Query
    from sordino_client.completion.reasons import EXPLANATION, why
    from sordino_platform.bases import SHIPPED, find_base

    released = None if base is not None else bundle.current(state / "serving")
    if released is not None:
        generator = load_release(released, state=state)
    elif base is None or base == SHIPPED:
        generator = load_generator(bundle.shipped())
    else:
        named = find_base(base)
        generator = served.generator(named, [], name=named.name)
    memory = LocalMemory(Store(state / "memory"))
    answer = generator.answer(
        Query(prefix=prefix, suffix=suffix, alternatives=alternatives, max_tokens=max_tokens),
        recall=lambda prompt: memory(prompt, generator.vocabulary, generator.shared),
    )
    return {
        "source": "release" if released else "base",
        "model": answer.model,
        "completions": [completion.text for completion in answer.completions],
        "reason": EXPLANATION[why(answer)],
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.generated_tokens,
        "seconds": answer.seconds,
    }


def lsp(
    state: Path | None = typer.Option(
        None, "--state", envvar="SORDINO_COMPLETION_STATE", help="State folder of the endpoint to ask."
    ),
) -> None:
    """A language server on stdin and stdout, for editors that speak LSP.

    Example (Helix, languages.toml): [language-server.sordino] command = "sordino", args = ["lsp"]
    """
    from sordino_client.completion.lsp.server import run

    raise typer.Exit(run((state or default_state()).expanduser().absolute()))
