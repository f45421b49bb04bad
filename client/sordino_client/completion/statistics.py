"""Local statistics: what was shown, accepted and dismissed, and how fast. Numbers only; they stay on the machine.

Kept per day for DAYS days in one file (0600), written only when something happened.
"""

from __future__ import annotations

import bisect
import datetime
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from sordino_client.completion.reasons import Reason
from sordino_platform import durable
from sordino_privacy.errors import StorageError

Event = Literal["shown", "accepted", "dismissed"]

DAYS = 60
MAX_BYTES = 1 << 20
# Upper bounds in milliseconds, a fifth apart: a percentile read from them is right to a tenth.
BOUNDS = tuple(round(1.2**n, 3) for n in range(1, 50))
COUNTERS = (*get_args(Event), "accepted_characters", "typed_characters")


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


class EndpointStatistics:
    """The counters of one endpoint. `today` gives the day as `YYYY-MM-DD`."""

    def __init__(self, path: Path, *, today: Callable[[], str] = _today) -> None:
        self._path, self._today = path, today
        self._lock = threading.Lock()
        self._changed = False
        self._days: dict[str, dict[str, Any]] = _read(path)

    def event(self, event: Event, characters: int) -> None:
        """Counts what a developer did with a completion of this many characters."""
        self._add(event, 1)
        if event == "accepted":
            self._add("accepted_characters", characters)

    def typed(self, characters: int) -> None:
        """Counts characters that were typed by hand: the other part of the ratio of completed code."""
        self._add("typed_characters", characters)

    def completed(self, characters: int) -> None:
        """Counts characters of a completion that were accepted before, or without, accepting all of it."""
        self._add("accepted_characters", characters)

    def outcome(self, reason: Reason) -> None:
        """Counts how a request ended."""
        with self._lock:
            reasons = self._day()["reasons"]
            reasons[reason] = reasons.get(reason, 0) + 1

    def latency(self, seconds: float) -> None:
        """Counts how long an answered request took, waiting included."""
        with self._lock:
            latencies = self._day()["latencies"]
            latencies[min(bisect.bisect_left(BOUNDS, seconds * 1000), len(BOUNDS) - 1)] += 1

    def save(self) -> None:
        """Writes the file if something changed. A full disk loses statistics, never a completion."""
        with self._lock:
            if not self._changed:
                return
            self._changed = False
            data = json.dumps({"version": 1, "days": self._days}).encode()
        try:
            durable.write_file(self._path, data, secret=True)
        except StorageError:
            self._changed = True

    def summary(self) -> dict[str, Any]:
        """All days together, and each day, for the page and for `sordino client stats`."""
        with self._lock:
            days = json.loads(json.dumps(self._days))
        whole = _empty()
        for day in days.values():
            for name in COUNTERS:
                whole[name] += day[name]
            for reason, count in day["reasons"].items():
                whole["reasons"][reason] = whole["reasons"].get(reason, 0) + count
            whole["latencies"] = [a + b for a, b in zip(whole["latencies"], day["latencies"], strict=True)]
        return figures(whole) | {"days": [{"day": day} | figures(days[day]) for day in sorted(days)]}

    def _add(self, name: str, count: int) -> None:
        with self._lock:
            self._day()[name] += count

    def _day(self) -> dict[str, Any]:
        self._changed = True
        day = self._today()
        if day not in self._days:
            self._days[day] = _empty()
            for old in sorted(self._days)[:-DAYS]:
                del self._days[old]
        return self._days[day]


def read(path: Path) -> dict[str, Any]:
    """The summary of a statistics file, for a command that does not run the endpoint."""
    return EndpointStatistics(path).summary()


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Counters, ratios (None where nothing was counted) and latency percentiles in milliseconds."""
    decided = counts["accepted"] + counts["dismissed"]
    written = counts["accepted_characters"] + counts["typed_characters"]
    return {name: counts[name] for name in COUNTERS} | {
        "acceptance": counts["accepted"] / counts["shown"] if counts["shown"] else None,
        "decided": decided,
        "completed_ratio": counts["accepted_characters"] / written if written else None,
        "reasons": counts["reasons"],
        "requests": sum(counts["latencies"]),
        **{f"latency_p{p}_ms": _percentile(counts["latencies"], p / 100) for p in (50, 95, 99)},
    }


def _percentile(latencies: list[int], share: float) -> float | None:
    total = sum(latencies)
    seen = 0
    for bound, count in zip(BOUNDS, latencies, strict=True):
        seen += count
        if total and seen >= share * total:
            return bound
    return None


def _empty() -> dict[str, Any]:
    return dict.fromkeys(COUNTERS, 0) | {"reasons": {}, "latencies": [0] * len(BOUNDS)}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The days of a file; none where it is missing or damaged: statistics are not worth a refusal to start."""
    try:
        document = json.loads(durable.read_file(path, limit=MAX_BYTES))
        days: dict[str, dict[str, Any]] = document["days"]
        whole = all(
            set(day) == set(_empty()) and len(day["latencies"]) == len(BOUNDS) for day in days.values()
        )
        return days if whole else {}
    except (StorageError, ValueError, KeyError, TypeError, AttributeError):
        return {}
