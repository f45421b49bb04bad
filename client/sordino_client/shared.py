"""`sordino client shared`: what the federation's shared memory holds, and what it cost this member.

What it holds is public to all members: phrases that stood in very many file clusters of several members. The phrases
are not listed anywhere; the memory can only be asked about one. So `--decode` asks it about this member's own code, and
prints the phrases that it believes there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from sordino_client.ledger import events, events_alone, read_account
from sordino_client.settings import BUDGET_DELTA
from sordino_client.training.job import Tokens, read_units
from sordino_platform.as_json import AsJson
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_platform.settings import default_folder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.accounting import epsilon
from sordino_privacy.counts import SharedMemory
from sordino_privacy.errors import DataError

PLACES = 20_000
"""How many places of the member's own code are asked about: about ten seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A believed phrase: its text, its length in tokens, and about how many clusters hold it."""

    text: str
    tokens: int
    count: int


def held(folder: Path) -> tuple[dict[str, Any], SharedMemory | None]:
    """The facts of the memory in force, and the memory where it is held. Raises ConfigurationError, StorageError."""
    releases = ReleaseStore(folder / "releases", Identity.load(folder).charters)
    chain = releases.chain()
    mark = chain[-1].manifest.shared_memory if chain else None
    if mark is None:
        return {"held": False, "why": "no release of this federation has counted phrases"}, None
    counted = chain[mark.release].manifest
    facts: dict[str, Any] = {
        "release": mark.release,
        "made_at": counted.made_at.isoformat(),
        "members": len(counted.members),
        "sha256": mark.sha256.hex(),
    }
    memory = releases.shared_memory()
    if memory is None:
        why = "the coordinator could not show how it was counted: nothing of it is read"
        return facts | {"held": False, "why": why}, None
    plan = memory.plan
    facts |= {
        "held": True,
        "phrases": memory.phrases,
        "bytes": len(memory.encode()),
        "threshold": memory.threshold,
        "witnesses": plan.witnesses,
        "phrases_per_cluster": plan.phrases,
        "lengths": [plan.shortest, plan.longest],
        "noise_multiplier": plan.noise_multiplier,
        "noise_shares": memory.shares,
    }
    return facts | cost(folder, counted.run, counted.round), memory


def cost(folder: Path, run: str, round: int | None) -> dict[str, Any]:
    """The ledger's charge for that round, alone and beside all others, in both numbers; nothing if this member took no
    part."""
    account = read_account(folder / "ledger") if (folder / "ledger").exists() else None
    key = (run, round or 0)
    charge = None if account is None else account.reservations.get(key)
    if account is None or charge is None:
        return {"took_part": False, "epsilon": 0.0, "epsilon_if_others_collude": 0.0}
    return {
        "took_part": True,
        "epsilon": epsilon([charge.cost.event], BUDGET_DELTA).value,
        "epsilon_if_others_collude": epsilon([charge.cost.alone], BUDGET_DELTA).value,
        "epsilon_of_all": epsilon(events(account.costs()), BUDGET_DELTA).value,
        "epsilon_without_it": epsilon(events(account.costs(besides=[key])), BUDGET_DELTA).value,
        "epsilon_if_others_collude_of_all": epsilon(events_alone(account.costs()), BUDGET_DELTA).value,
        "delta": BUDGET_DELTA,
    }


def decoded(
    memory: SharedMemory, windows: Iterable[Sequence[int] | Tokens], tokenizer: Tokenizer, *, most: int
) -> list[Phrase]:
    """The believed phrases that begin where this code does, the most frequent first. The last token need not be in the
    code: it comes from the memory."""
    found: dict[tuple[int, ...], int] = {}
    places = 0
    for window in windows:
        tokens = [int(token) for token in window]
        for place in range(memory.plan.shortest - 1, len(tokens) + 1):
            if places >= PLACES:
                break
            places += 1
            for one in memory.follows(
                tokens[max(0, place - memory.plan.longest) : place], vocabulary=tokenizer.size
            ):
                before = tokens[place - one.length + 1 : place]
                for token, count in zip(one.tokens, one.counts, strict=True):
                    found[(*before, int(token))] = int(count)
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [Phrase(text=tokenizer.decode(list(key)), tokens=len(key), count=count) for key, count in ordered]


def own_windows(folder: Path) -> list[Tokens]:
    """The token windows of this member's own code, as they were read last. Raises DataError, StorageError."""
    paths = sorted((folder / "corpus").glob("units-*.npz"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise DataError("this member's code was not read yet", hint="`sordino client up` reads it")
    return [window for unit in read_units(paths[-1]) for window in unit]


def shared(
    folder: Path | None = typer.Option(
        None, "--folder", "-f", help="The member's folder [~/.local/share/sordino]."
    ),
    decode: int = typer.Option(
        0, "--decode", min=0, max=10_000, help="Print so many phrases that follow in this member's own code."
    ),
    as_json: AsJson = False,
) -> None:
    """Says what the federation's shared memory holds: phrases, digest, date, and what it cost this member.

    Example: sordino client shared --decode 20
    """
    place = folder or default_folder()
    facts, memory = held(place)
    if decode and memory is not None:
        phrases = decoded(memory, own_windows(place), Tokenizer.shipped(), most=decode)
        facts["decoded"] = [
            {"text": phrase.text, "tokens": phrase.tokens, "count": phrase.count} for phrase in phrases
        ]
    if as_json:
        return typer.echo(json.dumps(facts))
    if not facts["held"]:
        return typer.echo(f"no shared memory: {facts['why']}")
    typer.echo(
        f"about {facts['phrases']:,} phrases, {facts['bytes'] / 1e3:.1f} kB, counted for release {facts['release']}"
    )
    typer.echo(f"  on {facts['made_at']} by {facts['members']} members; sha256 {facts['sha256']}")
    typer.echo(
        f"  believed from a count of {facts['threshold']:.0f} on, in no fewer than {facts['witnesses']} members' code"
    )
    if facts["took_part"]:
        added = facts["epsilon_of_all"] - facts["epsilon_without_it"]
        typer.echo(
            f"  cost this member epsilon {facts['epsilon']:.2f} by itself, {added:.2f} beside its other rounds"
        )
        if facts["noise_shares"] > 1:
            typer.echo(
                f"  as the federation holds; if all others collude with the coordinator, "
                f"{facts['epsilon_if_others_collude']:.2f} by itself, "
                f"{facts['epsilon_if_others_collude_of_all']:.2f} with all its other rounds"
            )
    else:
        typer.echo("  cost this member nothing: it took no part in that round")
    for phrase in facts.get("decoded", []):
        typer.echo(f"{phrase['count']:8} {phrase['text']!r}")
    return None
