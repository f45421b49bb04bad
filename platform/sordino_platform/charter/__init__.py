"""The federation's constitution: its members, floors and privacy terms, signed by an offline root.

>>> signed = SignedCharter.parse(data, root=pinned_fingerprint)
>>> signed.charter.membership()                     # what the secure-aggregation protocol enforces
"""

from sordino_platform.charter.document import Charter, Draft
from sordino_platform.charter.model_terms import HuggingFaceTerms, ModelTerms
from sordino_platform.charter.parties import (
    CharterCoordinator,
    CharterMember,
    RenewalTerms,
    RetiredKey,
    Role,
    TlsAuthority,
)
from sordino_platform.charter.policies import FloorTerms, PrivacyPolicy, SharedMemoryPolicy, TrainingPolicy
from sordino_platform.charter.shipped import shipped_model
from sordino_platform.charter.signed import SignedCharter, require_successor
from sordino_platform.charter.store import CharterStore, Epochs
from sordino_platform.charter.touching import ended_by

__all__ = [
    "Charter",
    "CharterCoordinator",
    "CharterMember",
    "CharterStore",
    "Draft",
    "Epochs",
    "FloorTerms",
    "HuggingFaceTerms",
    "ModelTerms",
    "PrivacyPolicy",
    "RenewalTerms",
    "RetiredKey",
    "Role",
    "SharedMemoryPolicy",
    "SignedCharter",
    "TlsAuthority",
    "TrainingPolicy",
    "ended_by",
    "require_successor",
    "shipped_model",
]
