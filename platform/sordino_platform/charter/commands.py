"""`sordino charter`: the ceremony on the root's machine, and everybody's view of its result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from sordino_platform.bases.base import SHIPPED
from sordino_platform.canonical import first_problem
from sordino_platform.charter import (
    CharterStore,
    FloorTerms,
    HuggingFaceTerms,
    ModelTerms,
    PrivacyPolicy,
    RenewalTerms,
    SharedMemoryPolicy,
    SignedCharter,
    TrainingPolicy,
    drafting,
)
from sordino_platform.charter.changes import changes
from sordino_platform.charter.document import MAX_CHARTER_BYTES, Charter, CharterTerms, Draft
from sordino_platform.charter.signed import require_successor
from sordino_platform.charter.waiting import clear_waiting, waiting
from sordino_platform.durable import read_file, write_file
from sordino_platform.identity import authority, site
from sordino_platform.identity.enrolment import MAX_REQUEST_BYTES
from sordino_platform.identity.renewal import renewal_authority as renewal_authority_of
from sordino_platform.keys import fingerprint
from sordino_platform.passphrase import (
    DescriptorOption,
    FileOption,
    VariableOption,
    named_passphrase,
    source,
)
from sordino_privacy.errors import ConfigurationError, UsageError

Section = TypeVar("Section", FloorTerms, PrivacyPolicy, TrainingPolicy)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="The federation's constitution: who takes part, on what floors, under which privacy.\n\n"
    "It is signed by an offline root key; every member pins the root's fingerprint and enforces the charter against "
    "the coordinator.\n\n"
    "Example: sordino charter new root --federation demo",
)

# Plain lines, not a table: a terminal that is too narrow must never cut a fingerprint short.
LINE = "  {:<18}{}".format
MAX_AUTHORITY_BYTES = 16 << 10
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
        "noise": _noise_term(noise),
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
            model=_model(base, adapters),
            passphrase=given if given is not None else _new_passphrase() if passphrase else "",
            floors=_revised(drafting.floors_for(members, noise=noise or "local"), floors),
            privacy=_revised(PrivacyPolicy(), privacy),
            training=_revised(TrainingPolicy(), training),
            shared_memory=_shared_memory(None, shared_memory),
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
                "floors": _revised(present.floors, floors),
                "privacy": _revised(present.privacy, privacy),
                "training": _revised(present.training_policy(), training),
                "shared_memory": _shared_memory(present.shared_memory, shared_memory),
                "renewals": _renewals(present, renewal_authority, renewal_days),
            }
            if base is not None or adapters != {}:
                terms["model"] = _model(base, _kept(present, base, adapters) | adapters)
            return terms

        if replace:
            drafting.change(folder, lambda draft: drafting.revised(draft, **revision(draft)))
        else:
            present = authority.charters_of(folder).head().charter
            authority.begin_epoch(folder, validity=validity, **revision(present))
    draft = drafting.read_draft(folder)
    facts, said = explained(draft, members=members, clusters=clusters)
    _show(draft, root=authority.charters_of(folder).root, as_json=as_json, preflight=facts)
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
        return _print_json([card.model_dump(mode="json") for card in cards])
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
    passphrase = source(passphrase_file, passphrase_fd, passphrase_env, _ask_passphrase)
    signed = authority.sign_epoch(folder, passphrase=passphrase)
    if out is not None:
        write_file(out, signed.to_bytes())
    _show(signed.charter, root=signed.root_fingerprint, as_json=as_json)


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
        return _show(drafting.read_draft(path), root=authority.charters_of(path).root, as_json=as_json)
    if path.is_dir():
        signed = _store(path).head()
        return _show(signed.charter, root=signed.root_fingerprint, as_json=as_json)
    signed = SignedCharter.parse_unverified(read_file(path, limit=MAX_CHARTER_BYTES), what=str(path))
    signed.verify(root=signed.root_fingerprint, what=str(path))
    _show(signed.charter, root=signed.root_fingerprint, as_json=as_json)
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
        return _show_changes(held, _terms(latest), as_json=as_json)
    store = _store(old) if old.is_dir() else None
    found = waiting(old, store) if store is not None else ()
    if store is None or not found:
        raise UsageError(f"no new epoch waits in {old}", hint="name the charter to compare with")
    return _show_changes(held, store.with_offered(found).head(), as_json=as_json)


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
        return _print_json(
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
    _show_changes(before, store.head().charter, as_json=as_json)


def _noise_term(noise: str | None) -> str | None:
    """Raises UsageError for what was the option's meaning before noise could be shared."""
    if noise not in (None, "local", "distributed"):
        raise UsageError(
            f"--noise {noise!r} is neither local nor distributed",
            hint="the smallest noise multiplier is --smallest-noise",
        )
    return noise


