"""`sordino doctor FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from sordino_platform.as_json import AsJson
from sordino_platform.doctor import checks
from sordino_platform.doctor.finding import CheckState, Finding, checked, failed
from sordino_platform.doctor.root import is_root, root_checks
from sordino_platform.identity import Identity
from sordino_privacy.errors import SordinoError

GROUP = "sordino.doctors"
COLOURS = {
    CheckState.OK: typer.colors.GREEN,
    CheckState.WARNING: typer.colors.YELLOW,
    CheckState.FAILED: typer.colors.RED,
}


def examine(folder: Path) -> Iterator[Finding]:
    """Every check of the party in `folder`."""
    yield checked("versions", checks.versions)
    if is_root(folder):
        yield from root_checks(folder)
        return
    try:
        identity = Identity.load(folder)
    except SordinoError as error:
        yield failed("identity", error.message, error.hint, exit_code=error.exit_code)
        return
    card = identity.card
    yield checked("identity", lambda: f"{card.role} {card.name} of {card.organisation}; its key is private")
    for entry in entry_points(group=GROUP, name=card.role):
        yield from entry.load()(folder, identity)


def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]", help="A member's, coordinator's or root's folder [~/.local/share/sordino]."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Checks versions, clock, keys, charter, certificate, disk, names, ports, TLS, budget; explains each failure.

    Changes nothing. Ends with 0 when nothing failed (warnings count as well), else with the exit code of the first
    check that failed: 3 configuration, 4 data, 5 budget, 6 link, 7 port in use, 8 storage.

    Example: sordino doctor /var/lib/sordino/coordinator
    """
    from sordino_platform.settings import default_folder

    findings = list(examine(folder or default_folder()))
    if as_json:
        rows = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"state": checks.worst(findings), "checks": rows}))
    else:
        for finding in findings:
            typer.secho(f"{finding.state.value:8}", fg=COLOURS[finding.state], nl=False)
            typer.echo(f" {finding.check:16} {finding.said}")
            if finding.hint:
                typer.echo(f"{'':25} what to do: {finding.hint}")
    code = next((finding.exit_code for finding in findings if finding.state is CheckState.FAILED), 0)
    raise typer.Exit(code)
