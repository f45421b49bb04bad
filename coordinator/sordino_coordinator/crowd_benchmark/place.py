"""Founds a federation of many members in a folder, or finds the one that is there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sordino_platform.charter import FloorTerms, PrivacyPolicy, shipped_model
from sordino_platform.durable import write_file
from sordino_platform.identity.ceremony import found_in_folder
from sordino_platform.settings import toml_text

SIZES: Final = {"25k": (1, 0), "2.2m": (96, 96)}
"""Adapter rank and embedding rank on the shipped base: 25,216 and 2,187,904 trained parameters."""
PLAN: Final = {
    "sampling_rate": 0.01,
    "noise_multiplier": 2.0,
    "clip_norm": 1.0,
    "steps": 1,
    "windows_per_unit": 1,
    "window": 64,
    "optimiser": "sgd",
    "delta": 1e-6,
    "expected_units": 64,
    "learning_rate": 0.05,
}
EXCHANGE_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundedFolder:
    """A founded federation: `folder` with `coordinator/` and `members/NAME/`, of so many `members`."""

    folder: Path
    members: int

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.folder / "coordinator"

    def listen(self, address: str) -> None:
        """Writes the coordinator's settings, with this address."""
        settings: dict[str, object] = {
            "version": 1,
            "listen": address,
            "gather_seconds": 1.0,
            "train_seconds": EXCHANGE_SECONDS,
            "exchange_seconds": EXCHANGE_SECONDS,
            "give_up_after": 0,
            "attempts": 1,
            "release_without_any_heldout_measurement": True,
            "plan": PLAN,
        }
        text = toml_text(settings, comments={})
        write_file(self.coordinator / "coordinator.toml", text.encode(), secret=True)

    def names(self) -> list[str]:
        """Every member's name, in order."""
        return [member_name(number) for number in range(self.members)]


def member_name(number: int) -> str:
    """The name of a member, from 0."""
    return f"member-{number:04d}"


def founded(folder: Path, *, members: int, size: str) -> FoundedFolder:
    """The federation of so many members and such a model in `folder`: founded now, unless a whole one is there.

    Raises ConfigurationError, StorageError.
    """
    place, done = FoundedFolder(folder=folder, members=members), folder / "founded"
    if done.exists():
        return place
    shutil.rmtree(folder, ignore_errors=True)
    adapter, embedding = SIZES[size]
    found_in_folder(
        folder,
        federation="crowd",
        members=[(name, f"Organisation {name[-4:]}") for name in place.names()],
        model=shipped_model(adapter_rank=adapter, embedding_rank=embedding),
        floors=FloorTerms(cohort=max(members // 5 + 3, members * 3 // 5)),  # room for all colluders
        privacy=PrivacyPolicy(largest_epsilon=1000.0),
    )
    write_file(done, b"")
    return place
