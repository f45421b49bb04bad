"""`sordino client taken`: what this member takes of its federation, and what its own code said. Light to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sordino_platform.as_json import AsJson
from sordino_platform.settings import default_folder

if TYPE_CHECKING:
    from sordino_client.completion.taking.record import OnHeldOut

FOLDER = typer.Option(None, "--folder", "-f", help="The member's folder [~/.local/share/sordino].")


def taken(folder: Path | None = FOLDER, as_json: AsJson = False) -> None:
    """Shows what this member takes of its federation, and what its own held-out code said of it.

    The member chooses by itself, in the background, for each release: how much of the adapters, its own adapter, the
    shared memory. Files that training never saw choose, with your local memory on. No coordinator has a say.

    Example: sordino client taken --json
    """
    from sordino_client.completion.taking import record
    from sordino_client.completion.taking.choice import EVERYTHING, taking_in_words

    state = (folder or default_folder()).expanduser() / "completion"
    found = record.read(state)
    if as_json:
        document = {"chosen": False} if found is None else {"chosen": not found.why} | found.as_json()
        typer.echo(json.dumps(document))
        return
    if found is None:
        typer.echo(
            f"{taking_in_words(EVERYTHING)}: nothing was chosen yet; a running agent chooses with each release"
        )
        return
    said = taking_in_words(found.taking, own=found.of.has_own, shared_memory=bool(found.of.shared_memory))
    typer.echo(f"{said}; of release {found.release}, chosen {found.at}")
    if found.why:
        typer.echo(f"  everything, since nothing could be chosen: {found.why}")
    if found.choosing is not None:
        typer.echo(f"  on the code that chose: {_saved(found.choosing)}")
    if found.telling is not None:
        typer.echo(f"  on held-out code that did not choose: {_saved(found.telling)}")


def _saved(judged: OnHeldOut) -> str:
    """The bits saved over the model alone, beside those that taking everything would save."""
    return (
        f"{judged.alone - judged.taken:+.4f} bits per byte saved over being alone "
        f"(everything: {judged.alone - judged.everything:+.4f}), in {judged.files} files, {judged.tokens:,} tokens"
    )
