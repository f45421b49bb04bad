"""The command: all contenders get the same passages, and the result is one flat document of figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sordino_client.completion.context import MAX_PIECES
from sordino_client.laboratory.completion_benchmark.typing.replay import Passage, Typed
from sordino_client.laboratory.pretrain.launch import CacheOption
from sordino_platform.as_json import FiguresAsJson

LANGUAGES = {"java": "heldout", "python": "heldout-python"}
LAYERS: tuple[Literal["both", "model", "memory"], ...] = ("both", "model", "memory")
UNGATED, UNJUDGED = "without_the_syntax_gate", "all_that_is_written"
MAX_REMEMBERED_FILES = 800


def typing(
    files: Annotated[int, typer.Option("--files", min=2, help="Files a language.")] = 16,
    characters: Annotated[int, typer.Option("--characters", min=40, help="Typed in each file.")] = 240,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="DIR", help="Written by `pretrain --export`; else the shipped base."),
    ] = None,
    role: Annotated[
        str | None, typer.Option("--role", help="Another corpus than the held-out ones, e.g. tuning.")
    ] = None,
    show: Annotated[
        str, typer.Option("--show", help="quiet, balanced, eager or all: how sure a shown text must be.")
    ] = "balanced",
    context: Annotated[
        int,
        typer.Option(
            "--context", min=0, max=MAX_PIECES, help="Instead: what so many files beside the open one add."
        ),
    ] = 0,
    cache: CacheOption = None,
    as_json: FiguresAsJson = False,
) -> None:
    """Types held-out files key by key beside the endpoint: characters saved, wrong text shown, milliseconds.

    The figures at the top are of model and memory together; `by_layer`, `by_language` and `peers` have the parts and
    what an editor offers by itself. Takes some ten minutes. Needs `sordino corpus fetch heldout` and `heldout-python`.

    With `--context` there is no repository; the beginnings of the nearest files are sent as an editor sends open tabs.

    Example: sordino bench typing --files 8 --json
    """
    from sordino_client.completion.showing.worth import PRICES
    from sordino_client.laboratory.completion_benchmark.typing.figures import figures, paired_gain
    from sordino_client.laboratory.completion_benchmark.typing.passages import passages
    from sordino_client.laboratory.pretrain.commands import user_cache
    from sordino_client.laboratory.pretrain.corpus import read_corpus
    from sordino_client.laboratory.pretrain.sources import ROLES

    if show not in {*PRICES, "all"}:
        raise typer.BadParameter(f"{show!r} is none of quiet, balanced, eager, all")
    folder = cache or user_cache()
    chosen: list[Passage] = []
    documents: dict[str, list[Any]] = {}
    for language, usual in LANGUAGES.items():
        name = next((known for known in ROLES if known == (role or usual)), None)
        if name is None:
            raise typer.BadParameter(f"there is no corpus named {role!r}; choose one of: {', '.join(ROLES)}")
        mine = [d for d in read_corpus(folder, name) if d.language == language]
        for document in mine:
            documents.setdefault(document.project, []).append(document)
        chosen += passages(mine, files=files, characters=characters)
    if context:
        _tell(_beside(chosen, documents, show, model, context), as_json=as_json)
        return
    typed = _through_endpoints(chosen, documents, show, model)
    words = _words(chosen)
    whole = typed["both"]
    found = figures(whole, interval=True) | {
        "by_layer": {layers: figures(typed[layers], interval=True) for layers in LAYERS},
        "by_language": {
            language: figures(_of(language, chosen, whole), interval=True) for language in LANGUAGES
        },
        "by_showing": {name: figures(typed[name], interval=True) for name in (UNGATED, UNJUDGED)},
        "peers": {
            "word_completion": figures(words, interval=True),
            "memory_alone": figures(typed["memory"], interval=True),
        },
        "over_word_completion": paired_gain(whole, words),
        "over_model_alone": paired_gain(whole, typed["model"]),
        "over_all_that_is_written": paired_gain(whole, typed[UNJUDGED]),
    }
    _tell(found, as_json=as_json)


def _through_endpoints(
    chosen: Sequence[Passage], documents: dict[str, list[Any]], show: Any, model: Path | None
) -> dict[str, list[Typed]]:
    """Types each project's passages with its own endpoints. Their memory has the project without the typed passages."""
    from sordino_client.laboratory.completion_benchmark.typing.contenders import endpoint
    from sordino_client.laboratory.completion_benchmark.typing.errors import adds_error
    from sordino_client.laboratory.completion_benchmark.typing.replay import replay

    results: dict[str, dict[tuple[str, str], Typed]] = {name: {} for name in (*LAYERS, UNGATED, UNJUDGED)}
    for project in dict.fromkeys(passage.project for passage in chosen):
        mine = [passage for passage in chosen if passage.project == project]
        open_paths = {passage.path for passage in mine}
        remembered = [d for d in documents[project] if d.path not in open_paths][:MAX_REMEMBERED_FILES]
        for layers in LAYERS:
            with endpoint(remembered, layers, model=model) as asking:
                for passage in mine:
                    contenders: dict[str, Any] = {layers: asking(passage.path, show)}
                    if layers == "both":
                        contenders |= {UNGATED: asking(None, show), UNJUDGED: asking(None, "all")}
                    for name, suggest in contenders.items():
                        typed = replay(passage, suggest, adds_error(passage.path))
                        results[name][project, passage.path] = typed
                    typer.echo(f"{layers}: {project}/{passage.path}", err=True)
    return {
        name: [rows[passage.project, passage.path] for passage in chosen] for name, rows in results.items()
    }


