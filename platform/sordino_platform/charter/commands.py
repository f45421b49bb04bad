"""`sordino charter`: the ceremony on the root's machine, and everybody's view of its result."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from sordino_platform.charter import (
    CharterStore,
    PrivacyPolicy,
    SignedCharter,
    TrainingPolicy,
    drafting,
)
from sordino_platform.charter.document import MAX_CHARTER_BYTES, Charter, CharterTerms, Draft
from sordino_platform.charter.signed import require_successor
from sordino_platform.charter.waiting import clear_waiting, waiting
from sordino_platform.durable import read_file, write_file
from sordino_platform.identity import authority, site
from sordino_platform.identity.enrolment import MAX_REQUEST_BYTES
from sordino_platform.keys import fingerprint
from sordino_platform.passphrase import (
    DescriptorOption,
    FileOption,
    VariableOption,
    named_passphrase,
    root_passphrase,
)
from sordino_platform.terms.revising import (
    chosen_model,
    kept_adapters,
    noise_term,
    revised_renewals,
    revised_section,
    revised_shared_memory,
)
from sordino_platform.terms.showing import explained, print_json, show_changes, show_terms
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

RootFolder = Annotated[Path, typer.Argument(metavar="ROOT", help="The root folder, made by `charter new`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print machine-readable figures.")]


@app.command()
def new(
    folder: RootFolder,
    federation: Annotated[str | None, typer.Option(help="The federation's name, a-z 0-9 and '-'.")] = None,
    adapter_rank: Annotated[
        int | None, typer.Option(help="Train low-rank adapters of this rank; 0 trains the whole model [4].")
    ] = None,
    embedding_rank: Annotated[
        int | None,
        typer.Option(help="Rank of an adapter on the tied embedding, beside those of the layers [8]."),
    ] = None,
    adapter_scale: Annotated[
        float | None, typer.Option(help="Length of the rows that adapters begin with; 4 to 6 suit noise [6].")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="The base to train: a name of `sordino base list`, a folder, a .gguf file [shipped; rank 8 on others]."
        ),
    ] = None,
    members: Annotated[
        int,
        typer.Option(min=0, help="How many members are expected: for the figures, and the smallest cohort."),
    ] = 0,
    clusters: Annotated[
        int,
        typer.Option(min=0, help="About how many file clusters they will have together: for the figures."),
    ] = 0,
    cohort: Annotated[
        int | None, typer.Option(help="Fewest members of a round [5, or what --members need].")
    ] = None,
    organisations: Annotated[int | None, typer.Option(help="Fewest organisations in a round [3].")] = None,
    organisation_share: Annotated[
        int | None, typer.Option(help="Largest share of one organisation, in thousandths [500].")
    ] = None,
    gamma: Annotated[
        int | None, typer.Option(help="Share of members that may collude, in thousandths [200].")
    ] = None,
    honest: Annotated[int | None, typer.Option(help="Fewest honest members in a sum [3].")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Largest epsilon of a member [8].")] = None,
    delta: Annotated[float | None, typer.Option(help="Largest delta [1e-5].")] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Whose noise protects a member: local (all its own), or distributed (shares of the honest floor) "
            "[local]."
        ),
    ] = None,
    smallest_noise: Annotated[float | None, typer.Option(help="Smallest noise multiplier [0.5].")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest clip norm [1].")] = None,
    sampling_rate: Annotated[float | None, typer.Option(help="Largest sampling rate [0.25].")] = None,
    steps: Annotated[int | None, typer.Option(help="Most steps in a round [200].")] = None,
    update_check: Annotated[
        str | None,
        typer.Option(
            help="What survivors sign of their updates: sum, or norm (a sketch of the length) [sum]."
        ),
    ] = None,
    largest_move: Annotated[
        int | None,
        typer.Option(help="How far a round may move the model, in thousandths of its length [100]."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Largest learning rate of the members [1].")
    ] = None,
    server_rate: Annotated[
        float | None, typer.Option(help="Largest learning rate of the server's step [4].")
    ] = None,
    shared_memory: Annotated[
        bool | None,
        typer.Option(
            "--shared-memory/--no-shared-memory",
            help="Let phrases of very many file clusters be counted into a memory that all members read [no].",
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3653, help="How long the charter is valid.")] = 366,
    renewal_authority: Annotated[
        Path | None,
        typer.Option(help="Let this authority renew members online: what `identity authority` wrote [none]."),
    ] = None,
    renewal_days: Annotated[
        int | None,
        typer.Option(min=0, max=90, help="How long its certificates live [30]; 0 takes it out again."),
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase for the root key.")
    ] = False,
    passphrase_file: FileOption = None,
    passphrase_fd: DescriptorOption = None,
    passphrase_env: VariableOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change the terms of the open draft.")] = False,
    as_json: AsJson = False,
) -> None:
    """Begin a federation: makes the root key, the TLS authority and the draft of epoch 1. In a root folder that has
    signed epochs: begins the next one, with the terms that the options change.

    Keep ROOT on a machine that is not on a network. The fingerprint that is printed is what members pin. What the
    terms mean in a round (epsilon, noise, step, collusion, dropouts) is printed below them, with what to think about.

    Example: sordino charter new root --federation demo --epsilon 8 --members 20

    Example: sordino charter new root --federation demo --base smollm2 --adapter-rank 4
    """
    floors = {
        "cohort": cohort,
        "organisations": organisations,
        "organisation_share_permille": organisation_share,
        "gamma_permille": gamma,
        "honest": honest,
    }
    privacy = {
        "largest_epsilon": epsilon,
        "largest_delta": delta,
        "smallest_noise_multiplier": smallest_noise,
        "largest_clip_norm": clip,
        "largest_sampling_rate": sampling_rate,
        "largest_steps": 1 if steps is None and noise == "distributed" else steps,
        "noise": noise_term(noise),
        "update_check": update_check,
    }
    training = {
        "largest_move_permille": largest_move,
        "largest_learning_rate": learning_rate,
        "largest_server_rate": server_rate,
    }
    named = {"adapter_rank": adapter_rank, "embedding_rank": embedding_rank, "adapter_scale": adapter_scale}
    adapters: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    validity = timedelta(days=days)
    given = named_passphrase(passphrase_file, passphrase_fd, passphrase_env)
    if not (folder / authority.PIN).exists():
        if federation is None:
            raise UsageError("a new federation needs a name", hint="add --federation NAME")
        if renewal_authority is not None or renewal_days is not None:
            raise UsageError(
                "an authority for renewals needs a coordinator",
                hint="found the federation first, then a new epoch",
            )
        authority.found_root(
            folder,
            federation=federation,
            model=chosen_model(base, adapters),
            passphrase=given if given is not None else _new_passphrase() if passphrase else "",
            floors=revised_section(drafting.floors_for(members, noise=noise or "local"), floors),
            privacy=revised_section(PrivacyPolicy(), privacy),
            training=revised_section(TrainingPolicy(), training),
            shared_memory=revised_shared_memory(None, shared_memory),
            validity=validity,
        )
    else:
        if federation is not None or passphrase or given is not None:
            raise UsageError(
                f"{folder} is a root already: its name and its key stay as they are",
                hint="leave out --federation and --passphrase to begin the next epoch",
            )

        def revision(present: Draft | Charter) -> dict[str, Any]:
            terms: dict[str, Any] = {
                "floors": revised_section(present.floors, floors),
                "privacy": revised_section(present.privacy, privacy),
                "training": revised_section(present.training_policy(), training),
                "shared_memory": revised_shared_memory(present.shared_memory, shared_memory),
                "renewals": revised_renewals(present, renewal_authority, renewal_days),
            }
            if base is not None or adapters != {}:
                terms["model"] = chosen_model(base, kept_adapters(present, base, adapters) | adapters)
            return terms

        if replace:
            drafting.change(folder, lambda draft: drafting.revised(draft, **revision(draft)))
        else:
            present = authority.charters_of(folder).head().charter
            authority.begin_epoch(folder, validity=validity, **revision(present))
    draft = drafting.read_draft(folder)
    facts, said = explained(draft, members=members, clusters=clusters)
    show_terms(draft, root=authority.charters_of(folder).root, as_json=as_json, preflight=facts)
    if not as_json:
        for words in said:
            typer.echo(words)
        typer.echo("next: `sordino identity invite`, then `sordino charter add`, then `sordino charter sign`")


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


def _new_passphrase() -> str:
    return str(
        typer.prompt("passphrase for the root key", hide_input=True, confirmation_prompt=True, err=True)
    )
