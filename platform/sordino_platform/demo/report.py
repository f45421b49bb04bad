"""The demo's final report: a table, a loss graph, and everything as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sordino_platform.progress import FederationProgress


def draw_losses(state: FederationProgress, newcomer: dict[str, Any] | None, target: Path) -> None:
    """The loss graph: held-out loss in nats per token over the releases. Beside it is the newcomer's gain from joining,
    on an axis from zero to the gain from the text of all members without any privacy."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = 1 if newcomer is None else 2
    figure, panels = plt.subplots(1, columns, figsize=(7 * columns, 4), layout="constrained", squeeze=False)
    axes = panels[0, 0]
    if newcomer is not None:
        _draw_gain(panels[0, 1], newcomer)
    numbers, losses = [number for number, _ in state.losses], [loss for _, loss in state.losses]
    axes.plot(numbers, losses, marker="o", color="#1f6f5c")
    for number, loss in state.losses:
        axes.annotate(
            f"{loss:.4f}", (number, loss), textcoords="offset points", xytext=(4, 7), ha="left", fontsize=8
        )
    axes.set_xticks(numbers, ["public base", *[f"release {n}" for n in numbers[1:]]])
    axes.set_ylabel("held-out loss (nats per token)")
    axes.set_title("sordino demo: one model, five companies, differential privacy, secure sums", fontsize=10)
    axes.margins(x=0.12, y=0.2)
    axes.grid(alpha=0.3)
    figure.savefig(target, dpi=120)
    plt.close(figure)


def _draw_gain(axes: Any, newcomer: dict[str, Any]) -> None:
    saved, ceiling = newcomer["saved"], newcomer["saved_by_the_text_of_all"]
    low, high = saved["ci"]
    error = [[max(0.0, saved["mean"] - low)], [max(0.0, high - saved["mean"])]]
    axes.bar(["after joining"], [saved["mean"]], yerr=error, color="#1f6f5c", width=0.4, capsize=4)
    axes.axhline(0, color="black", linewidth=1)
    axes.axhline(ceiling["mean"], color="black", linestyle="--", linewidth=1)
    axes.text(
        0,
        ceiling["mean"],
        "the text of all members in its memory, no privacy",
        fontsize=8,
        va="bottom",
        ha="center",
    )
    axes.set_xlim(-0.8, 0.8)
    axes.set_ylim(min(0.0, low) * 1.1, 1.15 * max(ceiling["mean"], high, 1e-3))
    axes.set_ylabel("bits per byte saved (95 % over files)")
    axes.set_title(f"{newcomer['name']}, a newcomer with {newcomer['files']} files", fontsize=10)
    axes.grid(alpha=0.3, axis="y")


def print_newcomer(console: Console, newcomer: dict[str, Any]) -> None:
    """Completions at the same cursors before and after joining, beside the text that the developers wrote."""
    table = Table(
        title=f"{newcomer['name']} joins with {newcomer['files']} files: the same cursors, before and after",
        title_justify="left",
    )
    for heading in ("typed", "they wrote", "before joining", "after joining"):
        table.add_column(heading, overflow="fold")
    for one in newcomer["lines"]:
        guesses = [
            Text(one[when] or "-", "green" if one[when] == one["truth"] else "")
            for when in ("before", "after")
        ]
        table.add_row(Text(one["typed"].strip()[-40:]), Text(one["truth"]), *guesses)
    console.print(table)
    low, high = newcomer["saved"]["ci"]
    console.print(
        f"bits per byte {newcomer['bits_before']:.4f} before, {newcomer['bits_after']:.4f} after: "
        f"{newcomer['saved']['mean']:+.4f} saved [{low:+.4f}, {high:+.4f}]; the text of all members would save "
        f"{newcomer['saved_by_the_text_of_all']['mean']:+.4f}"
    )


def print_addresses(console: Console, facts: dict[str, Any]) -> None:
    """The paths and addresses of a lab, and what can be tried."""
    hub = facts["coordinator"]
    console.print(f"console      {hub['console']}, token in {hub['console_token_file']}", soft_wrap=True)
    console.print(f"coordinator  {hub['address']}, {hub['folder']}", soft_wrap=True)
    console.print(f"root         {facts['root']}", soft_wrap=True)
    for one in facts["members"]:
        console.print(f"{one['name']:12} {one['endpoint']}, {one['folder']}", soft_wrap=True)
    console.print(f"try: sordino coordinator status --folder {hub['folder']}", soft_wrap=True)
    console.print(f"     sordino client ledger --folder {facts['members'][0]['folder']}", soft_wrap=True)
    console.print("Ctrl-C ends it and leaves no process behind.")


def print_report(console: Console, facts: dict[str, Any]) -> None:
    """The final table, for a reader who has not seen the run."""
    table = Table(title="What happened", title_justify="left", show_header=False)
    before, after = facts["heldout_loss_before"], facts["heldout_loss_after"]
    table.add_row("rounds completed", str(facts["rounds_completed"]))
    table.add_row("held-out loss", f"{before:.4f} before, {after:.4f} after, in nats per token")
    killed = f"{facts['member_killed_name']}, in round {facts['member_killed_round']}"
    went_on = "which completed without it" if facts["member_killed"] else "which did not go on without it"
    table.add_row("killed with SIGKILL", f"{killed}, {went_on}")
    table.add_row(
        "transport", f"{facts['transport']} (found by trial: a stranger's TLS connection gets nothing)"
    )
    traffic = facts["bytes"]
    table.add_row(
        "bytes on the link", f"{traffic['received']:,} to the coordinator, {traffic['sent']:,} from it"
    )
    if facts["sum_exact"] is not None:
        proven = "yes, every element of every opened sum" if facts["sum_exact"] else "NO"
        table.add_row("sums exact, by a third process", proven)
    if (memory := facts["shared_memory"]) is not None and memory["held"]:
        table.add_row(
            "shared memory",
            f"about {memory['phrases']} phrases, each counted {memory['threshold']:.0f} times or more",
        )
    table.add_row("wall time", f"{facts['seconds']:.0f} s")
    console.print(table)
    people = Table(title="Members", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("member", "organisation", "repositories"):
        people.add_column(heading, overflow="fold")
    for heading in ("files", "units", "epsilon"):
        people.add_column(heading, justify="right", no_wrap=True)
    for one in facts["member_details"]:
        spent = f"{one['epsilon']:.2f} of {one['budget']:g}"
        if (alone := one["epsilon_if_others_collude"]) > one["epsilon"]:
            spent += f"; {alone:.1f} if all others collude"
        counts = (str(one["files"]), str(one["units"]), spent)
        people.add_row(one["name"], one["organisation"], "\n".join(one["repositories"]), *counts)
    console.print(people)
    phases = Table(title="Seconds per phase, all rounds", title_justify="left")
    for name in facts["phase_seconds"]:
        phases.add_column(name, justify="right")
    phases.add_row(*[f"{value:.2f}" for value in facts["phase_seconds"].values()])
    console.print(phases)
    for one in facts["completions"]:
        code = Text(one["prompt_tail"]) + Text(one["text"], "bold green")
        title = f"completion at {one['member']}, model {one['model']}, {one['milliseconds']:.0f} ms"
        console.print(Panel(code, title=title, title_align="left"))
    if facts["newcomer"] is not None:
        print_newcomer(console, facts["newcomer"])
    graph = Path(facts["loss_graph"])
    here = graph.relative_to(Path.cwd()) if graph.is_relative_to(Path.cwd()) else graph
    console.print(f"loss graph: {here}")
