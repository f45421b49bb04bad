"""What others remember of this ledger, and whether it contradicts what the ledger says now. Pure but for two files.

A witness is a place where the ledger once stood: the high-water mark beside it, or the head that this member signed and
the coordinator kept. A ledger that is behind a witness, or on another branch, has lost rows: to train on with it would
spend again what was already spent. So it refuses until `sordino client ledger recover` has charged what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sordino_platform.durable import read_file, write_file
from sordino_privacy.errors import StorageError

FILE = "ledger.witness"
MAX_WITNESS_BYTES = 16 << 10
RECOVER = "`sordino client ledger recover` charges what is missing, in the worst case; then training goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """`charges` is how many rounds were charged there; `before` are earlier rows and their digests (see milestones)."""

    generation: int
    sequence: int
    digest: bytes
    charges: int
    before: tuple[tuple[int, bytes], ...] = ()

    @property
    def age(self) -> tuple[int, int]:
        """The order of witnesses: the newer one is larger."""
        return self.generation, self.sequence


def milestones(sequence: int) -> tuple[int, ...]:
    """The rows 1, 2, 4, 8 ... before this one. They show up to which row two ledgers are the same."""
    return tuple(sequence - (1 << power) for power in range(sequence.bit_length()) if sequence > 1 << power)


def contradiction(
    witness: Witness,
    *,
    generation: int,
    sequence: int,
    superseded: Mapping[int, int],
    digest_at: Callable[[int], bytes | None],
) -> str | None:
    """Why the ledger cannot be the one that the witness saw, or None.

    The ledger has `sequence` rows in its `generation`; `digest_at` gives a row's digest; `superseded` gives, for each
    earlier generation, the row up to which its lost branch has been charged again.
    """
    if witness.generation < generation and witness.sequence <= superseded.get(witness.generation, -1):
        return None
    if witness.generation > generation or witness.sequence > sequence:
        return f"it has {sequence} rows, and once had {witness.sequence}: it was restored, deleted or copied"
    if digest_at(witness.sequence) != witness.digest:
        return (
            f"its row {witness.sequence} is another one than it once was: it was restored, deleted or copied"
        )
    return None


def keep(folder: Path, witness: Witness) -> None:
    """Remembers a witness that contradicts the ledger, so that no restart forgets it. Raises StorageError."""
    before = [[sequence, digest.hex()] for sequence, digest in witness.before]
    fields = asdict(witness) | {"digest": witness.digest.hex(), "before": before}
    write_file(folder / FILE, json.dumps(fields).encode(), secret=True)


def kept(folder: Path) -> Witness | None:
    """The witness that `keep` stored, if any. Raises StorageError."""
    if not (folder / FILE).exists():
        return None
    try:
        raw = json.loads(read_file(folder / FILE, limit=MAX_WITNESS_BYTES))
        before = tuple((int(sequence), bytes.fromhex(digest)) for sequence, digest in raw["before"])
        return Witness(**{**raw, "digest": bytes.fromhex(raw["digest"]), "before": before})
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(f"{folder / FILE} is damaged", hint=RECOVER) from error
