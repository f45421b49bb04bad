"""The federation benchmark: its split, its stages, its arithmetic, and the whole of it on a small corpus."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sordino_client.laboratory.federation_benchmark.benchmark import (
    alone_name,
    by_member,
    curve_rounds,
    federation_name,
)
from sordino_client.laboratory.federation_benchmark.profile import FULL, QUICK, Profile
from sordino_client.laboratory.federation_benchmark.report import gap_closed, worth_of
from sordino_client.laboratory.federation_benchmark.repositories import repository_places, write_repositories
from sordino_client.laboratory.federation_benchmark.stages import Stages
from sordino_client.laboratory.federation_benchmark.terms import plan_within
from sordino_client.training.stream import SourceDocument
from sordino_platform.cli import run as sordino
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.errors import ConfigurationError, DataError

ROOT = Path(__file__).parents[2]
TWO = replace(QUICK, members=2)


def source(member: str, package: int, file: int) -> str:
    body = "".join(
        f"    private int {member[:4]}Field{n}Of{file} = read{package}({n * file % 17}, {n + package});\n"
        for n in range(30)
    )
    return f"package org.{member}.p{package};\n\nclass Part{file} {{\n{body}}}\n"


def corpus(profile: Profile, *, packages: int = 12, files: int = 5) -> list[SourceDocument]:
    return [
        SourceDocument(
            project=name,
            path=f"src/p{package}/Part{file}.java",
            language="java",
            text=source(name.replace("-", ""), package, file + 7 * package),
        )
        for name, _ in profile.parties
        for package in range(packages)
        for file in range(files)
    ]


def test_whole_packages_are_held_out_and_no_file_lies_on_both_sides(tmp_path: Path) -> None:
    facts = write_repositories(tmp_path, corpus(TWO), TWO)
    for name, place in repository_places(tmp_path, TWO).items():
        training = {path.parent.name for path in place.training.rglob("*.java")}
        heldout = {path.parent.name for path in place.heldout.rglob("*.java")}
        assert training
        assert heldout
        assert not training & heldout
        assert facts[name]["heldout_files"] == len(list(place.heldout.rglob("*.java")))
        assert not set(place.documents().values()) & set(place.texts())


def test_a_members_size_is_bounded_by_whole_directories(tmp_path: Path) -> None:
    small = replace(TWO, files=20)
    facts = write_repositories(tmp_path, corpus(TWO), small)
    assert all(one["training_files"] + one["heldout_files"] == 20 for one in facts.values())


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="derby"):
        write_repositories(tmp_path, [d for d in corpus(TWO) if d.project != "derby"], TWO)


@pytest.mark.parametrize("budget", [8.0, 2.0])
@pytest.mark.parametrize("profile", [FULL, QUICK], ids=["full", "quick"])
def test_the_plan_of_all_rounds_stays_within_its_budget(profile: Profile, budget: float) -> None:
    rounds = profile.schedule(budget).rounds
    plan = plan_within(profile, budget, rounds=rounds)
    spent = SampledGaussian(
        sampling_rate=plan.sampling_rate,
        noise_multiplier=plan.noise_multiplier,
        steps=plan.steps * rounds,
    )
    assert 0.5 * budget < epsilon([spent], plan.delta).value <= budget


def test_a_curve_has_few_rounds_evenly_spread_and_ends_at_the_last() -> None:
    assert curve_rounds(30) == [5, 10, 15, 20, 25, 30]
    assert [curve_rounds(n) for n in (0, 1, 2, 5)] == [[], [1], [1, 2], [1, 2, 3, 4, 5]]


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        calls.append("done")
        return {"figure": 1.5}, {}

    for _ in range(2):
        stages = Stages(tmp_path, QUICK, base_sha256="aa", on_progress=lambda line: None)
        assert stages.done("stage", work)["figure"] == 1.5
    assert calls == ["done"]


def test_a_run_of_another_profile_or_base_is_refused(tmp_path: Path) -> None:
    Stages(tmp_path, QUICK, base_sha256="aa", on_progress=lambda line: None)
    for profile, sha in ((FULL, "aa"), (QUICK, "bb")):
        with pytest.raises(ConfigurationError, match="another profile or base"):
            Stages(tmp_path, profile, base_sha256=sha, on_progress=lambda line: None)


def figures(bits: dict[str, float]) -> dict[str, Any]:
    layer = {
        name: {"bits_per_byte": value, "next_token_accuracy": 1 - value / 2} for name, value in bits.items()
    }
    return {"model": layer, "with_memory": layer}


def test_the_gap_is_closed_in_mean_bits_and_worth_is_told_member_by_member() -> None:
    facts = {
        "base": figures({"a": 1.0, "b": 1.2}),
        "central": figures({"a": 0.8, "b": 1.0}),
        "federation_eps8": figures({"a": 0.9, "b": 1.2}),
        "base_own.a": figures({"a": 0.7}),
        "base_own.b": figures({"b": 0.9}),
        "federation_eps8_own.a": figures({"a": 0.6}),
        "federation_eps8_own.b": figures({"b": 0.95}),
    }
    assert gap_closed(facts, "central") == pytest.approx(1)
    assert gap_closed(facts, "federation_eps8") == pytest.approx(0.25)
    worth = worth_of(facts, "federation_eps8")
    assert worth["worth_it_for"] == ["a"]
    assert worth["bits_per_byte_saved"] == pytest.approx({"a": 0.1, "b": -0.05})
    assert by_member(facts, "base_own", "model", "bits_per_byte") == {"a": 0.7, "b": 0.9}


def test_names_of_stages_do_not_collide() -> None:
    names = [
        federation_name(8.0, 0),
        federation_name(8.0, 1),
        federation_name(2.0, 0),
        alone_name(8.0),
        alone_name(2.0),
    ]
    assert len(set(names)) == len(names)


def test_averaging_without_privacy_is_reachable_from_nothing_but_the_benchmark() -> None:
    name = "average_members_without_any_privacy_for_comparison"
    users = [
        path.relative_to(ROOT).as_posix()
        for part in ("client", "coordinator", "platform", "privacy")
        for path in (ROOT / part).rglob("*.py")
        if name in path.read_text()
    ]
    assert sorted(users) == [
        "client/sordino_client/laboratory/federation_benchmark/benchmark.py",
        "client/sordino_client/laboratory/federation_benchmark/contenders.py",
        "client/sordino_client/laboratory/federation_benchmark/models.py",
        "client/sordino_client/laboratory/field_benchmark/benchmark.py",
    ]


def test_without_the_corpus_it_says_how_to_fetch_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "federation", "--quick", "--run", str(tmp_path / "run"), "--cache", str(tmp_path)]
    assert sordino(arguments) == 4
    assert "what to do: run: sordino corpus fetch members" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_quick_benchmark_runs_as_real_processes_and_resumes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    lines = [
        json.dumps({"project": d.project, "path": d.path, "language": d.language, "text": d.text})
        for d in corpus(QUICK, packages=16, files=6)
    ]
    (cache / "members.jsonl").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "bench", "federation", "--quick", "--json"]
    command += [
        "--cache",
        str(cache),
        "--run",
        str(tmp_path / "run"),
        "--picture",
        str(tmp_path / "curves.svg"),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert {
        "gap_closed_eps8",
        "gap_closed_eps2",
        "members_better_than_alone",
        "rounds",
        "epsilon_by_member",
    } <= set(report)
    assert report["rounds"] == QUICK.ample.rounds
    assert set(report["epsilon_by_member"]) == {name for name, _ in QUICK.parties}
    assert all(0 < spent <= 8 for spent in report["epsilon_by_member"].values())
    assert all(0 < spent <= 2 for spent in report["epsilon_by_member_eps2"].values())
    rounds = {
        "federation_eps8": QUICK.ample.rounds,
        "federation_eps2": QUICK.scarce.rounds,
        "federation_without_privacy": QUICK.averaging_rounds,
    }
    assert {name: [number for number, _ in curve] for name, curve in report["curves"].items()} == {
        name: list(range(1, last + 1)) for name, last in rounds.items()
    }
    assert "<svg" in (tmp_path / "curves.svg").read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(again.stdout) == report
    assert "begins" not in again.stderr
