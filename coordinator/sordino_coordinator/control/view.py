"""One look at a coordinator's folder: for `sordino coordinator status`, the API and the console. Reads, never writes.

Everything here is what the protocol lets a coordinator know anyway. Works beside a running coordinator and without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sordino_coordinator.control.audit import newest
from sordino_coordinator.control.live import Doing, read_coordinator_status
from sordino_coordinator.control.orders import read_orders
from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_coordinator.settings import load_coordinator_settings
from sordino_platform.identity import Identity
from sordino_platform.identity.renewal import RenewalBox, ending
from sordino_platform.machine.processes import alive
from sordino_platform.release import ReleaseStore

Facts = dict[str, Any]
SHOWN_NAMES: Final = 5


def status_facts(folder: Path) -> Facts:
    """What the coordinator does, what was ordered, the newest release, the last round, members and certificates."""
    identity, orders = Identity.load(folder), read_orders(folder)
    store = RoundStore(folder / "state.sqlite")
    try:
        past, members = store.rounds(last=1, names=False), store.members()
        counts = store.counts()
    finally:
        store.close()
    head = ReleaseStore(folder / "releases", identity.charters).look()
    settings = orders.pace.over(load_coordinator_settings(folder))
    charter, last = identity.charter, past[-1] if past else None
    tls = identity.tls()
    live = read_coordinator_status(folder)
    running = live is not None and live.doing is not Doing.STOPPED and alive(live.pid)
    return {
        "federation": charter.federation,
        "epoch": charter.epoch,
        "running": running,
        "live": {**asdict(live), "doing": live.doing.value} if live is not None and running else None,
        "paused": orders.paused,
        "rollback_ordered": orders.restore,
        "pace": orders.pace.model_dump(exclude_none=True, mode="json"),
        "cohort": settings.cohort or len(charter.members),
        "quorum": max(settings.quorum, charter.floors.cohort),
        "schedule": list(settings.schedule),
        "release": head.number if head else None,
        "heldout_loss_nats_per_token": head.heldout_loss if head else None,
        "rounds": sum(counts.values()),
        "rounds_completed": counts.get(Outcome.COMPLETED, 0),
        "last_round": last.round if last else None,
        "last_outcome": last.outcome.value if last else None,
        "last_reason": last.reason if last else None,
        "certificate_days_left": tls.days_left(),
        "certificate_warning": ending(tls, datetime.now(UTC)),
        "renewals_waiting": [one.name for one in RenewalBox(folder).waiting()],
        "charter_days_left": round((charter.expires_at - datetime.now(UTC)).total_seconds() / 86400, 1),
        "members": [asdict(member) for member in members],
    }


def round_facts(folder: Path, *, last: int, before: int | None = None) -> list[Facts]:
    """The newest rounds of those before round `before` (None: of all), oldest first."""
    store = RoundStore(folder / "state.sqlite")
    try:
        return [asdict(row) for row in store.rounds(last=last, before=before)]
    finally:
        store.close()


def release_facts(folder: Path) -> list[Facts]:
    """Every release, oldest first; the chain is verified."""
    chain = ReleaseStore(folder / "releases", Identity.load(folder).charters).verify()
    return [signed.manifest.model_dump(mode="json") for signed in chain]


def audit_facts(folder: Path, *, last: int) -> list[Facts]:
    """The newest entries of the audit log, oldest first; not verified here (`sordino coordinator audit verify`
    does)."""
    return [entry.model_dump(mode="json") for entry in reversed(newest(folder, last=last))]


def some(names: Sequence[str], *, of: int | None = None, between: str = ", ") -> str:
    """A few of many names and how many more there are; `of` them in all, where not every name is at hand."""
    more = (len(names) if of is None else of) - len(names[:SHOWN_NAMES])
    listed = between.join(names[:SHOWN_NAMES])
    if more <= 0:
        return listed
    return f"{listed} and {more} more" if listed else str(more)
