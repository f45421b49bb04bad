"""No plan and no server's step moves the model further in a round than the number that the charter names.

Through the real member and the real coordinator: what a plan's fields are, alone or together, is the coordinator's to
choose, and the limit by which a result is refused follows from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.federation.hub import EvilHub, Opened, found_many, refused_as

from sordino_client.round.agreement import decide
from sordino_coordinator.control import desk
from sordino_coordinator.federation import Federation
from sordino_platform.architecture import flatten
from sordino_platform.canonical import decode, encode
from sordino_platform.charter import Charter, FloorTerms, TrainingPolicy, drafting
from sordino_platform.charter.changes import changes
from sordino_platform.flower.phases import Phase
from sordino_platform.proposal import Proposal, norm_limit, quantiser_for
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_platform.round_limits import RoundLimits
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import PolicyError


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bounds") / "federation"
    found_many(folder, 5, organisations=5, floors=FloorTerms(cohort=4))
    return folder


@pytest.fixture(scope="module")
def hub(founded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvilHub]:
    with Opened(founded, tmp_path_factory.mktemp("hub") / "federation") as opened:
        yield opened


def proposal(hub: EvilHub, plan: TrainingPlan) -> Proposal:
    """A proposal of `plan` that is right in everything else."""
    config, members = hub.federation.config, len(hub.federation.membership.members)
    context = replace(
        hub.context, train_config_hash=plan.digest(), quantiser=quantiser_for(config, plan, members=members)
    )
    return Proposal(
        context=context,
        plan=plan,
        provenance=hub.federation.records.provenance(after=hub.member.newest_release()),
    )


def limits_of(hub: EvilHub) -> RoundLimits:
    return RoundLimits.of(hub.member.charter, hub.member.parameters)


def accepted(hub: EvilHub, plan: TrainingPlan) -> bool:
    """Whether the real member agrees to it."""
    try:
        decide(hub.member, proposal(hub, plan))
    except PolicyError:
        return False
    return True


def limit_of(hub: EvilHub, plan: TrainingPlan) -> float:
    """The number by which this plan's result would be refused."""
    members = len(hub.federation.membership.members)
    return norm_limit(plan, quantiser_for(hub.federation.config, plan, members=members))


# Each field's values up to the extremes that a plan can have at all, well beyond any charter.
EXTREMES: dict[str, st.SearchStrategy[object]] = {
    "sampling_rate": st.floats(1e-6, 1.0),
    "noise_multiplier": st.floats(0.05, 1e4),
    "clip_norm": st.floats(1e-6, 1e6),
    "steps": st.integers(1, 100_000),
    "windows_per_unit": st.integers(1, 1024),
    "window": st.integers(1, 1 << 16),
    "learning_rate": st.floats(1e-6, 1e3),
    "optimiser": st.sampled_from(["sgd", "adam"]),
    "delta": st.floats(1e-12, 0.09),
    "expected_units": st.integers(1, 1 << 24),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_field_of_a_plan_alone_raises_the_limit_above_the_shown_number(
    hub: EvilHub, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(sorted(EXTREMES)))
    plan = replace(hub.federation.training, **{field: data.draw(EXTREMES[field], label=field)})  # type: ignore[arg-type]
    if accepted(hub, plan):
        assert limit_of(hub, plan) <= limits_of(hub).move


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.fixed_dictionaries(EXTREMES))
def test_no_plan_at_all_raises_it(hub: EvilHub, fields: dict[str, object]) -> None:
    plan = TrainingPlan(**fields)  # type: ignore[arg-type]
    if accepted(hub, plan):
        assert limit_of(hub, plan) <= limits_of(hub).move


def extreme(hub: EvilHub, field: str) -> float | int:
    """The extreme that the charter allows for a field."""
    privacy, training = hub.member.charter.privacy, hub.member.charter.training_policy()
    return {
        "sampling_rate": privacy.largest_sampling_rate,
        "noise_multiplier": training.largest_noise_multiplier,
        "clip_norm": privacy.largest_clip_norm,
        "steps": privacy.largest_steps,
        "windows_per_unit": min(training.largest_windows_per_unit, hub.member.settings.windows_per_unit),
        "window": hub.federation.config.context,
        "learning_rate": training.largest_learning_rate,
        "delta": min(privacy.largest_delta, hub.member.ledger.budget.delta * 10),
        "expected_units": training.smallest_expected_units,
    }[field]


@pytest.mark.parametrize("field", [name for name in EXTREMES if name != "optimiser"])
def test_a_field_beyond_its_own_bound_is_refused_and_at_the_bound_judged_by_the_move_alone(
    hub: EvilHub, field: str
) -> None:
    honest, most = hub.federation.training, extreme(hub, field)
    at = replace(honest, **{field: most})  # type: ignore[arg-type]
    # The extreme of one field may be more than the move allows: then that is the reason, and nothing else.
    assert accepted(hub, at) == (limit_of(hub, at) <= limits_of(hub).move)
    if field == "expected_units":
        beyond = replace(honest, expected_units=int(most) - 1, learning_rate=1e-6)
    elif isinstance(most, int):
        beyond = replace(honest, **{field: most + 1}, learning_rate=1e-6)  # type: ignore[arg-type]
    else:
        other = {} if field == "learning_rate" else {"learning_rate": 1e-6}
        beyond = replace(honest, **{field: most * 1.01}, **other)  # type: ignore[arg-type]
    assert not accepted(hub, beyond)


