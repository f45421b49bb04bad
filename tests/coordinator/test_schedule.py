"""A schedule says when rounds may begin, in UTC, and refuses what it cannot read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_coordinator.control.schedule import Schedule
from sordino_privacy.errors import UsageError

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def at(days: int, hours: int, minutes: int = 0) -> datetime:
    return MONDAY + timedelta(days=days, hours=hours, minutes=minutes)


@pytest.mark.parametrize(
    ("windows", "moment", "is_open"),
    [
        ([], at(3, 12), True),
        (["20:00-06:00"], at(2, 19, 59), False),
        (["20:00-06:00"], at(2, 20), True),
        (["20:00-06:00"], at(3, 5, 59), True),
        (["20:00-06:00"], at(3, 6), False),
        (["mon-fri 20:00-06:00"], at(5, 3), True),  # Friday's night reaches into Saturday
        (["mon-fri 20:00-06:00"], at(5, 21), False),
        (["sun 22:00-02:00"], at(0, 1), True),  # and Sunday's into Monday
        (["sat-sun 00:00-24:00"], at(6, 23, 59), True),
        (["sat-sun 00:00-24:00"], at(0, 0), False),
        (["fri-mon 08:00-09:00"], at(0, 8, 30), True),
        (["mon 08:00-09:00", "wed 10:00-11:00"], at(2, 10), True),
    ],
)
def test_a_window_is_open_from_its_begin_to_its_end(
    windows: list[str], moment: datetime, is_open: bool
) -> None:
    assert Schedule.parse(windows).open_at(moment) is is_open


def test_it_says_when_it_opens_next() -> None:
    schedule = Schedule.parse(["mon-fri 20:00-06:00"])
    assert schedule.opens_at(at(5, 12, 30)) == at(7, 20)
    assert schedule.opens_at(at(0, 21)) == at(0, 21)


@given(
    minute=st.integers(min_value=0, max_value=7 * 1440 - 1),
    begin=st.integers(0, 1439),
    end=st.integers(0, 1439),
)
def test_it_is_open_at_the_moment_that_it_names_and_at_none_before(minute: int, begin: int, end: int) -> None:
    window = f"tue-thu {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    schedule, now = Schedule.parse([window]), MONDAY + timedelta(minutes=minute)
    opens = schedule.opens_at(now)
    assert schedule.open_at(opens)
    assert not any(
        schedule.open_at(now + timedelta(minutes=m))
        for m in range(0, int((opens - now).total_seconds() / 60), 61)
    )


@pytest.mark.parametrize(
    "window",
    [
        "",
        "always",
        "monday 08:00-09:00",
        "mon 8:00-9:00",
        "25:00-26:00",
        "08:60-09:00",
        "mon-xyz 08:00-09:00",
    ],
)
def test_what_is_no_window_is_refused(window: str) -> None:
    with pytest.raises(UsageError, match="is not a window"):
        Schedule.parse([window])
