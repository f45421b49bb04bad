"""`sordino demo` and `sordino lab`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def lab(
    members: int = typer.Option(3, "--members", "-m", help="How many members, 3 to 5."),
    folder: Path = typer.Option(
        Path("sordino-lab"), "--folder", "-f", help="Where its files go; an older lab's are replaced."
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print its addresses and folders as one line, and nothing else."
    ),
) -> None:
    """Keeps a federation running on this machine for trying things, until Ctrl-C: members, coordinator, console.

    It trains on installed packages, a round every half minute. Every command of the guides works on its folders.

    Example: sordino lab --members 3 --folder lab --json
    """
    import signal

    from rich.console import Console

    from sordino_platform.demo import report, view
    from sordino_platform.demo.lab import Lab

    # A shell starts background jobs with Ctrl-C ignored; this command must clean up however it is ended.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    place = Lab(
        folder.resolve(),
        members=members,
        on_event=lambda event: None if as_json else view.narrate(console, event),
    )

    def tell(facts: dict[str, Any]) -> None:
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            report.print_addresses(console, facts)

    try:
        place.run(tell)
    except KeyboardInterrupt:  # the normal end
        return


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
    base: str = typer.Option(
        "shipped", help="The base to train adapters on; a larger one takes fewer units, and longer."
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print every figure as JSON on stdout, and the story on stderr."
    ),
) -> None:
    """Runs a whole federation on this machine: real processes, real TLS, real repositories, one member killed.

    Example: sordino demo --rounds 3 --prove --json > out.json


    Example: sordino demo --rounds 2 --base smollm2
    """
    from rich.console import Console

    from sordino_platform.demo.report import print_report
    from sordino_platform.demo.story import Demo

    console = Console(stderr=as_json)
    place = folder.resolve()
    facts = Demo(place, rounds=rounds, prove=prove, repositories=repo, console=console, base=base).run()
    print_report(console, facts)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    if facts["sum_exact"] is False:
        raise typer.Exit(1)
