"""A member's settings: `member.toml` in the member's folder, all of them on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from sordino_platform.settings import SettingsModel, load_toml, toml_text

FILE = "member.toml"
BUDGET_DELTA = 1e-6  # the delta of every budget: one fixed number, so that epsilons of rounds compose

COMMENTS = {
    "name": "This member's name in the charter.",
    "coordinator": "Where the coordinator listens, as HOST:PORT.",
    "repositories": "The folders to train on and to complete from. Nothing outside them is read.",
    "budget_epsilon": "Never spend more than this, whatever the charter allows (local epsilon, per dataset).",
    "epsilon_if_others_collude": (
        "Where the charter adds noise in shares (noise = distributed): the most that may be spent if all other members "
        "collude with the coordinator. 0 refuses such rounds, and the refusal says what they would need."
    ),
    "epsilon_per_day": "Never spend more than this in any 24 hours: one day's orders cannot drain the budget.",
    "rounds_per_day": "Begin no more than this many rounds in any 24 hours, those that came to nothing included.",
    "participate": (
        "every_round takes part whenever the coordinator begins a round; when_asked only in rounds that a person "
        "agreed to, in the editor."
    ),
    "accept_unasked": (
        "New epochs of the charter that are taken without a person, by what they change: members_added, "
        "members_removed, members_changed, coordinator, tls_authority. Renewals and stricter terms need none; what "
        "protects less always waits for one."
    ),
    "size_bucket": "The declared size class, 1 to 8: the weight of this member's update is size_bucket / 8. Public.",
    "minimum_units": "Refuse to train on fewer units (file clusters) than this: too few cannot be private.",
    "windows_per_unit": "Token windows kept of each unit, to draw from; a plan that asks for more is refused.",
    "window": "Tokens per window, prepared ahead; a plan with another length is prepared when it arrives.",
    "heldout_share": "The share of the repositories' folders that is never trained on and measures the model locally.",
    "completions": "Whether completions are served here; false on a machine that only trains.",
    "completion_port": "The loopback port of the completion endpoint; 0 takes any free one.",
    "control_port": "The loopback port by which an editor asks for rounds; 0 takes any free one.",
    "metrics_port": "The loopback port of this member's own metrics; 0 takes any free one.",
    "traces": "Where traces of this member's steps are sent (OTLP over gRPC), as HOST:PORT; empty: nowhere.",
    "traces_authority": "The authority (PEM) of the collector's certificate [the system's]; off loopback it is TLS.",
    "training_processors": "How many processors training may use; 1 leaves the others to people.",
    "training_device": "Where a larger base is trained: auto takes a GPU where there is one; or cpu, cuda, mps.",
    "training_memory_gb": "The memory that the trainer may use, in GiB; of a larger base it sets the units per pass.",
    "train_on_battery": "Whether training goes on while the machine runs on its battery.",
    "base_model": "The charter's base, unless it ships: a name, a folder, a .gguf file [found by its digest].",
    "budgets_folder": (
        "Where this machine's file of budgets lies [the user's state folder]. Another one only to try things: the file "
        "keeps two folders from spending one budget twice."
    ),
    "training_slots": "A folder shared by the members of one machine, so that they train one after the other.",
    "keep_quantised_updates_for_a_proof_on_this_machine": (
        "Keeps every quantised update in clear in this folder, so that a sum can be proven. Never in production."
    ),
}


class MemberSettings(SettingsModel):
    """See COMMENTS, which `sordino client join` writes into the file."""

    version: int = Field(1, ge=1, le=1)
    name: str
    coordinator: str = Field(pattern=r"^[^\s/]+:\d{1,5}$")
    repositories: list[Path] = Field(min_length=1, max_length=1000)
    budget_epsilon: float = Field(8.0, gt=0, le=1000)
    epsilon_if_others_collude: float = Field(0.0, ge=0, le=100_000)
    epsilon_per_day: float = Field(4.0, gt=0, le=1000)
    rounds_per_day: int = Field(24, ge=1, le=100_000)
    participate: Literal["every_round", "when_asked"] = "every_round"
    accept_unasked: list[
        Literal["members_added", "members_removed", "members_changed", "coordinator", "tls_authority"]
    ] = Field([], max_length=5)
    size_bucket: int = Field(8, ge=1, le=8)
    minimum_units: int = Field(64, ge=1)
    windows_per_unit: int = Field(64, ge=1, le=1024)
    window: int = Field(256, ge=16, le=65536)
    heldout_share: float = Field(0.05, ge=0, lt=1)
    completions: bool = True
    completion_port: int = Field(0, ge=0, le=65535)
    control_port: int = Field(0, ge=0, le=65535)
    metrics_port: int = Field(0, ge=0, le=65535)
    traces: str = Field("", pattern=r"^$|^[^\s/]+:\d{1,5}$")
    traces_authority: Path | None = None
    training_processors: int = Field(1, ge=1, le=64)
    training_device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    training_memory_gb: float = Field(6.0, ge=1, le=1024)
    train_on_battery: bool = False
    base_model: str | None = None
    budgets_folder: Path | None = None
    training_slots: Path | None = None
    keep_quantised_updates_for_a_proof_on_this_machine: Path | None = None


def load_member_settings(folder: Path) -> MemberSettings:
    """Reads `member.toml`. Raises ConfigurationError."""
    return load_toml(folder / FILE, MemberSettings)


def member_settings_text(settings: MemberSettings) -> str:
    """The file, each setting under its comment."""
    return toml_text(settings.model_dump(mode="json"), comments=COMMENTS)
