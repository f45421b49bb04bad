"""Checks, before any round is offered, why this member would take no part in one: for `sordino doctor`, without an
agent.

Each reason that a member can give against a round (sordino_platform.offer.Unready) is found by one check here or in
sordino_client.doctor, with the same rule that the agent uses; SAID_BY names the check. A reason that depends on the
offer itself is taken from the agent's answer to the last offer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from sordino_client.ledger import DayCapError, read_account, require_today
from sordino_client.settings import MemberSettings
from sordino_client.status import read_agent_status
from sordino_platform.architecture import HuggingFaceConfig
from sordino_platform.doctor.finding import Finding, checked, failed, ok, warning
from sordino_platform.identity import Identity
from sordino_platform.machine.processes import alive
from sordino_platform.offer import STEPS, Unready

REFUSES = 9
SAID_BY: Final[Mapping[Unready, str]] = {
    Unready.PAUSED: "participation",
    Unready.NOT_ASKED: "participation",
    Unready.CHARTER: "charter",
    Unready.EPOCH: "epochs",
    Unready.PLAN: "last offer",
    Unready.BUDGET: "budget",
    Unready.DAY_CAP: "day",
    Unready.LEDGER: "ledger",
    Unready.BASE: "base model",
    Unready.DISK: "room for a round",
    Unready.SUPERSEDED: "last offer",
    Unready.LOCAL: "repositories",
}


def foreseen(folder: Path, identity: Identity, settings: MemberSettings) -> Iterator[Finding]:
    """The reasons against taking part in a round that the member's folder shows."""
    from sordino_client.round.contribution import require_space
    from sordino_client.round.epochs import require_no_epoch_waits

    def epochs() -> str:
        require_no_epoch_waits(folder, identity.charters)
        return "none waits for you"

    def room() -> str:
        require_space(folder, identity.charter.model.config())
        return "the disk has what a round writes"

    yield participation(folder, settings)
    yield checked("epochs", epochs)
    yield checked("base model", lambda: base(identity, settings))
    yield checked("room for a round", room)
    yield checked("day", lambda: day(folder, identity, settings))
    yield checked("last offer", lambda: last_offer(folder))


def participation(folder: Path, settings: MemberSettings) -> Finding:
    """Checks if the owner's own decision keeps this member out of rounds."""
    from sordino_client.round.participation import PAUSED_FILE

    if (folder / PAUSED_FILE).exists():
        said = "paused: this member is in no round; completions go on"
        return warning("participation", said, "resume it in the editor when you want to take part again")
    if settings.participate == "when_asked":
        said = "only in rounds that somebody agrees to"
        hint = 'agree in the editor; participate = "every_round" in member.toml takes part unasked'
        return warning("participation", said, hint)
    return ok("participation", "in every round")


def base(identity: Identity, settings: MemberSettings) -> str:
    """Checks that the base that the charter names is there, and is that one. Raises ConfigurationError,
    StorageError."""
    from sordino_client.training.base_here import base_of

    config = identity.charter.model.config()
    place = base_of(settings, identity.charter.model)
    if place is None or not isinstance(config, HuggingFaceConfig):
        return "the one that ships with sordino"
    from sordino_platform.huggingface_model import require_base

    require_base(place, config)
    return f"{place} is the one that the charter names"


def day(folder: Path, identity: Identity, settings: MemberSettings) -> Finding:
    """Checks that one more round like the last one fits into the caps on 24 hours."""
    from sordino_client.round.member import budget_of

    account = read_account(folder / "ledger") if (folder / "ledger").exists() else None
    costs = account.costs() if account is not None else []
    if account is None or not costs:
        return ok("day", "no round began yet")
    try:
        require_today(account, budget_of(settings, identity.charter), costs[-1].event, now=time.time_ns())
    except DayCapError as error:
        return warning("day", error.message, error.hint)
    return ok("day", "the caps on 24 hours allow one more round like the last")


def last_offer(folder: Path) -> Finding:
    """What the running agent answered to the last offer: it covers the reasons that depend on the offered plan."""
    if not (folder / "status.json").exists():
        return ok("last offer", "no agent has run here yet")
    facts = read_agent_status(folder)
    if not alive(int(facts["pid"])) or facts.get("not_ready", "") not in set(Unready):
        return ok("last offer", "nothing speaks against it")
    reason = Unready(facts["not_ready"])
    said = f"the agent is not ready for the round that is offered: {STEPS[reason][0]}"
    if SAID_BY[reason] != "last offer":
        return warning("last offer", said, f"see the check {SAID_BY[reason]!r}")
    hint = "its log (not_ready) names the bound: windows_per_unit in member.toml, or one of the charter's"
    if reason is Unready.SUPERSEDED:
        hint = "ask the operator for the address of the machine that took over: docs/guides/standby.md"
    return failed("last offer", said, hint, exit_code=REFUSES)
