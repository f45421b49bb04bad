"""`sordino client`: join, up, status, ledger, adapt, corpus, audit, stats, memory, shared, taken."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from sordino_client.completion.commands import memory, stats
from sordino_client.completion.taking.command import taken
from sordino_client.corpus.commands import corpus
from sordino_client.shared import shared
from sordino_client.training.audit import audit
from sordino_platform.as_json import AsJson
from sordino_platform.settings import default_folder

app = typer.Typer(help="A member's machine.", no_args_is_help=True, rich_markup_mode=None)
app.command("corpus")(corpus)
app.command("audit")(audit)
app.command("stats")(stats)
app.command("memory")(memory)
app.command("shared")(shared)
app.command("taken")(taken)


FOLDER = typer.Option(None, "--folder", "-f", help="The member's folder [~/.local/share/sordino].")


@app.command()
def join(
    coordinator: str = typer.Option(..., help="Where the coordinator listens, as HOST:PORT."),
    repo: list[Path] = typer.Option(
        ..., "--repo", help="A repository to train on and complete from; repeat."
    ),
    folder: Path | None = FOLDER,
    budget: float = typer.Option(8.0, help="Never spend more local epsilon than this."),
) -> None:
    """Writes member.toml for an identity that is enrolled (see `sordino identity --help`).

    Example: sordino client join --coordinator fl.example.org:9443 --repo ~/work/billing --repo ~/work/ledger
    """
    from sordino_client.settings import FILE, MemberSettings, member_settings_text
    from sordino_client.training.base_here import base_of
    from sordino_platform.durable import write_file
    from sordino_platform.identity import Identity
    from sordino_platform.link.address import require_address
    from sordino_platform.settings import parse_settings
    from sordino_privacy.errors import ConfigurationError, DataError

    require_address(coordinator, option="--coordinator")
    place = folder or default_folder()
    identity = Identity.load(place)
    for path in repo:
        if not path.expanduser().is_dir():
            raise DataError(f"{path} is not a folder", hint="give the top folder of a repository")
    asked: dict[str, object] = {
        "name": identity.card.name,
        "coordinator": coordinator,
        "repositories": [path.expanduser().resolve() for path in repo],
        "budget_epsilon": budget,
    }
    settings = parse_settings(asked, MemberSettings, where="client join")
    write_file(place / FILE, member_settings_text(settings).encode(), secret=True, replace=False)
    try:
        base_of(settings, identity.charter.model)
    except ConfigurationError as error:
        typer.echo(f"before it can run: {error.message}; {error.hint}")
    typer.echo(f"wrote {place / FILE}; now: sordino client up --folder {place}")


@app.command()
def up(folder: Path | None = FOLDER) -> None:
    """Runs the member: link, training, completions. Ends on SIGTERM or Ctrl-C.

    Example: sordino client up --folder ~/.local/share/sordino
    """
    from sordino_client.agent.up import run_agent as run

    run(folder or default_folder())


@app.command()
def status(folder: Path | None = FOLDER, as_json: AsJson = False) -> None:
    """Shows what the agent does, its release, its budget and where it serves completions.

    Example: sordino client status --json
    """
    from sordino_client.status import read_agent_status

    facts = read_agent_status(folder or default_folder())
    if as_json:
        typer.echo(json.dumps(facts))
        return
    if "release" in facts and facts["release"] is None:
        facts["release"] = "none yet: the first one comes with the first round"
    for name, value in facts.items():
        if value not in ("", None, []):
            typer.echo(f"{name.replace('_', ' '):20} {value}")


ledger_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(ledger_app, name="ledger")


@ledger_app.callback()
def ledger(
    context: typer.Context,
    folder: Path | None = FOLDER,
    picture: Path | None = typer.Option(None, help="Draw what was spent, round by round, as a PNG."),
    author: list[int] = typer.Option(
        [], help="Also the epsilon of a person who wrote this many file clusters; repeat. Takes seconds."
    ),
    as_json: AsJson = False,
) -> None:
    """Shows what privacy was spent, on which rounds, what one more round would cost, and what is left.

    Example: sordino client ledger --picture ledger.png --author 8
    """
    if context.invoked_subcommand is not None:
        return
    from sordino_client.status import draw_ledger, read_ledger

    facts = read_ledger(folder or default_folder(), authors=author)
    if picture is not None:
        draw_ledger(picture, facts)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    table = Table("run", "round", "sampling rate", "noise multiplier", "steps", "epsilon after", "uploaded")
    for row in facts["rounds"]:
        table.add_row(
            row["run"][:8],
            str(row["round"]),
            f"{row['sampling_rate']:g}",
            f"{row['noise_multiplier']:g}",
            str(row["steps"]),
            f"{row['epsilon_after']:.2f}",
            "yes" if row["committed"] else "no; given back if nothing left",
        )
    Console().print(table)
    shared = facts["scope"] != "local"
    typer.echo(
        f"{'' if shared else 'local '}epsilon spent {facts['epsilon_spent']:.2f} of {facts['epsilon_budget']:.2f} "
        f"at delta {facts['delta']:g}; left {facts['epsilon_left']:.2f}"
        f"{': as long as the federation keeps its honest floor' if shared else ''}"
    )
    if shared:
        typer.echo(
            f"if all others collude with the coordinator: epsilon {facts['epsilon_if_others_collude']:.2f} of "
            f"{facts['epsilon_if_others_collude_budget']:g} that you agreed to"
        )
    if facts["planned"] is not None:
        typer.echo(
            f"one more round like the last: epsilon {facts['planned']['epsilon_of_the_round']:.2f}; "
            f"{facts['planned']['rounds_left']} such rounds left"
        )
    typer.echo("of one file cluster (near-duplicate files together); a window of tokens has the same bound")
    if facts["merged_clusters"] > 1:
        typer.echo(
            f"of {facts['merged_clusters']} clusters that were joined after they were trained on (no more since): "
            f"epsilon {facts['epsilon_of_merged']:.2f}"
        )
    for clusters, value in facts["epsilon_of_an_author"].items():
        typer.echo(f"of a person who wrote {clusters} file clusters: epsilon {value:.2f}")


@ledger_app.command()
def recover(folder: Path | None = FOLDER, as_json: AsJson = False) -> None:
    """Charges what a ledger lost that was restored, deleted or copied, in the worst case; then the member may train on.

    Rounds that this machine still knows are charged as they were; others at the worst that the charter allows. Run it
    only when sordino asks for it. An agent that refuses the ledger need not be stopped: it takes part again by itself
    afterwards.

    Example: sordino client ledger recover --folder ~/.local/share/sordino
    """
    from dataclasses import asdict

    from sordino_client.recovery import recover as run

    done = run(folder or default_folder())
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(
        f"charged anew: {done.known} rounds as this machine knew them, {done.named} that releases name and "
        f"{done.counted} that a witness counted, these at the worst that the charter allows"
    )
    if done.if_others_collude_after == done.after:
        typer.echo(f"local epsilon {done.before:.2f} -> {done.after:.2f} of {done.budget:.2f}")
    else:
        typer.echo(
            f"epsilon {done.before:.2f} -> {done.after:.2f} of {done.budget:.2f} as the federation holds; "
            f"{done.if_others_collude_before:.2f} -> {done.if_others_collude_after:.2f} if all others collude"
        )
    if done.after >= done.budget:
        typer.echo("the budget is spent: this member takes no part any more; completions go on")


@app.command()
def adapt(
    folder: Path | None = FOLDER,
    rank: int = typer.Option(8, help="Rank of the adapter, 1 to 64."),
    steps: int = typer.Option(300, help="Steps of each of three trainings, of 8 windows each."),
    remove: bool = typer.Option(
        False, "--remove", help="Delete the adapter; completions use the release again."
    ),
    as_json: AsJson = False,
) -> None:
    """Trains a personal adapter on your own code, without noise. It never leaves this machine: only the completion
    engine of this member reads it. It is trained with several pulls towards the release, from none to a strong one;
    files of yours that none of them saw choose. Kept only if it predicts these better than the release does. A second
    one is trained on the model that releases begin with: `sordino client taken` says how much of each is served.

    Example: sordino client adapt --steps 500
    """
    from sordino_client.training.adapting import adapt_member, remove_adapter

    place = folder or default_folder()
    if remove:
        typer.echo("removed" if remove_adapter(place) else "there is no personal adapter")
        return
    facts = adapt_member(place, rank=rank, steps=steps, on_step=_progress())
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for one in (facts, facts["alone"]):
        if one is None:
            continue
        kept = "kept, for completions on this machine only" if one["kept"] else "not kept: it does not help"
        typer.echo(
            f"held-out loss {one['before']:.3f} -> {one['after']:.3f} nats per token on {one['release']}, "
            f"with a pull of {one['pull']:g} towards it; {kept}"
        )


def _progress() -> Callable[[int, int], None]:
    """Says on stderr how far a training is, with its rate and the time left."""
    started = time.monotonic()

    def say(step: int, steps: int) -> None:
        if step % 20 == 0 or step == steps:
            rate = step / max(time.monotonic() - started, 1e-9)
            left = (steps - step) / rate
            typer.echo(f"step {step} of {steps}, {rate:.1f} steps/s, {left:.0f} s left", err=True)

    return say


@app.command()
def installed(
    shares: int = typer.Option(5, min=1, max=100, help="Into how many shares of about equal size."),
    share_bytes: int = typer.Option(
        4_500_000, min=100_000, help="About how many bytes of Python source a share has."
    ),
    as_json: AsJson = False,
) -> None:
    """Splits installed Python packages into shares that have no file in common: for the demo.

    Example: sordino client installed --shares 5 --json
    """
    from sordino_client.corpus.installed import assign_disjoint, installed_packages

    chosen, total = [], 0
    for package in installed_packages(share_bytes // 20):
        enough = package.python_files >= max(12, share_bytes // 100_000)
        if enough and package.bytes <= share_bytes and total < shares * share_bytes:
            chosen.append(package)
            total += package.bytes
    split = assign_disjoint(chosen, [str(number) for number in range(shares)])
    folders = [[str(package.folder) for package in share] for share in split.values()]
    if as_json:
        typer.echo(json.dumps(folders))
        return
    for number, share in enumerate(split.values()):
        names = ", ".join(f"{package.name} {package.version}" for package in share)
        typer.echo(f"share {number}: {sum(package.bytes for package in share):,} bytes: {names}")
