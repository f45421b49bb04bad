"""Noise in shares, through the real Member, ClientApp and coordinator: charged, summed, refused, agreed to."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.federation import inprocess
from tests.federation.proposed import offer_of, proposal_of

from sordino_client.ledger.chain import read_rows
from sordino_client.round.contribution import contribute, require_one_epoch
from sordino_client.round.folder import RoundFolder
from sordino_client.round.member import Member
from sordino_client.round.participation import Consent, UnwillingError
from sordino_client.round.readiness import first_reason
from sordino_client.settings import load_member_settings
from sordino_client.status import read_ledger
from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.charter import FloorTerms, PrivacyPolicy
from sordino_platform.flower.phases import Phase
from sordino_platform.founding_model import founding_parameters
from sordino_platform.offer import Unready
from sordino_platform.proposal import quantiser_for, require_honest_mean, shared_noise
from sordino_platform.round_limits import RoundLimits
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import BudgetError
from sordino_privacy.secagg import NormError, PolicyError, ReplayError, Totals
from sordino_privacy.secagg.journal import JournalEntry, Step
from sordino_privacy.secagg.rounding import signed_view

DISTRIBUTED = PrivacyPolicy(noise="distributed", largest_steps=1)
FLOORS = FloorTerms(cohort=4, honest=3)
AGREED = 40.0


def module_text(index: int) -> str:
    return "".join(
        f"def function_{index}_{k}(value_{k}):\n    return value_{k} * {index + k} + {k}\n\n"
        for k in range(12)
    )


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("shares")
    folder: Path = base / "federation"
    inprocess.found_in(
        folder,
        privacy=DISTRIBUTED,
        floors=FLOORS,
        of_members={
            "minimum_units": 4,
            "heldout_share": 0.0,
            "size_bucket": 3,
            "epsilon_if_others_collude": AGREED,
        },
    )
    inprocess.give_code(folder, base / "code", module_text)
    return folder


def with_cap(place: Path, cap: float) -> Path:
    folder = place / "members" / "alder"
    path = folder / "member.toml"
    path.write_text(
        path.read_text().replace(
            f"epsilon_if_others_collude = {AGREED}", f"epsilon_if_others_collude = {cap}"
        )
    )
    assert load_member_settings(folder).epsilon_if_others_collude == cap
    return folder


def deviation_of_a_coordinate(federation: Federation, *, members: int) -> float:
    """Of the noise in the mean of so many members, each with a third of it, in the units of an update."""
    plan = federation.plan
    assert isinstance(plan, TrainingPlan)
    step = plan.learning_rate * plan.clip_norm / plan.expected_units
    return step * plan.noise_multiplier / math.sqrt(FLOORS.honest * members)


@pytest.mark.parametrize("absent", [set(), {(Phase.UPLOAD, "elm")}])
def test_a_round_in_shares_opens_the_mean_with_the_noise_of_the_shares(
    place: Path, federation: Federation, absent: set[tuple[Phase, str]]
) -> None:
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        grid.absent = {(phase.message_type, name) for phase, name in absent}
        for index, member in enumerate(members.values()):
            inprocess.store_update(member, federation, 1, 0.00005 * (1 + index))
        before = federation.weights()
        SecureFedAvg(federation).one_round(grid)
        (row,) = federation.rounds.rounds()
        assert row.outcome == Outcome.COMPLETED.value
        count = 5 - len(absent)
        moved = federation.weights() - before
        noise = deviation_of_a_coordinate(federation, members=count)
        expected = 0.00005 * sum(range(1, count + 1)) / count
        assert abs(float(moved.mean()) - expected) < 6 * noise / math.sqrt(moved.size)
        assert abs(float(moved.std()) / noise - 1) < 6 / math.sqrt(2 * moved.size)
        # Every member that took part checked the release, and took it over.
        assert {
            member.newest_release() for name, member in members.items() if (Phase.UPLOAD, name) not in absent
        } == {1}


def test_the_coordinator_is_told_both_numbers_and_shows_them(place: Path, federation: Federation) -> None:
    with inprocess.opened(place) as members:
        for member in members.values():
            inprocess.store_update(member, federation, 1, 0.0)
        SecureFedAvg(federation).one_round(inprocess.InProcessGrid(members, run=7))
        spent = {name: (m.epsilon_spent(), m.ledger.spent_alone().value) for name, m in members.items()}
    with closing(RoundStore(place / "coordinator" / "state.sqlite")) as store:
        for kept in store.members():
            assert (kept.epsilon, kept.epsilon_if_others_collude) == spent[kept.name]
            assert kept.epsilon_if_others_collude is not None
            assert kept.epsilon is not None
            assert kept.epsilon_if_others_collude > kept.epsilon
        assert {kept.name for kept in store.members()} <= set(spent)


def test_a_member_trains_adds_its_share_once_and_charges_both_numbers(
    place: Path, federation: Federation
) -> None:
    folder = place / "members" / "alder"
    with Member.open(folder) as member:
        said = proposal_of(federation)
        contribute(member, said, federation.weights())
        round_folder = RoundFolder.of(folder, said.context.run, 1)
        first = round_folder.quantised()
        contribute(member, replace(said, context=replace(said.context, attempt=1)), federation.weights())
        assert np.array_equal(round_folder.quantised().vector, first.vector), (
            "another attempt, the same noise"
        )
        assert len(member.ledger.reservations()) == 1
    assert isinstance(federation.plan, TrainingPlan)
    noise = shared_noise(federation.config, federation.plan, members=5, shares=3)
    quantiser = quantiser_for(federation.config, federation.plan, members=5, shares=3)
    totals = quantiser.decode(first.vector)
    # A member of size class 3 weighs 1 all the same, and what saturated before the noise is told to nobody.
    assert (totals.weight, totals.saturated, totals.examples) == (1.0, 0, 3)
    measured = float((totals.integers.astype(float) ** 2).mean())
    assert noise.share_variance * 0.97 < measured < noise.share_variance * 1.3
    # Nothing that was computed from data lies on the disk without its share.
    stored = np.load(round_folder.path / "job" / "update.npy", allow_pickle=False)
    assert stored.dtype == np.dtype("<u4")
    assert np.array_equal(signed_view(stored), totals.integers)
    row = next(row for row in read_rows(folder / "ledger") if row.kind == "reserve")
    assert row.body["noise_multiplier"] == noise.event(sampling_rate=0.1).noise_multiplier
    assert row.body["own_noise_multiplier"] == noise.event_alone(sampling_rate=0.1).noise_multiplier
    facts = read_ledger(folder)
    assert facts["scope"] == "federation"
    assert facts["epsilon_if_others_collude_budget"] == AGREED
    assert 1.5 * facts["epsilon_spent"] < facts["epsilon_if_others_collude"] < AGREED
    assert facts["rounds"][0]["epsilon_if_others_collude_after"] == facts["epsilon_if_others_collude"]


def test_a_member_whose_owner_did_not_agree_refuses_and_says_what_to_type(
    place: Path, federation: Federation
) -> None:
    folder = with_cap(place, 0.0)
    with Member.open(folder) as member:
        reason, error = first_reason(member, offer_of(federation))
        assert reason is Unready.BUDGET
        assert error is not None
        assert "if all others collude" in error.message
        assert "has not agreed" in error.message
        assert "epsilon_if_others_collude = " in error.hint
        with pytest.raises(BudgetError, match="has not agreed"):
            contribute(member, proposal_of(federation), federation.weights())
        assert not member.ledger.reservations()


def test_a_cap_below_the_second_number_refuses_and_one_above_it_does_not(
    place: Path, federation: Federation
) -> None:
    folder = with_cap(place, 1.0)
    with Member.open(folder) as member:
        cost = member.ledger.preview(federation.plan, noise=member.noise(federation.plan))
        assert cost.after < 8 < AGREED
        assert cost.alone > 1.0
        with pytest.raises(BudgetError, match="agreed to 1 at most"):
            member.ledger.reserve(federation.run, 1, federation.plan, noise=member.noise(federation.plan))
    folder = place / "members" / "birch"
    with Member.open(folder) as member:
        member.ledger.reserve(federation.run, 1, federation.plan, noise=member.noise(federation.plan))


def test_consent_is_to_both_numbers(place: Path, federation: Federation) -> None:
    with Member.open(place / "members" / "alder") as member:
        wish, shown = member.participation, offer_of(federation)
        wish.offered(shown)
        cost = member.ledger.preview(federation.plan, noise=member.noise(federation.plan))
        facts = (shown.run, 1, federation.plan.digest())
        wish.agree(Consent(offer=shown.id, round=1, epsilon_after=cost.after))
        with pytest.raises(UnwillingError, match="if all others collude"):
            wish.admit(*facts, epsilon_after=cost.after, epsilon_alone_after=cost.alone)
        both = Consent(
            offer=shown.id, round=1, epsilon_after=cost.after, epsilon_if_others_collude_after=cost.alone
        )
        wish.agree(both)
        wish.admit(*facts, epsilon_after=cost.after, epsilon_alone_after=cost.alone)


def test_an_update_that_left_under_one_epoch_leaves_under_no_other(
    place: Path, federation: Federation
) -> None:
    with Member.open(place / "members" / "alder") as member:
        context = proposal_of(federation).context
        member.ledger.reserve(context.run, 1, federation.plan, noise=member.noise(federation.plan))
        for step in (Step.ADVERTISED, Step.UPLOADED):
            member.ledger.record(
                JournalEntry(
                    federation=context.federation,
                    epoch=context.epoch,
                    run=context.run,
                    round=1,
                    attempt=0,
                    step=step,
                    update=bytes(32) if step is Step.UPLOADED else b"",
                    digest=bytes(32),
                )
            )
        require_one_epoch(member, replace(context, attempt=1))
        with pytest.raises(ReplayError, match="another epoch"):
            require_one_epoch(member, replace(context, attempt=1, epoch=context.epoch + 1))


@pytest.mark.parametrize("change", [{"optimiser": "adam"}, {"steps": 2}])
def test_a_plan_of_several_steps_or_another_optimiser_is_refused(
    federation: Federation, change: dict[str, object]
) -> None:
    charter = federation.charter
    limits = RoundLimits.of(charter, founding_parameters(charter.model))
    limits.require_plan(federation.plan)
    with pytest.raises(PolicyError):
        limits.require_plan(replace(federation.plan, **change))  # type: ignore[arg-type]


def test_a_sum_of_lighter_members_or_a_longer_one_is_refused(federation: Federation) -> None:
    plan = federation.plan
    assert isinstance(plan, TrainingPlan)
    quantiser = quantiser_for(federation.config, plan, members=5, shares=3)
    noise = shared_noise(federation.config, plan, members=5, shares=3)
    rng = np.random.default_rng(3)
    share = rng.normal(0, math.sqrt(5 * noise.share_variance), quantiser.dimension)

    def totals(*, weight: float = 5.0, times: float = 1.0) -> Totals:
        return Totals(
            quantiser=quantiser,
            integers=(share * times).astype(np.int32),
            weight=weight,
            saturated=0,
            loss=0.0,
            examples=5,
        )

    require_honest_mean(plan, totals(), survivors=5)
    with pytest.raises(NormError, match="weights"):
        require_honest_mean(plan, totals(weight=4.5), survivors=5)
    # Twice the noise of the shares: within what local noise would have been.
    with pytest.raises(NormError, match="norm"):
        require_honest_mean(plan, totals(times=4.0), survivors=5)
