"""Quantisation: exact sums at the edge of the ring, no bias, statistics that ride along, and refusals of bad input."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.federation import SeededEntropy, plaintext_sum

from sordino_privacy.errors import ConfigurationError, UsageError
from sordino_privacy.secagg import (
    Group,
    MalformedError,
    MaskedStatistics,
    NonFiniteError,
    Quantised,
    Quantiser,
)
from sordino_privacy.secagg.encoding import MessageReader, Writer
from sordino_privacy.secagg.quantise import STATISTICS


def one_group(length: int, reach: float, cohort_limit: int) -> Quantiser:
    return Quantiser(groups=(Group(name="all", length=length, range=reach),), cohort_limit=cohort_limit)


@pytest.mark.parametrize(
    ("members", "ring", "bits"),
    [(8, 16, 13), (16, 16, 12), (32, 16, 11), (64, 16, 10), (65, 32, 20), (10_000, 32, 19)],
)
def test_the_ring_and_the_input_bits_follow_the_rule(members: int, ring: int, bits: int) -> None:
    quantiser = one_group(1, 1.0, members)
    assert quantiser.ring_bits == ring
    assert quantiser.levels.bit_length() + 1 == bits
    assert members * quantiser.levels < 1 << (ring - 1)


@pytest.mark.parametrize("members", [1, 3, 8, 64, 65, 1000, 10_000])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_possible_sum_does_not_wrap(members: int, sign: float) -> None:
    quantiser = one_group(5, 0.25, members)
    extreme = quantiser.quantise(
        np.full(5, sign * 0.25, np.float32),
        1.0,
        MaskedStatistics(loss=255.9, examples=1 << 40),
        SeededEntropy(1),
    )
    total = (extreme.vector.astype(np.uint64) * members).astype(quantiser.dtype)
    opened = quantiser.decode(total)
    assert (opened.integers == sign * members * quantiser.levels).all()
    assert opened.weight == members
    assert opened.examples == members << 40
    assert opened.saturated == 0
    assert opened.mean() == pytest.approx(np.full(5, sign * 0.25), rel=1e-6)
    assert opened.mean_loss == pytest.approx(255.9, abs=1e-4)


@pytest.mark.parametrize("members", [8, 100])
def test_every_limb_of_every_statistic_fits_a_full_cohort(members: int) -> None:
    quantiser = one_group(1, 1.0, members)
    assert members * ((1 << quantiser.limb_bits) - 1) < 1 << quantiser.ring_bits
    assert quantiser.length == 1 + sum(-(-bits // quantiser.limb_bits) for _, bits in STATISTICS)


@settings(max_examples=50, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8),
    losses=st.lists(st.floats(0.0, 255.0), min_size=8, max_size=8),
    seed=st.integers(0, 1 << 32),
)
def test_the_decoded_mean_is_the_weighted_mean_to_within_one_level(
    weights: list[float], losses: list[float], seed: int
) -> None:
    quantiser = Quantiser(
        groups=(Group(name="a", length=7, range=0.125), Group(name="b", length=30, range=3.0)), cohort_limit=8
    )
    random = np.random.default_rng(seed)
    reach = np.repeat([0.125, 3.0], [7, 30])
    updates = [(random.uniform(-1, 1, 37) * reach).astype(np.float32) for _ in weights]
    rounded = [round(weight * 65536) / 65536 for weight in weights]
    quantised = [
        quantiser.quantise(
            update, weight, MaskedStatistics(loss=loss, examples=index), SeededEntropy((seed, index))
        )
        for index, (update, weight, loss) in enumerate(zip(updates, weights, losses, strict=False))
    ]
    opened = quantiser.decode(plaintext_sum(quantised, quantiser))
    assert opened.weight == sum(rounded)
    assert opened.saturated == 0
    assert opened.examples == sum(range(len(weights)))
    assert opened.loss == pytest.approx(sum(w * x for w, x in zip(rounded, losses, strict=False)), abs=1e-3)
    truth = sum(w * u.astype(np.float64) for w, u in zip(rounded, updates, strict=True))
    assert (np.abs(opened.total() - truth) <= len(weights) * 1.01 * reach / quantiser.levels).all()
    assert opened.mean() == pytest.approx(opened.total() / opened.weight, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("members", [64, 100])
def test_rounding_is_stochastic_and_has_no_bias(members: int) -> None:
    quantiser = one_group(200_000, 1.0, members)
    value = np.float32(0.3 / quantiser.levels)
    quantised = quantiser.quantise(np.full(200_000, value), 1.0, MaskedStatistics(), SeededEntropy(2))
    opened = quantiser.decode(quantised.vector.copy())
    assert set(np.unique(opened.integers)) == {0, 1}
    assert opened.integers.mean() == pytest.approx(0.3, abs=5 * 0.46 / 200_000**0.5)


def test_coordinates_beyond_the_range_are_clipped_and_counted() -> None:
    quantiser = one_group(6, 1.0, 8)
    update = np.array([0.5, -1.5, 2.0, 1.0, -1.0, 3e38], np.float32)
    opened = quantiser.decode(
        quantiser.quantise(update, 1.0, MaskedStatistics(), SeededEntropy(3)).vector.copy()
    )
    assert opened.saturated == 3
    assert opened.integers[1] == -quantiser.levels
    assert opened.integers[2] == opened.integers[5] == quantiser.levels


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 70_000, 140_000])
def test_a_vector_that_is_not_finite_is_refused(bad: float, place: int) -> None:
    update = np.zeros(140_001, np.float32)
    update[place] = bad
    with pytest.raises(NonFiniteError):
        one_group(140_001, 1.0, 8).quantise(update, 1.0, MaskedStatistics(), SeededEntropy(4))


@pytest.mark.parametrize(("weight", "loss"), [(float("nan"), 0.0), (0.5, float("inf")), (0.5, float("nan"))])
def test_a_weight_or_loss_that_is_not_finite_is_refused(weight: float, loss: float) -> None:
    with pytest.raises(NonFiniteError):
        one_group(2, 1.0, 8).quantise(
            np.zeros(2, np.float32), weight, MaskedStatistics(loss=loss), SeededEntropy(5)
        )


@pytest.mark.parametrize(
    ("weight", "statistics"),
    [
        (0.0, MaskedStatistics()),
        (1.01, MaskedStatistics()),
        (-0.5, MaskedStatistics()),
        (1.0, MaskedStatistics(loss=256.0)),
        (1.0, MaskedStatistics(loss=-0.1)),
        (1.0, MaskedStatistics(examples=-1)),
        (1.0, MaskedStatistics(examples=(1 << 40) + 1)),
    ],
)
def test_weights_and_statistics_outside_their_bounds_are_refused(
    weight: float, statistics: MaskedStatistics
) -> None:
    with pytest.raises(UsageError):
        one_group(2, 1.0, 8).quantise(np.zeros(2, np.float32), weight, statistics, SeededEntropy(6))


def test_vectors_of_another_shape_or_type_are_refused() -> None:
    quantiser = one_group(3, 1.0, 8)
    for wrong in (np.zeros(2, np.float32), np.zeros(3), np.zeros((3, 1), np.float32)):
        with pytest.raises(UsageError):
            quantiser.quantise(wrong, 1.0, MaskedStatistics(), SeededEntropy(7))  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        quantiser.decode(np.zeros(3, np.uint16))


@pytest.mark.parametrize(
    "change",
    [
        {"range": 0.0},
        {"range": float("nan")},
        {"range": float("inf")},
        {"length": 0},
        {"length": (1 << 30) + 1},
        {"name": ""},
    ],
)
def test_impossible_groups_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        replace(Group(name="a", length=1, range=1.0), **change)  # type: ignore[arg-type]


def test_a_quantised_update_survives_the_members_disk_and_a_damaged_one_is_refused() -> None:
    quantiser = one_group(10, 1.0, 8)
    quantised = quantiser.quantise(
        np.linspace(-1, 1, 10, dtype=np.float32), 0.5, MaskedStatistics(), os.urandom
    )
    again = Quantised.decode(quantised.encode())
    assert (again.quantiser_hash, again.identity) == (quantised.quantiser_hash, quantised.identity)
    assert np.array_equal(again.vector, quantised.vector)
    for damaged in (quantised.encode()[:-1], quantised.encode() + b"\0", b"", quantised.encode()[:40]):
        with pytest.raises(MalformedError):
            Quantised.decode(damaged)


def test_two_roundings_of_one_update_are_two_updates() -> None:
    quantiser = one_group(1000, 1.0, 64)
    update = np.linspace(-1, 1, 1000, dtype=np.float32)
    first, second = (quantiser.quantise(update, 1.0, MaskedStatistics(), os.urandom) for _ in range(2))
    assert first.identity != second.identity
    assert not np.array_equal(first.vector, second.vector)


def test_a_quantiser_round_trips_through_its_encoding_and_its_digest_covers_every_field() -> None:
    quantiser = Quantiser(
        groups=(Group(name="a", length=7, range=0.1), Group(name="b", length=3, range=2.0)), cohort_limit=8
    )
    writer = Writer(1)
    quantiser.write(writer)
    reader = MessageReader(writer.done(), 1)
    assert Quantiser.read(reader) == quantiser
    reader.end()
    others = [
        replace(quantiser, cohort_limit=9),
        replace(quantiser, groups=quantiser.groups[::-1]),
        *(
            replace(quantiser, groups=(replace(quantiser.groups[0], **change), quantiser.groups[1]))
            for change in ({"name": "c"}, {"length": 8}, {"range": 0.2})
        ),
    ]
    assert len({one.digest() for one in (quantiser, *others)}) == 1 + len(others)
