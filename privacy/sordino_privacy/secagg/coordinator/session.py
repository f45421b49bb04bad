"""The order of the phases at the coordinator, what passes from each to the next, and what ends an attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ClassVar, TypeVar

import numpy as np

from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.coordinator.agreeing import SurvivorPhase
from sordino_privacy.secagg.coordinator.cohort import AdvertisementPhase, CohortShares, SharePhase
from sordino_privacy.secagg.coordinator.mustering import PresencePhase, SoundingPhase, must_be_mustered
from sordino_privacy.secagg.coordinator.opening import AggregateSum, OpenedPhase, RevealPhase
from sordino_privacy.secagg.coordinator.stage import AttemptTerms, CollectingPhase, PerMember, Stage
from sordino_privacy.secagg.coordinator.uploading import ClaimedSum, UploadPhase, claim_sum
from sordino_privacy.secagg.evidence import Lengths
from sordino_privacy.secagg.intake import Data, Intake, Keeper, MemoryKeeper, UploadReceiver
from sordino_privacy.secagg.masks import apply
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.quantise import Totals
from sordino_privacy.secagg.refusals import AbortedError, CheatError, NormError, OrderError, SecaggError
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.total import Total

P = TypeVar("P", bound=CollectingPhase)


class AbortedPhase:
    """The attempt has failed. Nobody is awaited."""

    stage: ClassVar[Stage] = Stage.ABORTED

    def awaiting(self) -> frozenset[str]:
        return frozenset()

    def largest_answer(self, member: str) -> int:
        return 0


class CoordinatorSession:
    """One attempt. Not thread-safe, except that different `UploadReceiver`s may be fed by different threads.

    `staging` bounds the uploads in progress at a time, and with them the memory. `keeper` keeps the masked uploads.
    Raises ThresholdError and FloorError for a context that is below the membership's floors. Each `accept_*` raises
    what the `accept` of its phase raises, and OrderError or AbortedError in another phase; each `close_*` raises
    CheatError, NormError or AbortedError, after which the session is over.
    """

    def __init__(
        self, membership: Membership, context: RoundContext, *, staging: int = 2, keeper: Keeper | None = None
    ) -> None:
        context.require_floors(membership)
        self._terms = AttemptTerms(membership=membership, context=context, ctx=context.digest())
        self._staging, self._keeper = staging, keeper or MemoryKeeper()
        self._phase: CollectingPhase = AdvertisementPhase(self._terms)
        self._roster: Roster | None = None
        self._intake: Intake | None = None
        self._claimed: ClaimedSum | None = None
        self._proofs: Mapping[str, bytes] = {}
        self._musters = 0

    @property
    def stage(self) -> Stage:
        return self._phase.stage

    @property
    def context(self) -> RoundContext:
        return self._terms.context

    @property
    def cohort(self) -> tuple[str, ...]:
        """U1, sorted; empty before the advertisements are closed."""
        return self._roster.names if self._roster else ()

    @property
    def roster(self) -> Roster:
        """Raises OrderError before the advertisements are closed."""
        if self._roster is None:
            raise OrderError("there is no roster yet")
        return self._roster

    @property
    def survivors(self) -> tuple[str, ...]:
        """U3, sorted; empty before the uploads are closed."""
        return self._claimed.claim.survivors if self._claimed else ()

    @property
    def cheaters(self) -> Mapping[str, bytes]:
        """Who is proven to have sent a bad parcel, and the proof that anybody can judge (`judge_complaint`). With
        one of them the attempt cannot end well: those it cheated have left, and its own secrets may not open."""
        return self._proofs

    def awaiting(self) -> frozenset[str]:
        """Who could still be accepted before the phase closes; empty in phase 1, where nobody is expected yet."""
        return self._phase.awaiting()

    def largest_answer(self, member: str) -> int:
        """Bytes of the longest message that `member` can send in the present phase: what is longer is a lie, and can be
        refused before it is received."""
        return self._phase.largest_answer(member)

    def abort(self, reason: str) -> AbortedError:
        """Ends the session, drops the accumulator, and returns the error to raise."""
        error = AbortedError(f"the attempt was aborted in phase {self.stage.name}: {reason}")
        if self._intake is not None:
            self._intake.close()
        self._phase, self._intake = AbortedPhase(), None
        return error

    # Phases 1 and 2: who takes part

    def accept_advertisement(self, sender: str, message: bytes) -> None:
        self._in(AdvertisementPhase).accept(sender, message)

    def close_advertisements(self) -> bytes:
        """The roster, for every member in it."""
        with self._closing(AdvertisementPhase) as phase:
            self._roster = roster = phase.close()
            self._phase = SharePhase(self._terms, roster)
        return roster.encode()

    def accept_shares(self, sender: str, message: bytes) -> None:
        self._in(SharePhase).accept(sender, message)

    def close_shares(self) -> PerMember:
        """A delivery for each member of U2."""
        with self._closing(SharePhase) as phase:
            shares = phase.close()
            self._intake = Intake(self.context.quantiser, self._staging, self._keeper)
            self._phase = UploadPhase(self._terms, shares, self._intake)
        return shares.deliveries()

    # Phase 3: the masked updates

    def begin_upload(self, sender: str, *, threads: int = 1) -> UploadReceiver:
        """A receiver for the upload of `sender`, which is hashed by so many threads. Raises
        SurvivorError, OrderError (uploaded, or late) or BusyError."""
        return self._in(UploadPhase).begin(sender, threads=threads)

    def accept_upload(self, sender: str, frames: Iterable[Data], *, threads: int = 1) -> None:
        """A whole upload, in frames of any size, hashed by so many threads."""
        self.begin_upload(sender, threads=threads).receive(frames)

    def accept_complaint(self, sender: str, message: bytes) -> None:
        """A complaint in place of an upload. Raises CheatError when it is false; then its sender is the cheater.

        A true one is kept: see `cheaters`. Its sender takes no part in the rest of the attempt.
        """
        phase = self._in(UploadPhase)
        phase.accept_complaint(sender, message)
        self._proofs = phase.proofs

    def close_uploads(self) -> bytes:
        """The claim of U3, for every member in it. Uploads in progress are discarded."""
        with self._closing(UploadPhase) as phase:
            claimed = self._claim_of(phase.shares.delivered(), phase.close())
            self._phase = SurvivorPhase(self._terms, claimed, None)
        return claimed.claim.encode()

    # Before phase 4, of a large cohort

    @property
    def must_muster(self) -> bool:
        """Whether the survivors are so many that more than may be silent could fall silent, and may be asked once
        more what they uploaded before they sign."""
        phase = self._in(SurvivorPhase)
        mustered = phase.mustered is not None and bool(phase.mustered.soundings)
        return not mustered and must_be_mustered(phase.claimed, musters=self._musters)

    def begin_muster(self) -> None:
        """The claim of phase 4 is sent to be answered by presences first."""
        self._phase = PresencePhase(self._in(SurvivorPhase).claimed)
        self._musters += 1

    def accept_presence(self, sender: str, message: bytes) -> None:
        self._in(PresencePhase).accept(sender, message)

    def close_muster(self) -> bytes:
        """The draw, for every member that is present."""
        with self._closing(PresencePhase) as phase:
            self._phase = sounding = SoundingPhase(self._terms, phase.claimed, phase.close())
        return sounding.draw()

    def accept_sounding(self, sender: str, message: bytes) -> None:
        self._in(SoundingPhase).accept(sender, message)

    def close_soundings(self) -> bytes:
        """The claim for phase 4: the same, or, where more than may be silent are, of those that spoke. Those must then
        be mustered anew, for the sum is another one: see `must_muster`."""
        with self._closing(SoundingPhase) as phase:
            claimed, mustered = phase.claimed, phase.close()
            if mustered is None:
                silent = phase.silent()
                for name in silent:
                    upload = np.frombuffer(self._keeper.get(name), self.context.quantiser.dtype)
                    self._known_intake().total.subtract(upload)
                claimed = self._claim_of(claimed.shares, set(claimed.u3) - set(silent))
            self._phase = SurvivorPhase(self._terms, claimed, mustered)
        return claimed.claim.encode()

    def _claim_of(self, shares: CohortShares, u3: set[str]) -> ClaimedSum:
        self._claimed = claim_sum(self._terms, shares, self._known_intake(), u3)
        return self._claimed

    # Phases 4 and 5: the sum is opened

    def accept_survivors(self, sender: str, message: bytes) -> None:
        self._in(SurvivorPhase).accept(sender, message)

    def close_survivors(self) -> PerMember:
        """An opening for each member that signed."""
        with self._closing(SurvivorPhase) as phase:
            agreed = phase.close()
            self._phase = RevealPhase(self._terms, agreed)
        return agreed.openings()

    def accept_reveal(self, sender: str, message: bytes) -> None:
        """Raises CheatError when a revealed share is not the one that its owner committed to."""
        self._in(RevealPhase).accept(sender, message)

    def open(
        self,
        *,
        threads: int = 1,
        admit: Callable[[Totals, Lengths], None] = lambda totals, lengths: None,
        expansion: AbstractContextManager[None] | None = None,
    ) -> AggregateSum:
        """Removes every mask and decodes the sum; `expansion` is entered while masks are expanded, to be measured.

        `admit` is asked whether honest members can have made this sum, and each survivor what it says: it raises
        NormError. Raises CheatError when a recovered seed is not the one its owner committed to, NormError,
        AbortedError when too few shares arrived; each ends the session, and the sum is not used.
        """
        with self._closing(RevealPhase) as phase:
            total = self._known_intake().total
            unmasking = phase.unmasking()
            self._require_digests(phase, total, threads)
            with expansion or nullcontext():
                apply(total.ring, unmasking.masks, threads=threads)
            opened = phase.opened(total, unmasking)
            admit(opened.totals, opened.lengths)
            self._phase, self._intake = OpenedPhase(self._terms, phase.agreed, opened.vector), None
        return opened

    def _require_digests(self, phase: RevealPhase, total: Total, threads: int) -> None:
        phase.require_digests(total, self._keeper.get, threads=threads)

    def upload_of(self, name: str) -> bytes | memoryview:
        """The masked upload of a survivor, as it was received."""
        return self._keeper.get(name)

    def record(self, previous: bytes, new_model_hash: bytes) -> bytes:
        """The opened sum's record for the transcript, chained to the head `previous` (GENESIS for the first)."""
        return self._in(OpenedPhase).record(previous, new_model_hash)

    # The order of the phases

    def _in(self, kind: type[P]) -> P:
        """The present phase, which must be of this kind. Raises AbortedError, OrderError."""
        if isinstance(self._phase, kind):
            return self._phase
        if self.stage is Stage.ABORTED:
            raise AbortedError("the attempt was aborted")
        raise OrderError(f"the session is in phase {self.stage.name}, not {kind.stage.name}")

    @contextmanager
    def _closing(self, kind: type[P]) -> Iterator[P]:
        """The present phase, to be replaced by the next; or the session is aborted with what went wrong."""
        phase = self._in(kind)
        try:
            yield phase
        except (CheatError, NormError) as error:
            self.abort(error.message)
            raise
        except SecaggError as error:
            raise self.abort(error.message) from error

    def _known_intake(self) -> Intake:
        assert self._intake is not None
        return self._intake
