"""Of many assents a member checks some at random: so many that more false ones than the floors can spare are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import combinations
from math import comb, inf, lgamma, log, log1p, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.federation import Federation, SeededEntropy, membership, quantiser, signing_key
from tests.secagg.large import ME, Among
from tests.secagg.test_large import afresh

from sordino_privacy.secagg import (
    FloorError,
    MemberSession,
    QuorumError,
    RevealError,
    Step,
    SurvivorError,
    graph,
)
from sordino_privacy.secagg.graph import Thresholds, thresholds
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.sampling import (
    GRINDING_BITS,
    MOST_BITS,
    OPENING_BITS,
    SAMPLED_ABOVE,
    sample_bits,
    sample_size,
    sampled,
)
from sordino_privacy.secagg.survivors import Opening, require_signers

COUNT = 530
FORGED = bytes(64)


def numbers(members: int, *, gamma: int = 200) -> Thresholds:
    return thresholds(members, corrupt=gamma * members // 1000, honest=3, dropouts=Fraction(333, 1000))


@given(signatures=st.integers(1, 2000), bits=st.integers(1, 64), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_sample_is_the_smallest_that_misses_no_more_false_ones_than_can_be_spared(
    signatures: int, bits: int, data: st.DataObject
) -> None:
    spare = data.draw(st.integers(0, signatures - 1))
    size = sample_size(signatures, spare, bits)

    def passes(drawn: int) -> bool:
        return comb(signatures - spare - 1, drawn) << bits <= comb(signatures, drawn)

    assert passes(size)
    assert size == 0 or not passes(size - 1)


def test_with_nothing_to_spare_nearly_all_are_checked() -> None:
    assert sample_size(1000, 0, MOST_BITS) == 1000
    assert sample_size(1000, 0, 24) == 1000
    assert sample_size(1000, 115, sample_bits(numbers(1000))) < 110


def opened(of: Thresholds, bits: int) -> Fraction:
    """The chance that enough honest neighbours of anybody are deceived for its seed to be opened: for each number of
    corrupt neighbours, how likely it is that some ring that can be found has so many around somebody."""
    n, k, t = of.members, of.degree, of.threshold
    ways = comb(n, k)
    held = [comb(of.corrupt, c) * comb(n - of.corrupt, k - c) for c in range(k + 1)]
    total = Fraction(0)
    for c in range(t):
        at_least = Fraction(sum(held[c:]), ways)
        found = min(Fraction(1), n * 2**GRINDING_BITS * at_least)
        total += found * n * Fraction(comb(k - c, t - c), 2 ** (bits * (t - c)))
    return total


@pytest.mark.parametrize("gamma", [10, 50, 100, 200, 333])
@pytest.mark.parametrize("members", [SAMPLED_ABOVE + 1, 700, 1000, 2500, 10_000])
def test_a_false_quorum_opens_no_seed_but_for_the_chance_that_the_graph_takes_too(
    members: int, gamma: int
) -> None:
    of = numbers(members, gamma=gamma)
    bits = sample_bits(of)
    assert not of.complete
    assert opened(of, bits) <= Fraction(1, 2**OPENING_BITS)
    assert opened(of, bits - 1) > Fraction(1, 2**OPENING_BITS)


def log2_comb(n: int, k: int) -> float:
    """Of binom(n, k), by the gamma function; -inf where there is no way."""
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2) if 0 <= k <= n else -inf


def log2_sum(logs: Iterable[float]) -> float:
    """Of the sum of 2^x over the logs."""
    kept = [x for x in logs if x > -inf]
    top = max(kept, default=-inf)
    return top if top == -inf else top + log2(sum(2 ** (x - top) for x in kept))


@pytest.mark.parametrize("gamma", [1, 10, 50, 200, 333])
@pytest.mark.parametrize("members", [SAMPLED_ABOVE + 1, 1000, 3000])
def test_the_chance_is_no_larger_by_a_route_that_takes_the_attack_as_it_is(members: int, gamma: int) -> None:
    """Not the sum of the protocol: an honest owner, its k neighbours among the n - 1 others, whoever of the honest ones
    is deceived by its own draw, and the best of 2^64 rings for the coordinator, over all honest owners."""
    of = numbers(members, gamma=gamma)
    n, k, t, corrupt, bits = of.members, of.degree, of.threshold, of.corrupt, sample_bits(of)
    around = [
        log2_comb(corrupt, c) + log2_comb(n - 1 - corrupt, k - c) - log2_comb(n - 1, k) for c in range(k + 1)
    ]
    deceived = [
        log2_sum(
            log2_comb(k - c, d) - bits * d + (k - c - d) * log1p(-(2.0**-bits)) / log(2)
            for d in range(t - c, k - c + 1)
        )
        for c in range(t)
    ]
    honest = log2(n - corrupt)
    worst = log2_sum(
        min(0.0, honest + GRINDING_BITS + log2_sum(around[c:])) + honest + deceived[c] for c in range(t)
    )
    assert worst <= -OPENING_BITS
    # What is excluded here, more corrupt neighbours than that, is what the graph excludes, with as little.
    assert honest + GRINDING_BITS + log2_sum(around[t:]) <= -OPENING_BITS


def test_in_a_complete_graph_each_member_knows_it_by_itself() -> None:
    assert sample_bits(numbers(256)) == MOST_BITS


@pytest.mark.parametrize("signatures", [5, 300, SAMPLED_ABOVE])
def test_up_to_the_limit_all_are_checked_whatever_could_be_spared(signatures: int) -> None:
    draw = sampled(signatures, signatures - 1, numbers(max(signatures, 20)), SeededEntropy("unused"))
    assert list(draw) == list(range(signatures))


def test_who_is_drawn_follows_from_the_members_own_entropy_and_every_place_comes_up() -> None:
    size = sample_size(1000, 115, sample_bits(numbers(1000)))
    draws = [sampled(1000, 115, numbers(1000), SeededEntropy(member)) for member in range(120)]
    assert len({tuple(draw) for draw in draws}) == 120
    assert all(len(set(draw)) == len(draw) == size for draw in draws)
    assert {place for draw in draws for place in draw} == set(range(1000))


def accepted(of: Roster, federation: Federation, u3: set[str], signers: set[str]) -> bool:
    try:
        require_signers(of, federation.membership, federation.context, u3, signers)
    except (SurvivorError, FloorError):
        return False
    return True


@pytest.mark.parametrize("organisations", [None, 4])
@pytest.mark.parametrize("limit", [256, 6])
def test_whoever_of_the_spare_ones_is_taken_away_every_floor_is_still_met(
    monkeypatch: pytest.MonkeyPatch, limit: int, organisations: int | None
) -> None:
    """Exhaustively, in a complete graph and in a circulant one."""
    if limit < 9:
        monkeypatch.setattr(graph, "COMPLETE_LIMIT", limit)
        monkeypatch.setattr(graph, "degree_and_threshold", lambda members, corrupt, dropouts: (6, 2))
    federation = Federation(membership(9, organisations=organisations), quantiser=quantiser(20, 9))
    federation.until("upload")
    of, everyone = federation.coordinator.roster, set(federation.names)
    assert of.graph.complete is (limit > 9)
    spare = require_signers(of, federation.membership, federation.context, everyone, everyone)
    assert all(
        accepted(of, federation, everyone, everyone - set(gone)) for gone in combinations(everyone, spare)
    )
    fewer = [
        accepted(of, federation, everyone, everyone - set(gone)) for gone in combinations(everyone, spare + 1)
    ]
    assert organisations is not None or not all(fewer)


@pytest.fixture(scope="module")
def among() -> Among:
    return Among(COUNT)


def asked(among: Among) -> tuple[MemberSession, Opening]:
    """A session of ME that has signed, and the true opening for it."""
    session, update = afresh(among), among.federation.updates[ME]
    session.share(among.roster)
    *_, trailer = session.upload(among.delivery, update)
    claim = among.claim(bytes(trailer))
    return session, Opening.decode(among.opening(claim, session.survivors(claim)))


def forged(opening: Opening, names: set[str]) -> bytes:
    assents = tuple(replace(a, signature=FORGED) if a.sender in names else a for a in opening.assents)
    return replace(opening, assents=assents).encode()


def spare_of(among: Among) -> int:
    everyone = set(among.federation.names)
    return require_signers(
        among.parsed, among.federation.membership, among.federation.context, everyone, everyone
    )


def test_a_member_of_a_large_cohort_checks_a_sample_and_reveals(among: Among, checked: Counter[str]) -> None:
    session, opening = asked(among)
    checked.clear()
    session.unmask(opening.encode(), among.federation.updates[ME])
    size = sample_size(COUNT, spare_of(among), sample_bits(among.parsed.numbers))
    assert checked == {"survivors": size}
    assert size < COUNT * 2 // 5


def strangers(among: Among) -> list[str]:
    near = set(among.parsed.neighbours(ME))
    return [name for name in among.federation.names if name not in near and name != ME]


def around_one(among: Among) -> list[str]:
    """Neighbours of one survivor that is far from ME."""
    far = strangers(among)[0]
    return [name for name in among.parsed.neighbours(far) if name != ME]


@pytest.mark.parametrize("chosen", [strangers, around_one])
@pytest.mark.parametrize("draw", range(3))
def test_one_more_false_assent_than_the_floors_spare_is_refused_wherever_it_stands(
    among: Among, chosen: Callable[[Among], list[str]], draw: int
) -> None:
    session, opening = asked(among)
    session._entropy = SeededEntropy(("drawn", draw))
    lie = forged(opening, set(chosen(among)[: spare_of(among) + 1]))
    journal = among.federation.journals[ME]
    before = list(journal.rows)
    with pytest.raises(QuorumError, match="is not over this set"):
        session.unmask(lie, among.federation.updates[ME])
    assert [row.step for row in journal.rows[len(before) :]] == [Step.REVEALED]
    assert session._state.held == {}


def test_a_member_that_found_a_false_assent_is_asked_no_second_time(among: Among) -> None:
    """Or a coordinator could ask until a draw misses them all."""
    session, opening = asked(among)
    with pytest.raises(QuorumError):
        session.unmask(forged(opening, set(strangers(among))), among.federation.updates[ME])
    reopened = partial(session.unmask, opening.encode(), among.federation.updates[ME])
    with pytest.raises(Exception, match="ended"):
        reopened()


def test_whoever_kept_a_session_from_before_a_false_assent_was_found_gets_no_second_draw(
    among: Among,
) -> None:
    """A process that is killed between the draw and its end, or two at once, would be asked until a draw misses all
    that is false: a sample keeps its promise once."""
    session, opening = asked(among)
    federation, before = among.federation, session.snapshot_with_secrets()
    lie = forged(opening, set(strangers(among)[: spare_of(among) + 1]))
    with pytest.raises(QuorumError):
        session.unmask(lie, federation.updates[ME])
    for name, again in enumerate((lie, opening.encode())):
        drawn: list[int] = []
        entropy = SeededEntropy(("again", name))

        def counted(count: int, drawn: list[int] = drawn, entropy: SeededEntropy = entropy) -> bytes:
            drawn.append(count)
            return entropy(count)

        restored = MemberSession.restore(
            before,
            ME,
            signing_key(ME),
            federation.membership,
            federation.context,
            federation.journals[ME],
            counted,
        )
        with pytest.raises(RevealError, match="already"):
            restored.unmask(again, federation.updates[ME])
        assert not drawn


def test_too_few_assents_are_refused_before_any_is_looked_at(among: Among) -> None:
    session, opening = asked(among)
    few = opening.assents[: among.parsed.numbers.quorum - 1]
    with pytest.raises(QuorumError, match="below the quorum"):
        session.unmask(replace(opening, assents=few).encode(), among.federation.updates[ME])


@pytest.mark.slow
def test_a_round_above_the_limit_with_dropouts_opens_the_exact_sum() -> None:
    count = SAMPLED_ABOVE + 60
    federation = Federation(membership(count), quantiser=quantiser(20, count))
    gone = {
        name: ("share", "upload", "unmask")[index % 3] for index, name in enumerate(federation.names[::20])
    }
    opened = federation.complete(gone)
    assert len(opened.survivors) > SAMPLED_ABOVE
    assert np.array_equal(opened.vector, federation.expected(opened.survivors))
