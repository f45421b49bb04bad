"""Phase 3 at the coordinator: masked uploads are added up as they come, and the claim says what they add up to.

A member that was sent a bad parcel complains instead. A true complaint is a proof against the sender of the parcel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sordino_privacy.secagg.complaint import MAX_COMPLAINT_BYTES, Complaint, complaint_proof
from sordino_privacy.secagg.coordinator.cohort import CohortShares
from sordino_privacy.secagg.coordinator.stage import AttemptTerms, Stage, require_sender
from sordino_privacy.secagg.intake import Intake, UploadReceiver
from sordino_privacy.secagg.refusals import CheatError, OrderError, ShareError, SurvivorError
from sordino_privacy.secagg.survivors import Claim, require_survivors
from sordino_privacy.secagg.upload import UploadHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedSum:
    """The claim that exactly these members survived (U3), whose uploads are what the accumulator holds."""

    shares: CohortShares
    claim: Claim
    u3: frozenset[str]

    @property
    def signed_hashes(self) -> tuple[bytes, bytes, bytes]:
        """H(U2), H(U3) and H(Y), as an assent signs them."""
        return self.shares.u2_hash, self.claim.u3_hash(), self.claim.total_hash

    def owed(self, member: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of whom `member` holds shares that must be revealed: survivors (b), dropped members (s)."""
        roster = self.shares.roster
        owners = set(roster.neighbours(member)) | ({member} if roster.graph.complete else set())
        alive = tuple(name for name in self.claim.survivors if name in owners)
        return alive, tuple(name for name in self.claim.dropped if name in owners)


def claim_sum(terms: AttemptTerms, shares: CohortShares, intake: Intake, u3: set[str]) -> ClaimedSum:
    """Claims `u3`, whose uploads and no others `intake` must hold. Raises SurvivorError, FloorError."""
    require_survivors(shares.roster, terms.membership, terms.context, u3)
    claim = Claim(
        roster_hash=shares.roster.hash,
        receipts=tuple(intake.receipts[name] for name in sorted(u3)),
        dropped=tuple(name for name in shares.u2 if name not in u3),
        total_hash=intake.total.digest(),
    )
    return ClaimedSum(shares=shares, claim=claim, u3=frozenset(u3))


class UploadPhase:
    """Phase 3: an upload of every member of U2, or a complaint. `proofs` holds what was proven, by cheater."""

    stage: ClassVar[Stage] = Stage.UPLOADS

    def __init__(self, terms: AttemptTerms, shares: CohortShares, intake: Intake) -> None:
        self._terms, self.shares, self.intake = terms, shares, intake
        self.proofs: dict[str, bytes] = {}

    def awaiting(self) -> frozenset[str]:
        return frozenset(self.shares.u2) - self.intake.receipts.keys()

    def largest_answer(self, member: str) -> int:
        return max(self._header(member).upload_bytes, MAX_COMPLAINT_BYTES)

    def begin(self, sender: str, *, threads: int) -> UploadReceiver:
        """Raises SurvivorError, OrderError (it has uploaded), BusyError."""
        if sender not in self.shares.u2:
            raise SurvivorError(f"{sender!r} is not in U2", culprit=sender)
        if sender in self.intake.receipts:
            raise OrderError(f"{sender!r} has already uploaded")
        return UploadReceiver(self.intake, self._terms.membership, self._header(sender), threads=threads)

    def _header(self, sender: str) -> UploadHeader:
        context = self._terms.context
        return UploadHeader(
            roster_hash=self.shares.roster.hash,
            sender=sender,
            u2_hash=self.shares.u2_hash,
            elements=context.dimension,
            ring_bits=context.ring_bits,
        )

    def accept_complaint(self, sender: str, message: bytes) -> None:
        """Keeps the proof of a true complaint. Raises CheatError, with a proof against its sender, for a false one;
        MalformedError, IdentityError, SurvivorError, OrderError (it has uploaded)."""
        complaint, roster = Complaint.decode(message), self.shares.roster
        require_sender(sender, complaint.complainer)
        if sender not in self.shares.u2:
            raise SurvivorError(f"{sender!r} is not in U2", culprit=sender)
        if sender in self.intake.receipts:
            raise OrderError(f"{sender!r} complains after its upload")
        culprit = complaint.culprit(self._terms.membership, roster)
        shown = complaint_proof(self._terms.context.encode(), roster.encode(), message)
        if culprit == sender:
            raise CheatError(
                f"{sender!r} complains of {complaint.accused!r} without cause", culprit=sender, proof=shown
            )
        self.proofs.setdefault(culprit, shown)

    def close(self) -> set[str]:
        """U3: whose uploads are in the sum. Uploads in progress are discarded. Raises ShareError when anybody is
        proven to have cheated: the attempt cannot end well."""
        if self.proofs:
            named = ", ".join(repr(name) for name in sorted(self.proofs))
            raise ShareError(f"proven to have sent shares that do not open: {named}")
        self.intake.close()
        return set(self.intake.receipts)