def _revised(terms: Section, options: dict[str, Any]) -> Section:
    """`terms` with the options that were given. Raises UsageError for one out of its bounds."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return type(terms)(**(terms.model_dump() | given))
    except ValidationError as error:
        raise UsageError(f"the terms cannot be: {first_problem(error)}") from None


def _shared_memory(present: SharedMemoryPolicy | None, wanted: bool | None) -> SharedMemoryPolicy | None:
    """The terms of a count: as they are where nobody says otherwise."""
    if wanted is None:
        return present
    return (present or SharedMemoryPolicy()) if wanted else None


def _renewals(present: Draft | Charter, file: Path | None, days: int | None) -> RenewalTerms | None:
    """The present authority for renewals, with what the options change. Raises UsageError, ConfigurationError."""
    held = present.renewals
    if days == 0:
        return None
    if file is None:
        if days is None or held is None:
            if days is not None:
                raise UsageError(
                    "there is no authority for renewals", hint="name one with --renewal-authority"
                )
            return held
        return RenewalTerms(authority=held.authority, validity_days=days)
    named = renewal_authority_of(read_file(file, limit=MAX_AUTHORITY_BYTES))
    return RenewalTerms(authority=named, validity_days=days or (held.validity_days if held else 30))


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


def _ask_passphrase() -> str:
    return str(typer.prompt("passphrase of the root key", hide_input=True, err=True))


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=1, sort_keys=True))


def _show_changes(old: CharterTerms, new: CharterTerms, *, as_json: bool) -> None:
    found = changes(old, new)
    if as_json:
        return _print_json([asdict(change) for change in found])
    if not found:
        typer.echo("the terms are the same")
    for change in found:
        # One line each, never cut: what was, what comes, and a mark where it protects less.
        typer.echo(f"{change.field}: {change.before or '(none)'} -> {change.after or '(none)'}", nl=False)
        typer.secho("  protects less" if change.weaker else "", fg=typer.colors.RED)
    return None


def _model(base: str | None, adapters: Mapping[str, Any]) -> ModelTerms | HuggingFaceTerms:
    """The terms of the options that were given. Raises UsageError or ConfigurationError."""
    from sordino_platform.charter.chosen import model_of

    return model_of(base or SHIPPED, adapters)


def explained(draft: Draft, *, members: int, clusters: int = 0) -> tuple[dict[str, Any] | None, list[str]]:
    """What the terms of a draft mean in a round with so many members: the figures, and the lines for a person. No
    figures where the base is not installed here, which only who trains must have."""
    from sordino_platform.charter.preflight import lines, preflight  # imports flwr

    try:
        found = preflight(draft, members=members, clusters=clusters)
    except ConfigurationError as error:
        return None, [f"what it means in a round cannot be said here: {error.message}"]
    said = [f"what it means, with {found.members} members and the suggested plan:"]
    said += [LINE(what, words) for what, words in lines(found)]
    return asdict(found), said + [f"  think about it: {warning}" for warning in found.warnings]


def _kept(draft: Draft | Charter, base: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The draft's terms of adapters that stay as they are beside those that are given."""
    if base is not None or not isinstance(draft.model, ModelTerms):
        return {}
    if not draft.model.adapter_rank or given.get("adapter_rank") == 0:
        return {}
    return {name: getattr(draft.model, name) for name in ("adapter_rank", "embedding_rank", "adapter_scale")}


def _noise_in_words(terms: CharterTerms) -> str:
    if (shares := terms.noise_shares()) == 1:
        return "local: every member adds all of its own"
    return f"distributed: every member adds a share, and any {shares} honest members carry the whole"


