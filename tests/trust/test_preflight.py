"""What a charter means is said before it is signed, in figures that hold, and what it cannot bear is said there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sordino_coordinator.commands import app as coordinator_app
from sordino_coordinator.settings import load_coordinator_settings
from sordino_platform.charter import Charter, Draft, FloorTerms, PrivacyPolicy, commands, drafting
from sordino_platform.founding_model import founding_parameters
from sordino_platform.identity.ceremony import found_in_folder
from sordino_platform.round_limits import RoundLimits
from sordino_platform.suggested import (
    DELTA,
    OPTIMISER,
    PLANNED_SHARE,
    ROUNDS,
    affordable_noise,
    is_ample,
    suggested_plan,
    suggested_training,
)
from sordino_platform.terms.preflight import lines, preflight
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.errors import ConfigurationError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder whose draft has every default."""
    folder = tmp_path_factory.mktemp("preflight")
    done = run(folder, "charter new root --federation demo")
    assert done.exit_code == 0, done.output
    return folder / "root"


def run(folder: Path, words: str) -> Result:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(commands.app, words.split()[1:])
    finally:
        os.chdir(before)


def draft_of(root: Path) -> Draft:
    return drafting.read_draft(root)


def test_the_default_charter_trains_what_the_benchmark_showed_to_work(root: Path) -> None:
    model = draft_of(root).model
    assert (model.adapter_rank, model.embedding_rank, model.adapter_scale) == (4, 8, 6.0)  # type: ignore[union-attr]
    assert preflight(draft_of(root)).parameters == 114_816


def test_the_suggested_plan_lies_within_the_default_charter_and_its_rounds_within_the_budget(
    root: Path,
) -> None:
    draft = draft_of(root)
    plan = suggested_plan(draft.privacy, context=draft.model.context)
    RoundLimits.of(draft, founding_parameters(draft.model)).require_step(plan, OPTIMISER)
    found = preflight(draft)

    def cost(rounds: int) -> float:
        event = SampledGaussian(sampling_rate=0.1, noise_multiplier=plan.noise_multiplier, steps=rounds)
        return epsilon([event], DELTA).value

    assert cost(ROUNDS) <= PLANNED_SHARE * 8.0
    assert found.rounds >= ROUNDS
    assert cost(found.rounds) <= 8.0 < cost(found.rounds + 1)
    assert found.epsilon_first_round == cost(1)
    assert 0 < found.reach < found.largest_move == pytest.approx(0.1)


@pytest.mark.parametrize("within", [8.0, 2.0, 0.5])
def test_the_affordable_noise_is_the_first_on_its_grid_that_is_enough(within: float) -> None:
    noise = affordable_noise(0.1, 30, within=within, least=0.5)

    def cost(multiplier: float) -> float:
        event = SampledGaussian(sampling_rate=0.1, noise_multiplier=multiplier, steps=30)
        return epsilon([event], DELTA).value

    assert cost(noise) <= within
    assert noise == 0.5 or cost(round(noise - 0.05, 2)) > within


def test_a_budget_that_no_useful_noise_keeps_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no useful noise"):
        affordable_noise(0.1, 30, within=1e-4, least=0.5)
    done = run(tmp_path, "charter new root --federation demo --epsilon 0.0001")
    assert done.exit_code == 0
    assert "what it means in a round cannot be said here: no useful noise keeps 30 steps" in done.output


def test_three_members_bear_no_collusion_and_no_dropout_and_are_told_so(root: Path) -> None:
    draft = drafting.revised(draft_of(root), floors=FloorTerms(cohort=3))
    found = preflight(draft, members=3)
    assert (found.may_collude, found.may_drop_out) == (0, 0)
    collusion, dropout = found.warnings
    assert "no collusion is borne: floor(0.2 x 3) = 0" in collusion
    assert "no dropout is borne: a round of 3" in dropout
    assert preflight(draft_of(root), members=5).warnings == ()


def test_more_members_than_the_smallest_cohort_has_room_for_are_noticed_before_they_join(
    tmp_path: Path, root: Path
) -> None:
    (warning,) = preflight(draft_of(root), members=20).warnings
    assert "with 20 members the smallest cohort must be 7 or more: --cohort 7" in warning
    done = run(tmp_path, "charter new root --federation demo --members 20 --json")
    made = json.loads(done.stdout)
    assert made["floors"]["cohort"] == 7
    assert made["preflight"]["members"] == 20
    assert made["preflight"]["may_collude"] == 4
    assert made["preflight"]["may_drop_out"] == 7
    assert made["preflight"]["warnings"] == []
    assert made["move"]["length"] == pytest.approx(0.1 * made["move"]["norm"])


