"""The status of a member from its folder, read beside a running agent without disturbing it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sordino_client.completion import unread
from sordino_client.completion.asking import find_endpoint
from sordino_client.completion.taking.choice import taking_in_words
from sordino_client.completion.taking.record import read as read_choice
from sordino_client.corpus import UnitRegistry
from sordino_client.ledger import RoundCost, events, events_alone, read_account
from sordino_client.round.epochs import waiting_epoch
from sordino_client.settings import BUDGET_DELTA, load_member_settings
from sordino_platform.durable import read_file, write_file
from sordino_platform.identity import Identity
from sordino_platform.identity.renewal import ending
from sordino_platform.identity.site import CARD
from sordino_platform.link import LinkStatus
from sordino_platform.machine.processes import alive
from sordino_platform.release import ReleaseStore
from sordino_privacy.accounting import epsilon, group_epsilon, runs_left
from sordino_privacy.accounting.epsilon import MAX_GROUP
from sordino_privacy.errors import ConfigurationError, SordinoError, StorageError

STATUS = "status.json"
STATUS_LIMIT = 1 << 16


def write_status(
    folder: Path,
    *,
    member: str,
    link: LinkStatus,
    doing: str,
    not_ready: str,
    release: int,
    metrics_port: int,
    ledger: str = "",
) -> None:
    """Writes what `sordino client status` reads. `ledger`: why the privacy ledger refuses, if it does.

    A courtesy: a full disk must not stop the round, whose own writes raise.
    """
    facts = {
        "member": member,
        "pid": os.getpid(),
        "link": link.state.value,
        "message": link.message,
        "hint": link.hint,
        "doing": doing,
        "not_ready": not_ready,
        "ledger": ledger,
        "release": release,
        "metrics_port": metrics_port,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with contextlib.suppress(SordinoError):
        write_file(folder / STATUS, json.dumps(facts).encode(), secret=True)


def read_agent_status(folder: Path) -> dict[str, Any]:
    """The agent's last status, whether it still runs, and its completion endpoint. Raises ConfigurationError."""
    path = folder / STATUS
    if not path.exists():
        raise ConfigurationError(
            f"no agent has run in {folder}", hint=f"start it: sordino client up --folder {folder}"
        )
    facts: dict[str, Any] = json.loads(read_file(path, limit=STATUS_LIMIT))
    facts["running"] = alive(int(facts["pid"]))
    if (folder / CARD).exists():  # an endpoint alone has no identity
        identity = Identity.load(folder)
        facts |= certificate(identity)
        if (waits := waiting_epoch(folder, identity.charters)) is not None:
            look = waits.command.replace("accept", "diff")
            facts["epoch_waits"] = f"epoch {waits.epoch}: {look}, then {waits.command}"
    if (folder / "ledger").exists():
        try:
            facts |= kept(folder)
        except StorageError as error:  # a ledger that does not open: why
            facts["ledger"] = facts.get("ledger") or said(error)
    if isinstance(held := facts.get("release"), int) and held < 0:
        facts["release"] = None  # the wire says -1 for none
    endpoint = folder / "completion" / "completion.json"
    if endpoint.exists():
        facts["completion_port"] = json.loads(read_file(endpoint, limit=STATUS_LIMIT))["port"]
    facts["takes"] = takes(folder)
    memory = folder / "completion" / "memory"
    # Sizes only: nothing outside the endpoint's process opens the memory.
    facts["memory_bytes"] = sum(path.stat().st_size for path in memory.glob("*") if path.is_file())
    facts["memory_unread"] = [str(gap) for gap in unread.read(memory)]
    running = find_endpoint(folder / "completion") if facts["running"] else None
    if running is not None:
        held = running.ask("GET", "/v1/memory")
        facts |= {"memory_files": held["files"], "memory_tokens": held["tokens"]}
    return facts


def takes(folder: Path) -> str:
    """What this member takes of the federation, in words; empty while nothing was chosen."""
    found = read_choice(folder / "completion")
    if found is None:
        return ""
    return taking_in_words(found.taking, own=found.of.has_own, shared_memory=bool(found.of.shared_memory))