def _beside(
    chosen: Sequence[Passage], documents: dict[str, list[Any]], show: Any, model: Path | None, count: int
) -> dict[str, Any]:
    from sordino_client.laboratory.completion_benchmark.typing.beside import typed_beside
    from sordino_client.laboratory.completion_benchmark.typing.figures import figures, paired_gain

    typed = typed_beside(chosen, documents, show, model, (0, count))
    return figures(typed[count], interval=True) | {
        "by_context": {str(files): figures(rows, interval=True) for files, rows in typed.items()},
        "by_language": {
            language: figures(_of(language, chosen, typed[count]), interval=True) for language in LANGUAGES
        },
        "over_the_open_file": paired_gain(typed[count], typed[0]),
    }


def _tell(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show(found)


def _words(chosen: Sequence[Passage]) -> list[Typed]:
    from sordino_client.laboratory.completion_benchmark.typing.contenders import word_completion
    from sordino_client.laboratory.completion_benchmark.typing.replay import replay

    return [replay(passage, word_completion) for passage in chosen]


def _of(language: str, chosen: Sequence[Passage], typed: Sequence[Typed]) -> list[Typed]:
    return [one for passage, one in zip(chosen, typed, strict=True) if passage.language == language]


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="typing held-out files: what was not typed, and what was shown in vain")
    for heading in (
        "",
        "saved",
        "95 %",
        "shown/100 keys",
        "right",
        "wrong characters/100 keys",
        "new errors",
        "p50 ms",
        "p95 ms",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = [
        *found.get("by_layer", {}).items(),
        *found.get("by_showing", {}).items(),
        *((f"{files} files as context", one) for files, one in found.get("by_context", {}).items()),
        *found["by_language"].items(),
        *(("word completion", peers["word_completion"]) for peers in [found.get("peers")] if peers),
    ]
    percent: Callable[[float], str] = lambda share: f"{share:.1%}"  # noqa: E731 - a format with a name
    for name, one in rows:
        low, high = one["saved_share_ci"]
        table.add_row(
            name, percent(one["saved_share"]), f"{low:.1%} to {high:.1%}", f"{one['shown_per_100_keys']:.1f}",
            percent(one["right_share"]), f"{one['wrong_characters_per_100_keys']:.1f}",
            percent(one["new_error_share"]), str(one["p50_ms"]), str(one["p95_ms"]),
        )  # fmt: skip
    Console().print(table)
