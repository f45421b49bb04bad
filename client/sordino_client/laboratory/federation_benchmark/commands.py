"""`sordino bench federation`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from sordino_client.laboratory.pretrain.launch import CacheOption, user_cache
from sordino_platform.as_json import FiguresAsJson
from sordino_privacy.errors import UsageError

Chosen = TypeVar("Chosen")


def federation(
    run: Annotated[
        Path,
        typer.Option(
            "--run", metavar="DIR", help="The run's folder; what is finished there is not done again."
        ),
    ] = Path("sordino-bench-federation"),
    profile: Annotated[
        str, typer.Option("--profile", help="full, short (a quarter of an hour of one core) or quick.")
    ] = "full",
    quick: Annotated[
        bool, typer.Option("--quick", help="The quick profile: whether it works, not what it says.")
    ] = False,
    field: Annotated[
        bool,
        typer.Option("--field", help="Members of one field, and newcomers that never took part."),
    ] = False,
    as_it_stands: Annotated[
        bool,
        typer.Option(
            "--as-it-stands", help="With --field: report what is finished in the folder, run nothing."
        ),
    ] = False,
    cache: CacheOption = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Also draw the curves, as .svg or .png.")
    ] = None,
    as_json: FiguresAsJson = False,
) -> None:
    """Measures whether a federation is worth its privacy: real projects as members, against everything else.

    With --field eighteen services of one platform train, and twelve more stand for members that join later (`sordino
    corpus fetch field`); without it, eight projects that have nothing in common (`sordino corpus fetch members`). Real
    processes, differential privacy, secure aggregation. Two to three hours on two cores; it may be interrupted, and
    goes on where it stood.

    Example: sordino bench federation --field --json
    """
    if picture is not None and picture.suffix not in {".svg", ".png"}:
        raise UsageError("--picture writes .svg or .png")
    if as_it_stands and not field:
        raise UsageError("--as-it-stands is of the field's benchmark", hint="add --field")
    asked = _Asked(
        folder=run.resolve(),
        cache=cache or user_cache(),
        profile="quick" if quick else profile,
        as_it_stands=as_it_stands,
    )
    made = _of_field(asked) if field else _of_strangers(asked)
    if picture is not None:
        made.draw(picture)
    if as_json:
        typer.echo(json.dumps(made.report, indent=1))
    else:
        made.show()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Which run, and the name of its profile."""

    folder: Path
    cache: Path
    profile: str
    as_it_stands: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A report, with its pictures and its text."""

    report: dict[str, Any]
    draw: Callable[[Path], None]
    show: Callable[[], None]


def _of_strangers(asked: _Asked) -> _Made:
    from sordino_client.laboratory.federation_benchmark.benchmark import Benchmark
    from sordino_client.laboratory.federation_benchmark.curves import draw
    from sordino_client.laboratory.federation_benchmark.profile import PROFILES
    from sordino_client.laboratory.federation_benchmark.report import summarise

    profile = _chosen(PROFILES, asked.profile)
    facts = Benchmark(asked.folder, asked.cache, profile, on_progress=_tell).run()
    report = summarise(facts, profile, _public_base())
    return _Made(report=report, draw=partial(draw, report), show=partial(_show, report))


def _of_field(asked: _Asked) -> _Made:
    from sordino_client.laboratory.field_benchmark.benchmark import FieldBenchmark
    from sordino_client.laboratory.field_benchmark.curves import draw_field
    from sordino_client.laboratory.field_benchmark.profile import PROFILES
    from sordino_client.laboratory.field_benchmark.report import show, summarise_field

    profile = _chosen(PROFILES, asked.profile)
    benchmark = FieldBenchmark(asked.folder, asked.cache, profile, on_progress=_tell)
    facts = benchmark.finished() if asked.as_it_stands else benchmark.run()
    report = summarise_field(facts, profile, _public_base())

    def told() -> None:
        for line in show(report):
            typer.echo(line)

    return _Made(report=report, draw=partial(draw_field, report), show=told)


def _chosen(profiles: Mapping[str, Chosen], name: str) -> Chosen:
    if name not in profiles:
        raise UsageError(f"there is no profile {name!r}", hint=f"choose one of: {', '.join(profiles)}")
    return profiles[name]


def _public_base() -> dict[str, Any]:
    from sordino_platform import base

    card = base.card()
    return {key: card[key] for key in ("sha256", "size", "tokens_seen")}


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Bits per byte on members' held-out packages, mean of members")
    for heading in ("contender", "model", "with memory", "next token, with memory"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, layers in report["contenders"].items():
        model, both = layers.get("model") or layers.get("memory"), layers.get("with_memory")
        bits = "-" if both is None else f"{both['bits_per_byte']['mean']:.4f}"
        share = "-" if both is None else f"{both['next_token_accuracy']['mean']:.1%}"
        table.add_row(name.replace("_", " "), f"{model['bits_per_byte']['mean']:.4f}", bits, share)
    Console().print(table)
    runs = ", ".join(f"{value:.1%}" for value in report["gap_closed_eps8_runs"])
    typer.echo(f"gap closed at epsilon 8: {report['gap_closed_eps8']:.1%} (runs: {runs})")
    typer.echo(f"gap closed at epsilon 2: {report['gap_closed_eps2']:.1%}")
    typer.echo(f"better than alone in private: {report['members_better_than_alone']} members")
    worth = report["worth"]["eps8"]
    typer.echo(
        f"worth it at epsilon 8, with own adapter and memory: {', '.join(worth['worth_it_for']) or 'nobody'}"
    )
