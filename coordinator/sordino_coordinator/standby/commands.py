"""`sordino coordinator follow` and `takeover`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sordino_platform.as_json import AsJson
from sordino_privacy.errors import LinkError

Folder = Annotated[Path, typer.Option("--folder", "-f", help="The standby's folder.")]


def register_standby(app: typer.Typer) -> None:
    """Adds the commands to `sordino coordinator`."""
    app.command("follow")(follow_coordinator)
    app.command("takeover")(take_over_command)


def follow_coordinator(
    folder: Folder,
    of: Annotated[str, typer.Option("--of", metavar="HOST:PORT", help="The coordinator's operator API.")],
    seconds: Annotated[
        float, typer.Option(min=1.0, max=3600.0, help="How long to wait between two passes.")
    ] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="One pass, for a timer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keeps a copy of the coordinator's state on this machine, ready to take its place. Runs until Ctrl-C.

    The folder begins with identity.json, root.pin, charters/ and standby.token of the coordinator. Keys never travel:
    identity.key and tls.pem are put there by hand, at the latest before a takeover.

    Example: sordino coordinator follow --folder /var/lib/sordino/standby --of coordinator.example.org:9468
    """
    from sordino_coordinator.standby.following import Follower

    follower, before = Follower(folder, of), None
    while True:
        try:
            done = follower.once()
        except LinkError as error:
            if once:
                raise
            _say(as_json, {"at": time.time(), "error": error.message}, f"not reached: {error.message}")
        else:
            if (done.release, done.epoch) != before or done.files or once:
                before = done.release, done.epoch
                _say(
                    as_json,
                    asdict(done),
                    f"release {done.release}, epoch {done.epoch}, {done.files} files new",
                )
        if once:
            return
        time.sleep(seconds)


def take_over_command(
    folder: Folder,
    of: Annotated[
        str | None,
        typer.Option("--of", metavar="HOST:PORT", help="The old coordinator's API, if it may still answer."),
    ] = None,
    old_is_gone: Annotated[
        bool, typer.Option("--old-is-gone", help="You vouch that the old machine will never run again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Makes this machine the coordinator: verifies the copy, signs the next tenure, stops the old one if it answers.

    If nobody knows whether the old machine still runs, the first round here waits for so many members that it can hold
    none: each of them takes part only here from then on. Start `sordino coordinator up` next.

    Example: sordino coordinator takeover --folder /var/lib/sordino/standby --of coordinator.example.org:9468
    """
    from sordino_coordinator.standby.takeover import take_over

    done = take_over(folder, of=of, old_is_gone=old_is_gone, say=lambda text: typer.echo(text, err=True))
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    copied = (
        "never"
        if done.copied_at is None
        else f"{datetime.fromtimestamp(done.copied_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )
    typer.echo(f"generation {done.generation}: release {done.release}, {done.rounds} rounds, copied {copied}")
    if done.members_needed:
        typer.echo(f"the first round waits until {done.members_needed} members answer here")
    typer.echo(f"next: sordino coordinator up --folder {folder}")
    typer.echo("if it says that members hold newer releases: sordino coordinator adopt, then up")


def _say(as_json: bool, facts: dict[str, object], text: str) -> None:
    typer.echo(json.dumps(facts) if as_json else f"{datetime.now(UTC):%H:%M:%S} {text}")
