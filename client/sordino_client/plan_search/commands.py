"""`sordino bench plans`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def plans(
    run: Annotated[
        Path, typer.Option("--run", metavar="DIR", help="The search's folder; what was tried there is kept.")
    ] = Path("sordino-bench-plans"),
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Where corpora are kept.", show_default="user cache"),
    ] = None,
    epsilon: Annotated[float, typer.Option("--epsilon", min=0.1, help="Of the whole federation.")] = 8.0,
    clusters: Annotated[int, typer.Option("--clusters", min=100, help="Of all members together.")] = 7500,
    quick: Annotated[bool, typer.Option("--quick", help="Two trials: whether it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the trials as JSON on stdout.")] = False,
) -> None:
    """Searches the plan that brings a federation the most at a fixed epsilon, on public projects and nothing else.

    Needs `sordino corpus fetch field` and `field-tuning`. About a minute of one core a trial.

    Example: sordino bench plans --run ~/plans --json
    """
    import torch

    from sordino_client.plan_search.proxies import Proxies
    from sordino_client.plan_search.search import DIMENSIONS, QUICK, Search
    from sordino_client.plan_search.trial import Candidate, Setting
    from sordino_client.pretrain.commands import user_cache

    torch.set_num_threads(1)
    search = Search(
        folder=run.resolve(),
        proxies=Proxies.read(cache or user_cache()),
        setting=Setting(epsilon=epsilon, clusters=clusters),
        on_progress=lambda line: typer.echo(line, err=True),
    )
    start = Candidate(rounds=2) if quick else Candidate()
    report = search.run(start, QUICK if quick else DIMENSIONS)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
        return
    for line in report["trials"]:
        typer.echo(f"{line['gain']:+.4f}  {line['what']}: {json.dumps(line['candidate'])}")
