"""Whether a new epoch of the charter ends a round that began under the epoch before. Pure.

A round that goes on keeps its own epoch to its end: context, record and release name it. So a new epoch ends a round
only when it changes something the round depends on: a member that left or has another key, keys that sign for the
round, terms that bound it, or more colluders than the round was begun with. The harmless changes are listed here; every
other change ends the round.
"""

from __future__ import annotations

from collections.abc import Collection

from sordino_platform.charter.changes import Change, ChangeKind, changes
from sordino_platform.charter.document import Charter

_OF_MEMBERS = frozenset({ChangeKind.MEMBERS_ADDED, ChangeKind.MEMBERS_REMOVED, ChangeKind.MEMBERS_CHANGED})
# The expiry, retired keys and the renewal of certificates belong to no round.
_OF_NO_ROUND = ("expires_at", "retired.", "renewals.")


def ended_by(before: Charter, after: Charter, roster: Collection[str]) -> str | None:
    """Why the epoch `after` ends a round of the members `roster` under `before`; None if the round goes on."""
    if before.hash() == after.hash():
        return None
    why = next((reason for change in changes(before, after) if (reason := _reason(change, roster))), None)
    if why is None and (found := _corrupt(after)) > (begun_for := _corrupt(before)):
        why = f"{found} of its members may collude, and the round was begun for {begun_for}"
    return None if why is None else f"a new epoch of the charter began ({after.epoch}): {why}"


def _corrupt(charter: Charter) -> int:
    return charter.floors.as_secagg().corrupt(len(charter.members))


def _reason(change: Change, roster: Collection[str]) -> str | None:
    name = change.field.partition(".")[2]
    if change.kind in _OF_MEMBERS:
        if name not in roster:
            return None
        if change.kind is ChangeKind.MEMBERS_REMOVED:
            return f"{name} was retired"
        return f"{name} has another key or organisation"
    if change.field.startswith(_OF_NO_ROUND):
        return None
    return f"{change.field} is another"
