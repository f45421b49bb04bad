"""What a member's folder says of itself, read beside a running agent without disturbing it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sordino_client.completion.asking import find
from sordino_client.ledger import read_account
from sordino_client.settings import BUDGET_DELTA, load_settings
from sordino_platform.durable import read_file
from sordino_platform.identity import Identity
from sordino_privacy.accounting import epsilon
from sordino_privacy.errors import ConfigurationError

STATUS_LIMIT = 1 << 16


def read_status(folder: Path) -> dict[str, Any]:
    """The agent's last status, whether it still runs, and its completion endpoint. Raises ConfigurationError."""
    path = folder / "status.json"
    if not path.exists():
        raise ConfigurationError(
            f"no agent has run in {folder}", hint=f"start it: sordino client up --folder {folder}"
        )
    facts: dict[str, Any] = json.loads(read_file(path, limit=STATUS_LIMIT))
    facts["running"] = alive(int(facts["pid"]))
    endpoint = folder / "completion" / "completion.json"
    if endpoint.exists():
        facts["completion_port"] = json.loads(read_file(endpoint, limit=STATUS_LIMIT))["port"]
    memory = folder / "completion" / "memory"
    # Sizes only: nothing outside the endpoint's process opens the memory.
    facts["memory_bytes"] = sum(path.stat().st_size for path in memory.glob("*") if path.is_file())
    running = find(folder / "completion") if facts["running"] else None
    if running is not None:
        held = running.ask("GET", "/v1/memory")
        facts |= {"memory_files": held["files"], "memory_tokens": held["tokens"]}
    return facts


def alive(pid: int) -> bool:
    """Whether a process of that number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_ledger(folder: Path) -> dict[str, Any]:
    """Spent, budget, left, and every round that was charged. Verifies the ledger's chain. Raises StorageError."""
    settings, charter = load_settings(folder), Identity.load(folder).charter
    account = read_account(folder / "ledger")
    budget = min(settings.budget_epsilon, charter.privacy.largest_epsilon)
    spent = epsilon(account.events(), BUDGET_DELTA).value
    rounds = [
        {
            "run": reservation.run,
            "round": reservation.round,
            "sampling_rate": reservation.event.sampling_rate,
            "noise_multiplier": reservation.event.noise_multiplier,
            "steps": reservation.event.steps,
            "committed": reservation.committed,
        }
        for reservation in account.reservations.values()
    ]
    return {
        "member": settings.name,
        "epsilon_spent": spent,
        "epsilon_budget": budget,
        "epsilon_left": max(0.0, budget - spent),
        "delta": BUDGET_DELTA,
        "rounds": rounds,
    }
