"""`sordino bench federation`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sordino_client.laboratory.pretrain.launch import CacheOption
from sordino_platform.as_json import FiguresAsJson
from sordino_privacy.errors import UsageError


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
    from sordino_client.laboratory.federation_benchmark.benchmark import Benchmark
    from sordino_client.laboratory.federation_benchmark.curves import draw
    from sordino_client.laboratory.federation_benchmark.profile import PROFILES
    from sordino_client.laboratory.federation_benchmark.report import summarise
    from sordino_client.laboratory.pretrain.commands import user_cache
    from sordino_platform import base

    if picture is not None and picture.suffix not in {".svg", ".png"}:
        raise UsageError("--picture writes .svg or .png")
    if field:
        _field(
            run,
            "quick" if quick else profile,
            cache or user_cache(),
            picture,
            as_it_stands=as_it_stands,
            as_json=as_json,
        )
        return
    if as_it_stands:
        raise UsageError("--as-it-stands is of the field's benchmark", hint="add --field")
    chosen = PROFILES.get("quick" if quick else profile)
    if chosen is None:
        raise UsageError(f"there is no profile {profile!r}", hint=f"choose one of: {', '.join(PROFILES)}")
    benchmark = Benchmark(
        run.resolve(), cache or user_cache(), chosen, on_progress=lambda line: typer.echo(line, err=True)
    )
    facts = benchmark.run()
    card = base.card()
    report = summarise(facts, chosen, {key: card[key] for key in ("sha256", "size", "tokens_seen")})
    if picture is not None:
        draw(report, picture)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        _show(report)


def _field(
    run: Path, profile: str, cache: Path, picture: Path | None, *, as_it_stands: bool, as_json: bool
) -> None:
    from sordino_client.laboratory.field_benchmark.benchmark import FieldBenchmark
    from sordino_client.laboratory.field_benchmark.curves import draw_field
    from sordino_client.laboratory.field_benchmark.profile import PROFILES
    from sordino_client.laboratory.field_benchmark.report import show, summarise_field
    from sordino_platform import base

    chosen = PROFILES.get(profile)
    if chosen is None:
        raise UsageError(f"there is no profile {profile!r}", hint=f"choose one of: {', '.join(PROFILES)}")
    benchmark = FieldBenchmark(
        run.resolve(), cache, chosen, on_progress=lambda line: typer.echo(line, err=True)
    )
    facts = benchmark.finished() if as_it_stands else benchmark.run()
    card = base.card()
    report = summarise_field(facts, chosen, {key: card[key] for key in ("sha256", "size", "tokens_seen")})
    if picture is not None:
        draw_field(report, picture)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        for line in show(report):
            typer.echo(line)


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
