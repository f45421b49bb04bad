"""`sordino coordinator`: new, up, status, rounds, releases, transcript; and the orders of order_commands.py."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from sordino_coordinator.order_commands import register
from sordino_coordinator.standby.commands import register_standby
from sordino_platform.as_json import AsJson

app = typer.Typer(help="The federation's server.", no_args_is_help=True, rich_markup_mode=None)
transcript = typer.Typer(help="The public history of opened sums.", no_args_is_help=True)
app.add_typer(transcript, name="transcript")
register(app)
register_standby(app)

FOLDER = typer.Option(..., "--folder", "-f", help="The coordinator's folder.", exists=False)


@app.command()
def new(
    folder: Path = FOLDER,
    listen: str = typer.Option("0.0.0.0:9443", help="Where members connect, as HOST:PORT."),
    rounds: int = typer.Option(0, help="Stop after this many completed rounds; 0: until told to."),
    heldout: list[Path] = typer.Option(
        [],
        help="A folder of public code that measures each release; repeat. Without one, no coordinator starts.",
    ),
    release_without_any_heldout_measurement: bool = typer.Option(
        False,
        "--release-without-any-heldout-measurement",
        help="Start without one: nothing notices a release that got worse.",
    ),
    clusters: int = typer.Option(
        0, min=0, help="About how many file clusters all members have together, as expected: for the plan."
    ),
) -> None:
    """Writes coordinator.toml with safe defaults into a folder that `sordino identity` made.

    The plan is the one that was found to gain the most for the charter's members and --clusters, with the noise that
    the charter's epsilon needs.

    Example: sordino coordinator new --folder /var/lib/sordino/coordinator --heldout /srv/public-code
    """
    from sordino_coordinator.settings import FILE, coordinator_settings_text, first_settings
    from sordino_platform.durable import write_file
    from sordino_platform.link.address import require_address

    require_address(listen, option="--listen")
    settings = first_settings(
        folder,
        listen=listen,
        rounds=rounds,
        heldout=heldout,
        release_without_any_heldout_measurement=release_without_any_heldout_measurement,
        clusters=clusters,
    )
    write_file(folder / FILE, coordinator_settings_text(settings).encode(), secret=True, replace=False)
    typer.echo(f"wrote {folder / FILE}; look it over, then: sordino coordinator up --folder {folder}")


@app.command()
def up(
    folder: Path = FOLDER,
    console: str | None = typer.Option(
        None, help="Serve the operator's console here, as HOST:PORT; the setting `console` otherwise."
    ),
) -> None:
    """Runs the coordinator until its rounds have completed or SIGTERM arrives.

    SIGTERM and Ctrl-C drain: the round that runs has `drain_seconds` to end, then it is given up; a second one
    gives it up at once. Ends with 0 then, with 11 after `give_up_after` rounds without a release, with 8 when it
    cannot record.

    Example: sordino coordinator up --folder /var/lib/sordino/coordinator --console 127.0.0.1:9467
    """
    from sordino_coordinator.up import run_coordinator as run

    run(folder, console_at=console)


@app.command()
def adopt(
    folder: Path = FOLDER,
    seconds: float = typer.Option(60.0, min=1.0, max=86_400.0, help="How long to wait for members."),
    as_json: AsJson = False,
) -> None:
    """After a restore: takes this coordinator's own newer history back from the members that hold it.

    Run it with the coordinator stopped, before `up`. Every charter, manifest and model is verified; members are not
    believed. A further release is signed that restores the newest, and rounds go on from there.

    Example: sordino coordinator adopt --folder /var/lib/sordino/coordinator --seconds 120
    """
    from sordino_coordinator.adopting import adopt_history as run

    found = run(folder, seconds=seconds)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    for line in found.refused:
        typer.secho(f"not believed: {line}", fg=typer.colors.YELLOW, err=True)
    typer.echo(f"asked {', '.join(found.members)}")
    if not found.releases:
        typer.echo(f"nothing to adopt: no connected member holds more than release {found.newest}")
        return
    typer.echo(
        f"adopted {found.releases} release(s), the newest {found.newest}, and {found.epochs} epoch(s); "
        f"release {found.newest + 1} restores it"
    )
    typer.echo(f"next: `sordino coordinator up --folder {folder}`; records of adopted rounds are lost here")


@app.command()
def status(folder: Path = FOLDER, as_json: AsJson = False) -> None:
    """Shows what the coordinator does now, what was ordered, the newest release, the last round, the certificate.

    Example: sordino coordinator status --folder /var/lib/sordino/coordinator --json
    """
    from sordino_coordinator.control.view import status_facts
    from sordino_platform.offer import STEPS, Unready

    facts = status_facts(folder)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    live, members = facts.pop("live"), facts.pop("members")
    for name, value in facts.items():
        text = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
        typer.echo(f"{name.replace('_', ' '):30} {'-' if text in (None, '', []) else text}")
    if live is not None:
        typer.echo(f"{'now':30} {doing(live)}")
    for member in members:
        spent = "-" if member["epsilon"] is None else f"{member['epsilon']:.3f}"
        if (alone := member["epsilon_if_others_collude"]) is not None:
            spent += f" ({alone:.3f} if all others collude)"
        until = datetime.fromtimestamp(member["certificate_expires"], UTC)
        reason = STEPS[Unready(member["unready"])] if member["unready"] else ()
        why = f", not ready: {'; '.join(reason)}" if reason else ""
        typer.echo(
            f"{'member ' + member['name']:30} epsilon {spent}, certificate until {until:%Y-%m-%d %H:%M} UTC{why}"
        )


def doing(live: dict[str, object]) -> str:
    """One line for the live status."""
    text = str(live["doing"]).replace("_", " ")
    if live["phase"]:
        text += f" {live['round']}: {live['phase']}, {live['answered']} of {live['asked']} answered"
    elif live["doing"] == "waiting_for_members":
        text += f": {live['connected']} connected, {live['required']} needed"
    elif isinstance(live["until"], float | int):
        text += f" until {datetime.fromtimestamp(live['until'], UTC):%Y-%m-%d %H:%M:%S} UTC"
    return text


@app.command()
def rounds(
    folder: Path = FOLDER,
    limit: int = typer.Option(
        20, "--limit", "--last", min=1, max=1000, help="How many of the newest rounds."
    ),
    before: int | None = typer.Option(None, min=1, help="Only rounds before this one: the page before."),
    as_json: AsJson = False,
) -> None:
    """Lists rounds: outcome, members, dropouts, seconds, held-out loss. Oldest first; --before has the page before.

    Example: sordino coordinator rounds --folder /var/lib/sordino/coordinator --limit 50 --before 9950
    """
    from sordino_coordinator.control.view import round_facts, some
    from sordino_coordinator.rounds import RoundStore

    if as_json:
        typer.echo(json.dumps(round_facts(folder, last=limit, before=before)))
        return
    store = RoundStore(folder / "state.sqlite")
    past = store.rounds(last=limit, before=before)
    store.close()
    table = Table(
        "round", "began", "outcome", "members", "dropped", "seconds", "release", "held-out loss", "why"
    )
    for row in past:
        began = datetime.fromtimestamp(row.started, UTC).strftime("%Y-%m-%d %H:%M:%S")
        took = f"{row.finished - row.started:.1f}" if row.finished else "-"
        loss = f"{row.loss:.3f}" if row.loss is not None else "-"
        table.add_row(
            str(row.round),
            began,
            row.outcome.value,
            str(row.included),
            some([f"{name} ({reason})" for name, reason in row.dropped.items()], of=row.departed) or "-",
            took,
            str(row.release if row.release is not None else "-"),
            loss,
            row.reason,
        )
    Console().print(table)
    if past and past[0].round > 1:
        typer.echo(f"earlier ones: --before {past[0].round}")


@app.command()
def releases(folder: Path = FOLDER, as_json: AsJson = False) -> None:
    """Lists the signed releases, and verifies their chain.

    Example: sordino coordinator releases --folder /var/lib/sordino/coordinator
    """
    from sordino_platform.identity import Identity
    from sordino_platform.release import ReleaseStore

    chain = ReleaseStore(folder / "releases", Identity.load(folder).charters).verify()
    if as_json:
        typer.echo(json.dumps([signed.manifest.model_dump(mode="json") for signed in chain]))
        return
    table = Table("release", "made", "round", "members", "held-out loss", "restores", "hash")
    for signed in chain:
        manifest = signed.manifest
        table.add_row(
            str(manifest.number),
            f"{manifest.made_at:%Y-%m-%d %H:%M:%S}",
            "-" if manifest.round is None else str(manifest.round),
            str(len(manifest.members)),
            "-" if manifest.heldout_loss is None else f"{manifest.heldout_loss:.3f}",
            "-" if manifest.restores is None else str(manifest.restores),
            manifest.hash().hex()[:16],
        )
    Console().print(table)


@transcript.command("verify")
def verify(
    records: Path = typer.Argument(
        ..., help="The coordinator's folder or a copy of it, or a folder of records alone."
    ),
    charters: list[Path] = typer.Option(
        [], "--charter", help="A signed charter; repeat for each epoch [charters/ of that folder]."
    ),
    root: str = typer.Option(..., help="The root's fingerprint, known out of band."),
    as_json: AsJson = False,
) -> None:
    """Checks of every opened sum who signed what, from records and charters alone; trusts nobody. The sums themselves
    are not kept for ever: members repeat the arithmetic of each release that they take.

    Example: sordino coordinator transcript verify coordinator/ --root abcd-...

    Example: sordino coordinator transcript verify transcript/ --charter charter-000001.json --root abcd-...
    """
    from sordino_platform.charter import SignedCharter
    from sordino_platform.durable import read_file
    from sordino_privacy.errors import DataError
    from sordino_privacy.secagg import verify_transcript

    found = charters or sorted((records / "charters").glob("charter-*.json"))
    signed = [SignedCharter.parse(read_file(path, limit=8 << 20), root=root) for path in found]
    memberships = {one.charter.hash(): one.charter.membership() for one in signed}
    place = records / "transcript" if (records / "transcript").is_dir() else records
    paths = sorted(place.glob("*.bin"))
    if not paths:
        raise DataError(
            f"there is no record in {records}",
            hint="name the coordinator's transcript/ folder, or a copy; it is empty before the first round",
        )
    history = verify_transcript((read_file(path, limit=64 << 20) for path in paths), memberships)
    facts = {"records": history.records, "head": history.head.hex(), "model": history.model_hash.hex()}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{history.records} sums verified: every signature, every set, every link of the chain")
    typer.echo(f"head  {facts['head']}\nmodel {facts['model']}")
