"""A member's dashboard: completions first, then training, privacy and the corpus. For the member's eyes only.

These figures are computed from private data without noise: they never go to the coordinator.
"""

from __future__ import annotations

from panels import Panel, board, growth, quantile

AGENT = 'job="sordino-member", instance=~"$instance"'
# The completion endpoint is a process of its own with a port of its own, hence another instance of the same machine.
ENDPOINT = 'job="sordino-completion"'


COMPLETIONS = (
    Panel(
        title="Time to a whole completion",
        question="What the developer waits for, queue included. Beyond 1 s at the 95th percentile: CompletionsSlow.",
        unit="s",
        limit=1,
        queries={
            "median": quantile(0.5, "sordino_completion_duration_seconds", ENDPOINT, "5m"),
            "95th percentile": quantile(0.95, "sordino_completion_duration_seconds", ENDPOINT, "5m"),
        },
    ),
    Panel(
        title="Where the time goes, 95th percentile",
        question="Waiting for the engine, and reading the prompt up to the first token.",
        unit="s",
        queries={
            "queue": quantile(0.95, "sordino_completion_queue_seconds", ENDPOINT, "5m"),
            "first token": quantile(0.95, "sordino_completion_first_token_seconds", ENDPOINT, "5m"),
        },
    ),
    Panel(
        title="Requests by outcome",
        question="cancelled is normal: the developer went on typing.",
        unit="short",
        kind="bars",
        queries={"{{outcome}}": growth("sordino_completion_requests_total", "outcome", ENDPOINT)},
    ),
    Panel(
        title="What developers did with them",
        question="Shown, accepted, dismissed, as the editor reports it.",
        unit="short",
        kind="bars",
        queries={"{{event}}": growth("sordino_completion_events_total", "event", ENDPOINT)},
    ),
    Panel(
        title="Tokens per second",
        question="Prompt tokens that had to be read anew, and tokens generated.",
        unit="short",
        queries={
            "{{kind}}": f"sum by (kind) (rate(sordino_completion_tokens_total{{{ENDPOINT}}}[$__rate_interval]))",
        },
    ),
    Panel(
        title="In flight",
        question="Requests taken and not answered yet.",
        unit="short",
        queries={"in flight": f"sordino_completions_in_flight{{{ENDPOINT}}}"},
    ),
)

GUARD = (
    Panel(
        title="Requests that the endpoint refused",
        question="host and origin are web pages that try the endpoint: the alert LocalEndpointProbed.",
        unit="short",
        kind="bars",
        width=12,
        queries={"{{reason}}": growth("sordino_http_rejected_total", "reason", ENDPOINT)},
    ),
    Panel(
        title="Coordinator messages that this member refused",
        question="By rule of the protocol: the alert CoordinatorRefused.",
        unit="short",
        kind="bars",
        width=12,
        queries={"{{rule}}": growth("sordino_secagg_refusals_total", "rule", AGENT)},
    ),
)

PRIVACY = (
    Panel(
        title="Epsilon spent",
        question="Local epsilon of everything ever released about this corpus, and the smaller of the two budgets.",
        unit="short",
        queries={
            "spent": f"sordino_privacy_epsilon_spent{{{AGENT}}}",
            "budget": f"sordino_privacy_epsilon_budget{{{AGENT}}}",
        },
    ),
    Panel(
        title="Clipped units, 0 to 1",
        question="Near 1, most of the signal is cut; near 0, the noise is larger than it needs to be.",
        unit="percentunit",
        queries={"clipped": f"sordino_dp_clipped_ratio{{{AGENT}}}"},
    ),
    Panel(
        title="Noise multiplier",
        question="Of the last round's plan, which the charter bounds.",
        unit="short",
        queries={"noise": f"sordino_dp_noise_multiplier{{{AGENT}}}"},
    ),
)

TRAINING = (
    Panel(
        title="Rounds by how they ended for this member",
        question="Does this member take part?",
        unit="short",
        kind="bars",
        queries={"{{outcome}}": growth("sordino_participations_total", "outcome", AGENT)},
    ),
    Panel(
        title="Duration of local training, 95th percentile",
        question="Near the coordinator's deadline, this member is about to be left out.",
        unit="s",
        queries={"seconds": quantile(0.95, "sordino_train_duration_seconds", AGENT, "1h")},
    ),
    Panel(
        title="Training loss",
        question="Mean of the last round, in nats per token. Not noised: never show it to another party.",
        unit="short",
        queries={"loss": f"sordino_train_loss{{{AGENT}}}"},
    ),
    Panel(
        title="Units read per hour",
        question="Units (file clusters) that training read, over all its steps.",
        unit="short",
        queries={"units": f"increase(sordino_train_units_total{{{AGENT}}}[1h])"},
    ),
    Panel(
        title="Corpus",
        question="Files and units (file clusters) that may be trained on.",
        unit="short",
        queries={
            "files": f"sordino_corpus_files{{{AGENT}}}",
            "units": f"sordino_corpus_units{{{AGENT}}}",
        },
    ),
    Panel(
        title="Left out of the corpus",
        question="By reason. A sudden fall of secret or ignored deserves a look at the ignore rules.",
        unit="short",
        queries={"{{reason}}": f"sordino_corpus_excluded{{{AGENT}}}"},
    ),
)

LINK = (
    Panel(
        title="Link to the coordinator",
        question="1 while it is open.",
        unit="short",
        kind="number",
        limit=1,
        below=True,
        queries={"link": f"sordino_link_connected{{{AGENT}}}"},
    ),
    Panel(
        title="Release held",
        question="The number of the newest release that this member verified.",
        unit="short",
        kind="number",
        queries={"release": f"sordino_model_version{{{AGENT}}}"},
    ),
    Panel(
        title="Certificate ends in",
        question="Red below 7 days, as the alert CertificateExpiring.",
        unit="s",
        kind="number",
        limit=604_800,
        below=True,
        queries={"certificate": f"sordino_tls_certificate_expiry_timestamp_seconds{{{AGENT}}} - time()"},
    ),
)

MEMBER = board(
    uid="sordino-member",
    title="sordino: member",
    text="One member's own figures. They describe private data without noise: keep them on the member's side.",
    job="sordino-member",
    span="6h",
    rows=(
        ("Completions", COMPLETIONS),
        ("Privacy", PRIVACY),
        ("Refusals", GUARD),
        ("Training and corpus", TRAINING),
        ("Link", LINK),
    ),
)
