"""Carries out the operator's orders between two rounds: a pause, the wait between rounds, the schedule's hours, a
rollback.

Orders are read from their file, so that it does not matter whether a command or the API gave them, or when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sordino_coordinator.control.audit import Action, AuditLog
from sordino_coordinator.control.live import Doing, Live
from sordino_coordinator.control.orders import Orders, Pace, change_orders, read_orders
from sordino_coordinator.control.schedule import Schedule
from sordino_coordinator.settings import CoordinatorSettings
from sordino_platform.canonical import first_problem
from sordino_platform.founding_model import founding_parameters
from sordino_platform.identity import Identity
from sordino_platform.round_limits import RoundLimits
from sordino_privacy.errors import SordinoError, UsageError

POLL_SECONDS = 0.5


def utc_now() -> datetime:
    """The wall clock: for the schedule only; waits are counted on the monotonic one."""
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class OrderDesk:
    """One coordinator's orders. `defaults` are the settings of its file; `restore` makes a rollback."""

    folder: Path
    defaults: CoordinatorSettings
    live: Live
    audit: AuditLog
    restore: Callable[[int], None]
    now: Callable[[], datetime] = utc_now
    _rested_since: float = field(default=0.0)
    _rest_longer: float = field(default=0.0)

    def settings(self) -> CoordinatorSettings:
        """The settings that hold now. Raises UsageError, StorageError."""
        return read_orders(self.folder).pace.over(self.defaults)

    def rest(self, longer: float = 0.0) -> None:
        """A round has ended: starts the pause before the next one, and `longer` seconds more."""
        self._rested_since, self._rest_longer = time.monotonic(), longer

    def must_wait(self) -> bool:
        """Whether no round may begin now. Says why in the status."""
        orders = read_orders(self.folder)
        settings = orders.pace.over(self.defaults)
        if orders.paused:
            self.live.update(doing=Doing.PAUSED, until=None)
            return True
        schedule, now = Schedule.parse(settings.schedule), self.now()
        if not schedule.open_at(now):
            self.live.update(doing=Doing.CLOSED, until=schedule.opens_at(now).timestamp())
            return True
        left = self._rested_since + settings.pause_seconds + self._rest_longer - time.monotonic()
        if self._rested_since and left > 0:
            self.live.update(doing=Doing.RESTING, until=round(time.time() + left))
            return True
        return False

    def wait(self, stopping: threading.Event) -> None:
        """Returns when a round may begin, or when `stopping` is set; makes an ordered rollback first."""
        while not stopping.is_set():
            self.roll_back()
            if not self.must_wait():
                return
            stopping.wait(POLL_SECONDS)

    def counted(self, after: int) -> None:
        """The count that was ordered after that release is done, or cannot be: a later order stays."""

        def step(orders: Orders) -> Orders:
            done = orders.count_after == after
            return orders.model_copy(update={"count_after": None}) if done else orders

        change_orders(self.folder, step)

    def roll_back(self) -> None:
        """Makes the rollback that was ordered, if one was. An impossible one is noted, and not tried again."""
        number = read_orders(self.folder).restore
        if number is None:
            return
        try:
            self.restore(number)
        except SordinoError as error:
            self.audit.append(Action.ROLLBACK_FAILED, f"release {number}: {error.message}")
        # The order is cleared after the rollback, not before. A crash between the two repeats the rollback, which
        # changes nothing; the other order of steps could lose it.
        change_orders(self.folder, lambda orders: _done(orders, number))


def order_count(folder: Path, *, newest: int) -> Orders:
    """Asks for a count of phrases, made by a release after the `newest` one."""
    return change_orders(folder, lambda orders: orders.model_copy(update={"count_after": newest}))


def cancel_count(folder: Path) -> Orders:
    """Takes the order back; a round that counts already ends as it would."""
    return change_orders(folder, lambda orders: orders.model_copy(update={"count_after": None}))


def _done(orders: Orders, number: int) -> Orders:
    return orders.model_copy(update={"restore": None}) if orders.restore == number else orders


def pause(folder: Path) -> Orders:
    """No new round begins; one that runs ends as it would."""
    return change_orders(folder, lambda orders: orders.model_copy(update={"paused": True}))


def resume(folder: Path) -> Orders:
    """Rounds go on."""
    return change_orders(folder, lambda orders: orders.model_copy(update={"paused": False}))


def order_rollback(folder: Path, number: int) -> Orders:
    """Asks for a release with an older one's model: between two rounds, or at the next start."""
    return change_orders(folder, lambda orders: orders.model_copy(update={"restore": number}))


def set_pace(
    folder: Path, defaults: CoordinatorSettings, changes: dict[str, Any], *, reset: bool = False
) -> Orders:
    """Changes some terms of the pace; with `reset`, all others go back to coordinator.toml.

    Raises UsageError, and PolicyError for a server's step beyond the charter.
    """

    def step(orders: Orders) -> Orders:
        kept = {} if reset else orders.pace.model_dump(exclude_none=True)
        try:
            pace = Pace(**(kept | changes))
        except ValidationError as error:
            raise UsageError(f"that pace cannot be: {first_problem(error)}") from None
        settings = pace.over(defaults)  # raises before anything is written
        if "server_optimiser" in changes:
            charter = Identity.load(folder).charter
            limits = RoundLimits.of(charter, founding_parameters(charter.model))
            limits.require_step(settings.plan.plan(), settings.server_optimiser)
        return orders.model_copy(update={"pace": pace})

    return change_orders(folder, step)
