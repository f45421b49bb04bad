"""The server optimiser: known answers, the same bits on both sides, a state that is durable and signed."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.coordinator.test_orders import one_round, running

from sordino_coordinator.control import desk
from sordino_platform.architecture import Vector
from sordino_platform.release import ServerOptimiser
from sordino_privacy.errors import StorageError, UsageError

AVERAGE, MOMENTUM, ADAM = (ServerOptimiser(name=name) for name in ("fedavg", "fedavgm", "fedadam"))


def vector(*values: float) -> Vector:
    return np.array(values, dtype=np.float32)


def after(optimiser: ServerOptimiser, means: list[Vector], model: Vector) -> Vector:
    moments = optimiser.fresh(model.size)
    for mean in means:
        model, moments = optimiser.step(model, mean, moments)
    return model


def test_fedavg_adds_the_mean() -> None:
    assert after(AVERAGE, [vector(0.5, -1.0)], vector(1.0, 1.0)).tolist() == [1.5, 0.0]
    half = ServerOptimiser(learning_rate=0.5)
    assert after(half, [vector(0.5, -1.0)], vector(1.0, 1.0)).tolist() == [1.25, 0.5]


def test_fedavgm_is_torchs_momentum_on_the_negative_mean() -> None:
    means = [vector(*row) for row in np.random.default_rng(3).normal(size=(6, 4))]
    parameter = torch.nn.Parameter(torch.ones(4))
    oracle = torch.optim.SGD([parameter], lr=0.3, momentum=0.9)
    for mean in means:
        parameter.grad = -torch.from_numpy(mean)
        oracle.step()
    ours = after(ServerOptimiser(name="fedavgm", learning_rate=0.3), means, np.ones(4, dtype=np.float32))
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-5)


def test_fedadam_by_hand() -> None:
    # One step: m = 0.1 * 2, v = 0.01 * 4, and lr * m / (sqrt(v) + tau) = 0.01 * 0.2 / (0.2 + 0.05).
    adam = ServerOptimiser(name="fedadam", learning_rate=0.01, tau=0.05)
    assert after(adam, [vector(2.0)], vector(0.0))[0] == pytest.approx(0.008, rel=1e-5)
    # A second with the same mean: m = 0.9 * 0.2 + 0.2, v = 0.99 * 0.04 + 0.04.
    second = 0.008 + 0.01 * 0.38 / (np.sqrt(0.0796) + 0.05)
    assert after(adam, [vector(2.0)] * 2, vector(0.0))[0] == pytest.approx(second, rel=1e-5)


def rounded(value: float) -> float:
    """A double rounded to float32. For + - * / and sqrt of float32 values this is the correctly rounded result."""
    single: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return single


def step_by_step(terms: ServerOptimiser, means: list[list[float]]) -> list[float]:
    """FedAdam in plain Python, one rounded operation after the other."""
    rate, beta1, beta2, tau = map(rounded, (terms.learning_rate, terms.beta1, terms.beta2, terms.tau))
    model, first, second = ([0.0] * len(means[0]) for _ in range(3))
    for mean in means:
        for i, d in enumerate(mean):
            first[i] = rounded(rounded(beta1 * first[i]) + rounded(rounded(1 - beta1) * d))
            second[i] = rounded(rounded(beta2 * second[i]) + rounded(rounded(1 - beta2) * rounded(d * d)))
            divisor = rounded(rounded(math.sqrt(second[i])) + tau)
            model[i] = rounded(model[i] + rounded(rounded(rate * first[i]) / divisor))
    return model


@given(
    st.lists(st.lists(st.floats(-4.0, 4.0, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(1e-3, 2.0),
)
def test_every_bit_follows_from_correctly_rounded_operations(means: list[list[float]], rate: float) -> None:
    adam = ServerOptimiser(name="fedadam", learning_rate=rate)
    ours = after(adam, [vector(*mean) for mean in means], np.zeros(3, dtype=np.float32))
    assert ours.tolist() == step_by_step(adam, means)


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=8))
def test_what_overflows_shows_in_the_moments(values: list[float]) -> None:
    _, (_, spread) = ADAM.step(vector(*[0.0] * len(values)), vector(*values), ADAM.fresh(len(values)))
    assert np.isinf(spread).tolist() == [rounded_square_is_infinite(value) for value in values]


def rounded_square_is_infinite(value: float) -> bool:
    try:
        return math.isinf(rounded(value * value))
    except OverflowError:
        return True


def test_other_shapes_types_and_terms_are_refused() -> None:
    for mean in (vector(1.0, 2.0), np.zeros(1, dtype=np.float64)):
        with pytest.raises(ValueError, match="float32 vectors of one length"):
            AVERAGE.step(vector(0.0), mean, ())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keeps 1 moments"):
        MOMENTUM.step(vector(0.0), vector(0.0), ())
    for terms in ({"learning_rate": 0.0}, {"beta1": 1.0}, {"tau": 0.0}, {"name": "sgd"}, {"momentum": 0.9}):
        with pytest.raises(ValidationError):
            ServerOptimiser.model_validate(terms)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
def test_members_repeat_the_step_and_the_state_survives_a_restart(place: Path, hub: Path, name: str) -> None:
    terms = {"name": name, "learning_rate": 0.01 if name == "fedadam" else 1.0}
    with running(place) as (federation, strategy, grid):
        desk.set_pace(
            hub, federation.desk.defaults, {"server_optimiser": ServerOptimiser().model_dump() | terms}
        )
        assert one_round(federation, strategy, grid, 0.001)
        first = federation.releases.moments()
    with running(place) as (federation, strategy, grid):
        assert [m.tolist() for m in federation.releases.moments()] == [m.tolist() for m in first]
        assert one_round(federation, strategy, grid, 0.001)
        for member in grid.members.values():
            assert member.releases.head() == federation.releases.head()
            assert np.array_equal(member.releases.vector(), federation.releases.vector())
        one, two, three = (federation.releases.vector(number) for number in range(3))
        if name == "fedavgm":
            np.testing.assert_allclose(three - two, (two - one) * 1.9, atol=6e-4)
        # Back to plain averages: the state begins anew, and members go along.
        desk.set_pace(hub, federation.desk.defaults, {}, reset=True)
        assert one_round(federation, strategy, grid, 0.001)
        assert federation.releases.moments() == ()
        assert grid.members["elm"].releases.head() == federation.releases.head()


def test_a_damaged_state_is_found_and_an_impossible_optimiser_refused(place: Path, hub: Path) -> None:
    with running(place) as (federation, strategy, grid):
        with pytest.raises(UsageError, match="server_optimiser"):
            desk.set_pace(hub, federation.desk.defaults, {"server_optimiser": {"name": "adam"}})
        desk.set_pace(hub, federation.desk.defaults, {"server_optimiser": MOMENTUM.model_dump()})
        assert one_round(federation, strategy, grid, 0.001)
        path = hub / "releases" / "000001" / "moment-0.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(StorageError, match="moment 0 of release 1"):
            federation.releases.moments()


OPTIMISERS = st.builds(
    ServerOptimiser,
    name=st.sampled_from(["fedavg", "fedavgm", "fedadam"]),
    learning_rate=st.floats(1e-3, 4.0),
    beta1=st.floats(0.0, 0.95),
    beta2=st.floats(0.0, 0.999),
    tau=st.floats(1e-4, 1.0),
)


@given(optimiser=OPTIMISERS, seed=st.integers(0, 1 << 32), same=st.booleans())
def test_no_step_is_longer_than_the_reach_of_its_optimiser(
    optimiser: ServerOptimiser, seed: int, same: bool
) -> None:
    chance = np.random.default_rng(seed)
    model, moments = np.zeros(50, dtype=np.float32), optimiser.fresh(50)
    direction = chance.normal(size=50)
    for _ in range(40):
        if not same:
            direction = chance.normal(size=50) * (chance.random(50) < chance.random())
        # As long as a mean may be, or much shorter: what divides by its own spread moves far on little.
        length = 10.0 ** chance.choice([0.0, 0.0, -3.0, -6.0])
        mean = (direction * length / max(np.linalg.norm(direction), 1e-9)).astype(np.float32)
        moved, moments = optimiser.step(model, mean, moments)
        step = np.linalg.norm((moved - model).astype(np.float64))
        # Coordinates are rounded at the size of the model that they are added to.
        assert step <= optimiser.reach(1.0, 50) * (1 + 1e-3) + 1e-6 * np.linalg.norm(model)
        model = moved
