"""Shows a charter to a person or a program: its terms as lines or as JSON, and the differences between two charters.

Plain lines, not a table: a terminal that is too narrow must never cut a fingerprint short.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import typer
from pydantic import BaseModel

from sordino_platform.charter import Charter, Draft, HuggingFaceTerms, ModelTerms
from sordino_platform.charter.changes import changes
from sordino_platform.charter.document import CharterTerms
from sordino_platform.keys import fingerprint
from sordino_privacy.errors import ConfigurationError

LINE = "  {:<18}{}".format


def show_terms(
    terms: CharterTerms, *, root: str, as_json: bool, preflight: Mapping[str, Any] | None = None
) -> None:
    """A charter or a draft, with the `root` fingerprint and the `preflight` figures, if there are any."""
    digest = terms.hash().hex() if isinstance(terms, Charter) else None
    move = _move(terms)
    if as_json:
        more = {"hash": digest, "root": root, "training": terms.training_policy().model_dump(), "move": move}
        if preflight is not None:
            more["preflight"] = dict(preflight)
        return print_json(terms.model_dump(mode="json") | more)
    typer.secho(
        f"{terms.federation}, epoch {terms.epoch}{'' if digest else ', a draft: not signed'}", bold=True
    )
    typer.echo(LINE("root fingerprint", root))
    if digest:
        typer.echo(LINE("charter hash", digest))
    left = terms.expires_at - datetime.now(UTC)
    typer.echo(LINE("valid until", f"{terms.expires_at:%Y-%m-%d} ({left.days} days left)"))
    for line in (*_policy_lines(terms, move), *_model_lines(terms)):
        typer.echo(line)
    _show_parties(terms)
    return None


def _policy_lines(terms: CharterTerms, move: Mapping[str, float | None]) -> Iterator[str]:
    sections: dict[str, BaseModel | None] = {
        "floors": terms.floors,
        "privacy": terms.privacy,
        "training": terms.training_policy(),
        "shared memory": terms.shared_memory,
    }
    for section, value in sections.items():
        if value is not None:
            yield LINE(section, ", ".join(f"{name} {number}" for name, number in value.model_dump().items()))
    share = f"{move['share']:.1%} of the length of the model that it starts from"
    if move["norm"] is not None:
        share = f"{move['length']:.4g}, {share} ({move['norm']:.4g})"
    yield LINE("one round", f"moves the model by at most {share}")
    yield LINE("noise", _noise_in_words(terms))


def _model_lines(terms: CharterTerms) -> Iterator[str]:
    yield LINE("model", _in_words(terms.model))
    yield LINE("base", terms.model.base_sha256.hex())
    if isinstance(terms.model, ModelTerms):
        yield LINE("tokenizer", terms.model.tokenizer_sha256.hex())
    yield LINE("TLS authority", terms.tls_authority.fingerprint.hex())
    if terms.renewals is not None:
        yield LINE("renews online", terms.renewals.authority.fingerprint.hex())
        yield LINE("", f"members only, for {terms.renewals.validity_days} days at a time")


def _show_parties(terms: CharterTerms) -> None:
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


def show_changes(old: CharterTerms, new: CharterTerms, *, as_json: bool) -> None:
    """The changes of `new`, one line each."""
    found = changes(old, new)
    if as_json:
        return print_json([asdict(change) for change in found])
    if not found:
        typer.echo("the terms are the same")
    for change in found:
        # One line each, never cut: the old value, the new value, and a mark when it protects less.
        typer.echo(f"{change.field}: {change.before or '(none)'} -> {change.after or '(none)'}", nl=False)
        typer.secho("  protects less" if change.weaker else "", fg=typer.colors.RED)
    return None


def explained(draft: Draft, *, members: int, clusters: int = 0) -> tuple[dict[str, Any] | None, list[str]]:
    """What the terms of a draft mean in a round with this many members: the figures, and the lines for a person.

    There are no figures when the base is not installed here: only machines that train must have it."""
    from sordino_platform.terms.preflight import lines, preflight  # imports flwr

    try:
        found = preflight(draft, members=members, clusters=clusters)
    except ConfigurationError as error:
        return None, [f"what it means in a round cannot be said here: {error.message}"]
    said = [f"what it means, with {found.members} members and the suggested plan:"]
    said += [LINE(what, words) for what, words in lines(found)]
    return asdict(found), said + [f"  think about it: {warning}" for warning in found.warnings]


def print_json(value: object) -> None:
    """A value as JSON, its keys sorted."""
    typer.echo(json.dumps(value, indent=1, sort_keys=True))


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
    """How far a round may move the model: as a share of its length and, if the base is installed here, as a number."""
    from sordino_platform.founding_model import founding_parameters
    from sordino_platform.round_limits import RoundLimits  # imports flwr

    share = terms.training_policy().largest_move_permille / 1000
    if not isinstance(terms, Charter | Draft):
        return {"share": share, "norm": None, "length": None}
    try:
        limits = RoundLimits.of(terms, founding_parameters(terms.model))
    except ConfigurationError:  # the base is not installed here: this machine does not train it
        return {"share": share, "norm": None, "length": None}
    return {"share": share, "norm": limits.norm, "length": limits.move}
