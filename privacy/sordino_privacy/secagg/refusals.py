"""Every reason for which a party refuses, one class each.

    RefusalError                          (sordino_privacy.errors, exit code 9)
    └── SecaggError                       `label` for metrics; `culprit` is the party at fault, when known
        ├── IdentityError           1     bad, retired or unknown identity; a charter epoch that went back
        ├── FloorError              2     cohort or organisation floors
        ├── RosterError             3     own entry missing or altered; duplicates
        ├── ContextError            4     any context mismatch
        ├── ThresholdError          5     gamma, quorum or share threshold below the member's own
        ├── ReplayError             6     a spent round, a replayed or outdated attempt
        │   └── OrderError          6     a message for another phase (the session's state is unchanged)
        ├── ModelError              7     model chain or step norm violated; unknown architecture
        ├── SurvivorError           8     a set below its floor or not nested; the member itself missing from it
        ├── UploadSignatureError    9     an invalid upload signature, or one over another U2
        ├── QuorumError            10     fewer than q valid survivor signatures
        ├── RevealError            11     both shares of one peer, a non-neighbour, a second unmask request
        ├── ShareError             12     a share that does not open, or does not match its commitment
        │   └── BadParcelError     12     ... by its sender's signed doing; carries the complaint that shows it
        ├── BudgetExhaustedError   13     the privacy budget is exhausted
        ├── PolicyError            14     training configuration outside the charter's privacy policy
        ├── DowngradeError         15     any downgrade: plaintext aggregation or another suite
        ├── MalformedError                bytes that are not the one canonical encoding of a bounded message
        ├── NonFiniteError                the update or a statistic is NaN or infinite
        ├── NormError                     coordinator: the norm of the opened sum exceeds its bound
        ├── CheatError                    coordinator: a reconstructed secret contradicts what a member signed
        ├── BusyError                     coordinator: every staging buffer is in use; offer the upload again
        ├── TranscriptError               the published history does not verify
        ├── EvidenceError                 the published sum is not shown to be the sum of the uploads
        └── AbortedError                  the session has ended and its secrets are gone

The numbers are those of the protocol's list of refusals. Messages name parties and rules, never secrets.
"""

from __future__ import annotations

from typing import ClassVar

from sordino_privacy.errors import BudgetError, RefusalError


class SecaggError(RefusalError):
    """A party of the protocol refused. `label` is stable: metrics and alerts are keyed by it."""

    label: ClassVar[str]

    def __init__(self, message: str, *, hint: str = "", culprit: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.culprit = culprit


class IdentityError(SecaggError):
    """Refusal 1: a bad, retired or unknown identity, or a charter epoch that went back."""

    label = "identity"


class FloorError(SecaggError):
    """Refusal 2: the cohort or its organisations are below the floors."""

    label = "floors"


class RosterError(SecaggError):
    """Refusal 3: the member's own entry is missing or altered, or an identity or a key appears twice."""

    label = "roster"


class ContextError(SecaggError):
    """Refusal 4: a context that differs from the member's own."""

    label = "context"


class ThresholdError(SecaggError):
    """Refusal 5: gamma, the quorum or the share threshold is below what the member computes itself."""

    label = "threshold"


class ReplayError(SecaggError):
    """Refusal 6: a round that is spent, or an attempt that was overtaken."""

    label = "replay"


class OrderError(ReplayError):
    """Refusal 6: a message of another phase. The session's state is unchanged."""

    label = "order"


class ModelError(SecaggError):
    """Refusal 7: the model chain or the step norm is violated, or the architecture is unknown."""

    label = "model"


class SurvivorError(SecaggError):
    """Refusal 8: a set below its floor or not nested in the one before, or the member missing from it."""

    label = "survivors"


class UploadSignatureError(SecaggError):
    """Refusal 9: an invalid upload signature, or one that was given over another U2."""

    label = "upload_signature"


class QuorumError(SecaggError):
    """Refusal 10: fewer than q distinct, valid survivor signatures."""

    label = "quorum"


class RevealError(SecaggError):
    """Refusal 11: a request for both shares of one peer, for a non-neighbour's, or a second request."""

    label = "reveal"


class ShareError(SecaggError):
    """Refusal 12: a sealed share that does not open, or does not match its commitment."""

    label = "share"


class BadParcelError(ShareError):
    """Refusal 12: a parcel under its sender's signed root that does not open, or does not hold what the sender
    committed to. `complaint` is the signed message that proves it to anybody; empty until a session has made it.
    """

    def __init__(self, message: str, *, culprit: str, complaint: bytes = b"") -> None:
        super().__init__(message, culprit=culprit)
        self.complaint = complaint


class BudgetExhaustedError(SecaggError, BudgetError):
    """Refusal 13: the round would exceed the privacy budget. Also a BudgetError, with its exit code."""

    label = "budget"
    exit_code = BudgetError.exit_code


class PolicyError(SecaggError):
    """Refusal 14: the training configuration is outside the charter's privacy policy."""

    label = "policy"


class DowngradeError(SecaggError):
    """Refusal 15: plaintext aggregation, or any suite but the one this software speaks."""

    label = "downgrade"


class MalformedError(SecaggError):
    """Bytes that are not the canonical encoding of a message within its bounds."""

    label = "malformed"


class NonFiniteError(SecaggError):
    """The update or one of its statistics is NaN or infinite; nothing was quantised."""

    label = "non_finite"


class NormError(SecaggError):
    """The opened sum has a larger L2 norm than honest, clipped members can produce. The sum is not used."""

    label = "norm"


class CheatError(SecaggError):
    """What `culprit` signed contradicts itself or a reconstructed secret. `proof`, if there is one, can be judged by
    anybody (`complaint.judge_complaint`).
    """

    label = "cheat"

    def __init__(self, message: str, *, culprit: str, proof: bytes = b"") -> None:
        super().__init__(message, culprit=culprit)
        self.proof = proof


class BusyError(SecaggError):
    """Every staging buffer holds an upload in progress. Nothing changed; offer the upload again when one has ended."""

    label = "busy"


class TranscriptError(SecaggError):
    """The published history does not verify."""

    label = "transcript"


class AbortedError(SecaggError):
    """The session has ended; its secrets are gone and no partial sum exists."""

    label = "aborted"


class EvidenceError(SecaggError):
    """The evidence does not show that the published sum is the sum of what was uploaded."""

    label = "evidence"


# The protocol's list, in its order: the refusal numbered k is REFUSALS[k - 1].
REFUSALS: tuple[type[SecaggError], ...] = (
    IdentityError,
    FloorError,
    RosterError,
    ContextError,
    ThresholdError,
    ReplayError,
    ModelError,
    SurvivorError,
    UploadSignatureError,
    QuorumError,
    RevealError,
    ShareError,
    BudgetExhaustedError,
    PolicyError,
    DowngradeError,
)
