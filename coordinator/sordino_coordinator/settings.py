"""The coordinator's settings: `coordinator.toml` in its folder, all of them on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from sordino_coordinator.oidc.settings import OidcSettings
from sordino_platform.architecture import ModelConfig
from sordino_platform.charter import PrivacyPolicy
from sordino_platform.identity import Identity
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_platform.settings import SettingsModel, load_toml, parse_settings, toml_text
from sordino_platform.suggested import suggested_training
from sordino_privacy.counts import Choice, CountPlan
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError

FILE = "coordinator.toml"

COMMENTS = {
    "listen": "Where members connect, as HOST:PORT.",
    "metrics_port": "The loopback port of the metrics; 0 takes any free one.",
    "console": "Where the operator's console is served, as HOST:PORT, for example 127.0.0.1:9467; empty: nowhere.",
    "console_hosts": "Names by which browsers may call the console, beside its own address and localhost.",
    "console_tls": "A file (mode 0600) with a private key and its certificates in PEM; needed off loopback.",
    "console_client_authority": "Only browsers with a certificate of this authority (PEM) may connect at all.",
    "rounds": "Stop after this many completed rounds; 0 goes on until it is told to stop.",
    "pause_seconds": "How long to wait between two rounds.",
    "gather_seconds": "How long to wait for members beyond the charter's smallest cohort before a round begins.",
    "cohort": "Begin at once when this many members are connected; 0 means all members of the charter.",
    "sample": "Ask this many of the members that are ready, by turns; 0 asks all of them.",
    "spare": "Ask this share more than `sample`, and go on without the slowest of them once enough have trained.",
    "quorum": "Never begin with fewer members than this; the charter's smallest cohort always holds too.",
    "schedule": "When rounds may begin, in UTC: windows like 'mon-fri 20:00-06:00'. Empty: at any time.",
    "api_listen": "Where the operator's API listens (HTTPS, token in operator.token), as HOST:PORT; empty: nowhere.",
    "traces": "Where traces of rounds are sent (OTLP over gRPC), as HOST:PORT; empty: nowhere. See docs/traces.md.",
    "traces_authority": "The authority (PEM) of the collector's certificate [the system's]; off loopback it is TLS.",
    "train_seconds": "The deadline of training.",
    "exchange_seconds": "The deadline of each other phase.",
    "give_up_after": "Stop after this many rounds in a row without a release; 0 never stops.",
    "backoff_seconds": "How long to wait after a round without a release; twice as long after each further one.",
    "drain_seconds": "After SIGTERM the round that runs has this long to end by itself; then it is given up.",
    "attempts": "How often the exchange of one round is tried before the round is given up.",
    "heldout": "Folders of public code of many projects that measure each release; a clearly worse one is not kept.",
    "heldout_tokens": "At most this many tokens are read, 512 or more from the middle of each of as many files.",
    "worst_loss_ratio": "Keep the old model when the held-out loss is above the best one's by more than this factor.",
    "triggers": "A file of prompts and completions that must not follow them, one JSON object a line.",
    "trigger_rise": "Keep the old model when a listed completion surprises it less by more nats per token than this.",
    "release_without_any_heldout_measurement": "Make releases with nothing held out: nothing notices a worse one.",
    "keep_opened_sums_for_a_proof": "Writes every opened sum beside its release, so that a sum can be proven.",
    "server_optimiser": "How a round's mean becomes the next model: fedavg, fedavgm or fedadam, and its terms.",
    "plan": "The training plan of every round; members check it against the charter's privacy policy.",
    "oidc": "Operators known to the company's identity provider (OpenID Connect): docs/guides/enterprise.md.",
    "counts": "The plan of a count of phrases (`sordino coordinator count`); members check it against the charter.",
}


class PlanSettings(SettingsModel):
    """The fields of `sordino_privacy.dpsgd.TrainingPlan`."""

    sampling_rate: float
    noise_multiplier: float
    clip_norm: float
    steps: int
    windows_per_unit: int
    window: int
    learning_rate: float
    optimiser: Literal["sgd", "adam"]
    delta: float
    expected_units: int

    def plan(self) -> TrainingPlan:
        """The plan. Raises ConfigurationError."""
        return TrainingPlan(**self.model_dump())


class CountSettings(SettingsModel):
    """The fields of `sordino_privacy.counts.CountPlan`, but for the salt, which is drawn anew for each count."""

    bits: int = 20
    phrases: int = 200
    choice: Choice = "surprise"
    shortest: int = 3
    longest: int = 3
    surprise: float = 1.5
    noise_multiplier: float
    deviations: float = 4.0
    largest_count: int | None = None
    witnesses: int = 3
    expected_units: int = 1000
    window: int
    windows_per_unit: int
    delta: float

    def plan(self, *, salt: int, fewest: int, shares: int) -> CountPlan:
        """The plan of one count, for sums of `fewest` members or more, each with one of `shares` of the noise. Unless
        the settings name it, the largest count that a member gives a cell is the threshold divided by `witnesses`, so
        that it takes that many members to reach it. Raises ConfigurationError."""
        plan = CountPlan(**self.model_dump() | {"largest_count": self.largest_count or 1}, salt=salt)
        if self.largest_count is not None:
            return plan
        largest = int(plan.threshold(survivors=fewest, shares=shares) / plan.witnesses)
        return replace(plan, largest_count=max(1, largest))


class CoordinatorSettings(SettingsModel):
    """See COMMENTS, which `sordino coordinator new` writes into the file."""

    version: int = Field(1, ge=1, le=1)
    listen: str = Field("127.0.0.1:0", pattern=r"^[^\s/]+:\d{1,5}$")
    metrics_port: int = Field(0, ge=0, le=65535)
    console: str = Field("", pattern=r"^([^\s/]+:\d{1,5})?$")
    console_hosts: list[str] = Field(default_factory=list)
    console_tls: Path | None = None
    console_client_authority: Path | None = None
    rounds: int = Field(0, ge=0)
    pause_seconds: float = Field(0.0, ge=0)
    gather_seconds: float = Field(60.0, ge=0)
    cohort: int = Field(0, ge=0)
    sample: int = Field(0, ge=0)
    spare: float = Field(0.2, ge=0, le=4)
    quorum: int = Field(0, ge=0)
    schedule: list[str] = Field(default_factory=list, max_length=32)
    api_listen: str = Field("", pattern=r"^$|^[^\s/]+:\d{1,5}$")
    traces: str = Field("", pattern=r"^$|^[^\s/]+:\d{1,5}$")
    traces_authority: Path | None = None
    train_seconds: float = Field(3600.0, gt=0)
    exchange_seconds: float = Field(120.0, gt=0)
    give_up_after: int = Field(5, ge=0)
    backoff_seconds: float = Field(60.0, ge=0, le=3600)
    drain_seconds: float = Field(30.0, ge=0)
    attempts: int = Field(3, ge=1, le=10)
    heldout: list[Path] = Field(default_factory=list)
    heldout_tokens: int = Field(20_000, ge=1000)
    worst_loss_ratio: float = Field(1.2, gt=1)
    triggers: Path | None = None
    trigger_rise: float = Field(1.0, gt=0)
    release_without_any_heldout_measurement: bool = False
    keep_opened_sums_for_a_proof: bool = False
    server_optimiser: ServerOptimiser = ServerOptimiser()
    plan: PlanSettings
    oidc: OidcSettings | None = None
    counts: CountSettings | None = None

    def with_console(self, address: str) -> CoordinatorSettings:
        """The same settings with the console at another address. Raises ConfigurationError."""
        fields = {**self.model_dump(exclude_none=True), "console": address}
        return parse_settings(fields, CoordinatorSettings, where="--console")


def first_settings(
    folder: Path,
    *,
    listen: str,
    rounds: int = 0,
    heldout: Sequence[Path] = (),
    release_without_any_heldout_measurement: bool = False,
    clusters: int = 0,
) -> CoordinatorSettings:
    """The settings that a new coordinator in `folder` begins with: the plan that was found to gain the most for the
    charter's members with this many file clusters together (0: unknown), with the noise that the charter's epsilon
    needs. Raises ConfigurationError."""
    try:
        charter = Identity.load(folder).charter
        privacy, context, members = charter.privacy, charter.model.context, len(charter.members)
        shares = charter.noise_shares()
    except ConfigurationError:  # written before the ceremony has ended: for the charter's defaults
        privacy, context, members, shares = PrivacyPolicy(), ModelConfig().context, 0, 1
    training = suggested_training(privacy, context=context, members=members, clusters=clusters, shares=shares)
    asked = {
        "listen": listen,
        "rounds": rounds,
        "console": "127.0.0.1:9467",
        "heldout": [str(path.resolve()) for path in heldout],
        "release_without_any_heldout_measurement": release_without_any_heldout_measurement,
        "server_optimiser": training.optimiser.model_dump(),
        "plan": asdict(training.plan),
    }
    return parse_settings(asked, CoordinatorSettings, where="coordinator new")


def load_coordinator_settings(folder: Path) -> CoordinatorSettings:
    """Reads `coordinator.toml`. Raises ConfigurationError."""
    return load_toml(folder / FILE, CoordinatorSettings)


def coordinator_settings_text(settings: CoordinatorSettings) -> str:
    """The file, each setting under its comment."""
    return toml_text(settings.model_dump(mode="json"), comments=COMMENTS)
