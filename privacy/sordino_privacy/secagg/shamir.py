"""Shamir's secret sharing (1979) over the prime p = 2^256 - 189, in Python integers.

A secret below p is the constant term of a random polynomial of degree t - 1; the share of a holder is its value at the
holder's index x >= 1. Any t shares give the secret, any t - 1 shares are uniform and independent of it.

Not constant-time: Python integers are not. The secrets live for one session on the member's own machine, where a
side channel is outside the threat model; the docs say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from sordino_privacy.secagg.encoding import KEY_BYTES
from sordino_privacy.secagg.refusals import ShareError

PRIME = (1 << 256) - 189
# Horner's accumulator grows by at most 16 bits per step at the indices in use. Reducing it once in 16 steps is cheaper
# than in each step, and it never grows by more than a few machine words.
LAZY_STEPS = 16


def field_element(entropy: Callable[[int], bytes]) -> int:
    """A uniform element of the field, by rejection (a draw is refused with probability 2^-248)."""
    while True:
        value = int.from_bytes(entropy(KEY_BYTES), "big")
        if value < PRIME:
            return value


def split(secret: int, threshold: int, indices: Sequence[int], entropy: Callable[[int], bytes]) -> list[int]:
    """The shares of `secret` at `indices` (distinct, 1 to 65535), any `threshold` of which recover it."""
    if not 0 <= secret < PRIME:
        raise ValueError("a secret is a field element")
    if not 1 <= threshold <= len(indices) or len(set(indices)) != len(indices):
        raise ValueError("a threshold lies between 1 and the number of distinct holders")
    if not all(0 < x < 1 << 16 for x in indices):
        raise ValueError("an index lies between 1 and 65535")
    # Highest coefficient first; the secret is the constant term.
    coefficients = [field_element(entropy) for _ in range(threshold - 1)] + [secret]
    steps = [coefficients[low : low + LAZY_STEPS] for low in range(0, threshold, LAZY_STEPS)]
    return [_evaluate(steps, x) for x in indices]


def _evaluate(steps: Sequence[Sequence[int]], x: int) -> int:
    value = 0
    for coefficients in steps:
        for coefficient in coefficients:
            value = value * x + coefficient
        value %= PRIME
    return value


@lru_cache(maxsize=4096)
def basis(indices: tuple[int, ...]) -> tuple[int, ...]:
    """The Lagrange coefficients at 0 for `indices`: the secret is the sum of coefficient times share.

    Cached: in a complete graph one set of survivors recovers every secret of the round.
    """
    # The coefficient of x is (the product of all indices) / (x * the product of all differences from x). Indices are
    # small, so these products are taken as integers; one inversion modulo p is enough for all (Montgomery's trick).
    everything = math.prod(indices) % PRIME
    below = [x * math.prod([other - x for other in indices if other != x]) % PRIME for x in indices]
    before = list(accumulate(below, lambda one, other: one * other % PRIME, initial=1))
    inverse, out = pow(before[-1], -1, PRIME), []
    for denominator, product in zip(reversed(below), reversed(before[:-1]), strict=True):
        out.append(everything * product * inverse % PRIME)
        inverse = inverse * denominator % PRIME
    return tuple(reversed(out))


def recover(shares: Mapping[int, int], threshold: int) -> int:
    """The secret from at least `threshold` shares by index (the lowest indices are used). Raises ShareError."""
    if len(shares) < threshold:
        raise ShareError(f"{len(shares)} shares are fewer than the threshold of {threshold}")
    indices = tuple(sorted(shares)[:threshold])
    return sum(c * shares[x] for c, x in zip(basis(indices), indices, strict=True)) % PRIME
