"""The field's benchmark: its split, its intervals, its report, and the whole of it as real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.laboratory.federation_benchmark.federation import count, federate
from sordino_client.laboratory.federation_benchmark.stages import Facts
from sordino_client.laboratory.field_benchmark import repositories
from sordino_client.laboratory.field_benchmark.benchmark import (
    AVERAGED,
    COUNTS,
    counted_name,
    field_federation_name,
    party,
)
from sordino_client.laboratory.field_benchmark.curves import draw_field
from sordino_client.laboratory.field_benchmark.knowledge import Remembered, knowledge_of_member
from sordino_client.laboratory.field_benchmark.paired import Files, foretold, saved
from sordino_client.laboratory.field_benchmark.party import Party
from sordino_client.laboratory.field_benchmark.profile import FULL, QUICK, SHORT, FieldProfile
from sordino_client.laboratory.field_benchmark.report import show, summarise_field
from sordino_client.laboratory.field_benchmark.taking import TAKEN, between, choose_and_measure
from sordino_client.laboratory.field_benchmark.terms import (
    count_event,
    count_settings,
    field_terms_within,
    floors_of,
    plan_alone,
)
from sordino_client.training.stream import SourceDocument
from sordino_platform import base
from sordino_platform.charter.document import shareable_honest
from sordino_platform.cli import run as sordino
from sordino_platform.founding_model import founding_parameters
from sordino_platform.identity.ceremony import found_in_folder
from sordino_platform.round_limits import RoundLimits
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.counts import CountPlan, SharedMemory

TWO = replace(QUICK, members=2, newcomers=1, few=3)


def source(project: str, package: int, file: int) -> str:
    head = f'"""Part {file} of {project}."""\n\nfrom platform_library import record\n\n\n'
    return head + "".join(
        f"def {project}_{package}_{n}(context):\n    return record(context, {n * file % 17}, {n + package})\n\n\n"
        for n in range(20)
    )


def corpus(profile: FieldProfile, *, packages: int = 10, files: int = 5) -> list[SourceDocument]:
    return [
        SourceDocument(
            project=name,
            path=f"{name}/p{package}/part{file}.py",
            language="python",
            text=source(name.replace("-", "_"), package, file + 7 * package),
        )
        for name, _ in profile.parties
        for package in range(packages)
        for file in range(files)
    ]


def files(bits: list[float], correct: list[float] | None = None) -> Files:
    return Files(
        bits=tuple(bits),
        sizes=(100.0,) * len(bits),
        correct=tuple(correct or [10.0] * len(bits)),
        tokens=(20.0,) * len(bits),
    )


def test_members_and_newcomers_are_other_projects_and_nothing_is_held_out_and_learnt(tmp_path: Path) -> None:
    facts = repositories.write(tmp_path, corpus(TWO), TWO)
    assert set(TWO.joining).isdisjoint(name for name, _ in TWO.training)
    for name, place in repositories.places(tmp_path, TWO).items():
        held, learnt = set(place.texts()), set(place.documents().values())
        assert held
        assert learnt
        assert not held & learnt
        assert facts[name]["training_files"] == len(learnt)
    for name, first in repositories.beginnings(tmp_path, TWO).items():
        whole = repositories.places(tmp_path, TWO)[name]
        assert len(first.documents()) == TWO.few == facts[name]["first_files"]
        assert set(first.documents().values()) < set(whole.documents().values())
        assert first.texts() == whole.texts()


def test_a_contender_beside_itself_saves_nothing_for_certain() -> None:
    same = files([80.0, 90.0, 70.0])
    found = saved([(same, same), (same, same)])
    assert (found.mean, found.interval) == (0.0, (0.0, 0.0))
    assert foretold([(same, same)]).interval == (0.0, 0.0)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.floats(10, 200), min_size=1, max_size=6), min_size=1, max_size=5),
    st.floats(0.01, 0.5),
)
def test_a_gain_that_all_files_share_is_found_exactly(parties: list[list[float]], gain: float) -> None:
    pairs = [(files(bits), files([one - 100 * gain for one in bits])) for bits in parties]
    found = saved(pairs)
    assert found.mean == pytest.approx(gain)
    assert found.interval == pytest.approx((gain, gain))


def test_the_interval_is_over_parties_and_not_over_files_alone() -> None:
    """Two parties that differ by much, of many equal files each: by file alone the interval would have no width."""
    good, none = files([80.0] * 40), files([100.0] * 40)
    before = files([100.0] * 40)
    low, high = saved([(before, good), (before, none)]).interval
    assert (low, high) == pytest.approx((0.0, 0.2))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    draw, hits = np.random.default_rng(5), 0
    for _ in range(60):
        pairs = []
        for _ in range(15):
            effect = draw.normal(0.05, 0.04)
            before = draw.normal(100, 5, 8)
            pairs.append(
                (files(before.tolist()), files((before - 100 * effect + draw.normal(0, 2, 8)).tolist()))
            )
        low, high = saved(pairs).interval
        hits += low <= 0.05 <= high
    assert hits >= 50  # of 60, where 57 are expected


@pytest.mark.parametrize("budget", [8.0, 2.0])
@pytest.mark.parametrize("profile", [FULL, SHORT, QUICK], ids=lambda profile: profile.name)
def test_the_federations_plan_stays_within_its_budget(profile: FieldProfile, budget: float) -> None:
    terms = field_terms_within(profile, budget)
    for plan, rounds in ((terms.plan, terms.rounds), (plan_alone(profile, budget), profile.alone.rounds)):
        spent = SampledGaussian(
            sampling_rate=plan.sampling_rate,
            noise_multiplier=plan.noise_multiplier,
            steps=plan.steps * rounds,
        )
        assert 0.4 * budget < epsilon([spent], plan.delta).value <= budget


@pytest.mark.parametrize("profile", [FULL, SHORT, QUICK], ids=lambda profile: profile.name)
def test_training_and_one_count_fit_into_the_first_budget_together(profile: FieldProfile) -> None:
    terms = field_terms_within(profile, 8.0)
    trained = SampledGaussian(
        sampling_rate=terms.plan.sampling_rate,
        noise_multiplier=terms.plan.noise_multiplier,
        steps=terms.rounds,
    )
    both = epsilon([trained, count_event(profile)], terms.plan.delta).value
    assert 7 < both <= 8
    assert terms.shared_memory is not None


def test_a_memory_is_asked_once_for_each_place_whatever_model_asks() -> None:
    asked: list[tuple[int, ...]] = []

    class Recall:
        def mix(self, probabilities: Any, written: Any) -> Any:
            return probabilities

    def memory(before: Any) -> Recall:
        asked.append(tuple(before))
        return Recall()

    remembered = Remembered(memory)
    assert remembered([1, 2]) is remembered([1, 2])
    assert remembered([1, 2]) is not remembered([1])
    assert asked == [(1, 2), (1,)]


FIRST, SECOND = field_federation_name(8.0), field_federation_name(2.0)
MEASURED = {
    "headline": ("base", FIRST),
    "counted": (counted_name(FIRST),),
    TAKEN: (TAKEN, "base own twice"),
    "second": (SECOND,),
    "pulled": ("base own pulled", f"{FIRST} own pulled"),
    "compared": ("central", AVERAGED, "alone"),
}


def facts_of(profile: FieldProfile, saves: float) -> dict[str, Facts]:
    """Made-up stages: the federation saves so much with own adapter and memory, half of it at epsilon 2; with its
    shared memory beside, 0.01 more."""
    first, second = FIRST, SECOND

    def entry(bits: float) -> dict[str, Any]:
        return {"bits": [bits] * 3, "sizes": [1.0] * 3, "correct": [1.0] * 3, "tokens": [2.0] * 3}

    def figures(newcomer: bool) -> dict[str, Any]:
        bare = {
            "base": entry(1.0),
            "central": entry(0.8),
            AVERAGED: entry(0.9),
            first: entry(0.95),
            second: entry(0.97),
        }
        own = {
            "base own": entry(0.9),
            f"{first} own": entry(0.9 - saves),
            f"{second} own": entry(0.9 - saves / 2),
            f"{counted_name(first)} own": entry(0.9 - saves - 0.01),
            "base own pulled": entry(0.89),
            f"{first} own pulled": entry(0.89 - saves),
        }
        bare_counted = {counted_name(first): entry(0.94)}
        if not newcomer:
            taken = {TAKEN: entry(0.9 - saves - 0.02), "base own twice": entry(0.89)}
            return {"nothing": bare | {"alone": entry(0.96)}, "all": bare | bare_counted | own | taken}
        others = {"base own": entry(0.77)}
        return {
            "nothing": bare,
            "few": bare | bare_counted | own,
            "all": bare | bare_counted | own,
            "few and others": bare | others,
            "all and others": bare | others,
        }

    names = [name for name, _ in profile.training]
    plan = {"sampling_rate": 0.1, "noise_multiplier": 2.0, "steps": 1, "delta": 1e-6}
    run = {
        "plan": plan,
        "rounds": 30,
        "members_in_each_sum": [names, names[:-1]],
        "epsilon_by_member": dict.fromkeys(names, 3.0),
        "epsilon_if_others_collude_by_member": dict.fromkeys(names, 40.0),
        "server_optimiser": {},
        "bytes": {},
    }
    stages: dict[str, Facts] = {
        "repositories": {"parties": {}},
        first: {"run": run, "curve": [(0, 1.0), (30, 0.95)]},
        second: {"run": run, "curve": [(0, 1.0), (10, 0.97)]},
        AVERAGED: {"curve": [(0, 1.0), (5, 0.9)]},
        COUNTS: {
            "run": {"epsilon_by_member": dict.fromkeys(names, 4.0), "phrases": 700}
            | {"epsilon_if_others_collude_by_member": dict.fromkeys(names, 50.0)}
        },
    }
    for name in (*names, *profile.joining):
        whole = figures(name in profile.joining)
        for what, models in MEASURED.items():
            chosen = {
                memory: {one: value for one, value in found.items() if one.removesuffix(" own") in models}
                for memory, found in whole.items()
            }
            stages[party(name, what)] = {"figures": chosen}
        if name in profile.joining:
            del stages[party(name, TAKEN)]
        else:
            stages[party(name, TAKEN)]["taken"] = {"taking": {"share": 0.5, "shared_memory": True}}
    return {name: stage | {"wall_seconds": 1.0} for name, stage in stages.items()}


def test_the_report_says_what_a_federation_is_worth_to_whom(tmp_path: Path) -> None:
    report = summarise_field(facts_of(QUICK, 0.05), QUICK, {})
    assert {
        "worth_newcomers_8_files",
        "worth_newcomers_8_files_ci",
        "worth_members",
        "worth_members_ci",
        "worth_newcomers_eps2",
        "members_better_than_alone",
        "ceiling_newcomers_8_files",
        "epsilon_federation",
        "epsilon_if_others_collude",
        "rounds",
        "seconds",
    } <= set(report)
    assert report["complete"]
    assert report["missing"] == {}
    assert report["worth_newcomers_8_files"] == pytest.approx(0.06)
    assert report["worth_newcomers_8_files_adapters"] == pytest.approx(0.05)
    assert report["worth_members"] == pytest.approx(0.07)
    assert report["worth_members_everything"] == pytest.approx(0.06)
    assert report["worth_members_beyond_averaging"]["mean"] == pytest.approx(0.06)
    assert report["members_worse_off"] == []
    assert len(report["members_take"]) == QUICK.members
    assert report["worth_members_pulled"] == pytest.approx(0.05)
    assert report["worth_newcomers_eps2"] == pytest.approx(0.025)
    assert report["ceiling_newcomers_8_files"] == pytest.approx(0.13)
    assert report["members_better_than_alone"] == QUICK.members
    assert (report["epsilon_federation"], report["epsilon_if_others_collude"]) == (4.0, 50.0)
    assert json.loads(json.dumps(report)) == json.loads(json.dumps(report))
    assert any("newcomers never took part" in line for line in show(report))


def test_what_is_not_finished_is_null_and_said_in_a_sentence() -> None:
    whole = facts_of(QUICK, 0.05)
    some = {name: value for name, value in whole.items() if SECOND not in name and ".second" not in name}
    report = summarise_field(some, QUICK, {})
    assert not report["complete"]
    assert report["worth_newcomers_eps2"] is None
    assert "has not been measured yet" in report["missing"]["worth_newcomers_eps2"]
    assert report["worth_newcomers_8_files"] == pytest.approx(0.06)
    lines = list(show(report))
    assert any(line.startswith("at epsilon 2: ") and "not been measured yet" in line for line in lines)


def test_until_the_count_the_headline_is_of_the_adapters_and_their_epsilon() -> None:
    whole = facts_of(QUICK, 0.05)
    last = party(QUICK.joining[-1], "counted")
    report = summarise_field({name: value for name, value in whole.items() if name != last}, QUICK, {})
    assert report["worth_is_of"] == "adapters"
    assert report["worth_newcomers_8_files"] == pytest.approx(0.05)
    assert report["epsilon_federation"] == 3.0
    assert "shared_memory" in report["missing"]


def test_a_run_that_has_only_begun_has_a_report_and_a_picture(tmp_path: Path) -> None:
    report = summarise_field({"repositories": {"parties": {}, "wall_seconds": 1.0}}, QUICK, {})
    assert report["worth_members"] is None
    assert report["rounds"] is None
    assert list(show(report))
    draw_field(report, tmp_path / "none.svg")
    draw_field(summarise_field(facts_of(QUICK, 0.05), QUICK, {}), tmp_path / "all.svg")
    assert "the same, epsilon 2" in (tmp_path / "all.svg").read_text()


@pytest.mark.parametrize("members", [5, 9, 18])
def test_the_noise_of_the_honest_floor_is_enough_and_no_two_sums_of_a_round_can_be_opened(
    members: int,
) -> None:
    floors = floors_of(members)
    assert shareable_honest(floors, members) <= floors.honest < members
    assert floors.cohort == floors.as_secagg().corrupt(members) + floors.honest <= members


def test_without_the_field_it_says_how_to_fetch_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "federation", "--field", "--quick", "--run", str(tmp_path / "run")]
    assert sordino([*arguments, "--cache", str(tmp_path)]) == 4
    assert "what to do: run: sordino corpus fetch field" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_quick_field_benchmark_runs_as_real_processes_and_resumes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    lines = [
        json.dumps({"project": d.project, "path": d.path, "language": d.language, "text": d.text})
        for d in corpus(QUICK, packages=16, files=6)
    ]
    (cache / "field.jsonl").write_text("\n".join(lines) + "\n")
    command = [
        sys.executable,
        "-P",
        "-m",
        "sordino_platform.cli",
        "bench",
        "federation",
        "--field",
        "--quick",
    ]
    command += ["--json", "--cache", str(cache), "--run", str(tmp_path / "run")]
    command += ["--picture", str(tmp_path / "curves.svg")]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert report["members"] == QUICK.members
    assert report["rounds"] == QUICK.ample.rounds
    assert 0 < report["epsilon_federation"] <= 8 < report["epsilon_if_others_collude"]
    assert "<svg" in (tmp_path / "curves.svg").read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(again.stdout) == report
    assert "begins" not in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_interrupted_federation_goes_on_behind_its_last_finished_round_and_counts_on_the_same_budget(
    tmp_path: Path,
) -> None:
    repositories.write(tmp_path / "r", corpus(QUICK, packages=16, files=6), QUICK)
    places = repositories.places(tmp_path / "r", QUICK)
    members, terms = {name: places[name] for name, _ in QUICK.training}, field_terms_within(QUICK, 8.0)
    told: list[str] = []

    def interrupt(line: str) -> None:
        if line.startswith("round 1 of 2"):
            raise KeyboardInterrupt  # before the release is kept: it is found in the coordinator's folder

    with pytest.raises(KeyboardInterrupt):
        federate(tmp_path / "f", members, terms, on_progress=interrupt)
    run = federate(tmp_path / "f", members, terms, on_progress=told.append)
    assert [line for line in told if line.startswith("round")] == ["round 2 of 2: completed"]
    assert len(run.releases) == run.facts["rounds"] == len(run.facts["members_in_each_sum"]) == 2
    assert run.facts["starts"] == 2
    assert not np.array_equal(*run.releases)
    # Nobody types at these members: none of them serves completions.
    assert not list((tmp_path / "f" / "members").rglob("completion.json"))
    counted = count(tmp_path / "f", members, terms, count_settings(QUICK), on_progress=told.append)
    assert counted["members"]
    again = count(tmp_path / "f", members, terms, count_settings(QUICK), on_progress=told.append)
    assert again == counted
    for name in members:
        before = run.facts["epsilon_by_member"][name]
        assert before < counted["epsilon_by_member"][name] <= 8


@pytest.mark.parametrize("budget", [8.0, 2.0])
@pytest.mark.parametrize("profile", [FULL, SHORT, QUICK], ids=lambda profile: profile.name)
def test_the_charter_of_the_benchmark_takes_its_plan_and_the_servers_step(
    profile: FieldProfile, budget: float, tmp_path: Path
) -> None:
    terms = field_terms_within(profile, budget)
    charter = found_in_folder(
        tmp_path / "f",
        federation="benchmark",
        members=terms.parties,
        model=terms.model,
        floors=terms.floors,
        privacy=terms.privacy,
    ).charter
    assert charter.noise_shares() == charter.floors.honest > 1
    limits = RoundLimits.of(charter, founding_parameters(charter.model))
    limits.require_step(terms.plan, terms.optimiser)


def test_until_the_members_have_chosen_their_worth_is_of_everything_and_the_report_says_so() -> None:
    whole = facts_of(QUICK, 0.05)
    last = party(QUICK.training[-1][0], TAKEN)
    report = summarise_field({name: value for name, value in whole.items() if name != last}, QUICK, {})
    assert report["worth_members"] == report["worth_members_everything"] == pytest.approx(0.06)
    assert "have not chosen" in report["missing"]["members_take"]


def test_a_member_takes_the_better_model_by_files_that_no_report_holds(tmp_path: Path) -> None:
    """One of the two models is spoilt: whichever it is, the other one is taken, and no reported file had a say."""
    profile = replace(TWO, heldout_share=0.3, heldout_tokens=300, tokens_per_file=100)
    repositories.write(tmp_path / "r", corpus(profile), profile)
    name = profile.training[0][0]
    place = repositories.places(tmp_path / "r", profile)[name]
    config, tokenizer, good = base.load()
    draw = np.random.default_rng(0)
    spoilt = {k: (v + draw.normal(0, 0.3, v.shape)).astype(np.float32) for k, v in good.items()}
    memories = knowledge_of_member(tmp_path / "memory", place, tokenizer)
    member = Party(name=name, heldout=place, memories=memories, learnt={"all": place})
    plan = CountPlan(noise_multiplier=1.0, largest_count=2, delta=1e-6, salt=1)
    nothing = SharedMemory.of_sum(np.zeros(1 << plan.bits), plan, survivors=1, step=1.0)
    for alone, federated, share in ((good, spoilt, 0.0), (spoilt, good, 1.0)):
        facts = choose_and_measure(
            member, alone, alone, federated, nothing, config, tokenizer, profile, on_progress=lambda _: None
        )
        assert facts["taken"]["taking"]["share"] == share
        assert facts["taken"]["taking"]["shared_memory"] is False, "a memory that says nothing is not taken"
        files, twice = facts["figures"]["all"].values()
        assert share or files == twice, "twice the same is the same"
        assert sum(files["tokens"]) <= 300
        assert facts["taken"]["tokens"] <= 600
    half = between(good, spoilt, 0.5)
    assert all(np.allclose(value, (good[name] + spoilt[name]) / 2) for name, value in half.items())
