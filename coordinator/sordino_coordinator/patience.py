"""How long a member must wait before the coordinator tries again to bring it the history, after a try that failed.

The other members wait while parts are sent. A member that got further than ever before may take all the time that it
needs. A member that did not (it was silent, took only some of a part, or asked again for a part that it had taken)
waits a minute, and twice as long each time.
"""

from __future__ import annotations

from collections import Counter

FIRST_WAIT_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 24 * 3600.0


class CatchUpPatience:
    """What one coordinator process remembers of each member's tries. `now` is in monotonic seconds."""

    def __init__(self) -> None:
        self._furthest: dict[str, int] = {}
        self._in_vain: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}

    def may_try(self, member: str, *, now: float) -> bool:
        """Whether parts may be sent to this member now."""
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
