"""`sordino client stats` and `sordino client memory`: the endpoint's counts, and its local memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from sordino_client.completion.unread import Gap
from sordino_platform.as_json import AsJson

STATE = typer.Option(None, "--state", envvar="SORDINO_COMPLETION_STATE", help="State folder of the endpoint.")
FOLDER = typer.Option(None, "--folder", "-f", help="The member's folder [~/.local/share/sordino].")
BAR = 30
DAYS = 14


def stats(folder: Path | None = FOLDER, state: Path | None = STATE, as_json: AsJson = False) -> None:
    """Shows what was shown, accepted and dismissed, how fast, and why there was no suggestion.

    These figures are counted on this machine and sent to nobody.

    Example: sordino client stats --json
    """
    from sordino_client.completion import statistics

    found = statistics.read(_place(folder, state) / "statistics.json")
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found["requests"]:
        typer.echo("nothing was completed on this machine yet")
        return
    console = Console()
    for name, value in (
        ("shown", f"{found['shown']:,}"),
        ("accepted", f"{found['accepted']:,} ({_percent(found['acceptance'])} of those shown)"),
        ("dismissed", f"{found['dismissed']:,}"),
        ("completed code", f"{_percent(found['completed_ratio'])} of the characters written"),
        ("latency", f"p50 {_ms(found, 50)}, p95 {_ms(found, 95)}, p99 {_ms(found, 99)}"),
    ):
        console.print(f"{name:16} {value}", highlight=False)
    _days(console, found["days"][-DAYS:])
    _reasons(console, found["reasons"])


def memory(
    folder: Path | None = FOLDER,
    state: Path | None = STATE,
    purge: bool = typer.Option(False, "--purge", help="Remove all that is remembered, now."),
    as_json: AsJson = False,
) -> None:
    """Shows the size of the local memory of your repositories, or removes it.

    It never leaves this machine. A running endpoint builds it again from the repositories that it was given; to have
    one forgotten for good, remove it from member.toml.

    Example: sordino client memory --purge
    """
    from sordino_client.completion import asking

    place = _place(folder, state)
    endpoint = asking.find_endpoint(place)
    if endpoint is not None:
        found: dict[str, Any] = endpoint.ask("DELETE" if purge else "GET", "/v1/memory")
    else:
        from dataclasses import asdict

        from sordino_client.completion.memory.store import Store

        store = Store(place / "memory")
        if purge:
            store.purge()
        found = asdict(store.status())
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"{found['files']:,} files, {found['tokens']:,} tokens, {found['bytes'] / 1e6:.1f} MB")
    for gap in found["unread"]:
        typer.echo(f"warning: {Gap(**gap)}")


def _place(folder: Path | None, state: Path | None) -> Path:
    from sordino_client.completion.complete_command import default_state

    return (folder / "completion" if folder else state or default_state()).expanduser().absolute()


def _days(console: Console, days: list[dict[str, Any]]) -> None:
    """A bar a day: accepted within shown."""
    table = Table("day", "shown", "accepted", "", box=None, pad_edge=False)
    most = max((day["shown"] for day in days), default=0)
    for day in days:
        shown, accepted = (round(BAR * day[name] / max(most, 1)) for name in ("shown", "accepted"))
        bar = f"[green]{'█' * accepted}[/green]{'░' * (shown - accepted)}"
        table.add_row(day["day"], f"{day['shown']:,}", f"{day['accepted']:,}", bar)
    console.print()
    console.print(table)


def _reasons(console: Console, reasons: dict[str, int]) -> None:
    """Why requests ended without anything to show."""
    from sordino_client.completion.reasons import EXPLANATION

    silent = {reason: count for reason, count in reasons.items() if reason != "shown"}
    if not silent:
        return
    console.print("\nwhy no suggestion")
    texts: dict[str, str] = {str(name): text for name, text in EXPLANATION.items()}
    for reason, count in sorted(silent.items(), key=lambda item: -item[1]):
        console.print(f"{count:8,}  {texts.get(reason, reason)}", highlight=False)


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{100 * ratio:.0f} %"


def _ms(found: dict[str, Any], share: int) -> str:
    value = found[f"latency_p{share}_ms"]
    return "–" if value is None else f"{value:.0f} ms"
