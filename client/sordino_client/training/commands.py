"""`sordino train`: stand-alone training on your own repositories, with a live loss graph. Light to import."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sordino_privacy.errors import UsageError

if TYPE_CHECKING:
    from sordino_client.training.standalone import Report, Standalone

INTERRUPTED = 130
_BARS = " ▁▂▃▄▅▆▇█"
_ROWS, _COLUMNS = 8, 72


def train(
    repo: list[Path] = typer.Option([], "--repo", help="A repository to train on; repeat."),
    base: str | None = typer.Option(
        None,
        "--base",
        metavar="NAME",
        help="Train adapters on this base (`sordino base list`, a folder, a .gguf file), not a model of our own.",
    ),
    size: str | None = typer.Option(None, help="2.3m, 3.4m or 22m parameters, without --base [22m]."),
    run: Path = typer.Option(Path("sordino-run"), help="The run's folder. One that holds a run is resumed."),
    start: str | None = typer.Option(
        None, help="'scratch', or 'base': the public base that ships (its size only) [scratch]."
    ),
    rank: int | None = typer.Option(None, help="With --base: the rank of the adapters, 1 to 64 [8]."),
    device: str | None = typer.Option(None, help="With --base: auto, cpu, cuda or mps [auto]."),
    memory_gb: float | None = typer.Option(
        None, min=1, max=1024, help="With --base: the memory that training may use, in GiB [6]."
    ),
    tokens: int = typer.Option(2_000_000, help="Length of the run, in tokens."),
    threads: int = typer.Option(os.cpu_count() or 2, help="Processor threads to use."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON on stdout."),
) -> None:
    """Trains a completion model on your own repositories, without privacy and without a federation.

    Ctrl-C writes a checkpoint; the same command goes on from it. The loss graph is RUN/loss.png, the model
    RUN/serving.

    Example: sordino train --repo ~/work/billing --size 22m

    Example: sordino train --repo ~/work/billing --base smollm2 --tokens 200000
    """
    _require_suited(
        base,
        own={"--size": size, "--start": start},
        on_base={"--rank": rank, "--device": device, "--memory-gb": memory_gb},
    )
    from sordino_client.training.child import bound_process
    from sordino_client.training.on_base import Means
    from sordino_client.training.standalone import Standalone
    from sordino_client.training.subjects import AdaptedSettings, StandaloneSettings

    settings: StandaloneSettings | AdaptedSettings
    means = Means()
    if base is None:
        settings = StandaloneSettings(size=(size or "22m").lower(), start=start or "scratch", tokens=tokens)
    else:
        means = Means(memory=int((memory_gb or 6) * (1 << 30)), device=device or "auto")
        settings = AdaptedSettings.of(base, rank=rank or 8, tokens=tokens)
        bound_process(means.memory, means.device)
    session = Standalone(run, [path.expanduser() for path in repo], settings, threads=threads, means=means)
    resumed = session.progress.steps
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: session.stop())
    if sys.stderr.isatty():
        _run_live(session)
    else:
        session.run(lambda report: typer.echo(line(report), err=True))
    result = {
        "run": str(run.resolve()),
        "size": None if isinstance(settings, AdaptedSettings) else settings.size,
        "base": settings.base if isinstance(settings, AdaptedSettings) else None,
        "parameters": session.parameters,
        "finished": session.finished,
        "resumed_at_step": resumed,
        "steps": session.progress.steps,
        "tokens": session.progress.tokens,
        "tokens_per_cpu_second": session.progress.tokens / max(session.progress.cpu_seconds, 1e-9),
        "heldout_loss_before": session.heldout[0],
        "heldout_loss_after": session.heldout[-1],
        "graph": str((run / "loss.png").resolve()),
        "serving": str((run / "serving").resolve()),
    }
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(
            f"held-out loss {session.heldout[0]:.3f} -> {session.heldout[-1]:.3f} nats per token, measured after "
            f"{session.progress.steps} steps and {session.progress.tokens:,} of {settings.tokens:,} tokens; "
            f"graph {result['graph']}; model {result['serving']}"
        )
    if not session.finished:
        typer.echo("interrupted: run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED)


def _require_suited(base: str | None, *, own: Mapping[str, object], on_base: Mapping[str, object]) -> None:
    """Raises UsageError for an option of the other kind of run."""
    strangers = [name for name, value in (own if base is not None else on_base).items() if value is not None]
    if strangers:
        raise UsageError(
            f"{strangers[0]} {'does not go with' if base is not None else 'needs'} --base",
            hint="a base brings its own size; a model of our own has no adapters",
        )


def line(report: Report) -> str:
    """One report in one line."""
    share = 100 * report.tokens / report.of_tokens
    return (
        f"step {report.steps}  {share:.0f} %  loss {report.loss:.3f}  held out {report.heldout:.3f}  "
        f"{report.tokens_per_second:,.0f} tokens/s  {clock(report.seconds_left)} left"
    )


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def graph(losses: Sequence[float], *, rows: int = _ROWS, columns: int = _COLUMNS) -> list[str]:
    """A curve in block characters, oldest on the left: `rows` lines, each labelled with its loss."""
    if not losses:
        return []
    columns = min(columns, len(losses))
    edges = [len(losses) * column // columns for column in range(columns + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (rows * 8 - 1) / (high - low) if high > low else 0.0
    heights = [1 + round((mean - low) * scale) for mean in means]
    lines = []
    for row in reversed(range(rows)):
        label = low + (row + 1) * (high - low) / rows
        lines.append(
            f"{label:6.2f} ┤" + "".join(_BARS[min(8, max(0, height - 8 * row))] for height in heights)
        )
    return lines


def _run_live(session: Standalone) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    losses: list[float] = []
    with Live(Text("reading and measuring ..."), console=Console(stderr=True), auto_refresh=False) as live:

        def show(report: Report) -> None:
            losses.append(report.loss)
            done = round(_COLUMNS * min(1.0, report.tokens / report.of_tokens))
            bar = "━" * done + "╌" * (_COLUMNS - done)
            live.update(
                Text("\n".join([*graph(losses), f"        {bar}", f"        {line(report)}"])), refresh=True
            )

        session.run(show)
