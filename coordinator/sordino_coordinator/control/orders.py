"""What the operator asked for, in `orders.json`: durable, followed between two rounds, the same after a restart.

A command and the API write the file under the folder's lock; the coordinator reads it. So an order can be given while
no coordinator runs, and is never lost with one that is killed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from sordino_coordinator.control.schedule import Schedule
from sordino_coordinator.settings import CoordinatorSettings
from sordino_platform.canonical import Document, decode, encode, first_problem
from sordino_platform.durable import locked, read_file, write_file
from sordino_platform.release import ServerOptimiser
from sordino_platform.release.manifest import MAX_NUMBER
from sordino_privacy.errors import UsageError

FILE = "orders.json"
MAX_ORDERS_BYTES = 1 << 16


class Pace(Document):
    """Settings that may change while the coordinator runs; None leaves what coordinator.toml says (see there)."""

    rounds: int | None = None
    pause_seconds: float | None = None
    gather_seconds: float | None = None
    cohort: int | None = None
    quorum: int | None = None
    train_seconds: float | None = None
    exchange_seconds: float | None = None
    attempts: int | None = None
    schedule: tuple[str, ...] | None = None
    server_optimiser: ServerOptimiser | None = None

    def over(self, settings: CoordinatorSettings) -> CoordinatorSettings:
        """`settings` with these in their place. Raises UsageError where one is out of its bounds."""
        given = self.model_dump(exclude_none=True)
        try:
            merged = CoordinatorSettings.model_validate(settings.model_dump() | given)
        except ValidationError as error:
            raise UsageError(f"that pace cannot be: {first_problem(error)}") from None
        Schedule.parse(merged.schedule)
        return merged


class Orders(Document):
    """Everything that was asked for. `restore` is a rollback that has not been made yet; `count_after` the release
    that was the newest when a count of phrases was asked for: it is made once a later release has counted."""

    version: Literal["sordino-orders/1"] = "sordino-orders/1"
    paused: bool = False
    restore: int | None = Field(default=None, ge=0, le=MAX_NUMBER)
    count_after: int | None = Field(default=None, ge=0, le=MAX_NUMBER)
    pace: Pace = Pace()


def read_orders(folder: Path) -> Orders:
    """The orders in a coordinator's folder. Raises StorageError, ConfigurationError for a damaged file."""
    path = folder / FILE
    if not path.exists():
        return Orders()
    return decode(Orders, read_file(path, limit=MAX_ORDERS_BYTES), limit=MAX_ORDERS_BYTES, what=str(path))


def change_orders(folder: Path, step: Callable[[Orders], Orders]) -> Orders:
    """Replaces the orders by `step` of them, durably, one process at a time."""
    with locked(folder):
        orders = step(read_orders(folder))
        write_file(folder / FILE, encode(orders), secret=True)
    return orders
