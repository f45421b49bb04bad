"""A whole federation on one machine's disk: founded, with the settings of its coordinator and of each member.

The demo, the benchmarks and tests use it: the caller decides who takes part and what a round does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sordino_platform.charter import (
    FloorTerms,
    HuggingFaceTerms,
    ModelTerms,
    PrivacyPolicy,
    SharedMemoryPolicy,
)
from sordino_platform.demo.cast import Newcomer
from sordino_platform.durable import make_folder, write_file
from sordino_platform.identity import Identity
from sordino_platform.identity.ceremony import Foundation, found_in_folder
from sordino_platform.settings import toml_text
from sordino_privacy.errors import ConfigurationError

ROUNDS_PER_DAY = 1000
MARKER = "sordino-demo.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoWorld:
    """The paths and settings of one federation on this machine. `member_settings` are the same for every member. With
    `counts` the first round counts phrases."""

    folder: Path
    foundation: Foundation
    parties: tuple[tuple[str, str], ...]
    repositories: Mapping[str, Sequence[Path]]
    plan: Mapping[str, object]
    rounds: int
    budget: float
    member_settings: Mapping[str, object] = field(default_factory=dict)
    newcomer: Newcomer | None = None
    counts: bool = False

    @property
    def proofs(self) -> Path:
        """Where members keep their quantised updates under `--prove`."""
        return self.folder / "proofs"

    @property
    def events(self) -> Path:
        """The coordinator's event file."""
        return self.foundation.coordinator / "events.jsonl"


def fresh_folder(folder: Path) -> None:
    """Makes an empty folder for a federation. Replaces the folder of an older federation, and nothing else. Raises
    ConfigurationError."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise ConfigurationError(
                f"{folder} is not empty and not a demo's folder", hint="choose another with --folder"
            )
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    make_folder(folder)
    write_file(folder / MARKER, b'{"made by": "sordino demo"}\n')


def found_locally(
    folder: Path,
    *,
    federation: str,
    parties: Sequence[tuple[str, str]],
    repositories: Mapping[str, Sequence[Path]],
    model: ModelTerms | HuggingFaceTerms,
    privacy: PrivacyPolicy,
    plan: Mapping[str, object],
    rounds: int,
    coordinator_settings: Mapping[str, object],
    member_settings: Mapping[str, object],
    budget: float | None = None,
    floors: FloorTerms | None = None,
    shared_memory: SharedMemoryPolicy | None = None,
) -> DemoWorld:
    """Runs the founding ceremony for these members and this model, and writes the coordinator's settings.

    `parties` is (name, organisation); each may spend `budget`, or what the charter allows. Without `floors` every round
    needs all of them, and without `shared_memory` no round counts. Raises any kind of SordinoError.
    """
    foundation = found_in_folder(
        folder,
        federation=federation,
        members=parties,
        model=model,
        floors=floors or FloorTerms(cohort=len(parties), organisations=3),
        privacy=privacy,
        shared_memory=shared_memory,
    )
    place = DemoWorld(
        folder=folder,
        foundation=foundation,
        parties=tuple(parties),
        repositories=repositories,
        plan=plan,
        rounds=rounds,
        budget=privacy.largest_epsilon if budget is None else budget,
        member_settings=member_settings,
    )
    write_coordinator_settings(place, coordinator_settings)
    return place


def founded_locally(
    folder: Path,
    *,
    parties: Sequence[tuple[str, str]],
    repositories: Mapping[str, Sequence[Path]],
    plan: Mapping[str, object],
    rounds: int,
    budget: float,
    member_settings: Mapping[str, object],
) -> DemoWorld:
    """The federation that `found_locally` founded in `folder` before, to continue it. Raises ConfigurationError,
    StorageError."""
    hub = folder / "coordinator"
    identity = Identity.load(hub)
    return DemoWorld(
        folder=folder,
        foundation=Foundation(
            root=folder / "root",
            root_fingerprint=identity.charters.root,
            charter=identity.charter,
            coordinator=hub,
            members={name: folder / "members" / name for name, _ in parties},
        ),
        parties=tuple(parties),
        repositories=repositories,
        plan=plan,
        rounds=rounds,
        budget=budget,
        member_settings=member_settings,
    )


def write_coordinator_settings(place: DemoWorld, chosen: Mapping[str, object]) -> None:
    """The coordinator's settings for the rounds of `place`: defaults for a federation on one machine, replaced by the
    given ones."""
    settings: dict[str, object] = {
        "version": 1,
        "listen": "127.0.0.1:0",
        "rounds": place.rounds,
        "give_up_after": 3,
        "backoff_seconds": 2.0,
        "gather_seconds": 5.0,
        **chosen,
        "plan": dict(place.plan),
    }
    write_file(
        place.foundation.coordinator / "coordinator.toml",
        toml_text(settings, comments={}).encode(),
        secret=True,
    )


def write_member_settings(world: DemoWorld, *, address: str) -> None:
    """Every member's settings, once the coordinator's address is known."""
    for name, place in world.foundation.members.items():
        settings: dict[str, object] = {
            "version": 1,
            "name": name,
            "coordinator": address,
            "repositories": [str(path) for path in world.repositories[name]],
            "budget_epsilon": world.budget,
            # The federation lasts minutes: it may spend its whole budget in one day.
            "epsilon_per_day": world.budget,
            "rounds_per_day": ROUNDS_PER_DAY,
            # The same packages may be tried in many such federations, so each has a budget of its own.
            "budgets_folder": str(world.folder / "budgets"),
            "window": world.plan["window"],
            "training_slots": str(world.folder / "slots"),
            **world.member_settings,
        }
        write_file(place / "member.toml", toml_text(settings, comments={}).encode(), secret=True)


def read_address(world: DemoWorld) -> str:
    """The address where the coordinator listens, or an empty string if it has reported none since `forget_address`."""
    path = _address(world)
    return path.read_text().strip() if path.exists() else ""


def forget_address(world: DemoWorld) -> None:
    """Call it before a coordinator is started, so that an earlier one's address is not used."""
    _address(world).unlink(missing_ok=True)


def _address(world: DemoWorld) -> Path:
    return world.foundation.coordinator / "address"
