"""The coordinator's dashboard: does the federation live, who is missing, is anybody attacking it, what was spent.

It can show only what the protocol lets the coordinator know.
"""

from __future__ import annotations

from panels import Panel, board, growth, quantile

AT = 'job="sordino-coordinator", instance=~"$instance"'


HOUR = "1h"
"""Rounds are too rare for a shorter window."""


NOW = (
    Panel(
        title="Coordinator",
        question="1: Prometheus reaches the coordinator. 0: no round can run.",
        unit="short",
        kind="number",
        width=3,
        limit=1,
        below=True,
        queries={"up": f"up{{{AT}}}"},
    ),
    Panel(
        title="Since the last completed round",
        question="Red beyond 2 hours, as the alert NoRoundCompleted.",
        unit="s",
        kind="number",
        width=5,
        limit=7200,
        queries={"age": f"time() - (sordino_round_last_success_timestamp_seconds{{{AT}}} > 0)"},
    ),
    Panel(
        title="Release",
        question="The number of the newest release.",
        unit="short",
        kind="number",
        width=3,
        queries={"release": f"sordino_model_version{{{AT}}}"},
    ),
    Panel(
        title="Members connected, and the fewest that a round needs",
        question="With no more than the fewest, one member that leaves stops the federation.",
        unit="short",
        kind="number",
        width=5,
        queries={
            "connected": f"sordino_clients_connected{{{AT}}}",
            "fewest": f"sordino_cohort_minimum_clients{{{AT}}}",
        },
    ),
    Panel(
        title="Rounds aborted in the last hour",
        question="The share of all rounds that ended. Red beyond 20 %, as the alert RoundsAborting.",
        unit="percentunit",
        kind="number",
        width=4,
        limit=0.2,
        queries={"aborted": f"instance:sordino_rounds_aborted:ratio_increase1h{{{AT}}}"},
    ),
    Panel(
        title="Certificate ends in",
        question="The nearest end of a certificate. Red below 7 days, as the alert CertificateExpiring.",
        unit="s",
        kind="number",
        width=4,
        limit=604_800,
        below=True,
        queries={
            "{{role}}": f"sordino_tls_certificate_expiry_timestamp_seconds{{{AT}}} - time()",
        },
    ),
)

ROUNDS = (
    Panel(
        title="Rounds by outcome",
        question="How many rounds ended, and how.",
        unit="short",
        kind="bars",
        queries={"{{outcome}}": growth("sordino_rounds_total", "outcome", AT)},
    ),
    Panel(
        title="Duration of a round",
        question="From opening to closing, training included.",
        unit="s",
        queries={
            "median": quantile(0.5, "sordino_round_duration_seconds", AT, HOUR),
            "95th percentile": quantile(0.95, "sordino_round_duration_seconds", AT, HOUR),
        },
    ),
    Panel(
        title="Duration of each phase, 95th percentile",
        question="Where does a slow round spend its time?",
        unit="s",
        queries={"{{phase}}": quantile(0.95, "sordino_phase_duration_seconds", AT, HOUR, "phase")},
    ),
    Panel(
        title="Held-out loss",
        question="Does the model learn? Measured by the coordinator on public code, in nats per token.",
        unit="short",
        queries={"loss": f"sordino_evaluation_loss{{{AT}}}"},
    ),
    Panel(
        title="Opening the sum, 95th percentile",
        question="Recovering secrets and removing masks: grows with the members that dropped out.",
        unit="s",
        queries={"seconds": quantile(0.95, "sordino_secagg_reconstruction_seconds", AT, HOUR)},
    ),
    Panel(
        title="Traffic",
        question="Bytes of messages on the link.",
        unit="Bps",
        queries={
            "{{direction}}": f"sum by (direction) (rate(sordino_message_bytes_total{{{AT}}}[$__rate_interval]))"
        },
    ),
)

MEMBERS = (
    Panel(
        title="Members that answered, by phase",
        question="In which phase are members lost? Compare with the fewest that a round needs.",
        unit="short",
        queries={
            "{{phase}}": f"sordino_cohort_clients{{{AT}}}",
            "fewest": f"sordino_cohort_minimum_clients{{{AT}}}",
        },
    ),
    Panel(
        title="Dropouts by reason",
        question="Why do members leave a round?",
        unit="short",
        kind="bars",
        queries={"{{phase}} {{reason}}": growth("sordino_client_dropouts_total", "phase, reason", AT)},
    ),
    Panel(
        title="Time to answer, 95th percentile",
        question="Who waits for whom: near a deadline, members are about to be left out.",
        unit="s",
        queries={"{{phase}}": quantile(0.95, "sordino_client_response_seconds", AT, HOUR, "phase")},
    ),
    Panel(
        title="Epsilon that members report",
        question="The local epsilon each member chose to report, against the charter's budget.",
        unit="short",
        width=16,
        queries={
            "{{client}}": f"sordino_privacy_epsilon_spent{{{AT}}}",
            "budget": f"sordino_privacy_epsilon_budget{{{AT}}}",
        },
    ),
    Panel(
        title="Members of the charter",
        question="By state: active, revoked, expired.",
        unit="short",
        queries={"{{state}}": f"sordino_clients_enrolled{{{AT}}}"},
    ),
)

SECURITY = (
    Panel(
        title="Messages rejected, by reason",
        question="signature, replay and unknown_client mean that somebody forges: the alert ForgedMessages.",
        unit="short",
        kind="bars",
        width=12,
        queries={"{{reason}}": growth("sordino_messages_rejected_total", "reason", AT)},
    ),
    Panel(
        title="Durable writes that failed",
        question="Anything but 0 is the alert LedgerFailing.",
        unit="short",
        kind="bars",
        width=12,
        queries={"failed": f"increase(sordino_ledger_write_errors_total{{{AT}}}[$__rate_interval])"},
    ),
)

FEDERATION = board(
    uid="sordino-federation",
    title="sordino: federation",
    text="What the coordinator knows, which is what the protocol lets it know.",
    job="sordino-coordinator",
    span="24h",
    rows=(("Now", NOW), ("Rounds", ROUNDS), ("Members", MEMBERS), ("Security and storage", SECURITY)),
)