def _in_words(model: ModelTerms | HuggingFaceTerms) -> str:
    if isinstance(model, HuggingFaceTerms):
        return (
            f"{model.name or 'a base without a name'}, context {model.context}, "
            f"trains adapters of rank {model.adapter_rank} on {len(model.layers)} layers"
        )
    shape = f"{model.layers} layers, width {model.width}, context {model.context}, trains {model.trainable}"
    if not model.adapter_rank:
        return shape
    embedding = f" and {model.embedding_rank} on the embedding" if model.embedding_rank else ""
    return f"{shape} of rank {model.adapter_rank}{embedding}, scale {model.adapter_scale:g}"


def _move(terms: CharterTerms) -> dict[str, float | None]:
    """How far a round may move the model: a share of its length, and, where the base is installed here, in numbers."""
    from sordino_platform.founding_model import founding_parameters
    from sordino_platform.round_limits import RoundLimits  # imports flwr

    share = terms.training_policy().largest_move_permille / 1000
    if not isinstance(terms, Charter | Draft):
        return {"share": share, "norm": None, "length": None}
    try:
        limits = RoundLimits.of(terms, founding_parameters(terms.model))
    except ConfigurationError:  # another base: whoever reads the charter here does not train it
        return {"share": share, "norm": None, "length": None}
    return {"share": share, "norm": limits.norm, "length": limits.move}


def _show(
    terms: CharterTerms, *, root: str, as_json: bool, preflight: Mapping[str, Any] | None = None
) -> None:
    digest = terms.hash().hex() if isinstance(terms, Charter) else None
    move = _move(terms)
    if as_json:
        more = {"hash": digest, "root": root, "training": terms.training_policy().model_dump(), "move": move}
        if preflight is not None:
            more["preflight"] = dict(preflight)
        return _print_json(terms.model_dump(mode="json") | more)
    typer.secho(
        f"{terms.federation}, epoch {terms.epoch}{'' if digest else ', a draft: not signed'}", bold=True
    )
    line = LINE
    typer.echo(line("root fingerprint", root))
    if digest:
        typer.echo(line("charter hash", digest))
    left = terms.expires_at - datetime.now(UTC)
    typer.echo(line("valid until", f"{terms.expires_at:%Y-%m-%d} ({left.days} days left)"))
    sections = (("floors", terms.floors), ("privacy", terms.privacy), ("training", terms.training_policy()))
    for section, value in sections:
        typer.echo(
            line(section, ", ".join(f"{name} {number}" for name, number in value.model_dump().items()))
        )
    if terms.shared_memory is not None:
        counts = terms.shared_memory.model_dump().items()
        typer.echo(line("shared memory", ", ".join(f"{name} {number}" for name, number in counts)))
    share = f"{move['share']:.1%} of the length of the model that it starts from"
    if move["norm"] is not None:
        share = f"{move['length']:.4g}, {share} ({move['norm']:.4g})"
    typer.echo(line("one round", f"moves the model by at most {share}"))
    typer.echo(line("noise", _noise_in_words(terms)))
    typer.echo(line("model", _in_words(terms.model)))
    typer.echo(line("base", terms.model.base_sha256.hex()))
    if isinstance(terms.model, ModelTerms):
        typer.echo(line("tokenizer", terms.model.tokenizer_sha256.hex()))
    typer.echo(line("TLS authority", terms.tls_authority.fingerprint.hex()))
    if terms.renewals is not None:
        typer.echo(line("renews online", terms.renewals.authority.fingerprint.hex()))
        typer.echo(line("", f"members only, for {terms.renewals.validity_days} days at a time"))
    coordinator = terms.coordinator if isinstance(terms, Charter | Draft) else None
    if coordinator is not None:
        typer.echo(
            f"coordinator {coordinator.name} at {', '.join((*coordinator.dns_names, *coordinator.addresses))}"
        )
        typer.echo(f"    {fingerprint(coordinator.identity_key)}")
    for member in terms.members:
        typer.echo(f"member {member.name} of {member.organisation}")
        typer.echo(f"    {fingerprint(member.identity_key)}")
    for key in terms.retired:
        typer.secho(f"{key.name}, retired in epoch {key.epoch}", dim=True)
        typer.secho(f"    {fingerprint(key.identity_key)}", dim=True)
    return None
