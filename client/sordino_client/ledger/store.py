"""`Ledger`: RESERVE, then train, then upload, then COMMIT; or VOID, where nothing was uploaded.

    ledger = Ledger.open(folder, datasets=[repository_identity(root)], budget=Budget(epsilon=8, delta=1e-6))
    reservation = ledger.reserve("run-1", 3, plan)       # BudgetError: nothing was trained, nothing was spent
    update = train(job)
    ...                                                  # upload, through `Journal`
    ledger.commit(reservation)

The charge is durable before training starts, and nothing is uploaded without a charge, so no crash can release an
update that was not counted. Reserving a round again (after a crash) charges nothing more: one round releases at most
one update, because the trainer reuses a finished one and the journal refuses a second one. A round that ended before
its upload costs nothing: once its update is destroyed, the charge may be given back.

The ledger belongs to the data. A member has one; it names the repositories it stands for and counts everything that
was ever released about any of them. Opening it for wholly other repositories is refused.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from sordino_client.ledger.account import Account, Reservation, cost_body, entry_body
from sordino_client.ledger.budget import Budget, Cost
from sordino_client.ledger.chain import Chain, ChainHead, read_rows
from sordino_client.ledger.cost import RoundCost, events, events_alone
from sordino_client.ledger.limits import foreseen_cost, require_affordable
from sordino_client.ledger.witness import FILE as WITNESS_FILE
from sordino_client.ledger.witness import RECOVER, Witness, contradiction, keep, kept, milestones
from sordino_platform.plans import Plan
from sordino_privacy.accounting import Epsilon, epsilon
from sordino_privacy.errors import ConfigurationError, RefusalError, StorageError
from sordino_privacy.secagg.journal import JournalEntry, Step, require_follows
from sordino_privacy.secagg.refusals import ReplayError
from sordino_privacy.shared_noise import SharedNoise


class Ledger:
    """The open ledger of this process. Safe to share between threads. Provides secure aggregation's `Journal`."""

    def __init__(self, chain: Chain, budget: Budget, clock: Callable[[], int]) -> None:
        self._chain = chain
        self._budget = budget
        self._clock = clock
        self._account = Account.replay(chain.rows())
        self._lock = threading.RLock()
        self._contradicted: str | None = None
        self._watcher: Callable[[Ledger], None] | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        datasets: Collection[str],
        budget: Budget,
        witness: ChainHead | None = None,
        clock: Callable[[], int] = time.time_ns,
        recovering: bool = False,
    ) -> Ledger:
        """Opens or makes the ledger in `folder`, verifies all of it and locks it.

        `datasets` are repository identities (`repository_identity`). `witness` is a head of this ledger that somebody
        else remembers, such as the coordinator. Raises StorageError when the ledger is held, damaged, rolled back or
        deleted, ConfigurationError when it belongs to other data. With `recovering` no witness is asked; only
        `sordino_client.recovery` may do that.
        """
        if not datasets:
            raise ConfigurationError("a ledger needs the identity of at least one repository")
        chain = Chain(folder, witness=witness, recovering=recovering)
        try:
            ledger = cls(chain, budget, clock)
            if not recovering and (seen := kept(folder)) is not None:
                ledger.compare_with(seen)
                ledger.require_whole()
            ledger._adopt(datasets)
        except BaseException:
            chain.close()
            raise
        return ledger

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets another process open the ledger."""
        self._chain.close()

    @property
    def budget(self) -> Budget:
        return self._budget

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._chain.folder

    @property
    def identity(self) -> bytes:
        """The digest of the first row: no other ledger has it, and it stays when the folder moves."""
        first = self._chain.digest_at(1)
        assert first is not None, "an opened ledger names its data in its first row"
        return first

    @property
    def lost(self) -> ChainHead | None:
        """The high-water mark as it was found, while recovering."""
        return self._chain.lost

    def watch(self, watcher: Callable[[Ledger], None]) -> None:
        """`watcher` is called after each row, before the call that wrote it returns."""
        self._watcher = watcher

    def limit(self, epsilon: float) -> None:
        """Takes another cap on the total: the smaller of the member's own and a new epoch's. Spending stays."""
        with self._lock:
            self._budget = replace(self._budget, epsilon=epsilon)

    def head(self) -> ChainHead:
        """The head to tell a witness. It depends on no data, and lets the witness notice a later rollback."""
        return self._chain.head

    def stands(self) -> Witness:
        """The head with what a witness needs to compare it later; it depends on no data."""
        with self._lock:
            head = self._chain.head
            return Witness(
                generation=self._account.generation,
                sequence=head.sequence,
                digest=head.digest,
                charges=len(self._account.reservations),
                before=tuple(
                    (sequence, self._chain.digest_at(sequence) or b"")
                    for sequence in milestones(head.sequence)
                ),
            )

    def agrees(self, witness: Witness) -> int:
        """The last row up to which this ledger is certainly the one that the witness saw; 0 if that is unknown."""
        with self._lock:
            places = ((witness.sequence, witness.digest), *witness.before)
            return max((at for at, digest in places if self._chain.digest_at(at) == digest), default=0)

    def firm_by(self, sequence: int) -> frozenset[tuple[str, int]]:
        """The rounds whose charges were final at that row."""
        with self._lock:
            return frozenset(key for key, row in self._account.firm.items() if row <= sequence)

    def charge_lost(self, run: str, round: int, plan: bytes, cost: RoundCost) -> None:
        """Charges a round whose row was lost. The charge is final and is made even beyond the budget. Only recovery
        calls this."""
        with self._lock:
            self._append("lost", cost_body(run, round, plan, cost), self._now())

    def begin_generation(self, superseded: Collection[Witness]) -> None:
        """Notes that everything these witnesses saw is charged: a new generation begins, which they no longer
        contradict.

        Every charge becomes final, since the row that would tell that an update left may be among the lost ones.
        """
        with self._lock:
            places = sorted({(witness.generation, witness.sequence) for witness in superseded})
            self._append("recover", {"superseded": places, "held": "charged"}, self._now())
            (self._chain.folder / WITNESS_FILE).unlink(missing_ok=True)
            self._contradicted = None

    def compare_with(self, witness: Witness) -> None:
        """Takes note of a head that this ledger is said to have had, by a source that this member believes.

        If it contradicts the ledger, nothing more is charged, after a restart too, until the ledger is recovered.
        """
        with self._lock:
            found = self.contradiction(witness)
            if found is not None and self._contradicted is None:
                keep(self._chain.folder, witness)
                self._contradicted = found

    def contradiction(self, witness: Witness) -> str | None:
        """Why this ledger cannot be the one that the witness saw, or None."""
        with self._lock:
            account = self._account
            return contradiction(
                witness,
                generation=account.generation,
                sequence=self._chain.head.sequence,
                superseded=account.superseded,
                digest_at=self._chain.digest_at,
            )

    @property
    def whole(self) -> bool:
        """Whether no witness is known to have seen more of this ledger than it holds."""
        return self._contradicted is None

    def require_whole(self) -> None:
        """Raises StorageError when a witness saw more of this ledger than it holds now."""
        with self._lock:
            if self._contradicted is not None:
                raise StorageError(f"the privacy ledger is not whole: {self._contradicted}", hint=RECOVER)

    def spent(self) -> Epsilon:
        """The epsilon of everything ever reserved, as the federation holds, at the budget's delta; the local one where
        all noise was the member's own."""
        with self._lock:
            return epsilon(events(self._account.costs()), self._budget.delta)

    def spent_alone(self) -> Epsilon:
        """The local epsilon of everything ever reserved: it holds if all others collude with the coordinator."""
        with self._lock:
            return epsilon(events_alone(self._account.costs()), self._budget.delta)

    def reservations(self) -> Sequence[Reservation]:
        """Every charge, oldest first."""
        with self._lock:
            return tuple(self._account.reservations.values())

    def held(self) -> Sequence[tuple[str, int]]:
        """The rounds (run, number) that are charged and of which nothing has left this machine."""
        with self._lock:
            return tuple(self._account.held())

    def firm(self) -> frozenset[tuple[str, int]]:
        """The rounds (run, number) of which something left, or was about to: their charges are final."""
        with self._lock:
            return frozenset(self._account.firm)

    def preview(self, plan: Plan, rounds: int = 1, *, noise: SharedNoise | None = None) -> Cost:
        """The cost of a run of `rounds` rounds of this plan, and how many such runs are left.

        Charges nothing. `noise`, here and below, is given if the charter has it in shares.
        """
        with self._lock:
            cost = RoundCost.of_round(plan, noise)
            return foreseen_cost(self._account, self._budget, cost, rounds)

    def require(self, plan: Plan, *, run: str, round: int, noise: SharedNoise | None = None) -> None:
        """Checks that the round could be charged now, under this plan.

        Charges nothing. Held charges of other rounds do not count, because they are given back before this one is
        charged. Raises BudgetError, DayCapError, StorageError when the ledger is not whole.
        """
        with self._lock:
            self.require_whole()
            if (run, round) not in self._account.reservations:
                cost = RoundCost.of_round(plan, noise)
                held = self._account.held()
                require_affordable(self._account, self._budget, cost, now=self._now(), besides=held)

    def reserve(self, run: str, round: int, plan: Plan, *, noise: SharedNoise | None = None) -> Reservation:
        """Charges one round. Durable when it returns.

        Raises BudgetError when the round would exceed the budget or the day's caps (nothing is charged), RefusalError
        when the round was reserved under another plan, StorageError when the charge cannot be made durable.
        """
        with self._lock:
            self.require_whole()
            known = self._account.reservations.get((run, round))
            if known is not None:
                if known.plan != plan.digest():
                    raise RefusalError(
                        f"round {round} of run {run!r} was already charged under another plan",
                    )
                return known
            cost, now = RoundCost.of_round(plan, noise), self._now()
            require_affordable(self._account, self._budget, cost, now=now)
            self._append("reserve", cost_body(run, round, plan.digest(), cost), now)
            return self._account.reservations[run, round]

    def void(self, run: str, round: int) -> bool:
        """Gives a held charge back. Returns whether there was one. Call it once the round's update is destroyed.

        From then on the round can be neither uploaded nor committed, unless it is reserved again. Raises RefusalError
        when its update left, or was about to.
        """
        with self._lock:
            if (run, round) not in self._account.reservations:
                return False
            if (run, round) in self._account.firm:
                raise RefusalError(f"round {round} of run {run!r} was uploaded: its charge stays")
            self._append("void", {"run": run, "round": round}, self._now())
            return True

    def commit(self, reservation: Reservation) -> None:
        """Notes that the round's update was uploaded. Repeating it changes nothing. Raises RefusalError for a round
        that was never reserved here."""
        with self._lock:
            known = self._account.reservations.get((reservation.run, reservation.round))
            if known is None or known.plan != reservation.plan:
                raise RefusalError(
                    f"round {reservation.round} of run {reservation.run!r} was never reserved here"
                )
            if not known.committed:
                body: dict[str, object] = {"run": reservation.run, "round": reservation.round}
                self._append("commit", body, self._now())

    # The journal of secure aggregation (sordino_privacy.secagg.journal.Journal).

    def highest_epoch(self, federation: str) -> int:
        with self._lock:
            return self._account.epochs.get(federation, 0)

    def entries(self, federation: str, run: str, round: int) -> Sequence[JournalEntry]:
        with self._lock:
            return tuple(self._account.steps.get((federation, run, round), ()))

    def record(self, entry: JournalEntry) -> None:
        """Makes the step durable. Raises ReplayError when it does not follow from those before it, or when something of
        a round would leave that is not charged here."""
        with self._lock:
            existing = self.entries(entry.federation, entry.run, entry.round)
            require_follows(existing, entry)
            if entry.step >= Step.UPLOADED and (entry.run, entry.round) not in self._account.reservations:
                raise ReplayError(
                    f"round {entry.round} of run {entry.run!r} is not charged here: nothing of it may leave"
                )
            if entry not in existing:
                self._append("secagg", entry_body(entry), self._now())

    def _now(self) -> int:
        return max(self._clock(), self._account.latest)  # a clock that was set back must not open a new day

    def _adopt(self, datasets: Collection[str]) -> None:
        known = self._account.datasets
        if known and not known & set(datasets):
            raise ConfigurationError(
                "this ledger belongs to other repositories", hint="give each member its own state folder"
            )
        new = sorted(set(datasets) - known)
        if new:
            self._append("dataset", {"repositories": list(new)}, self._now())

    def _append(self, kind: str, body: dict[str, object], now: int) -> None:
        self._account.apply(self._chain.append(kind, body, time=now))
        self._chain.mark()
        if self._watcher is not None:
            self._watcher(self)


def read_account(folder: Path) -> Account:
    """The verified state of a ledger that another process may hold: for `sordino client ledger`."""
    return Account.replay(read_rows(folder))


def repository_identity(root: Path) -> str:
    """A name for a repository that stays when its files change: SHA-256 of where it lies. Tells nothing to others."""
    return hashlib.sha256(b"sordino-repository/1\n" + str(root.resolve()).encode()).hexdigest()
