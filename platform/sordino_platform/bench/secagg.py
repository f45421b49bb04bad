"""`sordino bench secagg`: see the package. Quote the ratios, not the milliseconds: machines are noisy."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
from typing import Any

import typer

from sordino_platform.bench import cells, crowd, whole
from sordino_platform.bench.timing import Row, row_with
from sordino_platform.machine.processors import load_average
from sordino_privacy.secagg.masks import CHUNK_BYTES

REPEATS = {"2.3m": 7, "22m": 5, "124m": 3}
WHOLE = {"2.3m": 5, "22m": 3}
"""Models at which a whole client and server are compared; at 124M Flower's client needs more than 8 GB."""


def secagg(
    as_json: bool = typer.Option(False, "--json", help="Print the figures and every measured row as JSON."),
) -> None:
    """Measures secure aggregation at 2.3, 22 and 124 million parameters, with Flower's SecAgg+ beside it (5 minutes).

    Example: sordino bench secagg --json
    """
    rows = measured()
    found = {**figures(rows), "machine": machine(), "rows": rows}
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in figures(rows).items():
        typer.echo(f"{name:44} {value}")
    typer.echo("\nms: median (lowest to highest) of all repeats, interleaved")
    for each in rows:
        if "median_ms" in each:
            typer.echo(line(each))


def measured() -> list[Row]:
    """Every row. Progress on stderr."""
    rows: list[Row] = []
    for size, parameters in cells.SIZES.items():
        say(f"{size}: masking, quantising, unmasking")
        repeats = REPEATS[size]
        rows += cells.masking(size, repeats) + cells.quantising(size, repeats) + cells.unmasking(size, 3)
        if size in WHOLE:
            say(f"{size}: a whole client and a whole server, beside Flower's")
            rows += whole.compared(size, parameters, WHOLE[size])
        rows += whole.memory(size, parameters, tuple(whole.PEERS) if size in WHOLE else ("sordino",))
    rows += cells.sharing(REPEATS["2.3m"])
    for members in (5, crowd.FEDERATION):
        say(f"2.3m: a round of {members} simulated members")
        rows.append(crowd.simulated(members, cells.SIZES["2.3m"], "2.3m"))
    rows += openssl()
    return rows


def figures(rows: list[Row]) -> dict[str, Any]:
    """The figures that the documentation states, each from rows of this run. Speedups are ratios of medians."""

    def per_neighbour(by: str, **labels: object) -> Row:
        return row_with(rows, by=by, what="mask per neighbour", size="22m", threads=1, **labels)

    flower, ours = per_neighbour("flower"), per_neighbour("sordino", ring_bits=32)
    stream = row_with(rows, what="AES-256-CTR stream", size="22m", ring_bits=32)

    def whole_of(by: str, what: str, threads: int = 1) -> Row:
        return row_with(rows, by=by, what=what, size="22m", threads=threads)

    def speedup(what: str, threads: int) -> float:
        return ratio(whole_of("flower", what), whole_of("sordino", what, threads))

    def round_of(members: int) -> Row:
        return row_with(rows, what="round of simulated members", members=members)

    return {
        "mask_speedup_vs_flower_22m_u32": ratio(flower, ours),
        # Processor time of one thread, so that other processes on a shared core do not count.
        "mask_fraction_of_aes_stream": round(stream["thread_median_ms"] / ours["thread_median_ms"], 3),
        # With the two threads that a member and a coordinator use; Flower's own code uses one.
        "client_speedup_vs_flower_n5_22m": speedup("whole client", 2),
        "client_speedup_vs_flower_n5_22m_one_thread": speedup("whole client", 1),
        "server_speedup_vs_flower_n5_22m": speedup("whole server", 2),
        "server_speedup_vs_flower_n5_22m_one_thread": speedup("whole server", 1),
        "upload_bytes_per_param_n5": whole_of("sordino", "whole client")["bytes_up_per_parameter"],
        "round_seconds_100_members_2m3": round_of(crowd.FEDERATION)["seconds"],
        "coordinator_rss_ratio_100_vs_5": round(
            round_of(crowd.FEDERATION)["coordinator_peak_mb"] / round_of(5)["coordinator_peak_mb"], 3
        ),
    }


def ratio(slower: Row, faster: Row) -> float:
    return round(float(slower["median_ms"]) / float(faster["median_ms"]), 3)


def openssl() -> list[Row]:
    """`openssl speed` of the same cipher, if that command is installed. It may be another build of OpenSSL than the one
    in `cryptography`."""
    command = ["openssl", "speed", "-evp", "aes-256-ctr", "-bytes", str(CHUNK_BYTES), "-seconds", "1"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    found = re.search(r"AES-256-CTR\s+([\d.]+)k", done.stdout, re.IGNORECASE)
    if found is None:
        return []
    speed = float(found[1]) * 1000
    return [
        {"by": "limit", "what": "openssl speed aes-256-ctr", "gigabytes_per_second": round(speed / 1e9, 2)}
    ]


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_average": round(load_average(), 2),
        "flwr": importlib.metadata.version("flwr"),
        "cryptography": importlib.metadata.version("cryptography"),
        "numpy": importlib.metadata.version("numpy"),
    }


def line(each: Row) -> str:
    """One row for a person."""
    labels = {
        name: each[name] for name in ("size", "members", "dropped", "ring_bits", "threads") if name in each
    }
    told = " ".join(f"{name}={value}" for name, value in labels.items())
    partly = each.get("masks_measured", 0) < each.get("masks", 0)
    note = f"  from {each['masks_measured']} of {each['masks']} masks" if partly else ""
    return (
        f"{each['by']:8} {each['what']:20} {told:58} "
        f"{each['median_ms']:10.2f} ({each['lowest_ms']:.2f} to {each['highest_ms']:.2f}){note}"
    )


def say(what: str) -> None:
    typer.echo(what, err=True)
