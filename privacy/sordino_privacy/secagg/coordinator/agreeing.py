"""Phase 4 at the coordinator: the survivors sign the claim, and so agree on the one set whose sum may be opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sordino_privacy.secagg.coordinator.mustering import Mustered
from sordino_privacy.secagg.coordinator.stage import AttemptTerms, PerMember, Stage, require_sender
from sordino_privacy.secagg.coordinator.uploading import ClaimedSum
from sordino_privacy.secagg.evidence import challenge_of
from sordino_privacy.secagg.refusals import QuorumError, SurvivorError
from sordino_privacy.secagg.survivors import (
    MAX_ASSENT_BYTES,
    Assent,
    opening_head,
    require_signers,
    with_owners,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedSum:
    """A claim that a quorum signed; `assents` sorted by name; `challenge` what every sketch of it is taken under."""

    claimed: ClaimedSum
    mustered: Mustered | None
    assents: tuple[Assent, ...]
    challenge: bytes

    def openings(self) -> PerMember:
        """An opening for each member that signed. All assents are in each: every reader wants its own nonce in the
        challenge."""
        head = opening_head(self.claimed.shares.roster.hash, self.assents)

        def opening(member: str) -> bytes:
            return with_owners(head, *self.claimed.owed(member))

        return PerMember((assent.sender for assent in self.assents), head, opening)


class SurvivorPhase:
    """Phase 4, after a muster or without one."""

    stage: ClassVar[Stage] = Stage.SURVIVORS

    def __init__(self, terms: AttemptTerms, claimed: ClaimedSum, mustered: Mustered | None) -> None:
        self._terms, self.claimed, self.mustered = terms, claimed, mustered
        self.assents: dict[str, Assent] = {}

    def awaiting(self) -> frozenset[str]:
        spoken = self.mustered.soundings if self.mustered else {}
        return frozenset(spoken or self.claimed.u3) - self.assents.keys()

    def largest_answer(self, member: str) -> int:
        return MAX_ASSENT_BYTES

    def accept(self, sender: str, message: bytes) -> None:
        """Raises MalformedError, IdentityError, SurvivorError (no survivor, or another nonce than at the muster)."""
        assent, mustered = Assent.decode(message), self.mustered
        require_sender(sender, assent.sender)
        if sender not in self.claimed.u3:
            raise SurvivorError(f"{sender!r} is not in U3", culprit=sender)
        if mustered and (sender not in mustered.soundings or mustered.nonces[sender] != assent.nonce):
            raise SurvivorError(
                f"{sender!r} signs with another nonce than it was mustered with", culprit=sender
            )
        roster_hash = self.claimed.shares.roster.hash
        assent.verify(self._terms.membership, roster_hash, *self.claimed.signed_hashes)
        self.assents[sender] = assent

    def close(self) -> AgreedSum:
        """Raises QuorumError, SurvivorError, FloorError when those that signed are too few or too alike."""
        claimed, roster = self.claimed, self.claimed.shares.roster
        quorum = roster.numbers.quorum
        if len(self.assents) < quorum:
            raise QuorumError(f"{len(self.assents)} signatures are below the quorum of {quorum}")
        membership, context = self._terms.membership, self._terms.context
        require_signers(roster, membership, context, set(claimed.u3), set(self.assents))
        assents = tuple(assent for _, assent in sorted(self.assents.items()))
        if self.mustered:
            challenge = self.mustered.challenge
        else:
            nonces = tuple((assent.sender, assent.nonce) for assent in assents)
            challenge = challenge_of(roster, claimed.claim, nonces)
        return AgreedSum(claimed=claimed, mustered=self.mustered, assents=assents, challenge=challenge)
