"""The command: runs every part in turn and gives one flat document of figures."""

from __future__ import annotations

import json
import os
from typing import Any

import typer

from sordino_client.laboratory.completion_benchmark import drafts, peers, precision
from sordino_client.laboratory.completion_benchmark.endpoint import measure_endpoint
from sordino_platform.as_json import FiguresAsJson
from sordino_platform.machine.processors import load_average

SIZES_MEASURED = ("2.3m", "22m")
# Figures of the process that matters most: the larger model as it is served.
WHOLE_PROCESS = ("serving_rss_mb", "idle_cpu_percent")


def completion(
    of_base: str | None = typer.Option(
        None,
        "--base",
        help="Measure this base instead (`sordino base list`), beside llama.cpp on its weights.",
    ),
    as_json: FiguresAsJson = False,
    stress: bool = typer.Option(
        False, "--stress", help="Also send 1,000 requests, 20 at once (about a minute)."
    ),
) -> None:
    """Measures the completion endpoint: latency, memory, idle cost, and torch and llama.cpp beside it.

    Takes about three minutes. Milliseconds unless a name says otherwise; a ratio above 1 is in our favour, but for
    `token_ratio_vs_llamacpp` of a base, which is our time over llama.cpp's.

    Example: sordino bench completion --base smollm2 --json
    """
    if of_base is not None:
        from sordino_client.laboratory.completion_benchmark.base import measure_base

        _print(measure_base(of_base), as_json=as_json)
        return
    found: dict[str, Any] = {"cores": os.cpu_count(), "load_average": round(load_average(), 2)}
    for size in SIZES_MEASURED:
        name = size.replace(".", "_")
        served = measure_endpoint(size, "int8", stress=stress and size == "22m")
        whole = {key: served.pop(key) for key in WHOLE_PROCESS}
        found |= whole if size == "22m" else {f"{key}_{name}": value for key, value in whole.items()}
        found |= {f"{key}_{name}": value for key, value in served.items()}
        exact = measure_endpoint(size, "float32", stress=False)
        found |= {f"{key}_float32_{name}": value for key, value in exact.items() if key.endswith("_ms")}
        found |= {f"{key}_{name}": value for key, value in drafts.lines(size).items()}
    found |= peers.torch_eager("22m", ours=found["token_ms_22m"], ours_cold=found["cold512_ms_22m"])
    found |= peers.llamacpp("22m", ours=found["token_ms_22m"], ours_cold=found["cold512_ms_22m"])
    found |= precision.compare()
    found |= drafts.index()
    _print(found, as_json=as_json)


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        typer.echo(f"{name:36} {value}")
