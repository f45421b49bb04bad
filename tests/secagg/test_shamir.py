"""Shamir's scheme: any t shares recover, t - 1 say nothing, shares add up; checked against sympy's field arithmetic."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import GF, Poly, isprime, symbols  # type: ignore[import-untyped]
from tests.secagg.federation import SeededEntropy

from sordino_privacy.secagg import ShareError, merkle, shamir
from sordino_privacy.secagg.shamir import PRIME, field_element, recover, split


def test_the_field_is_prime_and_just_below_2_256() -> None:
    assert isprime(PRIME)
    assert PRIME == (1 << 256) - 189


@settings(max_examples=40, deadline=None)
@given(
    secret=st.integers(0, PRIME - 1),
    holders=st.lists(st.integers(1, 65535), min_size=1, max_size=12, unique=True),
    data=st.data(),
)
def test_any_t_shares_recover_the_secret(secret: int, holders: list[int], data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, len(holders)))
    shares = dict(zip(holders, split(secret, threshold, holders, SeededEntropy(secret)), strict=True))
    chosen = data.draw(st.lists(st.sampled_from(holders), min_size=threshold, unique=True))
    assert recover({x: shares[x] for x in chosen}, threshold) == secret


def test_every_t_subset_recovers_and_t_minus_one_shares_are_consistent_with_every_secret() -> None:
    holders, threshold, secret = [1, 2, 5, 9, 77], 3, 123456789
    shares = dict(zip(holders, split(secret, threshold, holders, SeededEntropy(0)), strict=True))
    for subset in itertools.combinations(holders, threshold):
        assert recover({x: shares[x] for x in subset}, threshold) == secret
    # With t - 1 shares fixed, each candidate secret is explained by exactly one polynomial: an extra share that fits.
    known = {x: shares[x] for x in holders[: threshold - 1]}
    for candidate in (0, 1, PRIME - 1, secret):
        fit = recover(known | {40000: 0}, threshold)
        weight = shamir.basis((*sorted(known), 40000))[-1]
        extra = (candidate - fit) * pow(weight, -1, PRIME) % PRIME
        assert recover(known | {40000: extra}, threshold) == candidate


def test_shares_and_recovery_agree_with_sympys_polynomials_over_the_field() -> None:
    x = symbols("x")
    entropy = SeededEntropy("oracle")
    coefficients = [field_element(entropy) for _ in range(20)]
    secret = coefficients.pop()
    oracle = Poly([*coefficients, secret], x, domain=GF(PRIME, symmetric=False))
    holders = [1, 2, 3, 64, 255, 256, 10_000, 65_535, *range(100, 140)]
    shares = split(secret, 20, holders, SeededEntropy("oracle"))
    assert shares == [int(oracle.eval(index)) for index in holders]


def test_sharing_is_linear() -> None:
    holders, threshold = [3, 1, 4, 15], 3
    first = split(111, threshold, holders, SeededEntropy(1))
    second = split(PRIME - 11, threshold, holders, SeededEntropy(2))
    added = {x: (a + b) % PRIME for x, a, b in zip(holders, first, second, strict=True)}
    assert recover(added, threshold) == 100


def test_the_top_bits_of_single_shares_are_uniform() -> None:
    count = [0] * 16
    for seed in range(1600):
        (share, _) = split(7, 2, [1, 2], SeededEntropy(seed))
        count[share >> 252] += 1
    assert sum((c - 100) ** 2 / 100 for c in count) < 50  # chi-square, 15 degrees: probability below 1e-4


def test_impossible_requests_are_refused() -> None:
    for secret, threshold, holders in [
        (PRIME, 1, [1]),
        (-1, 1, [1]),
        (1, 3, [1, 2]),
        (1, 0, [1]),
        (1, 2, [1, 1]),
        (1, 1, [0]),
        (1, 1, [65536]),
    ]:
        with pytest.raises(ValueError, match=r"secret|threshold|index"):
            split(secret, threshold, holders, SeededEntropy(0))
    with pytest.raises(ShareError):
        recover({1: 5}, 2)


def test_field_elements_are_below_the_prime_even_when_a_draw_is_not() -> None:
    draws = iter([b"\xff" * 32, PRIME.to_bytes(32, "big"), (PRIME - 1).to_bytes(32, "big")])
    assert field_element(lambda _: next(draws)) == PRIME - 1


@pytest.mark.parametrize("count", range(1, 18))
def test_every_leaf_of_a_tree_climbs_to_its_root_by_its_path_and_by_no_other(count: int) -> None:
    leaves = [bytes([index]) * 32 for index in range(count)]
    root = merkle.root(leaves)
    for index, path in enumerate(merkle.paths(leaves)):
        assert len(path) == merkle.path_length(index, count)
        assert merkle.climb(leaves[index], index, count, path) == root
        assert merkle.climb(b"x" * 32, index, count, path) != root
        if count > 1:
            other = (index + 1) % count
            if merkle.path_length(other, count) == len(path):
                assert merkle.climb(leaves[index], other, count, path) != root
