"""Whether a new epoch of the charter ends a round that was begun under the one before. Pure.

A round that goes on keeps its own epoch to its end: context, record and release name it. So only what would make the
round another one ends it: a member of it that went or is somebody else now, keys that sign for it, terms that bound it,
or more colluders than it was begun for. What is harmless is named here; whatever else changed ends the round.
"""

from __future__ import annotations

from collections.abc import Collection

from sordino_platform.charter.changes import Change, ChangeKind, changes
from sordino_platform.charter.document import Charter

_OF_MEMBERS = frozenset({ChangeKind.MEMBERS_ADDED, ChangeKind.MEMBERS_REMOVED, ChangeKind.MEMBERS_CHANGED})
# When the charter ends, which keys were retired, how certificates are renewed: none is of any round.
_OF_NO_ROUND = ("expires_at", "retired.", "renewals.")


def ended_by(before: Charter, after: Charter, roster: Collection[str]) -> str | None:
    """Why the epoch `after` ends a round of the members `roster` under `before`; None: the round goes on."""
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
