"""A founded federation of virtual members for Flower's simulation engine.

    python -m sordino_platform.demo.virtual /tmp/federation --members 10

Each virtual member has its own keys, charter, ledger and repositories (installed Python packages, none shared), so the
simulation runs the same protocol as a real federation. Only the transport is Flower's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sordino_platform.charter import FloorTerms, PrivacyPolicy, shipped_model
from sordino_platform.demo.cast import installed
from sordino_platform.demo.plans import ADAPTER_RANK, EPSILON_BUDGET, PLAN, plan_for
from sordino_platform.demo.world import ROUNDS_PER_DAY, fresh_folder
from sordino_platform.durable import write_file
from sordino_platform.identity.ceremony import found_in_folder
from sordino_platform.settings import toml_text

SHARE_BYTES = 400_000


def found_virtual(folder: Path, *, members: int, rounds: int = 1, exchange_seconds: float = 120.0) -> None:
    """Founds `members` virtual members in `folder`. Raises DataError, ConfigurationError."""
    fresh_folder(folder)
    shares = installed(members, share_bytes=SHARE_BYTES)
    parties = [(f"member-{number:03d}", f"Organisation {number}") for number in range(members)]
    foundation = found_in_folder(
        folder,
        federation="simulation",
        members=parties,
        model=shipped_model(adapter_rank=ADAPTER_RANK),
        floors=FloorTerms(cohort=max(3, members * 4 // 5)),
        privacy=PrivacyPolicy(largest_epsilon=EPSILON_BUDGET),
    )
    plan = plan_for(rounds)
    coordinator = {
        "version": 1,
        "rounds": rounds,
        "give_up_after": 2,
        "gather_seconds": 60.0,
        "train_seconds": 900.0,
        "exchange_seconds": exchange_seconds,
        "release_without_any_heldout_measurement": True,
        "plan": plan,
    }
    write_file(
        foundation.coordinator / "coordinator.toml", toml_text(coordinator, comments={}).encode(), secret=True
    )
    for (name, place), share in zip(foundation.members.items(), shares, strict=True):
        member: dict[str, object] = {
            "version": 1,
            "name": name,
            "coordinator": "flower:0",
            "repositories": [str(path) for path in share],
            "minimum_units": 4,
            "heldout_share": 0.0,  # small packages lie in one folder
            "window": PLAN["window"],
            "windows_per_unit": 4,
            "epsilon_per_day": EPSILON_BUDGET,
            "rounds_per_day": ROUNDS_PER_DAY,
            "budgets_folder": str(folder / "budgets"),
            "training_slots": str(folder / "slots"),
        }
        write_file(place / "member.toml", toml_text(member, comments={}).encode(), secret=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m sordino_platform.demo.virtual", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    found_virtual(asked.folder.resolve(), members=asked.members, rounds=asked.rounds)
