"""`sordino client`: join, up, status, ledger, corpus, audit, stats, memory."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from sordino_client.completion.commands import memory, stats
from sordino_client.corpus.cli import corpus
from sordino_client.training.audit import audit
from sordino_platform.settings import default_folder

app = typer.Typer(help="A member's machine.", no_args_is_help=True, rich_markup_mode=None)
app.command("corpus")(corpus)
app.command("audit")(audit)
app.command("stats")(stats)
app.command("memory")(memory)


FOLDER = typer.Option(None, "--folder", "-f", help="The member's folder [~/.local/share/sordino].")
JSON = typer.Option(False, "--json", help="Print JSON for programs.")


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
    from sordino_client.settings import FILE, MemberSettings, settings_text
    from sordino_platform.durable import write_file
    from sordino_platform.identity import Identity
    from sordino_privacy.errors import DataError

    place = folder or default_folder()
    identity = Identity.load(place)
    for path in repo:
        if not path.expanduser().is_dir():
            raise DataError(f"{path} is not a folder", hint="give the top folder of a repository")
    settings = MemberSettings(
        name=identity.card.name,
        coordinator=coordinator,
        repositories=[path.expanduser().resolve() for path in repo],
        budget_epsilon=budget,
    )
    write_file(place / FILE, settings_text(settings).encode(), secret=True, replace=False)
    typer.echo(f"wrote {place / FILE}; now: sordino client up --folder {place}")


@app.command()
def up(folder: Path | None = FOLDER) -> None:
    """Runs the member: link, training, completions. Ends on SIGTERM or Ctrl-C.

    Example: sordino client up --folder ~/.local/share/sordino
    """
    from sordino_client.agent import up as run

    run(folder or default_folder())


@app.command()
def status(folder: Path | None = FOLDER, as_json: bool = JSON) -> None:
    """Shows what the agent does, its release, its budget and where it serves completions.

    Example: sordino client status --json
    """
    from sordino_client.status import read_status

    facts = read_status(folder or default_folder())
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if value not in ("", None):
            typer.echo(f"{name.replace('_', ' '):20} {value}")


@app.command()
def ledger(folder: Path | None = FOLDER, as_json: bool = JSON) -> None:
    """Shows what privacy was spent, on which rounds, and what is left.

    Example: sordino client ledger --folder ~/.local/share/sordino --json
    """
    from sordino_client.status import read_ledger

    facts = read_ledger(folder or default_folder())
    if as_json:
        typer.echo(json.dumps(facts))
        return
    table = Table("run", "round", "sampling rate", "noise multiplier", "steps", "uploaded")
    for row in facts["rounds"]:
        table.add_row(
            row["run"][:8],
            str(row["round"]),
            f"{row['sampling_rate']:g}",
            f"{row['noise_multiplier']:g}",
            str(row["steps"]),
            "yes" if row["committed"] else "no, and charged all the same",
        )
    Console().print(table)
    typer.echo(
        f"local epsilon spent {facts['epsilon_spent']:.2f} of {facts['epsilon_budget']:.2f} "
        f"at delta {facts['delta']:g}; left {facts['epsilon_left']:.2f}"
    )


@app.command()
def installed(
    shares: int = typer.Option(5, min=1, max=100, help="Into how many shares of about equal size."),
    share_bytes: int = typer.Option(
        4_500_000, min=100_000, help="About how many bytes of Python source a share has."
    ),
    as_json: bool = JSON,
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
