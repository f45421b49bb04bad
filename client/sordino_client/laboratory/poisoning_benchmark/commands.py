"""`sordino bench poisoning`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sordino_platform.as_json import FiguresAsJson
from sordino_privacy.errors import UsageError


def poisoning(
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute: whether it works, not what it says.")
    ] = False,
    defence: Annotated[
        str, typer.Option("--defence", help="Only this one, by its name in the table; empty: all.")
    ] = "",
    as_json: FiguresAsJson = False,
) -> None:
    """Measures how often a backdoor of one lying member of eight works, round by round, under each defence.

    Honest members train on Python packages that are installed here, with differential privacy. About a quarter of an
    hour of one core.

    Example: sordino bench poisoning --defence norm --json
    """
    from sordino_client.laboratory.poisoning_benchmark.federation import DEFENCES, PoisonedFederation
    from sordino_client.laboratory.poisoning_benchmark.profile import PROFILES

    chosen = [one for one in DEFENCES if defence in ("", one.name)]
    if not chosen:
        raise UsageError(
            f"there is no defence {defence!r}", hint=f"choose one of: {', '.join(d.name for d in DEFENCES)}"
        )
    profile = PROFILES["quick" if quick else "full"]
    federation = PoisonedFederation(profile, on_progress=lambda line: typer.echo(line, err=True))
    runs = [federation.run(one, seed) for one in chosen for seed in range(profile.seeds)]
    if as_json:
        typer.echo(json.dumps({**federation.facts(), "runs": runs}))
    else:
        _show(runs)


def _show(runs: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Share of held-out prompts after which the backdoor is written, by round")
    for heading in ("defence", "seed", "times an honest limit", "0", "2", "4", "8", "12", "last", "refused"):
        table.add_column(heading, justify="left" if heading == "defence" else "right")
    for run in runs:
        success = run["success"]
        shown = [f"{success[at]:.0%}" if at < len(success) else "-" for at in (0, 2, 4, 8, 12)]
        table.add_row(
            run["defence"],
            str(run["seed"]),
            f"{run['times_an_honest_limit']:.2f}",
            *shown,
            f"{success[-1]:.0%}",
            str(run["rounds_refused"]),
        )
    Console().print(table)
