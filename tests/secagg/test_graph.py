"""Thresholds and graphs: known answers, the bounds they stand on, and a whole round on a circulant graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import hypergeom
from tests.secagg.federation import Federation, membership, names, quantiser

from sordino_privacy.secagg import AbortedError, QuorumError, SurvivorError, graph
from sordino_privacy.secagg.graph import Graph, degree_and_threshold, permutation, quorum, thresholds
from sordino_privacy.secagg.shares import Delivery
from sordino_privacy.secagg.survivors import Claim, Opening, require_survivors

THIRD, FIFTH, TENTH = Fraction(1, 3), Fraction(1, 5), Fraction(1, 10)


@pytest.mark.parametrize(
    ("members", "corrupt", "signatures"),
    [
        (3, 0, 3),
        (5, 1, 4),
        (10, 3, 7),
        (20, 4, 13),
        (50, 10, 31),
        (100, 20, 61),
        (100, 33, 67),
        (1000, 200, 601),
        # A small part of a large membership: every colluder may be in it.
        (7, 4, 7),
        (9, 4, 7),
        (200, 100, 151),
        (203, 200, 203),
    ],
)
def test_the_quorum_has_its_known_answers(members: int, corrupt: int, signatures: int) -> None:
    assert quorum(members, corrupt=corrupt, honest=3) == signatures


@pytest.mark.parametrize(
    ("members", "corrupt", "dropouts", "answer"),
    [
        (1000, 100, TENTH, (74, 49)),
        (1000, 100, THIRD, (146, 65)),
        (1000, 200, THIRD, (236, 119)),
        (10_000, 2000, THIRD, (338, 170)),
    ],
)
def test_the_smallest_degree_and_its_threshold_have_their_known_answers(
    members: int, corrupt: int, dropouts: Fraction, answer: tuple[int, int]
) -> None:
    assert degree_and_threshold(members, corrupt, dropouts) == answer


@pytest.mark.parametrize(
    ("members", "corrupt", "dropouts"), [(1000, 200, THIRD), (300, 30, FIFTH), (500, 150, FIFTH)]
)
def test_the_found_degree_meets_the_bounds_by_an_independent_hypergeometric_and_no_smaller_one_does(
    members: int, corrupt: int, dropouts: Fraction
) -> None:
    found = degree_and_threshold(members, corrupt, dropouts)
    assert found is not None
    staying = math.ceil((1 - dropouts) * members)
    most = -(graph.SECURITY_BITS + 1) * math.log(2) - math.log(members)
    least = -graph.CORRECTNESS_BITS * math.log(2) - math.log(members)

    def holds(degree: int, threshold: int) -> bool:
        too_many = hypergeom.logsf(threshold - 1, members, corrupt, degree)
        too_few = hypergeom.logcdf(threshold - 1, members, staying, degree)
        return bool(too_many <= most and too_few <= least)

    degree, threshold = found
    assert holds(degree, threshold)
    assert not any(holds(degree - 2, t) for t in range(1, degree))


def test_where_no_sparse_graph_is_safe_the_graph_is_complete() -> None:
    for members, corrupt, dropouts in ((257, 51, Fraction(9, 10)), (300, 200, THIRD)):
        assert degree_and_threshold(members, corrupt, dropouts) is None
        numbers = thresholds(members, corrupt=corrupt, honest=3, dropouts=dropouts)
        assert numbers.complete
        assert numbers.threshold == numbers.quorum


@pytest.mark.parametrize("members", [257, 300, 999])
def test_every_pair_of_floors_that_a_charter_may_set_has_a_graph(members: int) -> None:
    found = thresholds(members, corrupt=members * 333 // 1000, honest=3, dropouts=Fraction(1, 2))
    assert found.threshold <= found.degree < members


def test_up_to_256_members_the_graph_is_complete_and_above_it_is_regular_symmetric_and_follows_the_roster() -> (
    None
):
    numbers = thresholds(256, corrupt=51, honest=3, dropouts=THIRD)
    whole = Graph.of(numbers, b"R")
    assert numbers.degree == 255
    assert numbers.threshold == numbers.quorum
    assert all(len(n) == 255 and i not in n for i, n in enumerate(map(whole.neighbours, range(256))))
    numbers = thresholds(400, corrupt=40, honest=3, dropouts=TENTH)
    sparse, other = Graph.of(numbers, b"R"), Graph.of(numbers, b"S")
    assert numbers.degree < 399
    for i, near in enumerate(map(sparse.neighbours, range(sparse.members))):
        assert len(near) == numbers.degree == len(set(near))
        assert i not in near
        assert all(i in sparse.neighbours(j) and sparse.adjacent(i, j) for j in near)
    assert sparse.order != other.order
    assert sparse == Graph.of(numbers, b"R")


def test_the_permutation_is_one_and_every_place_is_equally_likely() -> None:
    count = np.zeros((6, 6))
    for seed in range(3000):
        order = permutation(6, seed.to_bytes(32, "big"))
        assert sorted(order) == list(range(6))
        count[np.arange(6), order] += 1
    assert abs(count - 500).max() < 6 * math.sqrt(500)


@pytest.fixture
def sparse() -> Iterator[None]:
    """Circulant graphs from 6 members on, of degree 8 and threshold 5: the real code at a size that tests can run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "COMPLETE_LIMIT", 5)
        patch.setattr(graph, "degree_and_threshold", lambda *_: (8, 5))
        yield