def said(error: SordinoError) -> str:
    """An error and its hint on one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def certificate(identity: Identity) -> dict[str, Any]:
    """How long the certificate still lives, in days, and a warning where somebody should act."""
    tls, now = identity.tls(), datetime.now(UTC)
    return {
        "certificate_days_left": tls.days_left(now),
        "certificate_warning": ending(tls, now),
    }


def kept(folder: Path) -> dict[str, Any]:
    """Figures from the ledger and the releases themselves, since those in the agent's status may be old. `release` is
    -1 where none was received.

    Verifies both chains. Raises StorageError, ConfigurationError.
    """
    identity = Identity.load(folder)
    costs = read_account(folder / "ledger").costs()
    return {
        "release": len(ReleaseStore(folder / "releases", identity.charters).chain()) - 1,
        "epsilon_spent": epsilon(events(costs), BUDGET_DELTA).value,
        "epsilon_if_others_collude": epsilon(events_alone(costs), BUDGET_DELTA).value,
        "epsilon_budget": min(
            load_member_settings(folder).budget_epsilon, identity.charter.privacy.largest_epsilon
        ),
    }


def read_ledger(folder: Path, *, authors: Sequence[int] = ()) -> dict[str, Any]:
    """Spent, planned and left, and every round that was charged. Verifies the ledger's chain. Raises StorageError.

    `authors`: numbers of file clusters; the epsilon of a person who wrote that many is computed for each (seconds).
    """
    settings, charter = load_member_settings(folder), Identity.load(folder).charter
    account = read_account(folder / "ledger")
    budget = min(settings.budget_epsilon, charter.privacy.largest_epsilon)
    costs = account.costs()
    charged, alone = events(costs), events_alone(costs)
    spent = epsilon(charged, BUDGET_DELTA).value
    shared = any(cost.shared for cost in costs)
    rounds = [
        {
            "run": reservation.run,
            "round": reservation.round,
            "sampling_rate": reservation.cost.event.sampling_rate,
            "noise_multiplier": reservation.cost.event.noise_multiplier,
            "own_noise_multiplier": reservation.cost.alone.noise_multiplier,
            "steps": reservation.cost.event.steps,
            "committed": reservation.committed,
            "epsilon_after": epsilon(charged[: number + 1], BUDGET_DELTA).value,
            "epsilon_if_others_collude_after": epsilon(alone[: number + 1], BUDGET_DELTA).value,
        }
        for number, reservation in enumerate(account.reservations.values())
    ]
    merged = merged_clusters(folder)
    return {
        "member": settings.name,
        "merged_clusters": merged,
        # Clusters that were trained on apart and then joined: this concerns past rounds, since they are not trained on
        # any more.
        "epsilon_of_merged": group_epsilon(charged, BUDGET_DELTA, merged).value if merged > 1 else spent,
        "epsilon_spent": spent,
        "epsilon_budget": budget,
        "epsilon_left": max(0.0, budget - spent),
        "delta": BUDGET_DELTA,
        # Says for the figures above: against everyone, or as long as the federation keeps its honest floor.
        "scope": "federation" if shared else "local",
        "epsilon_if_others_collude": epsilon(alone, BUDGET_DELTA).value,
        "epsilon_if_others_collude_budget": settings.epsilon_if_others_collude,
        "planned": planned(costs, budget),
        # A window of tokens lies in one file cluster, so this bounds it; nothing smaller is claimed for it.
        "epsilon_of_a_window": spent,
        "epsilon_of_an_author": {
            str(clusters): group_epsilon(charged, BUDGET_DELTA, clusters).value for clusters in authors
        },
        "rounds": rounds,
    }


def merged_clusters(folder: Path) -> int:
    """The largest number of trained file clusters that turned out to be one (at most MAX_GROUP); 1 for none."""
    register = folder / "corpus" / "units.sqlite"
    if not register.exists():
        return 1
    with UnitRegistry(register) as registry:
        return min(registry.largest_merge(), MAX_GROUP)


def planned(costs: Sequence[RoundCost], budget: float) -> dict[str, Any] | None:
    """The cost of one more round like the last one, and how many such rounds the budget still holds."""
    if not costs:
        return None
    charged, alone = events(costs), events_alone([*costs, costs[-1]])
    after = epsilon([*charged, charged[-1]], BUDGET_DELTA).value
    return {
        "epsilon_after": after,
        "epsilon_of_the_round": after - epsilon(charged, BUDGET_DELTA).value,
        "epsilon_if_others_collude_after": epsilon(alone, BUDGET_DELTA).value,
        "rounds_left": runs_left(charged, [charged[-1]], budget, BUDGET_DELTA),
    }


def draw_ledger(path: Path, facts: dict[str, Any]) -> None:
    """The epsilon spent after each round as a PNG, with the budget and what one more round would bring."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    spent = [0.0, *(row["epsilon_after"] for row in facts["rounds"])]
    axes.step(range(len(spent)), spent, where="post", marker="o", markersize=3, label="spent")
    if facts["planned"] is not None:
        end = len(spent) - 1
        axes.plot(
            [end, end + 1],
            [spent[-1], facts["planned"]["epsilon_after"]],
            ":o",
            label="one more round like the last",
        )
    axes.axhline(facts["epsilon_budget"], color="tab:red", label="budget")
    axes.set(xlabel="rounds charged", ylabel=f"local epsilon at delta {facts['delta']:g}", ylim=(0, None))
    axes.set_title(
        f"{facts['member']}: {facts['epsilon_spent']:.2f} of {facts['epsilon_budget']:.2f} spent, "
        f"{facts['epsilon_left']:.2f} left"
    )
    axes.legend()
    figure.savefig(path, format="png", dpi=110)
