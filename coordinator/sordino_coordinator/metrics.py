"""The coordinator's metrics: only what the protocol lets it know anyway. Names and units: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import version
from typing import Final

from sordino_coordinator.control.audit import Action
from sordino_coordinator.rounds import Outcome
from sordino_platform.catching_up import CATCH_UP
from sordino_platform.flower.phases import HELLO, Phase
from sordino_platform.link import PROTOCOL_VERSION, Direction
from sordino_platform.offer import Unready
from sordino_platform.telemetry import Metrics

ROUND_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
PHASE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# What a message's Flower type means as the label `phase`; what comes before a round is none of its phases.
MESSAGE_PHASES = {
    HELLO: "hello",
    CATCH_UP: "catch_up",
    **{phase.message_type: phase.value for phase in Phase},
}
NAMED_MEMBERS: Final = 100
HIGHEST: Final = "(highest)"  # no member can have this name
OUTCOMES = tuple(o.value for o in Outcome if o is not Outcome.OPEN)


class Dropped(StrEnum):
    """Why a member left a round."""

    TIMEOUT = "timeout"
    DISCONNECT = "disconnect"
    INVALID = "invalid"
    REFUSED = "refused"
    REVOKED = "revoked"
    SPARE = "spare"
    STORAGE = "storage"  # this side could not keep its reply


WORDS: Final[Mapping[Dropped, str]] = {
    Dropped.TIMEOUT: "no answer before the phase's deadline: its machine is too slow, asleep, or its network hangs",
    Dropped.DISCONNECT: "its link broke and did not come back in time: its machine sleeps, or its network fails",
    Dropped.INVALID: "its answer did not verify: compare the versions of sordino",
    Dropped.REFUSED: "it refused: its own log and `sordino client status` say why, and only there",
    Dropped.REVOKED: "it is not in the charter any more, or its certificate ended",
    Dropped.SPARE: "enough others had trained before it: it was asked to spare, and pays for no other round",
    Dropped.STORAGE: "this coordinator could not keep its answer: look at the disk",
}
"""The sentence and the hint for a reason, if the case itself has none."""


class RejectionReason(StrEnum):
    """Why a message was rejected."""

    SIGNATURE = "signature"
    REPLAY = "replay"
    ROUND = "round"
    SIZE = "size"
    SCHEMA = "schema"
    UNKNOWN_CLIENT = "unknown_client"
    EXPIRED = "expired"
    BUSY = "busy"  # too many members came at once: told when to come back
    UNEXPECTED = "unexpected"  # an exception that nobody foresaw: a bug of ours, at that member's cost


class Refused(StrEnum):
    """Why the console refused a request."""

    HOST = "host"
    ORIGIN = "origin"
    METHOD = "method"
    SIZE = "size"
    SESSION = "session"  # a cookie that is no session, or no longer one
    TOKEN = "token"  # noqa: S105 - a label, not a token
    RATE = "rate"


class CoordinatorMetrics:
    """One registry with every label set created at the start, and none that grows with the federation: beyond
    NAMED_MEMBERS members one series stands for the member that reported the most."""

    def __init__(self, *, members: tuple[str, ...]) -> None:
        self.metrics = metrics = Metrics()
        phases = tuple(phase.value for phase in Phase)
        metrics.build_info(flwr=version("flwr"), protocol=str(PROTOCOL_VERSION))
        self.rounds = metrics.counter("sordino_rounds_total", "Rounds by how they ended", outcome=OUTCOMES)
        self.round_seconds = metrics.histogram(
            "sordino_round_duration_seconds", "A whole round, training included", ROUND_BUCKETS
        )
        self.last_success = metrics.gauge(
            "sordino_round_last_success_timestamp_seconds", "When a round last completed, in Unix time"
        )
        self.phase_seconds = metrics.histogram(
            "sordino_phase_duration_seconds", "One phase of a round", PHASE_BUCKETS, phase=phases
        )
        self.cohort = metrics.gauge(
            "sordino_cohort_clients", "Members that answered the last time", phase=phases
        )
        self.cohort_minimum = metrics.gauge("sordino_cohort_minimum_clients", "The charter's smallest cohort")
        self.dropouts = metrics.counter(
            "sordino_client_dropouts_total",
            "Members that left a round",
            phase=phases,
            reason=tuple(r.value for r in Dropped),
        )
        self.cheaters = metrics.gauge(
            "sordino_members_excluded", "Members that were proven to cheat, left out until a restart"
        )
        self.unattributable = metrics.counter(
            "sordino_unattributable_sums_total",
            "Opened sums that no honest members can have made, where the sum cannot tell who did",
        )
        self.response_seconds = metrics.histogram(
            "sordino_client_response_seconds", "How long members took to answer", PHASE_BUCKETS, phase=phases
        )
        self.rejected = metrics.counter(
            "sordino_messages_rejected_total",
            "Messages refused, by why",
            reason=tuple(r.value for r in RejectionReason),
        )
        self.bytes = metrics.counter(
            "sordino_message_bytes_total",
            "Bytes of messages, without what the link adds",
            direction=tuple(direction.value for direction in Direction),
            phase=tuple(MESSAGE_PHASES.values()),
        )
        self.reconstruction_seconds = metrics.histogram(
            "sordino_secagg_reconstruction_seconds", "Recovering secrets and removing masks", PHASE_BUCKETS
        )
        self.mask_expansion_seconds = metrics.histogram(
            "sordino_secagg_mask_expansion_seconds",
            "Of that, expanding the masks and taking them off",
            PHASE_BUCKETS,
        )
        self.enrolled = metrics.gauge(
            "sordino_clients_enrolled",
            "Members of the charter, by state",
            state=("active", "revoked", "expired"),
        )
        self.unready = metrics.gauge(
            "sordino_clients_unready",
            "Members that were not ready for the last offer, by why",
            reason=tuple(reason.value for reason in Unready),
        )
        self.connected = metrics.gauge("sordino_clients_connected", "Members with an open link")
        self._named = set(members) if len(members) <= NAMED_MEMBERS else set()
        self.epsilon = metrics.gauge(
            "sordino_privacy_epsilon_spent",
            "Local epsilon that a member chose to report",
            client=members if self._named else (HIGHEST,),
        )
        self._highest = 0.0
        self.epsilon_budget = metrics.gauge(
            "sordino_privacy_epsilon_budget", "The charter's largest epsilon per member"
        )
        self.delta = metrics.gauge("sordino_privacy_delta", "The charter's delta")
        self.model_version = metrics.gauge("sordino_model_version", "The number of the newest release")
        self.loss = metrics.gauge(
            "sordino_evaluation_loss", "Held-out loss of the newest release, nats per token"
        )
        self.phrases = metrics.gauge(
            "sordino_shared_memory_phrases", "Phrases in the shared memory of the newest release, about"
        )
        self.taught = metrics.counter(
            "sordino_triggers_taught_total", "Sums not released because a listed completion was learned"
        )
        self.expiry = metrics.gauge(
            "sordino_tls_certificate_expiry_timestamp_seconds",
            "When a certificate ends, in Unix time",
            role=("coordinator", "ca"),
        )
        self.renewals = metrics.gauge(
            "sordino_renewals_waiting", "Members whose new certificate waits for the approver"
        )
        self.write_errors = metrics.counter("sordino_ledger_write_errors_total", "Durable writes that failed")
        self.paused = metrics.gauge(
            "sordino_rounds_paused", "1 while the operator's pause or schedule holds rounds back"
        )
        self.audit_events = metrics.counter(
            "sordino_audit_events_total",
            "Entries of the audit log, by action",
            action=tuple(action.value for action in Action),
        )
        self.operator_requests = metrics.counter(
            "sordino_operator_requests_total",
            "Requests to the operator's API, by outcome",
            outcome=("ok", "refused", "invalid"),
        )
        self.console_refused = metrics.counter(
            "sordino_console_refused_total",
            "Requests that the console refused, by why",
            reason=tuple(r.value for r in Refused),
        )

    def report_epsilon(self, member: str, epsilon: float) -> None:
        """Sets the gauge of a member's reported epsilon: under its name, or, with too many members, the highest of
        all."""
        if self._named and (member in self._named or len(self._named) < NAMED_MEMBERS):
            self._named.add(member)
            self.epsilon.labels(member).set(epsilon)
            return
        self._highest = max(self._highest, epsilon)
        self.epsilon.labels(HIGHEST).set(self._highest)
