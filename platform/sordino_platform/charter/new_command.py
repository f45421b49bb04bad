"""`sordino charter new`: every option of a federation's terms, for its first epoch and for each later one.

`terms.given` turns the options into terms; `identity.authority` writes the files.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from sordino_platform.as_json import AsJson
from sordino_platform.charter import drafting
from sordino_platform.identity import authority
from sordino_platform.passphrase import DescriptorOption, FileOption, VariableOption, named_passphrase
from sordino_platform.terms.given import GivenTerms
from sordino_platform.terms.revising import noise_term
from sordino_platform.terms.showing import explained, show_terms
from sordino_privacy.errors import UsageError

RootFolder = Annotated[Path, typer.Argument(metavar="ROOT", help="The root folder, made by `charter new`.")]


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
    adapters = {
        "adapter_rank": adapter_rank,
        "embedding_rank": embedding_rank,
        "adapter_scale": adapter_scale,
    }
    terms = GivenTerms(
        floors=floors,
        privacy=privacy,
        training=training,
        adapters={name: value for name, value in adapters.items() if value is not None},
        base=base,
        shared_memory=shared_memory,
        members=members,
        renewal_authority=renewal_authority,
        renewal_days=renewal_days,
    )
    validity = timedelta(days=days)
    given = named_passphrase(passphrase_file, passphrase_fd, passphrase_env)
    if not (folder / authority.PIN).exists():
        if federation is None:
            raise UsageError("a new federation needs a name", hint="add --federation NAME")
        first = terms.first()
        secret = given if given is not None else _new_passphrase() if passphrase else ""
        authority.found_root(folder, federation=federation, passphrase=secret, validity=validity, **first)
    else:
        if federation is not None or passphrase or given is not None:
            raise UsageError(
                f"{folder} is a root already: its name and its key stay as they are",
                hint="leave out --federation and --passphrase to begin the next epoch",
            )
        if replace:
            drafting.change(folder, lambda draft: drafting.revised(draft, **terms.following(draft)))
        else:
            present = authority.charters_of(folder).head().charter
            authority.begin_epoch(folder, validity=validity, **terms.following(present))
    draft = drafting.read_draft(folder)
    facts, said = explained(draft, members=members, clusters=clusters)
    show_terms(draft, root=authority.charters_of(folder).root, as_json=as_json, preflight=facts)
    if not as_json:
        for words in said:
            typer.echo(words)
        typer.echo("next: `sordino identity invite`, then `sordino charter add`, then `sordino charter sign`")


def _new_passphrase() -> str:
    return str(
        typer.prompt("passphrase for the root key", hide_input=True, confirmation_prompt=True, err=True)
    )
