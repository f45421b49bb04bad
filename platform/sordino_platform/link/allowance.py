"""How often a peer may do what it may do at any time: a token bucket. Pure: the caller brings the clock."""

from __future__ import annotations


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
