"""The muster at the coordinator (secagg/muster.py): survivors of a large cohort say what they uploaded, then sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sordino_privacy.secagg.coordinator.stage import AttemptTerms, Stage, require_sender
from sordino_privacy.secagg.coordinator.uploading import ClaimedSum
from sordino_privacy.secagg.evidence import challenge_of
from sordino_privacy.secagg.muster import (
    MAX_PRESENCE_BYTES,
    MAX_SOUNDING_BYTES,
    MOST_MUSTERS,
    SILENT_LIMIT,
    Draw,
    MusterAnswer,
    Nonces,
    sketch_of,
)
from sordino_privacy.secagg.refusals import SurvivorError
from sordino_privacy.secagg.sketch import Sketch

MUSTERED_ABOVE = 3 * SILENT_LIMIT
"""Survivors. Of fewer, a third may be silent and be stood in for by their uploads."""


def must_be_mustered(claimed: ClaimedSum, *, musters: int) -> bool:
    """Whether more of these survivors could fall silent than may be, and may be asked once more what they uploaded.
    `musters` is how many times survivors were asked in this attempt."""
    return len(claimed.u3) > MUSTERED_ABOVE and musters < MOST_MUSTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Mustered:
    """A muster that is over: the nonces by name that its challenge is made of, and what each survivor said."""

    nonces: Mapping[str, bytes]
    soundings: Mapping[str, Sketch]
    challenge: bytes

    @property
    def draw(self) -> Nonces:
        return tuple(sorted(self.nonces.items()))


class PresencePhase:
    """Every survivor says that it is there, and draws a nonce."""

    stage: ClassVar[Stage] = Stage.MUSTER

    def __init__(self, claimed: ClaimedSum) -> None:
        self.claimed = claimed
        self._nonces: dict[str, bytes] = {}

    def awaiting(self) -> frozenset[str]:
        return self.claimed.u3 - self._nonces.keys()

    def largest_answer(self, member: str) -> int:
        return MAX_PRESENCE_BYTES

    def accept(self, sender: str, message: bytes) -> None:
        """Raises MalformedError, IdentityError, SurvivorError."""
        presence = MusterAnswer.decode(message)
        require_sender(sender, presence.sender)
        if sender not in self.claimed.u3:
            raise SurvivorError(f"{sender!r} is not in U3", culprit=sender)
        self._nonces[sender] = presence.nonce

    def close(self) -> Mapping[str, bytes]:
        """The nonces by name. Raises SurvivorError when there are none."""
        if not self._nonces:
            raise SurvivorError("no survivor answered the muster")
        return self._nonces


class SoundingPhase:
    """Every survivor that is there says what it uploaded, under the challenge of all nonces."""

    stage: ClassVar[Stage] = Stage.SOUNDINGS

    def __init__(self, terms: AttemptTerms, claimed: ClaimedSum, nonces: Mapping[str, bytes]) -> None:
        self._terms, self.claimed = terms, claimed
        challenge = challenge_of(claimed.shares.roster, claimed.claim, tuple(sorted(nonces.items())))
        self._soundings: dict[str, Sketch] = {}
        self._mustered = Mustered(nonces=nonces, soundings=self._soundings, challenge=challenge)

    def awaiting(self) -> frozenset[str]:
        return frozenset(self._mustered.nonces) - self._soundings.keys()

    def largest_answer(self, member: str) -> int:
        return MAX_SOUNDING_BYTES

    def draw(self) -> bytes:
        """All nonces, for every member that is there."""
        return Draw(roster_hash=self.claimed.shares.roster.hash, nonces=self._mustered.draw).encode()

    def accept(self, sender: str, message: bytes) -> None:
        """Raises MalformedError, IdentityError, SurvivorError (it was not there)."""
        sketch = sketch_of(message)
        require_sender(sender, sketch.sender)
        if sender not in self._mustered.nonces:
            raise SurvivorError(f"{sender!r} did not answer the muster", culprit=sender)
        roster_hash = self.claimed.shares.roster.hash
        sketch.verify(self._terms.membership, roster_hash, self._mustered.challenge)
        self._soundings[sender] = sketch

    def silent(self) -> tuple[str, ...]:
        """The survivors that did not say what they uploaded."""
        return tuple(name for name in self.claimed.claim.survivors if name not in self._soundings)

    def close(self) -> Mustered | None:
        """What was said; None when more are silent than may be, and so must be left out of the sum."""
        return self._mustered if len(self.silent()) <= SILENT_LIMIT else None
