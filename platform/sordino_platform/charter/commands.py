"""`sordino charter`: the ceremony on the root's machine, and everybody's view of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sordino_platform.as_json import AsJson
from sordino_platform.charter import CharterStore, SignedCharter, drafting
from sordino_platform.charter.document import MAX_CHARTER_BYTES, Charter, CharterTerms
from sordino_platform.charter.new_command import RootFolder, new
from sordino_platform.charter.signed import require_successor
from sordino_platform.charter.waiting import clear_waiting, waiting
from sordino_platform.durable import read_file, write_file
from sordino_platform.identity import authority, site
from sordino_platform.identity.enrolment import MAX_REQUEST_BYTES
from sordino_platform.keys import fingerprint
from sordino_platform.passphrase import DescriptorOption, FileOption, VariableOption, root_passphrase
from sordino_platform.terms.showing import print_json, show_changes, show_terms
from sordino_privacy.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="The federation's constitution: who takes part, on what floors, under which privacy.\n\n"
    "It is signed by an offline root key; every member pins the root's fingerprint and enforces the charter against "
    "the coordinator.\n\n"
    "Example: sordino charter new root --federation demo",
)

app.command()(new)


@app.command()
def add(
    folder: RootFolder,
    requests: Annotated[list[Path], typer.Argument(metavar="REQUEST...", help="Enrolment requests.")],
    as_json: AsJson = False,
) -> None:
    """Let the senders of enrolment requests into the draft. Each needs a token that was never used.

    Example: sordino charter add root acme.request.json
    """
    cards = [authority.enrol(folder, read_file(path, limit=MAX_REQUEST_BYTES)) for path in requests]
    if as_json:
        return print_json([card.model_dump(mode="json") for card in cards])
    for card in cards:
        typer.echo(f"added the {card.role} {card.name} of {card.organisation}")
        typer.echo(f"  its identity key, to compare by telephone: {fingerprint(card.identity_key)}")
    return None


@app.command()
def sign(
    folder: RootFolder,
    out: Annotated[Path | None, typer.Option(help="Also write the signed charter here.")] = None,
    passphrase_file: FileOption = None,
    passphrase_fd: DescriptorOption = None,
    passphrase_env: VariableOption = None,
    as_json: AsJson = False,
) -> None:
    """Sign the draft as the next epoch. This is the only step that reads the root key.

    A key that is protected asks for its passphrase, or takes it from a file, a descriptor or a variable.

    Example: sordino charter sign root --out charter.json
    """
    passphrase = root_passphrase(passphrase_file, passphrase_fd, passphrase_env)
    signed = authority.sign_epoch(folder, passphrase=passphrase)
    if out is not None:
        write_file(out, signed.to_bytes())
    show_terms(signed.charter, root=signed.root_fingerprint, as_json=as_json)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A signed charter, a root folder, or an identity folder.")],
    draft: Annotated[bool, typer.Option("--draft", help="Show the open draft of a root folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a charter: parties, floors, privacy, model, fingerprints.

    Example: sordino charter show charter.json
    """
    if draft:
        return show_terms(drafting.read_draft(path), root=authority.charters_of(path).root, as_json=as_json)
    if path.is_dir():
        signed = _store(path).head()
        return show_terms(signed.charter, root=signed.root_fingerprint, as_json=as_json)
    signed = SignedCharter.parse_unverified(read_file(path, limit=MAX_CHARTER_BYTES), what=str(path))
    signed.verify(root=signed.root_fingerprint, what=str(path))
    show_terms(signed.charter, root=signed.root_fingerprint, as_json=as_json)
    if not as_json:
        typer.echo(
            "compare the root fingerprint with its holder; `sordino charter verify --root` does it by value"
        )
    return None


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="The charter that is held: a file or a folder.")],
    latest: Annotated[
        Path | None,
        typer.Argument(metavar="[NEW]", help="The charter that is offered [what waits in the folder OLD]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two charters; what protects less is marked.

    Example: sordino charter diff charter-1.json charter-2.json

    Example: sordino charter diff ~/.local/share/sordino
    """
    held = _terms(old)
    if latest is not None:
        return show_changes(held, _terms(latest), as_json=as_json)
    store = _store(old) if old.is_dir() else None
    found = waiting(old, store) if store is not None else ()
    if store is None or not found:
        raise UsageError(f"no new epoch waits in {old}", hint="name the charter to compare with")
    return show_changes(held, store.with_offered(found).head(), as_json=as_json)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="The charter that was received.")],
    root: Annotated[str, typer.Option(help="The root's fingerprint, from out of band.")],
    after: Annotated[
        Path | None, typer.Option(help="The charter that is held: a file, or a folder of epochs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a charter against the pinned root, its expiry, and the epoch before it.

    Example: sordino charter verify charter.json --root tduz-3rg7-...
    """
    signed = SignedCharter.parse(read_file(path, limit=MAX_CHARTER_BYTES), root=root, what=str(path))
    signed.charter.require_current()
    if after is not None:
        held = _terms(after)
        if not isinstance(held, Charter):
            raise UsageError(f"{after} holds a draft, not a signed charter")
        require_successor(held, signed.charter)
    charter = signed.charter
    if as_json:
        return print_json(
            {
                "valid": True,
                "epoch": charter.epoch,
                "hash": charter.hash().hex(),
                "root": signed.root_fingerprint,
            }
        )
    typer.echo(f"good: {charter.federation}, epoch {charter.epoch}, hash {charter.hash().hex()}")
    return None


@app.command()
def accept(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An identity's folder.")],
    charters: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CHARTER]...", help="New epochs, in their order [those that wait there]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take new epochs of the charter into an identity's folder. A coordinator or agent that runs sees them at its next
    message; nothing is restarted.

    Example: sordino charter accept coordinator charter-2.json

    Example: sordino charter accept ~/.local/share/sordino
    """
    store = site.open_charters(folder)
    before = store.head().charter
    given = [read_file(path, limit=MAX_CHARTER_BYTES) for path in charters or ()]
    offered = given or waiting(folder, store)
    if not offered:
        raise UsageError(f"no new epoch waits in {folder}", hint="name the file of the charter to accept")
    for data in offered:
        store.accept(data)
    clear_waiting(folder, store)
    show_changes(before, store.head().charter, as_json=as_json)


def _store(folder: Path) -> CharterStore:
    return (
        authority.charters_of(folder)
        if (folder / authority.AUTHORITY_PUBLIC).exists()
        else site.open_charters(folder)
    )


def _terms(path: Path) -> CharterTerms:
    if path.is_dir():
        return _store(path).head().charter
    if path.name == drafting.DRAFT:
        return drafting.read_draft(path.parent)
    signed = SignedCharter.parse_unverified(read_file(path, limit=MAX_CHARTER_BYTES), what=str(path))
    signed.verify(root=signed.root_fingerprint, what=str(path))
    return signed.charter
