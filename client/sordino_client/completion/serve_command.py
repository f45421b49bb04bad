"""`sordino serve`: completions for one person, in one command. Light to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sordino_client.completion.showing.worth import Show
from sordino_platform.settings import default_folder

if TYPE_CHECKING:
    from sordino_client.completion.solo import EndpointState

WIDTH = 10


def serve(
    repo: list[Path] = typer.Option(
        [], "--repo", help="A folder to remember locally and complete from; repeat."
    ),
    model: Path | None = typer.Option(
        None, "--model", help="A run of `sordino train`, or its model [the base that ships]."
    ),
    base: str | None = typer.Option(
        None,
        "--base",
        metavar="NAME",
        help="A larger base: a name of `sordino base list`, a folder, a .gguf.",
    ),
    folder: Path | None = typer.Option(
        None, "--folder", "-f", help="Where memory, statistics and token are kept [~/.local/share/sordino]."
    ),
    port: int = typer.Option(0, "--port", min=0, max=65535, help="Loopback port; 0 takes any free one."),
    show: Show = typer.Option(
        "balanced", "--show", help="How sure a text must be to be shown, where an editor does not say."
    ),
    install: bool = typer.Option(
        False, "--install", help="Do not serve now: run it as a user service, from now on and at each login."
    ),
    uninstall: bool = typer.Option(False, "--uninstall", help="Stop that service and remove it."),
    while_stdin: bool = typer.Option(False, "--while-stdin", help="End when stdin closes: for editors."),
    as_json: bool = typer.Option(False, "--json", help="Print each state as a line of JSON."),
) -> None:
    """Serves completions to your editors, without a federation. Nothing leaves this machine.

    Ends on Ctrl-C. Whoever joins a federation later goes on with the same memory and statistics.

    Example: sordino serve --repo ~/work/billing

    Example: sordino serve --repo ~/work/billing --base smollm2
    """
    from sordino_client.completion import solo, user_service

    place = (folder or default_folder()).expanduser().absolute()
    repositories = [path.expanduser().absolute() for path in repo]
    if uninstall:
        user_service.remove()
        typer.echo("the service is stopped and removed; memory and statistics stay in " + str(place))
        return
    if install:
        typer.echo(user_service.install(place, repositories, model=model, base=base, port=port, show=show))
        return
    from sordino_platform import telemetry
    from sordino_platform.machine.processes import end_when_stdin_closes

    telemetry.configure_logging(console=False)
    if while_stdin:
        end_when_stdin_closes()

    def tell(state: EndpointState) -> None:
        if as_json:
            typer.echo(json.dumps({"state": state.name, "text": state.text}))
            return
        typer.echo(f"{state.name:{WIDTH}}{state.text}")
        if state.name == "serving":
            for name, text in editors(state.text, place / solo.COMPLETION):
                typer.echo(f"{name:{WIDTH}}{text}")

    own = model.expanduser() if model else None
    solo.serve(place, repositories, model=own, base=base, port=port, tell=tell, show=show)


def editors(address: str, state: Path) -> list[tuple[str, str]]:
    """How to set up an editor, as (heading, line)."""
    return [
        ("editors", "VS Code: install the Sordino extension; it finds this by itself"),
        (
            "",
            "Neovim 0.12: vim.lsp.config('sordino', { cmd = { 'sordino', 'lsp' } }); vim.lsp.enable('sordino')",
        ),
        ("", f"others: an OpenAI-compatible address, {address}/v1, with the key in {state / 'token'}"),
        ("stop", "Ctrl-C"),
    ]
