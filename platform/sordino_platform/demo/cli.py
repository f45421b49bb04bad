"""`sordino demo`."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def demo(
    rounds: int = typer.Option(3, "--rounds", "-r", help="How many rounds, 2 to 100."),
    repo: list[Path] = typer.Option(
        [], "--repo", help="A repository of yours; repeat, at least once per member (5)."
    ),
    folder: Path = typer.Option(Path("sordino-demo"), "--folder", "-f", help="Where the demo's files go."),
    prove: bool = typer.Option(
        False,
        "--prove",
        help="Members keep their updates in clear on this machine, and a third process adds them up.",
    ),
    json_file: Path | None = typer.Option(None, "--json", help="Write every figure to this file."),
) -> None:
    """Runs a whole federation on this machine: real processes, real TLS, real repositories, one member killed.

    Example: sordino demo --rounds 3 --prove --json out.json
    """
    from rich.console import Console

    from sordino_platform.demo.report import print_report
    from sordino_platform.demo.story import Demo
    from sordino_platform.durable import write_file

    console = Console()
    place = folder.resolve()
    facts = Demo(place, rounds=rounds, prove=prove, repositories=repo, console=console).run()
    print_report(console, facts)
    if json_file is not None:
        write_file(json_file, json.dumps(facts, indent=1).encode())
        console.print(f"figures: {json_file}")
    if facts["sum_exact"] is False:
        raise typer.Exit(1)
