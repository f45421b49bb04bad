"""Which new epochs of the charter a member takes unasked, and which wait for a person.

A coordinator passes on epochs that the pinned root signed. The signature says who wrote an epoch, not that this
member's owner wants it: an epoch that replaces all other members would leave this one with a crowd in name only. So a
member takes by itself only a renewal and a change that only protects more, unless `accept_unasked` in member.toml names
the kind of change. A change that protects less always waits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sordino_client.round.member import Member
from sordino_platform.charter import Charter, CharterStore
from sordino_platform.charter.changes import ALWAYS, Change, ChangeKind, changes
from sordino_platform.charter.waiting import keep_waiting, waiting
from sordino_privacy.secagg import PolicyError


class EpochWaitsError(PolicyError):
    """A new epoch waits for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEpoch:
    """An epoch that waits, for the person who decides: what changes, and what to type."""

    epoch: int
    changes: tuple[Change, ...]
    command: str

    def facts(self) -> dict[str, Any]:
        """For a status in JSON."""
        lines = [
            f"{change.field}: {change.before or '(none)'} -> {change.after or '(none)'}"
            + (" (protects less)" if change.weaker else "")
            for change in self.changes
        ]
        return {"waits": self.epoch, "changes": lines, "command": self.command}


def require_unasked(folder: Path, held: Charter, chain: Sequence[Charter], unasked: Collection[str]) -> None:
    """Raises EpochWaitsError for the first change after the epoch `held`, within `chain`, that a person must see; its
    hint names the member's `folder`."""
    allowed = ALWAYS | {ChangeKind(kind) for kind in unasked}
    for before, after in pairwise(chain):
        if after.epoch <= held.epoch:
            continue
        asked = [change for change in changes(before, after) if change.weaker or change.kind not in allowed]
        if asked:
            raise EpochWaitsError(
                f"epoch {after.epoch} waits for a person: {asked[0].field} would go from "
                f"{asked[0].before or '(none)'} to {asked[0].after or '(none)'}"
                + (f", and {len(asked) - 1} more change(s)" if len(asked) > 1 else ""),
                hint=f"look it over: sordino charter diff {folder}; if you agree: sordino charter accept {folder}",
            )


def consider_epochs(member: Member, offered: Sequence[bytes]) -> None:
    """Keeps epochs that came with an offer and need a person in the folder, where that person finds them; a paused
    member's folder stays as it is. Epochs that need no person are taken over with the next proposal. Raises what
    `with_offered` raises."""
    charters = member.identity.charters
    if member.participation.paused or not offered:
        return
    try:
        chain = charters.with_offered(offered).charters
        require_unasked(member.folder, charters.head().charter, chain, member.settings.accept_unasked)
    except EpochWaitsError:
        keep_waiting(member.folder, offered, charters)
        member.participation.touch()


def require_no_epoch_waits(folder: Path, charters: CharterStore) -> None:
    """Raises EpochWaitsError where an epoch waits for a person: this member is in no round under the one before."""
    waits = waiting_epoch(folder, charters)
    if waits is not None:
        raise EpochWaitsError(
            f"epoch {waits.epoch} of the charter waits for a person",
            hint=f"look it over: sordino charter diff {folder}; if you agree: {waits.command}",
        )


def waiting_epoch(folder: Path, charters: CharterStore) -> WaitingEpoch | None:
    """The first epoch that waits in a member's folder; None if none waits."""
    found = waiting(folder, charters)
    if not found:
        return None
    held = charters.head().charter
    offered = charters.with_offered(found).charters[-len(found)]
    return WaitingEpoch(
        epoch=offered.epoch,
        changes=changes(held, offered),
        command=f"sordino charter accept {folder}",
    )
