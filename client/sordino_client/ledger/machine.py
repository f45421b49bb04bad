"""This user's ledgers on this machine, in one file: which data each one stands for, its newest row, and what it
charged.

A budget belongs to the data, not to a folder. The file `budgets.json` (mode 0600, under flock, in the user's state
folder) notices what a folder alone cannot show: that it was restored, deleted or copied, and that a second folder
stands for data that already has a budget. It holds counts, digests and plans; no code, no names of files.

It cannot notice another machine, another user, or a person who deletes it (docs/adr/0021).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from sordino_client.ledger.account import Reservation
from sordino_client.ledger.chain import first_digest
from sordino_client.ledger.cost import RoundCost
from sordino_client.ledger.store import Ledger
from sordino_client.ledger.witness import RECOVER, Witness
from sordino_platform.canonical import Digest, Document, decode, encode
from sordino_platform.durable import locked, make_folder, read_file, write_file
from sordino_privacy.errors import ConfigurationError, StorageError

FILE = "budgets.json"
MAX_FILE_BYTES = 64 << 20
HEADS = 64
TEXTS = 2048
SAME_DATA = 0.1
FEW_TEXTS = 4
Mark = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class Charge(Document):
    """One round that a ledger charged. `firm`: something of it left."""

    run: str = Field(max_length=64)
    round: int = Field(ge=0, lt=1 << 32)
    plan: Digest
    sampling_rate: float
    noise_multiplier: float
    steps: int
    firm: bool
    own_noise_multiplier: float | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        # Left out if it is the default, so that a file of an older version keeps its bytes.
        data: dict[str, object] = plain(self)
        return {
            name: value for name, value in data.items() if name != "own_noise_multiplier" or value is not None
        }

    @property
    def cost(self) -> RoundCost:
        """Its two numbers as the accountant takes them."""
        return RoundCost.of(
            sampling_rate=self.sampling_rate,
            noise_multiplier=self.noise_multiplier,
            steps=self.steps,
            own_noise_multiplier=self.own_noise_multiplier,
        )


class LedgerRecord(Document):
    """One ledger. `ledger` is the digest of its first row, which no other has; `heads` are its newest rows, as sequence
    and digest; `origins` are first commits; `texts` the smallest marks of its texts; `reading` names the newest
    reading of its code that has this budget (sordino_client.corpus.registry)."""

    ledger: Digest
    folder: str
    generation: int
    heads: tuple[tuple[int, Digest], ...] = ()
    charges: tuple[Charge, ...] = ()
    origins: tuple[str, ...] = ()
    texts: tuple[Mark, ...] = ()
    reading: str = ""

    @property
    def witness(self) -> Witness:
        """The ledger's newest row as this file knows it."""
        sequence, digest = self.heads[-1] if self.heads else (0, bytes(32))
        return Witness(
            generation=self.generation, sequence=sequence, digest=digest, charges=len(self.charges)
        )

    def saw(self, witness: Witness) -> bool:
        """Whether the ledger once had that row as its head: then all its charges up to it are here."""
        return witness.generation == self.generation and (witness.sequence, witness.digest) in self.heads

    def exists(self) -> bool:
        """Whether that ledger still lies where it was."""
        return first_digest(Path(self.folder)) == bytes(self.ledger)

    def same_data(self, origins: Collection[str], texts: Collection[str]) -> bool:
        """Whether it stands for data with one of these first commits, or with a tenth of these texts."""
        if set(origins) & set(self.origins):
            return True
        if not texts or not self.texts:
            return False
        # Both are the smallest digests of their data: beyond the end of either sample nothing is known of the other.
        samples = [sorted(texts)[:TEXTS], sorted(self.texts)[:TEXTS]]
        end = min((side[-1] for side in samples if len(side) == TEXTS), default="g")  # beyond all hexadecimal
        mine, theirs = ({text for text in side if text <= end} for side in samples)
        smaller = min(len(mine), len(theirs))
        shared = len(mine & theirs)
        return 0 < min(FEW_TEXTS, smaller) <= shared and shared >= SAME_DATA * smaller


class Budgets(Document):
    """The file."""

    version: Literal["sordino-budgets/1"] = "sordino-budgets/1"
    ledgers: tuple[LedgerRecord, ...] = ()


