"""`sordino bench base`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sordino_client.laboratory.pretrain.launch import CacheOption
from sordino_platform.as_json import FiguresAsJson
from sordino_privacy.errors import UsageError


def base(
    run: Annotated[
        Path,
        typer.Option(
            "--run", metavar="DIR", help="The run's folder; what is measured there is not done again."
        ),
    ] = Path("sordino-bench-base"),
    tokens: Annotated[
        int, typer.Option("--tokens", min=20_000, help="Tokens that the base's own settings read.")
    ] = 3_000_000,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Measure this candidate; repeatable.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, max=64)] = 1,
    cache: CacheOption = None,
    as_json: FiguresAsJson = False,
) -> None:
    """Measures what the public base is made of: vocabularies, pre-tokenizations and sizes, at equal arithmetic.

    Each candidate learns its vocabulary and trains on the same sample of the public corpus, for as many
    multiply-adds as the base's own settings spend on --tokens, and is measured in bits per byte on public files
    that were kept back. Needs `sordino corpus fetch public`. About a quarter of an hour of one core for each
    candidate; it may be interrupted, and goes on where it stood.

    Example: sordino bench base --only 3.4m-8192-shipped --json
    """
    from sordino_client.laboratory.base_benchmark.candidates import CANDIDATES, REFERENCE
    from sordino_client.laboratory.base_benchmark.comparison import (
        Sample,
        measure_candidate,
        summarise_candidates,
    )
    from sordino_client.laboratory.pretrain.commands import user_cache

    known = {candidate.name: candidate for candidate in CANDIDATES}
    unknown = sorted(set(only or ()) - set(known))
    if unknown:
        raise UsageError(f"there is no candidate {unknown[0]!r}", hint=f"choose from: {', '.join(known)}")
    chosen = [c for c in CANDIDATES if not only or c.name in only or c == REFERENCE]
    sample = Sample.of_public_corpus(cache or user_cache())
    results = {
        candidate.name: measure_candidate(
            candidate,
            sample,
            run,
            reference_tokens=tokens,
            threads=threads,
            say=lambda line: typer.echo(line, err=True),
        )
        for candidate in chosen
    }
    report = {
        "reference": REFERENCE.name,
        "reference_tokens": tokens,
        "measured_bytes": sum(results[REFERENCE.name]["bytes"]),
        "candidates": summarise_candidates(results, REFERENCE.name),
    }
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"Equal arithmetic, {report['measured_bytes'] / 1e6:.2f} MB of public files kept back"
    )
    for heading in (
        "candidate",
        "parameters",
        "tokens",
        "bytes/token",
        "bits/byte",
        "against the base's own",
    ):
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    for name, row in report["candidates"].items():
        low, high = row["difference_ci"]
        table.add_row(
            name,
            f"{row['parameters'] / 1e6:.1f}M",
            f"{row['tokens'] / 1e6:.2f}M",
            f"{row['bytes_per_token']:.2f}",
            f"{row['bits_per_byte']:.3f}",
            f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
        )
    Console().print(table)
