"""The files of one round at a member.

<member>/round/<run>-<round>/
  agreement.bin         the context that the member derived
  plan.json             the training plan
  weights.safetensors   the model that the round begins with, and job/ the training process's own folder
  opened.bin            what the member helped to open: roster, claim and opening, all public
  quantised.bin         the update, written last: its presence says that the round was trained for
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sordino_platform.durable import make_folder, map_file, read_file, write_file
from sordino_platform.proposal import MAX_PLAN_BYTES, norm_limit
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.secagg import Context, ContextError, Opened, Quantised, ReplayError

MAX_QUANTISED_BYTES = 5 << 30
MAX_AGREEMENT_BYTES = 1 << 20
MAX_OPENED_BYTES = 1 << 28


def is_round(run: str, round: int) -> bool:
    """Whether a run's name and a round's number are ones that a coordinator of this software gives; such
    names are safe in paths."""
    return len(run) <= 64 and run.isalnum() and 0 <= round < 1 << 32


@dataclass(frozen=True, slots=True)
class RoundFolder:
    """One round's folder, there or not."""

    path: Path

    @classmethod
    def of(cls, member: Path, run: str, round: int) -> RoundFolder:
        """The round's folder of the member that lives in `member`. Raises ContextError for a name that is none."""
        if not is_round(run, round):
            raise ContextError("the run's name is not one that a coordinator of this software gives")
        return cls(member / "round" / f"{run}-{round}")

    @property
    def agreed(self) -> bool:
        """Whether this member agreed to the round and was charged for it, or was about to be."""
        return (self.path / "agreement.bin").exists() and (self.path / "plan.json").exists()

    @property
    def trained(self) -> bool:
        return (self.path / "quantised.bin").exists()

    def agree(self, agreement: Context, plan: TrainingPlan) -> None:
        """Notes what was agreed to. Raises StorageError."""
        make_folder(self.path)
        write_file(self.path / "agreement.bin", agreement.encode(), secret=True)
        write_file(self.path / "plan.json", plan.canonical(), secret=True)

    def agreement(self) -> Context:
        return Context.decode(read_file(self.path / "agreement.bin", limit=MAX_AGREEMENT_BYTES))

    def plan(self) -> TrainingPlan:
        return TrainingPlan.parse(json.loads(read_file(self.path / "plan.json", limit=MAX_PLAN_BYTES)))

    def norm_limit(self) -> float:
        """The largest norm of the mean of a round that this member agreed to, whoever took part."""
        return norm_limit(self.plan(), self.agreement().quantiser)

    def reveal(self, opened: Opened) -> None:
        """Keeps what this member helped to open. Raises StorageError."""
        write_file(self.path / "opened.bin", opened.encode(), secret=True)

    def opened(self) -> Opened | None:
        """The one set of survivors whose sum this member helped to open; None where it did not."""
        path = self.path / "opened.bin"
        return Opened.decode(read_file(path, limit=MAX_OPENED_BYTES)) if path.exists() else None

    def finish(self, quantised: bytes) -> None:
        """Stores the round's update. Raises StorageError."""
        write_file(self.path / "quantised.bin", quantised, secret=True)

    def quantised(self) -> Quantised:
        """The stored update: the same bytes in every attempt. Raises ReplayError when there is none."""
        path = self.path / "quantised.bin"
        if not path.exists():
            raise ReplayError("this member has no stored update for this round")
        return Quantised.decode(map_file(path, limit=MAX_QUANTISED_BYTES))
