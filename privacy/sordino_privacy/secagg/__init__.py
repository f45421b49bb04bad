"""Secure aggregation, `sordino-secagg/1`: the coordinator learns a sum and nothing about any summand.

Pure state machines: no I/O, no clock, no randomness but what is handed in. Bytes in, bytes out.

    member:       MemberSession  - advertise, share, upload, survivors, unmask
    coordinator:  CoordinatorSession - accept_* and close_* per phase, then open
    both:         Membership (from the charter), Context (what must be agreed on), Quantiser (updates as integers)
    durable:      Journal, admit - what a member must remember across restarts
    refusals:     one class per reason, `label` for metrics

The protocol is specified in docs/protocol.md.
"""

from sordino_privacy.secagg.context import Context
from sordino_privacy.secagg.coordinator import AggregateSum, CoordinatorSession, Stage
from sordino_privacy.secagg.encoding import SUITE
from sordino_privacy.secagg.intake import UploadReceiver
from sordino_privacy.secagg.journal import Entry, Journal, Step, admit
from sordino_privacy.secagg.member import MemberSession
from sordino_privacy.secagg.membership import Floors, Member, Membership
from sordino_privacy.secagg.quantise import Group, Quantised, Quantiser, Statistics, Totals
from sordino_privacy.secagg.refusals import REFUSALS, SecaggError
from sordino_privacy.secagg.session import Phase

__all__ = [
    "REFUSALS",
    "SUITE",
    "AggregateSum",
    "Context",
    "CoordinatorSession",
    "Entry",
    "Floors",
    "Group",
    "Journal",
    "Member",
    "MemberSession",
    "Membership",
    "Phase",
    "Quantised",
    "Quantiser",
    "SecaggError",
    "Stage",
    "Statistics",
    "Step",
    "Totals",
    "UploadReceiver",
    "admit",
]
