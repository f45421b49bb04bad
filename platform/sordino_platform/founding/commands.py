"""`sordino federation plan|approve` for the root's holder, `sordino join` for every party."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sordino_platform.charter import drafting
from sordino_platform.durable import make_folder, read_file, write_file
from sordino_platform.identity import authority, invitations, read_card
from sordino_platform.identity.commands import KeyUri
from sordino_platform.identity.enrolment import MAX_REQUEST_BYTES, EnrolmentRequest
from sordino_platform.keys import fingerprint
from sordino_platform.passphrase import (
    DescriptorOption,
    FileOption,
    VariableOption,
    named_passphrase,
    root_passphrase,
)
from sordino_privacy.errors import DataError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Founds a federation in one command a party: a plan, join codes, one approval.\n\n"
    "Example: sordino federation plan plan.toml --root root --out codes",
)


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan; the operator's guide shows one.")],
    root: Annotated[Path, typer.Option(help="The root folder to make; its machine stays offline.")] = Path(
        "root"
    ),
    out: Annotated[
        Path | None, typer.Option(help="Write each code to a file NAME.code (mode 0600) in this folder.")
    ] = None,
    passphrase_file: FileOption = None,
    passphrase_fd: DescriptorOption = None,
    passphrase_env: VariableOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs; it holds the codes.")
    ] = False,
) -> None:
    """Make the root and one join code for each party of PLAN. A code works once, for one name, for a few days.

    Hand each code over privately: it holds the party's enrolment token and pins the root's fingerprint.

    Example: sordino federation plan plan.toml --root root --out codes
    """
    from sordino_platform.founding.plan import found_federation, read_plan
    from sordino_platform.terms.showing import explained

    passphrase = named_passphrase(passphrase_file, passphrase_fd, passphrase_env) or ""
    read = read_plan(file)
    codes = found_federation(read, root, passphrase=passphrase, now=datetime.now(UTC))
    if out is not None:
        make_folder(out)
        for name, code in codes:
            write_file(out / f"{name}.code", f"{code.text()}\n".encode(), secret=True, replace=False)
    figures, said = explained(drafting.read_draft(root), members=len(read.members))
    if as_json:
        facts = {
            "root": authority.charters_of(root).root,
            "preflight": figures,
            "codes": {name: code.text() for name, code in codes},
        }
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(f"root fingerprint  {authority.charters_of(root).root}")
    for name, code in codes:
        typer.echo(f"{code.role} {name} of {code.organisation}, until {code.expires_at:%Y-%m-%d %H:%M} UTC")
        typer.echo(f"    {out / (name + '.code') if out is not None else code.text()}")
    for words in said:
        typer.echo(words)
    typer.echo("next: each party runs `sordino join CODE`, and sends you NAME.request.json")


@app.command()
def approve(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The root folder, made by `plan`.")],
    requests: Annotated[list[Path], typer.Argument(metavar="REQUEST...", help="What the parties sent.")],
    out: Annotated[Path, typer.Option(help="Where to write the approval: one file for everyone.")] = Path(
        "enrolled.json"
    ),
    partial: Annotated[
        bool, typer.Option("--partial", help="Sign although some who hold a code have not sent a request.")
    ] = False,
    passphrase_file: FileOption = None,
    passphrase_fd: DescriptorOption = None,
    passphrase_env: VariableOption = None,
) -> None:
    """Let all senders in, sign the charter once, and issue every certificate. The approval is public.

    Compare the fingerprints that are printed with each party by telephone before you send the approval.

    Example: sordino federation approve root hub.request.json alder.request.json birch.request.json cedar.request.json
    """
    ask = root_passphrase(passphrase_file, passphrase_fd, passphrase_env)
    data = [read_file(path, limit=MAX_REQUEST_BYTES) for path in requests]
    entering = _entering(root, data)
    for request in entering:
        card = authority.enrol(root, request)
        typer.echo(f"{card.role} {card.name} of {card.organisation}: {fingerprint(card.identity_key)}")
    if (root / drafting.DRAFT).exists():
        missing = invitations.open_invitations(root, now=datetime.now(UTC))
        if missing and not partial:
            raise UsageError(
                f"{', '.join(missing)} may still come with this epoch",
                hint="wait for their requests and approve again, or leave them out of it: --partial",
            )
        signed = authority.sign_epoch(root, passphrase=ask)
        typer.echo(f"signed epoch {signed.charter.epoch} of {signed.charter.federation}")
    write_file(out, authority.enrolment(root, data))
    typer.echo(f"wrote {out}: send it to everyone; each party's `sordino join` waits for it")


def join(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE]", help="The join code; asked for when left out, so that no history keeps it."
        ),
    ] = None,
    code_file: Annotated[Path | None, typer.Option(help="Read the code from this file (mode 0600).")] = None,
    repo: Annotated[
        list[Path] | None,
        typer.Option("--repo", help="A member's repository to train on and complete from; repeat."),
    ] = None,
    heldout: Annotated[
        list[Path] | None,
        typer.Option(help="The coordinator's public code that measures each release; repeat."),
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", "-f", help="The party's folder.")] = None,
    request: Annotated[
        Path | None, typer.Option(help="Where to write the request [NAME.request.json].")
    ] = None,
    approval: Annotated[
        Path | None, typer.Option(help="Where the approval will lie [FOLDER/enrolled.json].")
    ] = None,
    key: KeyUri = None,
    start: Annotated[
        bool, typer.Option("--up/--no-up", help="Run the party once it has joined, or say how to.")
    ] = True,
) -> None:
    """Join a federation with a join code: makes keys and a request, waits for the approval, and runs.

    Send the request that is written to the root's holder, and put the approval that comes back where it is waited for.
    Broken off, it goes on where it was with the same command. Private keys never leave the folder, and one that --key
    puts into a token never leaves that.

    Example: sordino join --code-file alder.code --repo ~/work/billing
    """
    from sordino_platform.durable import read_secret
    from sordino_platform.founding.code import MAX_CODE_BYTES, JoinCode
    from sordino_platform.founding.joining import APPROVAL, Joining
    from sordino_platform.pkcs11 import Pkcs11Uri
    from sordino_platform.settings import default_folder

    if code is not None and code_file is not None:
        raise UsageError("the join code has two sources", hint="give it, or name its file")
    if code_file is not None:
        code = read_secret(code_file, limit=MAX_CODE_BYTES).decode("ascii", "replace")
    parsed = JoinCode.parse(
        code if code is not None else typer.prompt("join code", hide_input=True, err=True)
    )
    given = {"member": repo or [], "coordinator": heldout or []}
    folders = [path.expanduser().resolve() for path in given.pop(parsed.role)]
    if (parsed.role == "member" and not folders) or any(given.values()):
        raise UsageError(
            f"this code is for a {parsed.role}",
            hint="a member names its repositories with --repo, the coordinator its public code with --heldout",
        )
    for path in folders:
        if not path.is_dir():
            raise DataError(f"{path} is not a folder", hint="give the top folder of the code")
    place = (folder or default_folder()).expanduser()
    token = None if key is None else Pkcs11Uri.parse(key)
    joining = Joining(folder=place, code=parsed, folders=tuple(folders), key=token)
    if not joining.enrolled:
        written, waited = request or Path(f"{parsed.name}.request.json"), approval or place / APPROVAL
        write_file(written, joining.request(datetime.now(UTC)))
        typer.echo(f"send {written} to the root's holder; it is public")
        typer.echo(f"your key, to compare by telephone: {fingerprint(read_card(place).identity_key)}")
        typer.echo(f"waiting for the approval at {waited}")
        joining.wait(waited)
    run = joining.settle()
    typer.echo(f"{parsed.name} has joined {parsed.federation}, in {place}")
    if start:
        run()
        return
    command = "client" if parsed.role == "member" else "coordinator"
    typer.echo(f"next: sordino {command} up --folder {place}")


def _entering(root: Path, requests: list[bytes]) -> list[bytes]:
    """The requests of parties that are not yet in the draft or the charter, so that an approval can be repeated."""
    draft_path = root / drafting.DRAFT
    terms = drafting.read_draft(root) if draft_path.exists() else authority.charters_of(root).head().charter
    keys = {member.identity_key for member in terms.members}
    if terms.coordinator is not None:
        keys.add(terms.coordinator.identity_key)
    return [data for data in requests if EnrolmentRequest.parse(data).body.card.identity_key not in keys]
