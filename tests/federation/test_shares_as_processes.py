"""A federation with noise in shares, as processes over mutual TLS: it counts and trains while members are killed in one
phase after the other, and then its coordinator lies about a count."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sordino_platform.charter import FloorTerms, PrivacyPolicy, SharedMemoryPolicy, shipped_model
from sordino_platform.demo import local, world
from sordino_platform.demo.cast import PARTIES
from sordino_platform.demo.local import LocalFederation, ask
from sordino_platform.demo.processes import Processes
from sordino_platform.durable import make_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

# Round 1 counts. In each round one member is killed with SIGKILL as soon as the phase is seen, and started again.
KILLED_IN = {1: "masked_input", 2: "train", 3: "share_keys", 4: "survivors", 5: "unmask"}
COUNTS: dict[str, object] = {
    "bits": 14,
    "phrases": 40,
    # So little noise that no count of the phrase hangs on its luck: the threshold is the witnesses'.
    "noise_multiplier": 1.0,
    "largest_count": 18,
    "window": 64,
    "windows_per_unit": 2,
    "delta": 1e-6,
}
PLAN: dict[str, object] = {
    "sampling_rate": 0.2,
    "noise_multiplier": 1.0,
    "clip_norm": 0.2,
    "steps": 1,
    "windows_per_unit": 1,
    "window": 64,
    "learning_rate": 0.2,
    "optimiser": "sgd",
    "delta": 1e-6,
    "expected_units": 16,
}


def write_code(folder: Path, name: str) -> Path:
    """Forty packages of one module each: one idiom that all members have in every one, and names of their own."""
    for number in range(40):
        module = folder / name / f"part{number}" / "module.py"
        make_folder(module.parent)
        own = "".join(
            f"def {name}_{number}_{k}(x_{k * 7 + number}):\n    return x_{k * 7 + number} ^ {k * number}\n\n"
            for k in range(6)
        )
        module.write_text(f"from zqx_wibble import frobnicate_kwijibo as quux_{number % 3}\n\n{own}")
    return folder / name


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> world.DemoWorld:
    base = tmp_path_factory.mktemp("processes")
    folder = base / "federation"
    world.fresh_folder(folder)
    make_folder(folder / "logs")
    place = world.found_locally(
        folder,
        federation="shares",
        parties=PARTIES,
        repositories={name: [write_code(base / "code", name)] for name, _ in PARTIES},
        model=shipped_model(adapter_rank=1),
        privacy=PrivacyPolicy(noise="distributed", largest_steps=1, largest_epsilon=100),
        floors=FloorTerms(cohort=4, honest=3),
        shared_memory=SharedMemoryPolicy(),
        plan=PLAN,
        rounds=len(KILLED_IN),
        coordinator_settings=settings(),
        member_settings={
            "windows_per_unit": 4,
            "minimum_units": 16,
            "heldout_share": 0.0,
            "epsilon_if_others_collude": 500.0,
            "completions": False,
        },
    )
    return replace(place, counts=True)


def settings() -> dict[str, object]:
    return {
        "train_seconds": 600.0,
        "exchange_seconds": 60.0,
        "give_up_after": 10,
        "release_without_any_heldout_measurement": True,
        "counts": COUNTS,
    }


def run(place: world.DemoWorld, kills: Mapping[int, str]) -> LocalFederation:
    """Its rounds, with a member killed in the phase that `kills` names for the round."""
    with Processes(place.folder / "logs") as processes:
        done: set[int] = set()

        def kill(event: dict[str, Any]) -> None:
            number = event.get("round", 0)
            if event.get("event") != "phase_started" or number in done or kills.get(number) != event["phase"]:
                return
            done.add(number)
            name = sorted(place.foundation.members)[number % 5]
            processes.kill(name)
            federation.start_member(name)

        federation = LocalFederation(
            place, processes, on_event=kill, start_seconds=600.0, round_seconds=600.0
        )
        federation.start()
        federation.finish()
        processes.stop()
        assert done == set(kills)
    return federation


def shared(folder: Path) -> dict[str, Any]:
    return ask("client", "shared", "--folder", str(folder))


def test_it_counts_and_trains_through_kills_in_every_phase_and_refuses_a_lie(
    founded: world.DemoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = run(founded, KILLED_IN)
    members = founded.foundation.members
    assert [one.outcome for one in federation.state.rounds.values()].count("completed") == len(KILLED_IN)
    held = {name: shared(folder) for name, folder in members.items()}
    # Whoever was killed in the count was shown it with a later release.
    assert all(one["held"] for one in held.values()), held
    assert len({one["sha256"] for one in held.values()}) == 1
    assert all(
        one["noise_shares"] == 3 and one["release"] == 1 and one["phrases"] >= 1 for one in held.values()
    )
    for name, folder in members.items():
        ledger = ask("client", "ledger", "--folder", str(folder))
        rounds = {one["round"]: one for one in ledger["rounds"]}
        assert ledger["scope"] == "federation"
        assert ledger["epsilon_spent"] < ledger["epsilon_if_others_collude"] < 500
        if held[name]["took_part"]:
            assert 1.0 in {one["sampling_rate"] for one in rounds.values()}
            assert held[name]["epsilon"] < held[name]["epsilon_if_others_collude"]
        for number, one in rounds.items():
            ratio = one["noise_multiplier"] / one["own_noise_multiplier"]
            assert 1.70 < ratio < 1.76, f"{name}, round {number}: three shares are enough"
    (digest,) = {one["sha256"] for one in held.values()}

    lied = replace(founded, rounds=1)
    world.write_coordinator_settings(lied, settings())
    monkeypatch.setattr(
        local, "SORDINO", (sys.executable, "-P", str(Path(__file__).with_name("lying_counter.py")))
    )
    run(lied, {})
    monkeypatch.undo()
    chain = ask("coordinator", "status", "--folder", str(founded.foundation.coordinator))
    assert chain["release"] == len(KILLED_IN) + 1, "the coordinator signed what it made of the sum"
    for folder in members.values():
        assert shared(folder)["sha256"] == digest, "and no member took it"
        assert ask("client", "status", "--folder", str(folder))["release"] == len(KILLED_IN)
