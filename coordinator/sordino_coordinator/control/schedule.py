"""The hours in which rounds may begin: `"mon-fri 20:00-06:00"`, in UTC, so that no clock change moves them.

A window that ends before it begins reaches into the next day. No windows at all means: at any time. Pure: the moment is
given, no clock is read.

    >>> Schedule.parse(["mon-fri 20:00-06:00"]).open_at(datetime(2026, 11, 28, 3, 0, tzinfo=UTC))   # a Saturday
    True
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sordino_privacy.errors import UsageError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES, WEEK_MINUTES = 24 * 60, 7 * 24 * 60
MAX_WINDOWS = 32
_WINDOW = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Spans of a week in minutes since Monday 00:00 UTC, each `(begin, length)`; empty: always open."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, windows: Sequence[str]) -> Schedule:
        """Raises UsageError naming the window that cannot be read."""
        if len(windows) > MAX_WINDOWS:
            raise UsageError(f"a schedule has at most {MAX_WINDOWS} windows")
        return cls(tuple(span for window in windows for span in _spans(window)))

    def open_at(self, now: datetime) -> bool:
        """Whether a round may begin at `now`."""
        minute = _minute(now)
        return not self.spans or any((minute - begin) % WEEK_MINUTES < length for begin, length in self.spans)

    def opens_at(self, now: datetime) -> datetime:
        """The next moment at which a round may begin: `now` itself, or the start of the next window."""
        if self.open_at(now):
            return now
        minute = _minute(now)
        wait = min((begin - minute) % WEEK_MINUTES for begin, _ in self.spans)
        return now.replace(second=0, microsecond=0) + timedelta(minutes=wait)


def _minute(now: datetime) -> int:
    return now.weekday() * DAY_MINUTES + now.hour * 60 + now.minute


def _spans(window: str) -> list[tuple[int, int]]:
    match = _WINDOW.fullmatch(window.strip().lower())
    refusal = UsageError(
        f"{window!r} is not a window of a schedule",
        hint="write it as 'mon-fri 20:00-06:00' (UTC), or '20:00-06:00'",
    )
    if match is None:
        raise refusal
    first, last, *numbers = match.groups()
    hour, minute, until_hour, until_minute = map(int, numbers)
    begin, end = hour * 60 + minute, until_hour * 60 + until_minute
    if max(begin, end) > DAY_MINUTES or max(minute, until_minute) > 59 or {first, last} - {None, *DAYS}:
        raise refusal
    length = (end - begin) % DAY_MINUTES or DAY_MINUTES
    from_day = DAYS.index(first) if first else 0
    to_day = DAYS.index(last or first) if first else 6
    days = [(from_day + step) % 7 for step in range((to_day - from_day) % 7 + 1)]
    return [(day * DAY_MINUTES + begin, length) for day in days]
