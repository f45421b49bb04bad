"""`sordino bench crowd`: see the package. Quote the ratios, not the seconds: machines are noisy."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import typer

from sordino_coordinator.crowd_benchmark.course import Course, Row, rounded
from sordino_coordinator.crowd_benchmark.place import SIZES, founded
from sordino_platform.bench import whole
from sordino_platform.bench.cells import masks
from sordino_platform.bench.timing import interleaved, row_with
from sordino_platform.charter import FloorTerms
from sordino_platform.machine.memory import resident
from sordino_platform.machine.processors import load_average
from sordino_privacy.errors import UsageError
from sordino_privacy.secagg.graph import thresholds
from sordino_privacy.secagg.masks import apply

FEW: Final = 5
LEAVING: Final = ("share_keys", "masked_input", "muster", "sound", "survivors", "unmask")
SHARE: Final = 1 / 3
"""Of the members, how many leave at each phase in turn. The charter of the crowd allows 400 of 1,000."""
IDLE_SECONDS: Final = 30.0
PLAIN_FLOORS: Final = FloorTerms()
MASKED: Final = 2_300_000
SERVED: Final = 22_000_000


def crowd(
    members: int = typer.Option(1000, min=FEW, max=10_000, help="Members of the large federation."),
    size: list[str] = typer.Option(list(SIZES), help="Models, 25k or 2.2m; repeat."),
    place: Path | None = typer.Option(
        None, help="Keep the federations in this folder: the next run need not found them anew."
    ),
    dropouts: bool = typer.Option(True, help="Also a round with a third leaving, at each phase in turn."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures and every row as JSON."),
) -> None:
    """Measures a federation of many: `sordino coordinator up`, real links with mutual TLS, real protocol sessions.

    A thousand members share this machine with their coordinator, so their seconds are those of all of them together on
    its cores. Members do not train. Founding a thousand takes about three minutes, a round of 2.2m needs 12 GB of disk.

    Example: sordino bench crowd --members 100 --size 25k --json
    """
    if unknown := set(size) - set(SIZES):
        raise UsageError(
            f"there is no size {', '.join(sorted(unknown))}", hint=f"choose of {', '.join(SIZES)}"
        )
    with tempfile.TemporaryDirectory(prefix="sordino-crowd-") as own:
        rows = measured(place or Path(own), members=members, sizes=size, dropouts=dropouts)
    found = {**figures(rows, members=members), "machine": machine(), "rows": rows}
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        if name not in ("rows", "machine"):
            typer.echo(f"{name:36} {'not measured' if value is None else value}")
    for row in rows:
        typer.echo(json.dumps(row))


def measured(place: Path, *, members: int, sizes: list[str], dropouts: bool) -> list[Row]:
    """Every row. Progress on stderr."""
    rows: list[Row] = []
    for size in sizes:
        for count in (FEW, members):
            say(f"{size}: a federation of {count}")
            with Course(founded(place / f"{count}-{size}", members=count, size=size)) as course:
                course.start()
                alone = resident(course.pid) / 1e6
                labels = {"size": size, "members": count}
                rows.append({"what": "connect", **labels, "seconds": rounded(course.connect())})
                percent = course.idle_percent(IDLE_SECONDS)
                rows.append({"what": "idle", **labels, "core_percent": rounded(percent)})
                standing = resident(course.pid) / 1e6
                rows.append(
                    {"what": "streams", **labels, "mb": rounded(standing), "mb_without": rounded(alone)}
                )
                rows.append({"what": "round", "size": size, **course.round()})
                if size == next(iter(SIZES)) and count == members:
                    for phase in LEAVING if dropouts else ():
                        say(f"{size}: {SHARE:.0%} of {count} leave at {phase}")
                        rows.append(
                            {"what": "round", "size": size, **course.round(leaving=phase, share=SHARE)}
                        )
                        course.connect()
                    say(f"{size}: the coordinator is killed; {count} come back")
                    rows.append({"what": "storm", **labels, "seconds": rounded(course.storm())})
    say("a member's masks, and opening a sum beside Flower's functions")
    rows.append(masking())
    rows += whole.compared("22m", SERVED, 3)
    return rows


def masking() -> Row:
    """A member's masks of one round in a federation of 256 and of 1,000: what the graph's degree makes of them."""
    vector, degrees = np.zeros(MASKED, np.uint32), {}
    for members in (256, 1000):
        corrupt = PLAIN_FLOORS.gamma_permille * members // 1000
        share = Fraction(PLAIN_FLOORS.dropout_permille, 1000)
        found = thresholds(members, corrupt=corrupt, honest=PLAIN_FLOORS.honest, dropouts=share)
        degrees[members] = found.degree
    cells = {str(members): masks(degree + 1) for members, degree in degrees.items()}
    taken = interleaved({name: partial(apply, vector, cell) for name, cell in cells.items()}, repeats=3)
    median = {name: statistics.median(took.thread for took in each) for name, each in taken.items()}
    return {
        "what": "masks of a round",
        "degree_256": degrees[256],
        "degree_1000": degrees[1000],
        "ratio": rounded(median["1000"] / median["256"]),
    }


def figures(rows: list[Row], *, members: int) -> dict[str, Any]:
    """The promised figures, each from rows of this run; None for a figure that was not measured."""

    def of(what: str, name: str, **labels: object) -> Any:
        found = [row for row in rows if row.get("what") == what and labels.items() <= row.items()]
        return found[0][name] if found else None

    def server(by: str, threads: int) -> float:
        return float(row_with(rows, by=by, what="whole server", size="22m", threads=threads)["median_ms"])

    small, large = SIZES
    streams = [row for row in rows if row["what"] == "streams" and row["members"] == members]
    first = streams[0] if streams else None
    whole_peak = of("round", "coordinator_peak_mb", size=large, members=members, leaving_at=None)
    few_peak = of("round", "coordinator_peak_mb", size=large, members=FEW, leaving_at=None)
    return {
        "members": members,
        "round_seconds_1000_25k": of("round", "seconds", size=small, members=members, leaving_at=None),
        "round_seconds_1000_2m3": of("round", "seconds", size=large, members=members, leaving_at=None),
        "coordinator_rss_mb_1000": whole_peak,
        "coordinator_rss_mb_5": few_peak,
        "rss_kb_per_stream": rounded(1000 * (first["mb"] - first["mb_without"]) / members) if first else None,
        "idle_core_percent_1000": of("idle", "core_percent", members=members),
        "reconnect_seconds_1000": of("storm", "seconds", members=members),
        "mask_ratio_1000_vs_256": of("masks of a round", "ratio"),
        "server_speedup_vs_flower_n5_22m": rounded(server("flower", 1) / server("sordino", 2)),
    }


def machine() -> dict[str, Any]:
    """What the seconds were measured on."""
    return {"cores": os.cpu_count(), "load_average": rounded(load_average()), "at": int(time.time())}


def say(what: str) -> None:
    """Progress."""
    typer.echo(what, err=True)
