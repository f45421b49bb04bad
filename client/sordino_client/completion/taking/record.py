"""The choice as it is kept on this machine, and when it must be made again.

    STATE/taken.json     0600; written whole or not at all by the process that chooses

It holds figures and digests, no text of any file. The engine follows it. Until a new release has been tried, the choice
for the one before holds. A file that cannot be read counts as no choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sordino_client.completion.taking.choice import EVERYTHING, SHARES, Taking
from sordino_platform.durable import read_file, write_file
from sordino_privacy.errors import StorageError

FILE, VERSION, MAX_BYTES = "taken.json", 1, 1 << 16
# The memory counts as changed when this share of it is new or gone.
MUCH = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenFrom:
    """The inputs of a choice: the release and its shared memory by their digests, the own adapters by their stamps, and
    the size of the local memory in tokens. `release` is empty while there is no release to take."""

    release: str
    shared_memory: str
    own: tuple[int, int]
    memory_tokens: int

    @property
    def has_own(self) -> bool:
        """Whether there is an own adapter."""
        return any(self.own)

    def due(self, chosen: TakenFrom) -> bool:
        """Whether a choice with the inputs `chosen` must be made again."""
        same = (self.release, self.shared_memory, self.own) == (
            chosen.release,
            chosen.shared_memory,
            chosen.own,
        )
        most = max(self.memory_tokens, chosen.memory_tokens)
        return not same or abs(self.memory_tokens - chosen.memory_tokens) > MUCH * most


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHeldOut:
    """So many held-out files and tokens of them, and bits per byte there: alone, with everything, as chosen."""

    files: int
    tokens: int
    alone: float
    everything: float
    taken: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenChoice:
    """A choice. `why` says why nothing could be chosen (then everything is taken), and is empty otherwise.

    choosing   the files that chose
    telling    other held-out files, whose figure the selection cannot have flattered; None if there are none
    tried      bits per byte of every way on the choosing files
    at         when, ISO 8601; `seconds` is what it took
    """

    taking: Taking
    of: TakenFrom
    release: int
    why: str = ""
    choosing: OnHeldOut | None = None
    telling: OnHeldOut | None = None
    tried: tuple[tuple[Taking, float], ...] = ()
    at: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For the file and for programs."""
        tried = [asdict(one) | {"bits_per_byte": bits} for one, bits in self.tried]
        return asdict(self) | {"version": VERSION, "tried": tried}


def write(state: Path, choice: TakenChoice) -> None:
    """Keeps a choice for the engine of the completion folder `state`. Raises StorageError."""
    write_file(state / FILE, json.dumps(choice.as_json()).encode(), secret=True)


def read(state: Path) -> TakenChoice | None:
    """The stored choice; None if there is none, or if it cannot be read."""
    try:
        raw = json.loads(read_file(state / FILE, limit=MAX_BYTES))
        if raw.pop("version") != VERSION:
            return None
        return TakenChoice(
            **raw
            | {
                "taking": _taking(raw["taking"]),
                "of": TakenFrom(**raw["of"] | {"own": tuple(raw["of"]["own"])}),
                "choosing": None if raw["choosing"] is None else OnHeldOut(**raw["choosing"]),
                "telling": None if raw["telling"] is None else OnHeldOut(**raw["telling"]),
                "tried": tuple((_taking(one), float(one["bits_per_byte"])) for one in raw["tried"]),
            }
        )
    except (StorageError, ValueError, KeyError, TypeError, AttributeError):
        return None


def taken(state: Path) -> Taking:
    """What is taken in the completion folder `state`: everything, until something was chosen."""
    found = read(state)
    return EVERYTHING if found is None else found.taking


def stamp(state: Path) -> int:
    """A number that changes when the choice does; 0 while there is none."""
    try:
        return (state / FILE).stat().st_mtime_ns
    except OSError:
        return 0


def _taking(raw: Mapping[str, Any]) -> Taking:
    share, own, shared_memory = raw["share"], raw["own"], raw["shared_memory"]
    if share not in SHARES or type(own) is not bool or type(shared_memory) is not bool:
        raise ValueError("no way to be served")
    return Taking(share=float(share), own=own, shared_memory=shared_memory)