def test_the_plan_of_the_attack_is_refused_by_member_and_coordinator_with_the_numbers(
    hub: EvilHub, founded: Path, tmp_path: Path
) -> None:
    """Learning rate 1,000: its limit would have been seventy times the length of the whole model."""
    attack = replace(hub.federation.training, learning_rate=1000.0)
    assert limit_of(hub, attack) > 70 * limits_of(hub).norm
    assert refused_as(hub.ask(Phase.TRAIN, proposal(hub, attack).pack())) == "policy"
    assert not hub.member.ledger.reservations()
    shutil.copytree(founded, tmp_path / "copy")
    file = tmp_path / "copy" / "coordinator" / "coordinator.toml"
    text = file.read_text()
    assert "learning_rate = 0.1" in text
    file.write_text(text.replace("learning_rate = 0.1", "learning_rate = 1000.0"))
    with pytest.raises(PolicyError, match="learning rate"):
        Federation.open(tmp_path / "copy" / "coordinator")
    # Within the bound of the field, and still too far: many steps at the largest rate.
    far = replace(hub.federation.training, learning_rate=1.0, steps=100)
    with pytest.raises(
        PolicyError, match=r"could move the model by .* of its length; the charter allows 15\.\d+, 10\.0%"
    ):
        decide(hub.member, proposal(hub, far))


BEYOND = [
    ServerOptimiser(learning_rate=4.1),
    ServerOptimiser(name="fedavgm", beta1=0.96),
    ServerOptimiser(name="fedadam", beta2=0.9995, learning_rate=0.001),
    ServerOptimiser(name="fedadam", tau=1e-5, learning_rate=0.001),
    ServerOptimiser(name="fedadam", learning_rate=1.0),  # each number within its bound, the step too long
    ServerOptimiser(name="fedavgm", learning_rate=4.0, beta1=0.95),
]


@pytest.mark.parametrize("optimiser", BEYOND, ids=str)
def test_a_servers_step_beyond_the_charter_is_refused_when_it_is_ordered_and_when_a_coordinator_starts_with_it(
    hub: EvilHub, optimiser: ServerOptimiser
) -> None:
    federation = hub.federation
    with pytest.raises(PolicyError):
        limits_of(hub).require_step(federation.training, optimiser)
    orders = (federation.folder / "orders.json").exists()
    with pytest.raises(PolicyError):
        desk.set_pace(
            federation.folder, federation.desk.defaults, {"server_optimiser": optimiser.model_dump()}
        )
    assert (federation.folder / "orders.json").exists() == orders


def test_a_release_whose_signed_step_is_beyond_the_charter_is_no_release(
    hub: EvilHub, tmp_path: Path
) -> None:
    store = hub.federation.releases
    vector = store.vector()
    names = tuple(member.name for member in hub.federation.charter.members)[:4]
    with pytest.raises(ConfigurationError, match="outside the charter's training policy"):
        store.add(
            vector,
            key=hub.federation.identity.signing_key,
            run="ab" * 16,
            round=1,
            members=names,
            optimiser=ServerOptimiser(learning_rate=4.1),
        )


# The charter ----------------------------------------------------------------------------------------------------------


def test_the_number_is_a_share_of_the_length_of_the_model_that_the_charter_starts_from(hub: EvilHub) -> None:
    limits = limits_of(hub)
    vector = flatten(hub.federation.config, hub.federation.parameters).astype(np.float64)
    assert limits.norm == pytest.approx(float(np.linalg.norm(vector)))
    assert limits.move == pytest.approx(0.1 * limits.norm)
    assert 0 < limits.reach(hub.federation.training, ServerOptimiser()) < limits.move


def test_a_charter_of_version_1_keeps_its_bytes_and_is_read_with_the_default_policy(hub: EvilHub) -> None:
    charter = hub.federation.charter
    older = Charter(**dict(charter) | {"version": "sordino-charter/1", "training": None})
    data = encode(older)
    assert b'"training"' not in data
    assert decode(Charter, data, limit=1 << 20, what="it").hash() == older.hash() != charter.hash()
    assert older.training_policy() == TrainingPolicy()
    following = drafting.next_draft(older)
    assert (following.version, following.training) == ("sordino-charter/2", TrainingPolicy())
    for wrong in ({"training": None}, {"version": "sordino-charter/1"}):
        with pytest.raises(ValueError, match="training policy stands in every charter from version 2 on"):
            Charter(**dict(charter) | wrong)


@pytest.mark.parametrize("field", sorted(TrainingPolicy.model_fields))
def test_every_bound_that_is_loosened_is_marked_as_protecting_less(hub: EvilHub, field: str) -> None:
    charter = hub.federation.charter
    policy = charter.training_policy()
    looser = getattr(policy, field) * (0.5 if field.startswith("smallest") else 1.00001)
    if isinstance(getattr(policy, field), int):
        looser = getattr(policy, field) + (-1 if field.startswith("smallest") else 1)
    changed = policy.model_copy(update={field: looser})
    (found,) = changes(charter, charter.model_copy(update={"training": changed}))
    assert (found.field, found.weaker) == (f"training.{field}", True)


def test_every_field_of_a_plan_is_bounded_by_the_charter_or_enters_no_limit(hub: EvilHub) -> None:
    """A field that is added to a plan later must be thought of here."""
    assert set(asdict(hub.federation.training)) == set(EXTREMES)
