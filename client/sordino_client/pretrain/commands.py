"""`sordino corpus`, `sordino pretrain` and `sordino eval`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sordino_privacy.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sordino_platform.evaluation.lines import Cursor
    from sordino_platform.tokenizer import Tokenizer

CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Where corpora are kept.", show_default="user cache"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")]

# What the trainer's process must find in place before torch starts: threads that sleep while they wait (the cores are
# shared), and a malloc that keeps its large blocks instead of giving them back at every step (17 % faster).
TRAINER_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
_PRIME_TOKENS = 2_000_000

corpus = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The public corpora, by package name.")


@corpus.callback()
def _corpus() -> None:
    """The public corpora, by package name."""


def user_cache() -> Path:
    """The corpus folder in the user's cache (XDG; `~/Library/Caches` on macOS)."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sordino" / "corpus"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sordino" / "corpus"


@corpus.command()
def fetch(
    role: Annotated[
        str, typer.Argument(help="heldout, heldout-python, tuning, members, field, field-tuning or public.")
    ],
    cache: CacheOption = None,
    small: Annotated[bool, typer.Option("--small", help="About 35 MB, for tests.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Use what is cached; fetch nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a corpus by package name, clean it, keep the roles apart, and write its manifest.

    Example: sordino corpus fetch public
    """
    from sordino_client.pretrain import corpus as build
    from sordino_client.pretrain.fetch import fetch as fetch_projects
    from sordino_client.pretrain.sources import ROLES, Role, earlier_roles, sources

    sources(role)
    folder = cache or user_cache()
    known: Role = next(name for name in ROLES if name == role)
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
    manifest = build.build(
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


def pretrain(
    run: Annotated[
        Path, typer.Option("--run", metavar="DIR", help="The run's folder; resumed if it holds one.")
    ],
    cache: CacheOption = None,
    size: Annotated[str, typer.Option("--size", help="2.3m, 3.4m or 22m.")] = "3.4m",
    threads: Annotated[int, typer.Option("--threads", min=1, max=64)] = 2,
    stop_tokens: Annotated[
        int | None, typer.Option("--stop-tokens", help="Stop after this many tokens.")
    ] = None,
    from_base: Annotated[
        Path | None,
        typer.Option("--from-base", metavar="DIR", help="Start a new run from an exported base's weights."),
    ] = None,
    branch: Annotated[
        Path | None,
        typer.Option("--branch", metavar="DIR", help="Decay a copy of the newest checkpoint into DIR."),
    ] = None,
    branch_tokens: Annotated[int, typer.Option("--branch-tokens", help="How long the decay is.")] = 1_000_000,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Write the newest checkpoint as a base."),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option("--evaluation", metavar="FILE", help="With --export: the output of `eval --json`."),
    ] = None,
) -> None:
    """Train the public base model; stop and resume at will (Ctrl-C writes a checkpoint first).

    Example: sordino pretrain --run ~/base
    """
    folder = cache or user_cache()
    if export is not None:
        from sordino_client.pretrain.export import export as write_base

        report = None if evaluation is None else json.loads(evaluation.read_text())
        card = write_base(run, folder, export, evaluation=report)
        typer.echo(f"{export}: {card['tokens_seen'] / 1e6:.1f}M tokens, sha256 {card['sha256']}")
        return
    if branch is not None and not 0 < branch_tokens < 1 << 40:
        raise UsageError("--branch-tokens must be above 0")
    _encode_once(folder)
    command = [
        sys.executable,
        "-m",
        "sordino_client.pretrain.trainer",
        "--data",
        str(folder),
        "--run",
        str(run),
    ]
    command += ["--size", size, "--threads", str(threads)]
    command += ["--from-base", str(from_base)] if from_base else []
    command += ["--stop-tokens", str(stop_tokens)] if stop_tokens else []
    command += ["--branch", str(branch), "--branch-tokens", str(branch_tokens)] if branch else []
    os.nice(19)
    os.execve(command[0], command, {**os.environ, **TRAINER_ENVIRONMENT})  # noqa: S606 - our own interpreter


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
    cache: CacheOption = None,
    tokens: Annotated[int, typer.Option("--tokens", min=500, help="Tokens measured per project.")] = 16_000,
    lines: Annotated[int, typer.Option("--lines", min=0, help="Cursors per project.")] = 80,
    show: Annotated[
        int, typer.Option("--show", min=0, help="Print the first N completions beside the truth.")
    ] = 0,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Also the local memory, alone and with the model.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on held-out code: bits per byte, next-token accuracy, rest-of-line exact match.

    Without --repo, on the held-out projects (`sordino corpus fetch heldout`). The figures at the top are the model's
    own; `layers` has the model, the memory of the project's other files, and both together.

    Example: sordino eval --repo ~/work/billing --json
    """
    from sordino_client.completion.memory.measured import MeasuredMemory
    from sordino_platform import base
    from sordino_platform.evaluation import Plan, measured_texts
    from sordino_platform.evaluation import evaluate as measure
    from sordino_platform.model import build

    folder = cache or user_cache()
    if of_base is not None:
        from sordino_client.completion.bases.evaluation import evaluate_base

        plan = Plan(tokens=tokens, lines=lines)
        texts_of = _folders(repo) if repo else _heldout(folder)
        report = evaluate_base(of_base, texts_of, plan=plan, memory=memory, on_progress=_measuring)
        typer.echo(json.dumps(report, indent=2)) if as_json else _show_layers(report)
        return
    config, tokenizer, parameters = base.load(model)
    projects = _folders(repo) if repo else _heldout(folder)
    plan = Plan(tokens=tokens, lines=lines)
    answered: list[tuple[Cursor, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        memories = {}
        for number, (name, texts) in enumerate(projects.items()) if memory else ():
            typer.echo(f"indexing {name}", err=True)
            # A project is remembered without the files that are measured.
            measured = measured_texts(texts, tokenizer, plan)
            documents = {str(at): text for at, text in enumerate(texts) if text not in measured}
            memories[name] = MeasuredMemory(Path(temporary) / str(number), documents, tokenizer)
        report = measure(
            build(config, parameters),
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


def _encode_once(folder: Path) -> None:
    """Turns the public corpus into token shards with the shipped tokenizer, unless they are there."""
    from sordino_client.pretrain import stream
    from sordino_client.pretrain.corpus import read_corpus
    from sordino_platform.tokenizer import Tokenizer

    tokenizer = Tokenizer.shipped()
    for name, wanted in (("validation", True), ("training", False)):
        if stream.open_shard(folder / name, tokenizer) is None:
            documents = (d for d in read_corpus(folder, "public") if stream.is_validation(d) is wanted)
            stream.encode(
                documents,
                tokenizer,
                folder / name,
                on_progress=lambda done: typer.echo(f"encoded {done / 1e6:.0f}M tokens", err=True),
            )


def _heldout(folder: Path) -> dict[str, list[str]]:
    from sordino_client.pretrain.corpus import read_corpus

    projects: dict[str, list[str]] = {}
    for document in read_corpus(folder, "heldout"):
        projects.setdefault(document.project, []).append(document.text)
    return projects


def _folders(repos: list[Path]) -> dict[str, list[str]]:
    from sordino_client.corpus import CorpusPolicy, read_repositories

    return {
        str(repo): [file.text for file in read_repositories([repo], policy=CorpusPolicy()).files]
        for repo in repos
    }


def _prime(folder: Path, tokenizer: Tokenizer) -> npt.NDArray[np.uint16] | None:
    """Public training text for the n-gram baseline, evenly spread; None where the public corpus is not cached."""
    import numpy as np

    from sordino_client.pretrain.stream import open_shard

    shard = open_shard(folder / "training", tokenizer)
    if shard is None:
        return None
    starts = np.linspace(0, max(0, len(shard.tokens) - 5_000), _PRIME_TOKENS // 5_000).astype(np.int64)
    return np.concatenate([shard.tokens[s : s + 5_000] for s in starts])


def _show_line(cursor: Cursor, guess: str, tokenizer: Tokenizer) -> None:
    """One completion beside the truth, on stderr: stdout may be JSON."""
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
