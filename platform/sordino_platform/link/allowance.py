"""Rate limits for actions that a peer, or all peers together, may take at any time. Pure: the caller gives the time."""

from __future__ import annotations

ROUNDING = 1e-6  # seconds


class Allowance:
    """A token bucket: `burst` at once, `rate` per second thereafter."""

    def __init__(self, burst: int, rate: float) -> None:
        self._burst, self._rate = float(burst), rate
        self._left, self._at = float(burst), 0.0

    def take(self, at: float) -> bool:
        """Whether one more is allowed at the time `at` (seconds, never decreasing)."""
        self._left = min(self._burst, self._left + (at - self._at) * self._rate)
        self._at = at
        self._left -= 1.0
        return self._left >= 0.0


class Turns:
    """Admits `burst` at once and `rate` per second thereafter, and gives each further caller its own turn.

    Nobody has to wait longer than `most` seconds; if there are more turns than fit into that time, some callers share
    one. A turn is a hint and not a reservation: a caller that comes back is checked like any other.
    """

    def __init__(self, burst: int, rate: float, *, most: float) -> None:
        self._each, self._slack, self._most = 1 / rate, (burst - 1) / rate + ROUNDING, most
        self._due = self._last = 0.0

    def ask(self, at: float) -> float:
        """0.0 if one may be admitted at the time `at` (seconds, never decreasing), else the seconds to wait.

        The generic cell rate algorithm (ITU-T I.371): a refused caller takes no place from others, unlike with a token
        bucket that goes into debt.
        """
        due = max(self._due, at)
        if due - at <= self._slack:
            self._due = due + self._each
            return 0.0
        self._last = max(self._last, at) + self._each
        return (self._last - at) % self._most or self._most