@pytest.mark.usefixtures("sparse")
def test_a_round_on_a_circulant_graph_opens_the_exact_sum_with_dropouts_in_every_phase() -> None:
    for phase in ("never", "advertise", "share", "upload", "survivors", "unmask"):
        federation = Federation(membership(14), quantiser=quantiser(20, 20))
        drop = dict.fromkeys(("member-0003", "member-0011"), phase)
        opened = federation.complete(drop)
        assert opened.survivors == tuple(
            n for n in names(14) if phase not in ("advertise", "share", "upload") or n not in drop
        )
        assert np.array_equal(opened.vector, federation.expected(opened.survivors))


@pytest.mark.usefixtures("sparse")
def test_a_coordinator_that_drops_the_whole_neighbourhood_of_one_member_is_refused() -> None:
    """Without this refusal the pairwise masks of the victim, and so its update, would be the coordinator's."""
    federation = Federation(membership(20), quantiser=quantiser(20, 20))
    claim, present = federation.until("survivors")
    coordinator, victim = federation.coordinator, "member-0000"
    roster = coordinator.roster
    gone = roster.neighbours(victim)[:6]
    honest = Claim.decode(claim)
    lie = Claim(
        roster_hash=honest.roster_hash,
        receipts=tuple(receipt for receipt in honest.receipts if receipt.sender not in gone),
        dropped=tuple(sorted(gone)),
        total_hash=honest.total_hash,
    )
    assert len(lie.receipts) >= roster.numbers.quorum
    for name in set(present) - set(gone):
        with pytest.raises(SurvivorError, match="neighbours"):
            federation.members[name].survivors(lie.encode())
    with pytest.raises(SurvivorError):
        require_survivors(roster, federation.membership, federation.context, set(lie.survivors))


@pytest.mark.usefixtures("sparse")
def test_a_quorum_without_the_neighbourhood_of_one_member_is_refused() -> None:
    federation = Federation(membership(20), quantiser=quantiser(20, 20))
    openings, present = federation.until("unmask")
    assert isinstance(openings, Mapping)
    roster = federation.coordinator.roster
    assents = {one.sender: one for one in Opening.decode(openings["member-0000"]).assents}
    silent = roster.neighbours("member-0000")[:3]
    few = tuple(assents[name] for name in sorted(assents) if name not in silent)
    assert len(few) >= roster.numbers.quorum
    for name in present:
        with pytest.raises(QuorumError, match=r"neighbours of 'member-.*' signed"):
            federation.members[name].unmask(
                replace(Opening.decode(openings[name]), assents=few).encode(), federation.updates[name]
            )


@pytest.mark.usefixtures("sparse")
def test_a_member_with_too_few_neighbours_in_u2_refuses_to_upload() -> None:
    federation = Federation(membership(20), quantiser=quantiser(20, 20))
    deliveries, _ = federation.until("upload")
    victim = "member-0000"
    gone = federation.coordinator.roster.neighbours(victim)[:4]
    true = Delivery.decode(deliveries[victim], victim)
    lie = Delivery(
        roster_hash=true.roster_hash,
        statements=tuple(s for s in true.statements if s.sender not in gone),
        parcels=tuple(p for p in true.parcels if p.sender not in gone),
    )
    with pytest.raises(SurvivorError, match="neighbours"):
        federation.members[victim].upload(lie.encode(), federation.updates[victim])


@pytest.mark.slow
def test_a_round_above_256_members_uses_the_circulant_graph_and_opens_the_exact_sum() -> None:
    federation = Federation(membership(257), quantiser=quantiser(20, 257))
    gone = {name: ("share", "upload", "unmask")[index % 3] for index, name in enumerate(names(257)[::20])}
    opened = federation.complete(gone)
    assert not federation.coordinator.roster.graph.complete
    assert np.array_equal(opened.vector, federation.expected(opened.survivors))


@pytest.mark.slow
def test_a_round_above_256_members_of_whom_too_many_drop_opens_nothing() -> None:
    federation = Federation(membership(257), quantiser=quantiser(11, 257))
    with pytest.raises(AbortedError):
        federation.complete(dict.fromkeys(names(257)[:120], "upload"))