class Machine:
    """The file of budgets in `folder`. Every call reads it again, because other members of this machine write to it
    too."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder

    def claim(self, ledger: Ledger) -> None:
        """Notes an opened ledger, and what this machine remembers of it.

        Raises StorageError when it is a copy of one that lies elsewhere, or when this folder's ledger was another one.
        If the ledger is older than this file remembers, the ledger itself is told, and refuses to charge from then on.
        """
        folder, own = str(ledger.folder.resolve()), ledger.identity
        for record in self.records():
            if record.ledger == own:
                if record.folder != folder and record.exists():
                    raise StorageError(
                        f"this is a copy of the ledger in {record.folder}: two copies would spend one budget twice",
                        hint="run one of the two members only; delete the copy's folder, or the other one's",
                    )
                ledger.compare_with(record.witness)
            elif record.folder == folder and record.charges:
                raise StorageError(
                    f"the privacy ledger in {folder} is not the one that charged {len(record.charges)} rounds here: it "
                    "was deleted or replaced",
                    hint=RECOVER,
                )
        ledger.require_whole()
        ledger.watch(self.note)
        self.note(ledger)

    def has_claimed(self, ledger: Ledger, reading: str) -> bool:
        """Whether the code of that reading is known to have this ledger's budget and no other."""
        return any(
            record.ledger == ledger.identity and record.reading == reading for record in self.records()
        )

    def claim_data(
        self, ledger: Ledger, *, origins: Collection[str], texts: Collection[str], reading: str
    ) -> None:
        """Notes which data the ledger stands for. Raises ConfigurationError when that data has another budget."""
        texts = sorted(texts)[:TEXTS]
        for record in self.records():
            if record.ledger == ledger.identity or not record.same_data(origins, texts):
                continue
            if record.exists():
                raise ConfigurationError(
                    f"this code has a budget already, in {record.folder}: a second one would spend it twice",
                    hint="let one member name all repositories, or give this one other code",
                )
            if record.charges:
                raise ConfigurationError(
                    f"{len(record.charges)} rounds were charged for this code by the ledger in {record.folder}, which "
                    "is gone",
                    hint="`sordino client ledger recover` takes them over into this member's ledger",
                )
        self.note(ledger, origins=origins, texts=texts, reading=reading)

    def note(
        self,
        ledger: Ledger,
        *,
        origins: Collection[str] = (),
        texts: Collection[str] = (),
        reading: str = "",
    ) -> None:
        """Brings a ledger's record up to date; what is known of its data is kept. Durable when this returns."""
        stands, firm = ledger.stands(), ledger.firm()
        with self._changed() as records:
            before = next((record for record in records if record.ledger == ledger.identity), None)
            heads = before.heads if before is not None and before.generation == stands.generation else ()
            newest = (stands.sequence, stands.digest)
            records[:] = [record for record in records if record is not before] + [
                LedgerRecord(
                    ledger=ledger.identity,
                    folder=str(ledger.folder.resolve()),
                    generation=stands.generation,
                    heads=(*(head for head in heads if head[0] < stands.sequence), newest)[-HEADS:],
                    charges=tuple(
                        charge_of(reservation, firm=(reservation.run, reservation.round) in firm)
                        for reservation in ledger.reservations()
                    ),
                    origins=tuple(sorted({*origins, *(before.origins if before else ())})),
                    texts=tuple(sorted(texts)[:TEXTS]) if texts else before.texts if before else (),
                    reading=reading or (before.reading if before else ""),
                )
            ]

    def forget(self, ledgers: Collection[bytes]) -> None:
        """Removes records whose charges another ledger took over."""
        with self._changed() as records:
            records[:] = [record for record in records if record.ledger not in ledgers]

    def records(self) -> tuple[LedgerRecord, ...]:
        """Every ledger that is known. Raises ConfigurationError, StorageError."""
        path = self.folder / FILE
        if not path.exists():
            return ()
        return decode(
            Budgets, read_file(path, limit=MAX_FILE_BYTES), limit=MAX_FILE_BYTES, what=str(path)
        ).ledgers

    @contextlib.contextmanager
    def _changed(self) -> Iterator[list[LedgerRecord]]:
        with locked(self.folder):
            before = self.records()
            records = list(before)
            yield records
            if tuple(records) != before:
                write_file(self.folder / FILE, encode(Budgets(ledgers=tuple(records))), secret=True)


def charge_of(reservation: Reservation, *, firm: bool) -> Charge:
    """A reservation as the file knows it."""
    event, alone = reservation.cost.event, reservation.cost.alone
    return Charge(
        run=reservation.run,
        round=reservation.round,
        plan=reservation.plan,
        sampling_rate=event.sampling_rate,
        noise_multiplier=event.noise_multiplier,
        steps=event.steps,
        firm=firm,
        own_noise_multiplier=alone.noise_multiplier if reservation.cost.shared else None,
    )


def machine_folder() -> Path:
    """Where the file lies: the user's state folder (XDG base directories). Raises ConfigurationError."""
    base = os.environ.get("XDG_STATE_HOME")
    if base:
        return Path(base) / "sordino"
    try:
        return Path.home() / ".local" / "state" / "sordino"
    except RuntimeError as error:
        raise ConfigurationError(
            "this user has no home folder to keep the file of budgets in", hint="set XDG_STATE_HOME"
        ) from error
