"""`python -m sordino_client.laboratory.plan_search --run DIR`: searches the plan with the largest gain at a fixed
epsilon.

Needs `sordino corpus fetch field` and `field-tuning`. A trial takes one or two minutes on one core. Trials are saved in
the run's folder, and an interrupted search continues after the last one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import typer

from sordino_client.laboratory.plan_search.proxies import Proxies
from sordino_client.laboratory.plan_search.search import DIMENSIONS, QUICK, Search
from sordino_client.laboratory.plan_search.trial import Candidate, Setting
from sordino_client.laboratory.pretrain.commands import user_cache


def main(arguments: list[str] | None = None) -> None:
    """Searches, and prints the trials as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m sordino_client.laboratory.plan_search", description=__doc__
    )
    parser.add_argument("--run", type=Path, required=True, help="the search's folder")
    parser.add_argument("--cache", type=Path, default=user_cache(), help="where corpora are kept")
    parser.add_argument("--epsilon", type=float, default=8.0, help="of the whole federation")
    parser.add_argument("--clusters", type=int, default=7500, help="of all members together")
    parser.add_argument("--quick", action="store_true", help="two trials of two rounds: whether it works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    search = Search(
        folder=options.run.resolve(),
        proxies=Proxies.read(options.cache),
        setting=Setting(epsilon=options.epsilon, clusters=options.clusters),
        on_progress=lambda line: typer.echo(line, err=True),
    )
    start = Candidate(rounds=2) if options.quick else Candidate()
    report = search.run(start, QUICK if options.quick else DIMENSIONS)
    typer.echo(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
