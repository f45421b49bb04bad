"""One frozen picture of the federation, as the console shows it.

Read from what is on disk (rounds, releases, charters, events) with connections of its own, and from three counters of
this process. Nothing here comes from a member's private side: the coordinator does not have it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from sordino_coordinator.control.audit import AuditEntry, newest
from sordino_coordinator.control.live import Doing
from sordino_coordinator.federation import Federation
from sordino_coordinator.metrics import RejectionReason
from sordino_coordinator.rounds import MemberRecord, Outcome, RoundRecord, RoundStore
from sordino_platform.charter import CharterMember
from sordino_platform.identity import open_charters
from sordino_platform.offer import Unready
from sordino_platform.progress import FederationProgress, RoundView, sentence
from sordino_platform.release import Manifest
from sordino_platform.telemetry import follow_log

KEPT_ROUNDS: Final = 200
KEPT_VIEWS: Final = 2  # of the events of a round: the one that runs and the one before
KEPT_EVENTS: Final = 40
KEPT_ENTRIES: Final = 20
HOLDING: Final = frozenset({Doing.PAUSED, Doing.CLOSED})
TAIL_BYTES: Final = 1 << 20
FORGED: Final = (RejectionReason.SIGNATURE, RejectionReason.REPLAY, RejectionReason.UNKNOWN_CLIENT)
RECENT_SECONDS: Final = 15 * 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """A member of the charter. `epsilon` is what it chose to report, `epsilon_if_others_collude` beside it where noise
    comes in shares, and `certificate_ends` what it last showed; None before it did. `unready` is why it takes no part,
    None if it takes part or is not connected."""

    name: str
    organisation: str
    connected: bool
    epsilon: float | None
    certificate_ends: datetime | None
    unready: Unready | None = None
    epsilon_if_others_collude: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """A certificate, key or charter that the federation depends on and that ends one day."""

    what: str
    ends: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of the event log that a person wants to see."""

    at: str
    level: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleState:
    """See the module. Times in UTC; `pause_seconds` as set; counts of failures over the last 15 minutes.

    `noise_shares` is of how many honest members a sum has enough noise, 1 where each adds all of it. `smallest_cohort`
    is what a round begins with at least: the charter's floor, or more where the settings ask for it.

    `rounds` are the newest ones, without names; `released` is the completed round with the newest release, however
    many have failed since. `until` is when what the coordinator is doing ends by itself; `held_until` the last time
    that an order or the schedule was seen to hold rounds back.
    """

    at: datetime
    began: datetime
    federation: str
    coordinator: str
    software: str
    epoch: int
    charter_hash: str
    smallest_cohort: int
    epsilon_budget: float
    delta: float
    noise_shares: int
    pause_seconds: float
    members: tuple[MemberState, ...]
    endings: tuple[Expiry, ...]
    rounds: tuple[RoundRecord, ...]
    releases: tuple[Manifest, ...]
    running: RoundView | None
    latest: RoundView | None
    doing: Doing
    until: datetime | None
    held_until: datetime | None
    too_few_since: datetime | None
    audit: tuple[AuditEntry, ...]
    events: tuple[Event, ...]
    write_errors: int
    forged: Mapping[str, int]
    released: RoundRecord | None = None

    @property
    def outcomes(self) -> Counter[Outcome]:
        """The rounds at hand by how they ended."""
        return Counter(row.outcome for row in self.rounds)

    @property
    def completed(self) -> RoundRecord | None:
        """The newest completed round."""
        newest = (row for row in reversed(self.rounds) if row.outcome is Outcome.COMPLETED)
        return next(newest, self.released)

    @property
    def connected(self) -> int:
        """Members with an open link."""
        return sum(1 for member in self.members if member.connected)


