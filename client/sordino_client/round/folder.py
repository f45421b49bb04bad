"""The files of one round at a member.

<member>/round/<run>-<round>/
  agreement.bin         the context that the member derived: its presence says that the round was agreed to
  weights.safetensors   the model that the round begins with, and job/ the training process's own folder
  opened.bin            what the member helped to open: roster, claim and opening, all public
  sent.bin              the newest attempt's masked upload, until the member has said what it uploaded
  quantised.bin         the update, written last: its presence says that the round was trained for
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sordino_platform.durable import make_folder, map_file, read_file, write_file
from sordino_platform.machine.files import sync_folder
from sordino_platform.uploads import SentUpload
from sordino_privacy.secagg import ContextError, Opened, Quantised, ReplayError, RoundContext

MAX_QUANTISED_BYTES = 5 << 30
MAX_OPENED_BYTES = 1 << 28


def is_round(run: str, round: int) -> bool:
    """Whether a run's name and a round's number are ones that a coordinator of this software gives; such
    names are safe in paths."""
    return len(run) <= 64 and run.isascii() and run.isalnum() and 0 <= round < 1 << 32


@dataclass(frozen=True, slots=True)
class RoundFolder:
    """One round's folder, which need not exist."""

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
        return (self.path / "agreement.bin").exists()

    @property
    def trained(self) -> bool:
        return (self.path / "quantised.bin").exists()

    @property
    def sent(self) -> SentUpload:
        """The masked upload, as it was sent last."""
        return SentUpload(self.path / "sent.bin")

    def agree(self, agreement: RoundContext) -> None:
        """Notes what was agreed to. Raises StorageError."""
        make_folder(self.path)
        write_file(self.path / "agreement.bin", agreement.encode(), secret=True)

    def reveal(self, opened: Opened) -> None:
        """Keeps what this member helped to open. Raises StorageError."""
        write_file(self.path / "opened.bin", opened.encode(), secret=True)

    def opened(self) -> Opened | None:
        """The one set of survivors whose sum this member helped to open; None if it helped to open none."""
        path = self.path / "opened.bin"
        return Opened.decode(read_file(path, limit=MAX_OPENED_BYTES)) if path.exists() else None

    def finish(self, quantised: bytes) -> None:
        """Stores the round's update. Raises StorageError."""
        write_file(self.path / "quantised.bin", quantised, secret=True)

    def remove(self) -> None:
        """Removes the round's folder, durably: what was charged for it can no longer leave."""
        if self.path.exists():
            shutil.rmtree(self.path)
            sync_folder(self.path.parent)

    def quantised(self) -> Quantised:
        """The stored update: the same bytes in every attempt. Raises ReplayError when there is none."""
        path = self.path / "quantised.bin"
        if not path.exists():
            raise ReplayError("this member has no stored update for this round")
        return Quantised.decode(map_file(path, limit=MAX_QUANTISED_BYTES))


def prune_rounds(member: Path, *, but: RoundFolder | None = None) -> None:
    """Removes the folders of all rounds but one: an update that nobody will ask for takes up to 88 MB."""
    for path in (member / "round").glob("*"):
        if but is None or path != but.path:
            RoundFolder(path).remove()


def newest_round(member: Path) -> RoundFolder | None:
    """The round that was agreed to last, of those that are kept: the one that a restarted member may still be in."""
    agreed = [path for path in (member / "round").glob("*") if RoundFolder(path).agreed]
    newest = max(agreed, key=lambda path: (path / "agreement.bin").stat().st_mtime_ns, default=None)
    return None if newest is None else RoundFolder(newest)
