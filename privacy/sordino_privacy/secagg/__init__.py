"""Secure aggregation, `sordino-secagg/2`: the coordinator learns a sum and nothing about any summand.

Pure state machines: no I/O, no clock, and no randomness except what the caller passes in. Bytes in, bytes out.

    member:       MemberSession  - advertise, share, upload, (muster, sound,) survivors, unmask
    coordinator:  CoordinatorSession - accept_* and close_* per phase, then open
    both:         Membership (from the charter), RoundContext (what must be agreed on), Quantiser (updates as integers)
    durable:      Journal, admit - what a member must remember across restarts
    around it:    require_* - what a member checks before it trains and before it adopts a result
    history:      verify_transcript
    refusals:     one class per reason, `label` for metrics

The protocol is specified in docs/protocol.md.
"""

from sordino_privacy.secagg.admission import (
    euclidean_norm,
    require_model,
)
from sordino_privacy.secagg.complaint import judge_complaint
from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.coordinator import AggregateSum, CoordinatorSession, PerMember, Stage
from sordino_privacy.secagg.encoding import SUITE
from sordino_privacy.secagg.evidence import Evidence, Lengths, Opened
from sordino_privacy.secagg.intake import Keeper, UploadReceiver
from sordino_privacy.secagg.journal import Journal, JournalEntry, Step, require_follows
from sordino_privacy.secagg.member import MemberSession, SessionPhase
from sordino_privacy.secagg.membership import EnrolledMember, Floors, Membership
from sordino_privacy.secagg.muster import SILENT_LIMIT
from sordino_privacy.secagg.quantise import Quantiser, Totals
from sordino_privacy.secagg.quantised import MaskedStatistics, Quantised
from sordino_privacy.secagg.refusals import (
    REFUSALS,
    AbortedError,
    BadParcelError,
    BudgetExhaustedError,
    BusyError,
    CheatError,
    ContextError,
    DowngradeError,
    EvidenceError,
    FloorError,
    IdentityError,
    MalformedError,
    ModelError,
    NonFiniteError,
    NormError,
    OrderError,
    PolicyError,
    QuorumError,
    ReplayError,
    RevealError,
    RosterError,
    SecaggError,
    ShareError,
    SurvivorError,
    ThresholdError,
    TranscriptError,
    UploadSignatureError,
)
from sordino_privacy.secagg.rounding import Group
from sordino_privacy.secagg.sketch import sketched_length
from sordino_privacy.secagg.transcript import (
    GENESIS,
    History,
    Record,
    VerifiedRecord,
    sum_digest,
    transcript_head,
    verify_record,
    verify_transcript,
)

__all__ = [
    "GENESIS",
    "REFUSALS",
    "SILENT_LIMIT",
    "SUITE",
    "AbortedError",
    "AggregateSum",
    "BadParcelError",
    "BudgetExhaustedError",
    "BusyError",
    "CheatError",
    "ContextError",
    "CoordinatorSession",
    "DowngradeError",
    "EnrolledMember",
    "Evidence",
    "EvidenceError",
    "FloorError",
    "Floors",
    "Group",
    "History",
    "IdentityError",
    "Journal",
    "JournalEntry",
    "Keeper",
    "Lengths",
    "MalformedError",
    "MaskedStatistics",
    "MemberSession",
    "Membership",
    "ModelError",
    "NonFiniteError",
    "NormError",
    "Opened",
    "OrderError",
    "PerMember",
    "PolicyError",
    "Quantised",
    "Quantiser",
    "QuorumError",
    "Record",
    "ReplayError",
    "RevealError",
    "RosterError",
    "RoundContext",
    "SecaggError",
    "SessionPhase",
    "ShareError",
    "Stage",
    "Step",
    "SurvivorError",
    "ThresholdError",
    "Totals",
    "TranscriptError",
    "UploadReceiver",
    "UploadSignatureError",
    "VerifiedRecord",
    "euclidean_norm",
    "judge_complaint",
    "require_follows",
    "require_model",
    "sketched_length",
    "sum_digest",
    "transcript_head",
    "verify_record",
    "verify_transcript",
]