class StateReader:
    """Reads the state at each call; of the events only those that were appended since. Used by one thread at a time."""

    def __init__(self, federation: Federation) -> None:
        """Raises ConfigurationError, StorageError."""
        self._federation = federation
        self._began = datetime.now(UTC)
        self._log = federation.folder / "events.jsonl"
        # What this process says begins here: connections of an earlier one say nothing about now.
        self._read = self._log.stat().st_size if self._log.exists() else 0
        self._rounds = RoundStore(federation.folder / "state.sqlite")
        self._charters = open_charters(federation.folder)
        self._releases = (
            federation.releases
        )  # not another one: of ten thousand releases the chain takes memory
        self._progress = FederationProgress()
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._failures: deque[tuple[float, Mapping[str, int]]] = deque()
        self._too_few_since: datetime | None = None
        self._held_until: datetime | None = None
        for event in follow_log(self._log, start=max(0, self._read - TAIL_BYTES), whole=False)[0]:
            self._tell(event)  # what earlier processes did

    def close(self) -> None:
        """Closes the reader's own connection."""
        self._rounds.close()

    def rounds(self, *, last: int, before: int | None) -> list[RoundRecord]:
        """Rounds with names, newest first: the newest `last` of those before round `before` (None: of all)."""
        return list(reversed(self._rounds.rounds(last=last, before=before)))

    def read(self) -> ConsoleState:
        """The state now. Raises StorageError, ConfigurationError when records on disk cannot be read."""
        self._follow()
        federation, charter = self._federation, self._charters.head().charter
        progress, failures = self._progress, self._recent_failures()
        latest, now, live = progress.current, datetime.now(UTC), federation.live.status
        seen = {record.name: record for record in self._rounds.members()}
        if live.doing in HOLDING:
            self._held_until = now
        # Who was retired may still hold a link for a moment, and counts for no round.
        here = progress.connected & {member.name for member in charter.members}
        smallest = max(federation.settings.quorum, charter.floors.cohort)
        enough = len(here) >= smallest
        self._too_few_since = None if enough else self._too_few_since or now
        return ConsoleState(
            at=now,
            began=self._began,
            federation=charter.federation,
            coordinator=charter.coordinator.name,
            software=version("sordino"),
            epoch=charter.epoch,
            charter_hash=charter.hash().hex(),
            smallest_cohort=smallest,
            epsilon_budget=charter.privacy.largest_epsilon,
            delta=federation.plan.delta,
            noise_shares=charter.noise_shares(),
            pause_seconds=federation.settings.pause_seconds,
            members=tuple(
                member_state(member, seen.get(member.name), connected=member.name in here)
                for member in charter.members
            ),
            endings=(
                Expiry(what="Coordinator's certificate", ends=federation.identity.tls().expires_at),
                Expiry(what="TLS authority", ends=charter.tls_authority.x509().not_valid_after_utc),
                Expiry(what="Charter", ends=charter.expires_at),
            ),
            rounds=tuple(self._rounds.rounds(last=KEPT_ROUNDS, names=False)),
            released=self._rounds.newest_completed(),
            releases=tuple(signed.manifest for signed in self._releases.chain()),
            running=latest if latest is not None and latest.outcome == "running" else None,
            latest=latest,
            doing=live.doing,
            until=None if live.until is None else datetime.fromtimestamp(live.until, UTC),
            held_until=self._held_until,
            too_few_since=self._too_few_since,
            audit=tuple(newest(federation.folder, last=KEPT_ENTRIES)),
            events=tuple(reversed(self._events)),
            write_errors=failures.pop("write"),
            forged={reason: count for reason, count in failures.items() if count},
        )

    def _follow(self) -> None:
        if self._log.exists() and self._log.stat().st_size < self._read:
            self._read = 0  # the log was rotated
        told, self._read = follow_log(self._log, start=self._read)
        for event in told:
            self._progress.apply(event)
            self._tell(event)
        self._progress.forget(keep=KEPT_VIEWS)

    def _tell(self, event: Mapping[str, Any]) -> None:
        if text := sentence(event):
            at, level = str(event.get("timestamp", "")), str(event.get("level", "info"))
            self._events.append(Event(at=at[:19].replace("T", " "), level=level, text=text))

    def _recent_failures(self) -> dict[str, int]:
        """How much each counter of failures grew in the last 15 minutes, as far as this reader saw it."""
        sample = self._federation.metrics.metrics.registry.get_sample_value
        counts = {
            reason.value: int(sample("sordino_messages_rejected_total", {"reason": reason.value}) or 0)
            for reason in FORGED
        }
        counts["write"] = int(sample("sordino_ledger_write_errors_total") or 0)
        now = time.monotonic()
        if not self._failures:
            self._failures.append((now, dict.fromkeys(counts, 0)))
        self._failures.append((now, counts))
        while now - self._failures[1][0] > RECENT_SECONDS:
            self._failures.popleft()
        before = self._failures[0][1]
        return {name: count - before[name] for name, count in counts.items()}


def member_state(member: CharterMember, seen: MemberRecord | None, *, connected: bool) -> MemberState:
    """A member of the charter, and what was last seen of it."""
    return MemberState(
        name=member.name,
        organisation=member.organisation,
        connected=connected,
        epsilon=None if seen is None else seen.epsilon,
        epsilon_if_others_collude=None if seen is None else seen.epsilon_if_others_collude,
        certificate_ends=None if seen is None else datetime.fromtimestamp(seen.certificate_expires, UTC),
        unready=Unready(seen.unready) if seen is not None and connected and seen.unready else None,
    )
