"""The command: planted credentials, real code and the installed peers in one run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from sordino_platform.as_json import FiguresAsJson


def secrets(
    code: Annotated[
        list[Path] | None,
        typer.Option(
            "--code", metavar="DIR", help="Real source code; repeatable [the packages of this Python]."
        ),
    ] = None,
    lines: Annotated[int, typer.Option(min=1000, help="Lines of real code to read.")] = 1_000_000,
    contexts: Annotated[int, typer.Option(min=1, help="Places for each kind in each language.")] = 3,
    seed: Annotated[int, typer.Option(help="Draws the values, the places and the files of real code.")] = 20,
    peers: Annotated[bool, typer.Option(help="Run other scanners that are on the PATH, too.")] = True,
    as_json: FiguresAsJson = False,
) -> None:
    """Measures the credential rules: what they miss, what they take wrongly, and how fast they are.

    Takes about a minute, and with peers some minutes more. A planted credential counts as caught when no eight
    characters of it in a row are left in what training and memory would read.

    Example: sordino bench secrets --json
    """
    from sordino_client.laboratory.secrets_benchmark import peers as others
    from sordino_client.laboratory.secrets_benchmark import realcode, recall
    from sordino_client.laboratory.secrets_benchmark.planted import plant, write

    real = realcode.sample(code or _installed(), lines=lines, seed=seed)
    planted = list(plant(seed=seed, contexts_per_pair=contexts))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve()
        write(planted, folder)
        caught = recall.read(planted, folder)
        found: dict[str, Any] = {"seed": seed} | recall.figures(planted, caught)
        found |= realcode.measure(real)
        found["peers"] = others.compare(planted, folder, real, caught=caught.files) if peers else {}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        typer.echo(f"{name:36} {value}")


def _installed() -> list[Path]:
    import sysconfig

    return [Path(sysconfig.get_paths()["purelib"])]
