"""`sordino corpus` and `sordino eval`; `sordino pretrain` is in launch.py."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sordino_client.laboratory.pretrain.launch import CacheOption, pretrain, user_cache
from sordino_platform.as_json import FiguresAsJson
from sordino_privacy.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sordino_platform.evaluation.lines import MeasuredPosition
    from sordino_platform.tokenizer import Tokenizer

__all__ = ["corpus", "evaluate", "pretrain", "user_cache"]

_PRIME_TOKENS = 2_000_000

corpus = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The public corpora, by package name.")


@corpus.callback()
def _corpus() -> None:
    """The public corpora, by package name."""


@corpus.command()
def fetch(
    role: Annotated[
        str,
        typer.Argument(
            help="heldout, heldout-python, heldout-go, heldout-typescript, tuning, tuning-base, members, field, "
            "field-tuning or public."
        ),
    ],
    cache: CacheOption = None,
    small: Annotated[bool, typer.Option("--small", help="About 35 MB, for tests.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Use what is cached; fetch nothing.")] = False,
    as_json: FiguresAsJson = False,
) -> None:
    """Fetch a corpus by package name, clean it, keep the roles apart, and write its manifest.

    Example: sordino corpus fetch public
    """
    from sordino_client.laboratory.pretrain import corpus as build
    from sordino_client.laboratory.pretrain.fetch import fetch as fetch_projects
    from sordino_client.laboratory.pretrain.sources import earlier_roles, known_role

    known = known_role(role)
    folder = cache or user_cache()
    for earlier in earlier_roles(known):
        if not build.corpus_path(folder, earlier).is_file():
            hint = f"run: sordino corpus fetch {earlier}"
            raise DataError(
                f"the {role} corpus is cleaned against the {earlier} corpus, which is not here", hint=hint
            )
    typer.echo(f"corpora in {folder}", err=True)
    projects = fetch_projects(
        folder,
        role,
        small=small,
        offline=offline,
        on_progress=_report,
    )
    manifest = build.build_corpus(
        folder,
        known,
        projects,
        on_progress=lambda name, files, size: typer.echo(
            f"{name}: {files} files, {size / 1e6:.1f} MB", err=True
        ),
    )
    if as_json:
        typer.echo(json.dumps(manifest, indent=2))
    else:
        size = int(str(manifest["characters"])) / 1e6
        typer.echo(
            f"{role}: {manifest['files']} files, {size:.0f} MB, overlap left {manifest['overlap_left']}"
        )


def evaluate(
    repo: Annotated[
        list[Path] | None, typer.Option("--repo", metavar="DIR", help="Measure on this folder; repeatable.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="DIR", help="Written by `pretrain --export`; else the shipped base."),
    ] = None,
    of_base: Annotated[
        str | None,
        typer.Option("--base", metavar="NAME", help="Measure this base instead (`sordino base list`)."),
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            "--role", help="heldout, heldout-python, heldout-go, heldout-typescript or a tuning list."
        ),
    ] = "heldout",
    cache: CacheOption = None,
    tokens: Annotated[int, typer.Option("--tokens", min=500, help="Tokens measured per project.")] = 16_000,
    lines: Annotated[int, typer.Option("--lines", min=0, help="Cursors per project.")] = 80,
    show: Annotated[
        int, typer.Option("--show", min=0, help="Print the first N completions beside the truth.")
    ] = 0,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Also the local memory, alone and with the model.")
    ] = True,
    as_json: FiguresAsJson = False,
) -> None:
    """Measure a model on held-out code: bits per byte, next-token accuracy, rest-of-line exact match.

    Without --repo, on the held-out projects of Java (`sordino corpus fetch heldout`) or of another --role. The figures
    at the top are the model's own; `layers` has the model, the memory of the project's other files, and both together.

    Example: sordino eval --repo ~/work/billing --json
    """
    from sordino_client.completion.memory.measured import MeasuredMemory
    from sordino_platform import base
    from sordino_platform.evaluation import Plan, measured_texts
    from sordino_platform.evaluation import evaluate as measure
    from sordino_platform.model import build_decoder

    folder = cache or user_cache()
    if of_base is not None:
        from sordino_client.completion.bases.evaluation import evaluate_base

        plan = Plan(tokens=tokens, lines=lines)
        texts_of = _folders(repo) if repo else _projects(folder, role)
        report = evaluate_base(of_base, texts_of, plan=plan, memory=memory, on_progress=_measuring)
        typer.echo(json.dumps(report, indent=2)) if as_json else _show_layers(report)
        return
    config, tokenizer, parameters = base.load(model)
    projects = _folders(repo) if repo else _projects(folder, role)
    plan = Plan(tokens=tokens, lines=lines)
    answered: list[tuple[MeasuredPosition, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        memories = {}
        for number, (name, texts) in enumerate(projects.items()) if memory else ():
            typer.echo(f"indexing {name}", err=True)
            # The memory holds a project without its measured files.
            measured = measured_texts(texts, tokenizer, plan)
            documents = {str(at): text for at, text in enumerate(texts) if text not in measured}
            memories[name] = MeasuredMemory(Path(temporary) / str(number), documents, tokenizer)
        report = measure(
            build_decoder(config, parameters),
            tokenizer,
            projects,
            plan=plan,
            prime=_prime(folder, tokenizer),
            memories=memories if memory else None,
            on_progress=lambda stage: typer.echo(f"measuring: {stage}", err=True),
            on_line=lambda cursor, guess: answered.append((cursor, guess)),
        )
    about = base.card(model)
    report["model"] = {key: about[key] for key in ("sha256", "size", "tokens_seen")}
    report["role"] = None if repo else role
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _show(report)
    for cursor, guess in answered[:: max(1, len(answered) // show)][:show] if show else ():
        _show_line(cursor, guess, tokenizer)


def _measuring(stage: str) -> None:
    typer.echo(f"measuring: {stage}", err=True)


def _show_layers(report: dict[str, Any]) -> None:
    for layer, figures in report["layers"].items():
        accuracy = figures["next_token_accuracy"]
        typer.echo(f"{layer:8} {figures['bits_per_byte']:.3f} bits/byte, next token {accuracy:.1%}")


def _report(name: str, outcome: str) -> None:
    typer.echo(f"{name}: {outcome}", err=True)


def _projects(folder: Path, role: str) -> dict[str, list[str]]:
    from sordino_client.laboratory.pretrain.corpus import read_corpus
    from sordino_client.laboratory.pretrain.sources import known_role

    projects: dict[str, list[str]] = {}
    for document in read_corpus(folder, known_role(role)):
        projects.setdefault(document.project, []).append(document.text)
    return projects


def _folders(repos: list[Path]) -> dict[str, list[str]]:
    from sordino_client.corpus import CorpusPolicy, read_repositories

    return {
        str(repo): [file.text for file in read_repositories([repo], policy=CorpusPolicy()).files]
        for repo in repos
    }


def _prime(folder: Path, tokenizer: Tokenizer) -> npt.NDArray[np.uint16] | None:
    """Evenly spread public training text for the n-gram baseline; None if the public corpus is not cached."""
    import numpy as np

    from sordino_client.training.stream import open_shard

    shard = open_shard(folder / "training", tokenizer)
    if shard is None:
        return None
    starts = np.linspace(0, max(0, len(shard.tokens) - 5_000), _PRIME_TOKENS // 5_000).astype(np.int64)
    return np.concatenate([shard.tokens[s : s + 5_000] for s in starts])


def _show_line(cursor: MeasuredPosition, guess: str, tokenizer: Tokenizer) -> None:
    """Prints one completion and the true text to stderr, because stdout may be JSON."""
    before = (tokenizer.decode(cursor.prompt) + cursor.heal.decode(errors="replace")).split("\n")[-1].lstrip()
    mark = "=" if guess == cursor.truth else "!"
    typer.echo(f"\n  {before}|\n  {mark} model  {guess}\n    truth  {cursor.truth}", err=True)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report['model']['size']} after {report['model']['tokens_seen'] / 1e6:.1f}M tokens")
    for heading in ("", "bits/byte", "next token", "line exact", "line similarity", "exact, surest 30 %"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = [("all projects", report), *report["per_project"].items()]
    named = {"memory": "memory alone, all projects", "both": "model and memory, all projects"}
    rows += [(named[layer], report["layers"][layer]) for layer in named if layer in report["layers"]]
    rows.append(("baseline: n-gram + file cache", report["baselines"]["ngram_cache"]))
    keys = ("next_token_accuracy", "line_exact_match", "line_edit_similarity", "precision_at_30")
    for name, figures in rows:
        shares = [None if name.startswith("baseline") and k == keys[-1] else figures[k] for k in keys]
        table.add_row(
            name, f"{figures['bits_per_byte']:.3f}", *("-" if s is None else f"{s:.1%}" for s in shares)
        )
    for name, label in (("xz", "xz -9e"), ("ppmd", "PPMd, order 12")):
        bits = report["baselines"][name]["bits_per_byte"]
        table.add_row(f"baseline: {label}", "-" if bits is None else f"{bits:.3f}", *"----")
    Console().print(table)