def test_an_organisation_with_more_members_than_may_collude_is_named(tmp_path: Path, root: Path) -> None:
    draft = draft_of(root)
    foundation = found_in_folder(
        tmp_path / "f",
        federation="demo",
        members=[(f"m-{number}", f"Org {max(0, number - 2)}") for number in range(7)],
        model=draft.model,
    )
    charter = foundation.charter
    assert isinstance(charter, Charter)
    (warning,) = preflight(charter).warnings
    assert "Org 0 has 3 members: if it colludes as a whole, that is more than the 1" in warning


def test_long_noise_and_a_plan_beyond_the_charter_are_said(root: Path) -> None:
    draft = draft_of(root)
    tight = drafting.revised(
        draft,
        privacy=PrivacyPolicy(largest_epsilon=0.3),
        training=draft.training_policy().model_copy(update={"largest_move_permille": 1}),
    )
    said = " ".join(preflight(tight, members=5).warnings)
    assert "beyond --largest-move" in said
    assert "little can be learnt" in said


def test_the_command_prints_every_line_and_charter_show_the_number_that_bounds_a_round(
    tmp_path: Path,
) -> None:
    options = "--cohort 3 --largest-move 50 --server-rate 2 --learning-rate 0.5"
    text, draft = (
        run(tmp_path, f"charter new root --federation demo {options}").output,
        draft_of(tmp_path / "root"),
    )
    for what, words in lines(preflight(draft)):
        assert what in text
        assert words in text
    assert "think about it: no collusion is borne" in text
    shown = run(tmp_path, "charter show root --draft").output
    assert (
        "moves the model by at most 7.916, 5.0% of the length of the model that it starts from (158.3)"
        in shown
    )
    policy = draft.training_policy()
    rates = policy.largest_server_rate, policy.largest_learning_rate
    assert (policy.largest_move_permille, rates) == (50, (2.0, 0.5))
    run(tmp_path, "charter new root --replace --largest-move 60")
    assert draft_of(tmp_path / "root").training_policy().largest_move_permille == 60


def test_what_the_coordinator_writes_for_itself_lies_within_the_charter(tmp_path: Path, root: Path) -> None:
    foundation = found_in_folder(
        tmp_path / "f",
        federation="demo",
        members=[(f"m-{number}", f"Org {number}") for number in range(5)],
        model=draft_of(root).model,
    )
    words = ["new", "--folder", str(foundation.coordinator), "--listen", "127.0.0.1:0"]
    done = CliRunner().invoke(coordinator_app, words)
    assert done.exit_code == 0, done.output
    settings = load_coordinator_settings(foundation.coordinator)
    limits = RoundLimits.of(foundation.charter, founding_parameters(foundation.charter.model))
    limits.require_step(settings.plan.plan(), settings.server_optimiser)
    assert settings.plan.plan() == suggested_plan(foundation.charter.privacy, context=512)


@pytest.mark.parametrize(
    ("members", "cohort"), [(0, 5), (3, 3), (4, 4), (5, 5), (14, 5), (15, 6), (20, 7), (1000, 203)]
)
def test_the_default_cohort_has_room_for_every_colluder_and_no_more_than_the_members(
    members: int, cohort: int
) -> None:
    floors = drafting.floors_for(members)
    assert floors.cohort == cohort
    if members:
        floors.as_secagg().require_possible({f"organisation {number}": 1 for number in range(members)})


def test_the_plan_follows_the_members_and_clusters_that_are_expected(tmp_path: Path, root: Path) -> None:
    """A federation of many clusters takes longer steps; more members with as many clusters have more noise."""
    draft = draft_of(root)
    few, many = (preflight(draft, members=8, clusters=clusters) for clusters in (800, 20_000))
    assert few.plan["learning_rate"] * few.server_optimiser["learning_rate"] == pytest.approx(0.4)
    assert many.plan["learning_rate"] * many.server_optimiser["learning_rate"] == pytest.approx(1.6)
    assert (few.plan["windows_per_unit"], many.plan["windows_per_unit"]) == (1, 2)
    assert (few.plan["expected_units"], many.plan["expected_units"]) == (16, 250)
    assert preflight(draft, members=100, clusters=20_000).plan["windows_per_unit"] == 1
    assert is_ample(members=18, clusters=8000, shares=12)
    assert not is_ample(members=18, clusters=8000, shares=1)
    assert not is_ample(members=18, clusters=0, shares=12)
    done = run(tmp_path, "charter new root --federation demo --members 8 --clusters 20000 --json")
    assert json.loads(done.stdout)["preflight"]["plan"]["expected_units"] == 250


@pytest.mark.parametrize("clusters", [0, 200, 5000, 50_000])
@pytest.mark.parametrize("members", [3, 8, 30])
def test_every_suggested_training_lies_within_the_default_charter(
    members: int, clusters: int, root: Path
) -> None:
    draft = draft_of(root)
    training = suggested_training(
        draft.privacy, context=draft.model.context, members=members, clusters=clusters
    )
    limits = RoundLimits.of(draft, founding_parameters(draft.model))
    limits.require_step(training.plan, training.optimiser)
