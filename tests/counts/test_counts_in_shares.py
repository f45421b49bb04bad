"""Counts with noise in shares: the very probabilities of an opened sum, and the memory that such a sum makes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_privacy.accounting import epsilon
from sordino_privacy.counts import CountPlan, SharedMemory
from sordino_privacy.counts.counting import counted, noised_in_shares
from sordino_privacy.errors import ConfigurationError, StorageError
from sordino_privacy.keystream import Keystream
from sordino_privacy.shared_noise import SharedNoise

PLAN = CountPlan(bits=12, phrases=8, noise_multiplier=1.0, largest_count=4, delta=1e-6, salt=3)
HONEST, MEMBERS = 3, 5


def noise_of(plan: CountPlan) -> SharedNoise:
    return SharedNoise(
        noise_multiplier=plan.noise_multiplier, honest=HONEST, members=MEMBERS, dimension=plan.cells
    )


def discrete(variance: float) -> npt.NDArray[np.float64]:
    """The probabilities of a discrete Gaussian, by definition, out to 12 deviations."""
    reach = math.ceil(12 * math.sqrt(variance))
    weights: npt.NDArray[np.float64] = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * variance))
    weights /= weights.sum()
    return weights


def exact_epsilon(law: npt.NDArray[np.float64], move: int, variance: float, delta: float) -> float:
    """The smallest epsilon at which two laws, one `move` further, are within `delta`: summed over all outcomes."""
    places = np.arange(len(law)) - len(law) // 2

    def beyond(eps: float) -> float:
        # What is likelier by more than e^eps without the unit: where z <= move / 2 - eps * variance / move.
        worse = places <= move / 2 - eps * variance / move
        shifted = np.zeros_like(law)
        shifted[move:] = law[: len(law) - move]
        return float(np.maximum(law[worse] - math.exp(eps) * shifted[worse], 0).sum())

    low, high = 0.0, 64.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > delta else (low, middle)
    return high


@pytest.mark.parametrize("multiplier", [0.75, 2.0])
@pytest.mark.parametrize("shares", [1, HONEST])
def test_the_exact_privacy_of_a_sum_of_shares_is_within_what_is_charged(
    multiplier: float, shares: int
) -> None:
    """The second route, without a Gaussian and without an accountant. A unit moves 2K cells by one count each; of all
    that the sum says, only the total over these cells tells whether it is there. Its law is a discrete Gaussian's."""
    plan = replace(PLAN, noise_multiplier=multiplier)
    noise = noise_of(plan)
    cells = 2 * plan.phrases
    count = noise.scale / plan.sensitivity()  # one count in integers
    assert count == int(count), "here no rounding hides anything"
    variance = cells * shares * noise.share_variance
    exact = exact_epsilon(discrete(variance), int(cells * count), variance, plan.delta)
    event = noise.event(sampling_rate=1.0) if shares == HONEST else noise.event_alone(sampling_rate=1.0)
    charged = epsilon([event], plan.delta).value
    assert exact <= charged < 1.05 * exact + 0.01


def test_a_sum_of_shares_holds_the_counts_and_the_noise_that_was_promised() -> None:
    plan = replace(PLAN, bits=16)
    noise = noise_of(plan)
    units = [np.arange(2 * plan.phrases) * 31] * 3
    sums = [
        noised_in_shares(counted(units, plan), plan, noise, Keystream(bytes([member] * 32)))
        for member in range(MEMBERS)
    ]
    values = np.sum(sums, axis=0) * noise.step * plan.sensitivity()
    told = np.zeros(plan.cells, bool)
    told[units[0]] = True
    deviation = plan.deviation() * math.sqrt(MEMBERS / HONEST)
    assert abs(float(values[~told].std()) / deviation - 1) < 6 / math.sqrt(2 * plan.cells)
    assert abs(float(values[told].mean()) - 3 * MEMBERS) < 6 * deviation / math.sqrt(2 * plan.phrases)


@given(st.integers(1, 200), st.integers(1, 64))
def test_a_phrase_needs_less_where_the_noise_is_shared_and_never_less_than_its_witnesses(
    survivors: int, shares: int
) -> None:
    threshold = PLAN.threshold(survivors=survivors, shares=shares)
    assert threshold >= PLAN.deviations * PLAN.deviation() * math.sqrt(survivors / shares)
    assert threshold >= PLAN.witnesses * PLAN.largest_count
    assert threshold <= PLAN.threshold(survivors=survivors)


@pytest.mark.parametrize("other", [{"noise_multiplier": 2.0}, {"bits": 13}])
def test_noise_of_another_plan_is_refused(other: dict[str, Any]) -> None:
    noise = noise_of(replace(PLAN, **other))
    with pytest.raises(ConfigurationError):
        noised_in_shares(np.zeros(PLAN.cells), PLAN, noise, Keystream(bytes(32)))


def test_a_memory_names_its_shares_and_one_without_any_has_the_bytes_that_it_always_had() -> None:
    total = np.zeros(PLAN.cells)
    total[[1, 70, 3000]] = 1000

    def made(shares: int) -> SharedMemory:
        return SharedMemory.of_sum(total, PLAN, survivors=5, step=1.0, shares=shares)

    assert made(1).encode().startswith(b"sordino-shared-memory/1\n")
    held = made(3).encode()
    assert held.startswith(b"sordino-shared-memory/2\n")
    again = SharedMemory.decode(held)
    assert (again.shares, again.survivors, again.encode()) == (3, 5, held)
    assert again.threshold == PLAN.threshold(survivors=5, shares=3)
    assert json.loads(again.plan.canonical()) == json.loads(PLAN.canonical())
    one = held.replace((3).to_bytes(4, "little") + (3).to_bytes(4, "little"), bytes([1, 0, 0, 0, 3, 0, 0, 0]))
    assert one != held
    for wrong in (
        one,
        held.replace(b"memory/2", b"memory/1"),
        held.replace(b"memory/2", b"memory/3"),
        held[:-1],
    ):
        with pytest.raises(StorageError):
            SharedMemory.decode(wrong)
