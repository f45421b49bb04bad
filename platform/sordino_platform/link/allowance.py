"""How often a peer, or all of them, may do what may be done at any time. Pure: the caller brings the clock."""

from __future__ import annotations

ROUNDING = 1e-6  # seconds


class Allowance:
    """A token bucket: `burst` at once, `rate` per second thereafter."""

    def __init__(self, burst: int, rate: float) -> None:
        self._burst, self._rate = float(burst), rate
        self._left, self._at = float(burst), 0.0

    def take(self, at: float) -> bool:
        """Whether one more is allowed at the time `at` (seconds, never going back)."""
        self._left = min(self._burst, self._left + (at - self._at) * self._rate)
        self._at = at
        self._left -= 1.0
        return self._left >= 0.0


class Turns:
    """Lets `burst` in at once and `rate` per second thereafter, and gives whoever comes beyond that a turn of its own.

    Nobody is sent away for longer than `most` seconds; where there are more turns than fit, some share one. A turn is
    a hint, no right: who comes then is asked like anybody.
    """

    def __init__(self, burst: int, rate: float, *, most: float) -> None:
        self._each, self._slack, self._most = 1 / rate, (burst - 1) / rate + ROUNDING, most
        self._due = self._last = 0.0

    def ask(self, at: float) -> float:
        """0.0 where one may come in at the time `at` (seconds, never going back), else in how many seconds to come.

        The generic cell rate algorithm (ITU-T I.371): unlike a bucket that goes into debt, who is sent away costs
        nobody else a place.
        """
        due = max(self._due, at)
        if due - at <= self._slack:
            self._due = due + self._each
            return 0.0
        self._last = max(self._last, at) + self._each
        return (self._last - at) % self._most or self._most
