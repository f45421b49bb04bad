"""The live view: on a terminal one screen that redraws, otherwise one line per event."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sordino_platform.demo.cast import PARTIES
from sordino_platform.progress import FederationProgress, sentence

# fmt: off
NARRATED = frozenset({
    "console", "listening", "member_connected", "member_disconnected", "round_started", "phase_started",
    "member_dropped", "round_finished",
})
# fmt: on
PHASES = ("train", "share_keys", "masked_input", "survivors", "unmask", "result")


def screen(state: FederationProgress, *, doing: str, started: float, rounds: int, budget: float) -> Panel:
    """The whole screen as a renderable."""
    return Panel(
        Group(members_table(state, budget), rounds_table(state), *console_line(state)),
        title=f"sordino demo: {len(PARTIES)} companies, one model, nobody's code leaves",
        subtitle=f"{doing} · {state.completed} of {rounds} rounds · {time.monotonic() - started:.0f} s",
        padding=(0, 1),
    )


def console_line(state: FederationProgress) -> list[Text]:
    """The address of the operator's console, once it is served."""
    said = sentence({"event": "console", "address": state.console}) if state.console else None
    return [Text(said, "dim")] if said else []


def members_table(state: FederationProgress, budget: float) -> Table:
    """The members, the step of each in the present round, and the privacy that each has spent."""
    table = Table(expand=True, box=None, pad_edge=False)
    for heading in ("member", "organisation", "link"):
        table.add_column(heading)
    table.add_column("train · share keys · masked input · survivors · unmask · result", ratio=1)
    table.add_column("epsilon", justify="right")
    now = state.current
    for name, organisation in PARTIES:
        link = Text("connected", "green") if name in state.connected else Text("away", "yellow")
        if state.killed == name and name not in state.connected:
            link = Text("killed (SIGKILL)", "red")
        steps = Text()
        for phase in PHASES if now is not None else ():
            done = now is not None and name in now.answered.get(phase, ())
            steps.append("■ " if done else "· ", "green" if done else "dim")
        if now is not None and name in now.dropped:
            steps.append(
                "killed; back for the next round" if name == state.killed else now.dropped[name], "red"
            )
        spent = f"{state.epsilon[name]:.2f} of {budget:g}" if name in state.epsilon else "-"
        table.add_row(name, organisation, link, steps, spent)
    return table


def rounds_table(state: FederationProgress) -> Table:
    """The rounds so far."""
    table = Table(expand=True, box=None, pad_edge=False, title="rounds", title_justify="left")
    for heading in ("round", "phase", "members in the sum", "held-out loss", "seconds"):
        table.add_column(heading, justify="right" if heading in ("held-out loss", "seconds") else "left")
    if state.losses:
        table.add_row("-", "public base", "", f"{state.losses[0][1]:.4f}", "")
    for one in list(state.rounds.values())[-12:]:
        running = one.outcome == "running"
        table.add_row(
            str(one.number),
            one.phase if running else one.outcome,
            "" if running else ", ".join(one.members),
            "-" if one.loss is None else f"{one.loss:.4f}",
            "" if running else f"{one.seconds:.1f}",
        )
    return table


def narrate(console: Console, event: dict[str, object]) -> None:
    """One plain line for an event that a person should see, for logs and pipes."""
    if event.get("event") in NARRATED and (said := sentence(event)):
        console.print(said, highlight=False)
