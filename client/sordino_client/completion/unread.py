"""The parts that the local memory lacks, and why: repositories that could not be read, wholly or in part.

The build writes them; `sordino client status`, `client memory`, `doctor` and the statistics page show them, because an
incomplete memory must never look complete. It holds paths and reasons, no text of any file.

    STATE/memory/unread.json   {"version": 1, "gaps": [{"repository", "whole", "reason"}]}; absent if nothing is missing
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sordino_client.corpus.policy import ExclusionReason
from sordino_platform import durable
from sordino_privacy.errors import StorageError

_FILE = "unread.json"
_VERSION = 1
_MAX_BYTES = 1 << 20
# The names under which a read counts entries that it could not read.
PARTS: dict[ExclusionReason, str] = {
    ExclusionReason.UNREADABLE: "could not be read",
    ExclusionReason.RULES: "have ignore rules that cannot be read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One repository, all of it (`whole`) or a part, and one line on why it is not in the memory."""

    repository: str
    whole: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.repository} is {'missing' if self.whole else 'incomplete'}: {self.reason}"


def partial(repository: Path, excluded: Mapping[ExclusionReason, int]) -> list[Gap]:
    """The gap that a read's counts show; None if everything could be read."""
    parts = [f"{excluded[reason]:,} entries {text}" for reason, text in PARTS.items() if excluded.get(reason)]
    return [Gap(repository=str(repository), whole=False, reason="; ".join(parts))] if parts else []


def write(memory: Path, gaps: Sequence[Gap]) -> None:
    """Writes the gaps of a build into the memory's folder, or removes those of an earlier build. Raises
    StorageError."""
    if gaps:
        document = {"version": _VERSION, "gaps": [asdict(gap) for gap in gaps]}
        durable.write_file(memory / _FILE, json.dumps(document).encode(), secret=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            (memory / _FILE).unlink()


def read(memory: Path) -> tuple[Gap, ...]:
    """The gaps of the newest build; none if none were noted or the file cannot be read."""
    try:
        document = json.loads(durable.read_file(memory / _FILE, limit=_MAX_BYTES))
        if document["version"] != _VERSION:
            return ()
        return tuple(
            Gap(repository=str(gap["repository"]), whole=bool(gap["whole"]), reason=str(gap["reason"]))
            for gap in document["gaps"]
        )
    except (StorageError, ValueError, KeyError, TypeError):
        return ()
