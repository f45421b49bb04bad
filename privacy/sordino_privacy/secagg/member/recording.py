"""What a member puts into its journal before each step of an attempt, so that no restart takes a step twice."""

from __future__ import annotations

from dataclasses import dataclass

from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.journal import Journal, JournalEntry, Step, require_follows


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecorder:
    """The journal of the attempt that `context` describes."""

    journal: Journal
    context: RoundContext

    def require_possible(self, step: Step, update: bytes, what: bytes) -> None:
        """Raises ReplayError unless the step may be taken. Records nothing."""
        entry = self._entry(step, update, what)
        require_follows(self.journal.entries(entry.federation, entry.run, entry.round), entry)

    def record(self, step: Step, update: bytes, what: bytes) -> None:
        """Makes the step durable. `update` is the identity of the quantised update, `what` the hash of what the step
        binds to.

        Raises ReplayError. Recording the same step once more changes nothing.
        """
        entry = self._entry(step, update, what)
        existing = self.journal.entries(entry.federation, entry.run, entry.round)
        # Checked here too, so that a journal that only stores entries cannot weaken the rule.
        require_follows(existing, entry)
        if entry not in existing:
            self.journal.record(entry)

    def _entry(self, step: Step, update: bytes, what: bytes) -> JournalEntry:
        context = self.context
        return JournalEntry(
            federation=context.federation,
            epoch=context.epoch,
            run=context.run,
            round=context.round,
            attempt=context.attempt,
            step=step,
            update=update,
            digest=what,
        )
