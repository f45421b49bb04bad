"""Folds the ledger's rows into what they mean. Pure: rows in, state out.

Kinds of row:

    dataset   repositories that this ledger stands for (identities only)
    reserve   the privacy of one round, charged from this moment on
    void      that round's update was destroyed before any of it left: its charge is given back
    commit    that round's update was uploaded
    secagg    a step of the aggregation protocol (see sordino_privacy.secagg.journal)
    lost      the privacy of a round whose row was lost, charged anew and for good
    recover   a new generation: rows that were lost, up to these places, are charged by the rows before

A reservation is *held* until the journal says that its update is about to leave (step UPLOADED, durable before the
first byte), and *firm* from then on, whatever happens next. A held one may be given back: nothing that depends on the
data has left, and the row that gives it back forbids the upload that it paid for. Why that is sound: docs/adr/0020.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from sordino_client.ledger.chain import Row
from sordino_client.ledger.cost import RoundCost
from sordino_privacy.errors import StorageError
from sordino_privacy.secagg.journal import JournalEntry, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The charge of one round. `plan` is the plan's digest; `time` is in nanoseconds since 1970."""

    run: str
    round: int
    plan: bytes
    cost: RoundCost
    time: int
    committed: bool = False


@dataclass(slots=True)
class Account:
    """All rows so far, folded."""

    datasets: set[str] = field(default_factory=set)
    reservations: dict[tuple[str, int], Reservation] = field(default_factory=dict)
    reserved_at: list[int] = field(default_factory=list)
    firm: dict[tuple[str, int], int] = field(default_factory=dict)  # at which row it became so
    steps: dict[tuple[str, str, int], list[JournalEntry]] = field(default_factory=lambda: defaultdict(list))
    epochs: dict[str, int] = field(default_factory=dict)
    latest: int = 0
    generation: int = 0
    superseded: dict[int, int] = field(default_factory=dict)

    @classmethod
    def replay(cls, rows: Iterable[Row]) -> Account:
        account = cls()
        for row in rows:
            account.apply(row)
        return account

    def costs(self, *, since: int = 0, besides: Collection[tuple[str, int]] = ()) -> list[RoundCost]:
        """All charges, committed or not, from the time `since` on, except those of the rounds `besides`."""
        return [
            reservation.cost
            for key, reservation in self.reservations.items()
            if reservation.time >= since and key not in besides
        ]

    def held(self) -> list[tuple[str, int]]:
        """The rounds (run, number) that are charged and of which nothing has left this machine."""
        return [key for key in self.reservations if key not in self.firm]

    def apply(self, row: Row) -> None:
        """Takes one more row into the state. Raises StorageError for a row that this version cannot read."""
        try:
            self._apply(row)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"the privacy ledger's row {row.sequence} cannot be read", hint="update sordino"
            ) from error
        self.latest = max(self.latest, row.time)

    def _apply(self, row: Row) -> None:
        body: dict[str, object] = row.body
        match row.kind:
            case "dataset":
                repositories = body["repositories"]
                if not isinstance(repositories, list):
                    raise TypeError("repositories")
                self.datasets.update(map(str, repositories))
            case "reserve" | "lost":
                cost = read_cost(body)
                run, round_ = str(body["run"]), _whole(body["round"])
                self.reservations[run, round_] = Reservation(
                    run=run, round=round_, plan=bytes.fromhex(str(body["plan"])), cost=cost, time=row.time
                )
                if row.kind == "lost":
                    self.firm.setdefault((run, round_), row.sequence)
                else:
                    self.reserved_at.append(row.time)
            case "recover":
                self.generation += 1
                if body.get("held") == "charged":
                    for key in self.reservations:
                        self.firm.setdefault(key, row.sequence)
                for generation, sequence in _pairs(body["superseded"]):
                    self.superseded[generation] = max(sequence, self.superseded.get(generation, -1))
            case "void":
                key = str(body["run"]), _whole(body["round"])
                if key in self.firm:
                    raise ValueError("a charge whose update left cannot be given back")
                del self.reservations[key]
            case "commit":
                key = str(body["run"]), _whole(body["round"])
                self.reservations[key] = replace(self.reservations[key], committed=True)
                self.firm.setdefault(key, row.sequence)
            case "secagg":
                entry = parse_entry(body)
                if entry.step >= Step.UPLOADED:
                    self.firm.setdefault((entry.run, entry.round), row.sequence)
                self.steps[entry.federation, entry.run, entry.round].append(entry)
                self.epochs[entry.federation] = max(self.epochs.get(entry.federation, 0), entry.epoch)
            case _:
                raise ValueError(row.kind)


def cost_body(run: str, round: int, plan: bytes, cost: RoundCost) -> dict[str, object]:
    """The row of a charge."""
    body: dict[str, object] = {
        "run": run,
        "round": round,
        "plan": plan.hex(),
        "sampling_rate": cost.event.sampling_rate,
        "noise_multiplier": cost.event.noise_multiplier,
        "steps": cost.event.steps,
    }
    if cost.shared:
        body["own_noise_multiplier"] = cost.alone.noise_multiplier
    return body


def read_cost(body: dict[str, object]) -> RoundCost:
    """The cost in the row of a charge."""
    own = body.get("own_noise_multiplier")
    return RoundCost.of(
        sampling_rate=_number(body["sampling_rate"]),
        noise_multiplier=_number(body["noise_multiplier"]),
        steps=_whole(body["steps"]),
        own_noise_multiplier=None if own is None else _number(own),
    )


def entry_body(entry: JournalEntry) -> dict[str, object]:
    """The row of one secure-aggregation step."""
    return {
        "federation": entry.federation,
        "epoch": entry.epoch,
        "run": entry.run,
        "round": entry.round,
        "attempt": entry.attempt,
        "step": int(entry.step),
        "update": entry.update.hex(),
        "digest": entry.digest.hex(),
    }


def parse_entry(body: dict[str, object]) -> JournalEntry:
    return JournalEntry(
        federation=str(body["federation"]),
        epoch=_whole(body["epoch"]),
        run=str(body["run"]),
        round=_whole(body["round"]),
        attempt=_whole(body["attempt"]),
        step=Step(_whole(body["step"])),
        update=bytes.fromhex(str(body["update"])),
        digest=bytes.fromhex(str(body["digest"])),
    )


def _pairs(value: object) -> list[tuple[int, int]]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return [(_whole(first), _whole(second)) for first, second in value]


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return float(value)
