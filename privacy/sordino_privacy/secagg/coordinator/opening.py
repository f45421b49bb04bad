"""Phase 5 at the coordinator: shares are revealed, the masks that are left come off, and the sum is decoded.

With it goes what shows every member that it is the sum of what the survivors uploaded (secagg/evidence.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sordino_privacy.secagg.coordinator.agreeing import AgreedSum
from sordino_privacy.secagg.coordinator.stage import AttemptTerms, Stage, require_sender
from sordino_privacy.secagg.evidence import Evidence, Lengths, lengths_of
from sordino_privacy.secagg.masks import Mask, RingVector
from sordino_privacy.secagg.quantise import Totals
from sordino_privacy.secagg.reconstruction import masks_of_seeds, opened_seeds
from sordino_privacy.secagg.refusals import (
    CheatError,
    IdentityError,
    NormError,
    ReplayError,
    ShareError,
    SurvivorError,
)
from sordino_privacy.secagg.shares import share_commitment
from sordino_privacy.secagg.sketch import Digest, Sketch, upload_digest
from sordino_privacy.secagg.survivors import Reveal, largest_reveal
from sordino_privacy.secagg.total import Total
from sordino_privacy.secagg.transcript import Record, sum_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateSum:
    """The opened sum. `vector` is the raw ring sum, extra limbs included; `totals` is what it means.

    For those who must believe it: `evidence` (a message), `carries` (what of the masked sum was above the ring, per
    element) and the `silent` survivors, whose uploads (`CoordinatorSession.upload_of`) stand in for their sketches.
    """

    vector: RingVector
    totals: Totals
    survivors: tuple[str, ...]
    dropped: tuple[str, ...]
    evidence: bytes
    carries: RingVector
    lengths: Lengths

    @property
    def silent(self) -> tuple[str, ...]:
        return self.lengths.silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasking:
    """Both kinds of seeds by owner, sorted, and the masks that they make, each with the sign that removes it."""

    self_seeds: tuple[tuple[str, bytes], ...]
    pair_seeds: tuple[tuple[str, bytes], ...]
    masks: Sequence[Mask]


class RevealPhase:
    """Phase 5: every member that signed reveals the shares it was asked for, and says what it uploaded."""

    stage: ClassVar[Stage] = Stage.REVEALS

    def __init__(self, terms: AttemptTerms, agreed: AgreedSum) -> None:
        self._terms, self.agreed, self._claimed = terms, agreed, agreed.claimed
        self._roster = agreed.claimed.shares.roster
        self._signers = frozenset(assent.sender for assent in agreed.assents)
        self._soundings = agreed.mustered.soundings if agreed.mustered else {}
        self.reveals: dict[str, Reveal] = {}

    def awaiting(self) -> frozenset[str]:
        return self._signers - self.reveals.keys()

    def largest_answer(self, member: str) -> int:
        return largest_reveal(sum(len(owners) for owners in self._claimed.owed(member)))

    def accept(self, sender: str, message: bytes) -> None:
        """Raises CheatError when a revealed share is not the one that its owner committed to; MalformedError,
        IdentityError, SurvivorError (it did not sign), ReplayError, ShareError (other shares than it was asked for,
        or another sketch than at the muster)."""
        if sender not in self._signers:
            raise SurvivorError(f"{sender!r} did not sign the survivors", culprit=sender)
        reveal = Reveal.decode(message, self._terms.membership.member(sender).public_key)
        require_sender(sender, reveal.sender)
        if reveal.roster_hash != self._roster.hash:
            raise ReplayError(f"a message of {sender!r} belongs to another attempt or roster", culprit=sender)
        if reveal.sketch.sender != sender:
            raise IdentityError(f"{sender!r} sent a sketch in the name of another", culprit=sender)
        reveal.sketch.verify(self._terms.membership, reveal.roster_hash, self.agreed.challenge)
        if reveal.sketch != self._soundings.get(sender, reveal.sketch):
            raise ShareError(f"{sender!r} says another thing than it said at the muster", culprit=sender)
        alive, dropped = self._claimed.owed(sender)
        self._require_shares(sender, reveal, (alive, dropped))
        # The same names, but those of the claim: a thousand reveals' own would take 15 MB.
        self.reveals[sender] = replace(
            reveal,
            self_shares=tuple(zip(alive, (share for _, share in reveal.self_shares), strict=True)),
            pair_shares=tuple(zip(dropped, (share for _, share in reveal.pair_shares), strict=True)),
        )

    def _require_shares(
        self, sender: str, reveal: Reveal, owed: tuple[tuple[str, ...], tuple[str, ...]]
    ) -> None:
        lists = (reveal.self_shares, reveal.pair_shares)
        if tuple(tuple(owner for owner, _ in shares) for shares in lists) != owed:
            raise ShareError(f"{sender!r} did not reveal exactly the shares it was asked for", culprit=sender)
        for which, shares in zip("bs", lists, strict=True):
            for owner, share in shares:
                committed = self._claimed.shares.commitment(owner, sender, which)
                if committed != share_commitment(self._roster.hash, owner, sender, which, share):
                    raise CheatError(
                        f"{sender!r} revealed a share of {owner!r} that is not the true one", culprit=sender
                    )

    def unmasking(self) -> Unmasking:
        """What takes the masks off. Raises ShareError when too few shares of a seed came, CheatError when a seed is
        not the one that its owner committed to."""
        roster, claim = self._roster, self._claimed.claim
        self_seeds, pair_seeds = opened_seeds(roster, claim, self.reveals)
        return Unmasking(
            self_seeds=tuple(sorted(self_seeds.items())),
            pair_seeds=tuple(sorted(pair_seeds.items())),
            masks=masks_of_seeds(roster, claim, self_seeds, pair_seeds, self._terms.context.ring_bits),
        )

    def sketches(self) -> tuple[Sketch, ...]:
        """What the survivors said they uploaded, sorted by name: at the muster, or else now."""
        said = self._soundings or {name: reveal.sketch for name, reveal in self.reveals.items()}
        return tuple(sketch for _, sketch in sorted(said.items()))

    def require_digests(
        self, total: Total, upload_of: Callable[[str], bytes | memoryview], *, threads: int
    ) -> None:
        """Every sketch is of the upload that came: its digest is computed here only if the sum of all is wrong.

        `total` is the masked sum, `upload_of` gives a survivor's masked upload. Raises CheatError naming who signed a
        digest of something else.
        """
        seed, dtype, sketches = self.agreed.challenge, self._terms.context.quantiser.dtype, self.sketches()
        spoken = {sketch.sender for sketch in sketches}

        def digested(name: str) -> Digest:
            return upload_digest([np.frombuffer(upload_of(name), dtype)], seed)

        digests = [sketch.rows for sketch in sketches]
        digests += [digested(name) for name in self._claimed.claim.survivors if name not in spoken]
        if tuple(map(sum, zip(*digests, strict=True))) == total.rows(seed, threads=threads):
            return
        for sketch in sketches:
            if sketch.rows != digested(sketch.sender):
                raise CheatError(
                    f"{sketch.sender!r} signed a digest of another upload than it sent",
                    culprit=sketch.sender,
                )
        raise AssertionError("true digests add up")

    def opened(self, total: Total, unmasking: Unmasking) -> AggregateSum:
        """The sum, once the masks of `unmasking` have been taken off `total`. Raises NormError when no survivors can
        have such weights."""
        claim, quantiser, sketches = self._claimed.claim, self._terms.context.quantiser, self.sketches()
        spoken = {sketch.sender for sketch in sketches}
        silent = tuple(name for name in claim.survivors if name not in spoken)
        lengths = lengths_of(
            self._terms.membership, quantiser, sketches, silent, total.ring, self.agreed.challenge
        )
        totals = quantiser.decode(total.ring)
        if not 0 < totals.weight <= len(claim.survivors):
            raise NormError("the sum of weights is impossible for the number of survivors")
        evidence = Evidence(
            roster_hash=self._roster.hash,
            self_seeds=unmasking.self_seeds,
            pair_seeds=unmasking.pair_seeds,
            sketches=sketches,
            draw=self.agreed.mustered.draw if self.agreed.mustered else (),
        )
        return AggregateSum(
            vector=total.ring,
            totals=totals,
            survivors=claim.survivors,
            dropped=claim.dropped,
            evidence=evidence.encode(),
            carries=total.carries,
            lengths=lengths,
        )


class OpenedPhase:
    """The attempt went well. Nobody is awaited; the sum's record can be made."""

    stage: ClassVar[Stage] = Stage.OPENED

    def __init__(self, terms: AttemptTerms, agreed: AgreedSum, vector: RingVector) -> None:
        self._terms, self.agreed, self._vector = terms, agreed, vector

    def awaiting(self) -> frozenset[str]:
        return frozenset()

    def largest_answer(self, member: str) -> int:
        return 0

    def record(self, previous: bytes, new_model_hash: bytes) -> bytes:
        """The sum's record for the transcript, chained to the head `previous`."""
        claimed = self.agreed.claimed
        return Record(
            previous=previous,
            context=self._terms.context.encode(),
            roster=claimed.shares.roster.encode(),
            statements=tuple(claimed.shares.sent[name].statement for name in claimed.shares.u2),
            claim=claimed.claim.encode(),
            assents=self.agreed.assents,
            sum_hash=sum_digest(self._vector),
            new_model_hash=new_model_hash,
        ).encode()
