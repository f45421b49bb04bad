"""The demo's own federation: its members, plan and settings, on the base that ships or on a larger one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sordino_platform.bases import SHIPPED
from sordino_platform.charter import ModelTerms, PrivacyPolicy, SharedMemoryPolicy
from sordino_platform.demo.cast import PARTIES, choose_cast
from sordino_platform.demo.plans import (
    ADAPTER_RANK,
    AGREED_IF_OTHERS_COLLUDE,
    BASE_HELDOUT_TOKENS,
    BASE_MEMORY_GB,
    BASE_PLAN,
    BASE_TRAIN_SECONDS,
    COUNTS,
    EPSILON_BUDGET,
    LEAST_NOISE,
    SHARED_PLAN,
    plan_for,
)
from sordino_platform.demo.world import DemoWorld, found_locally
from sordino_platform.terms.chosen import model_of

HELDOUT_TOKENS = 24_000
MEMBER_SETTINGS: dict[str, object] = {"windows_per_unit": 16}


def found_demo(
    folder: Path, *, rounds: int, prove: bool, chosen: list[Path], base: str = SHIPPED
) -> DemoWorld:
    """The demo's federation, on a base of `sordino base list`. Raises any kind of SordinoError."""
    model = model_of(base, {"adapter_rank": ADAPTER_RANK})
    small = isinstance(model, ModelTerms)
    cast = choose_cast(folder, chosen)
    coordinator = coordinator_settings(cast.measuring)
    members = dict(MEMBER_SETTINGS)
    privacy = PrivacyPolicy(largest_epsilon=EPSILON_BUDGET, smallest_noise_multiplier=LEAST_NOISE)
    if small:
        privacy = PrivacyPolicy(**privacy.model_dump() | {"noise": "distributed", "largest_steps": 1})
        coordinator |= {"counts": COUNTS}
        members |= {"epsilon_if_others_collude": AGREED_IF_OTHERS_COLLUDE}
    else:
        coordinator |= {"train_seconds": BASE_TRAIN_SECONDS, "heldout_tokens": BASE_HELDOUT_TOKENS}
        members |= {"base_model": base, "training_memory_gb": BASE_MEMORY_GB}
    place = found_locally(
        folder,
        federation="demo",
        parties=PARTIES,
        repositories=cast.repositories,
        model=model,
        privacy=privacy,
        plan=plan_for(rounds, SHARED_PLAN, counts=COUNTS) if small else plan_for(rounds, BASE_PLAN),
        rounds=rounds,
        shared_memory=SharedMemoryPolicy() if small else None,
        coordinator_settings={**coordinator, "keep_opened_sums_for_a_proof": prove},
        member_settings=members
        | ({"keep_quantised_updates_for_a_proof_on_this_machine": str(folder / "proofs")} if prove else {}),
    )
    # The newcomer's gain is measured, and phrases are counted, only on the base that ships, in its tokens.
    return replace(place, newcomer=cast.newcomer if small else None, counts=small)


def coordinator_settings(heldout: Sequence[Path]) -> dict[str, object]:
    """The coordinator's settings for a federation of a few minutes on one machine."""
    return {
        "train_seconds": 240.0,
        "exchange_seconds": 15.0,
        "console": "127.0.0.1:0",
        "heldout": [str(path) for path in heldout],
        "heldout_tokens": HELDOUT_TOKENS,
    }
