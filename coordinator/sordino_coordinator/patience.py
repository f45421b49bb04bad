"""How long a member that was brought a history in vain waits until it is brought one again.

Each part is time that the others wait. Who comes further than ever before may take all the time that it needs. Who
does not (it is silent, takes a part by halves, or wants again what it has taken) waits a minute, and twice as long
each time.
"""

from __future__ import annotations

from collections import Counter

FIRST_WAIT_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 24 * 3600.0


class CatchUpPatience:
    """What one coordinator process remembers of it. `now` is in seconds of one steady clock."""

    def __init__(self) -> None:
        self._furthest: dict[str, int] = {}
        self._in_vain: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}

    def may_try(self, member: str, *, now: float) -> bool:
        """Whether this member may be brought parts now."""
        return now >= self._not_before.get(member, now)

    def settle(self, member: str, *, began: int | None, ended: int, now: float) -> float:
        """A stretch has ended: the member wanted release `began` first (None: it did not say), and `ended` last.

        Returns the seconds for which it waits: 0 if it came further than ever before.
        """
        furthest = self._furthest.get(member, 0)
        self._furthest[member] = max(furthest, ended)
        if began is not None and furthest <= began < ended:
            return 0.0
        if now - self._not_before.get(member, now) > LONGEST_WAIT_SECONDS:
            del self._in_vain[member]
        self._in_vain[member] += 1
        wait = min(FIRST_WAIT_SECONDS * 2.0 ** (self._in_vain[member] - 1), LONGEST_WAIT_SECONDS)
        self._not_before[member] = now + wait
        return wait
