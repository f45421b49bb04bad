"""The floors follow from the charter: whatever roster a coordinator chooses, all its colluders may be in it.

The first tests are the proof of section 3 of docs/protocol.md by exhaustion: every membership up to 1,000, every gamma
that a charter may name, every roster of that membership. The others hold the same promise on the real checks, on
memberships so small that every roster, every set of colluders and every survivor set can be tried.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from tests.secagg.federation import Federation, membership

from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import (
    GENESIS,
    AbortedError,
    FloorError,
    Floors,
    Membership,
    QuorumError,
    RoundContext,
    SurvivorError,
    TranscriptError,
    verify_transcript,
)
from sordino_privacy.secagg.graph import degree_and_threshold, quorum, thresholds
from sordino_privacy.secagg.membership import MAX_GAMMA_PERMILLE, honest_organisations
from sordino_privacy.secagg.quantise import Quantiser
from sordino_privacy.secagg.roster import Advertisement, Roster
from sordino_privacy.secagg.rounding import Group
from sordino_privacy.secagg.survivors import Opening, require_signers, require_survivors
from sordino_privacy.secagg.transcript import Record

LARGEST = 1000
HONEST = (2, 3, 5)
THIRD = Fraction(1, 3)


def test_the_number_of_colluders_follows_from_the_whole_membership_for_every_gamma_that_a_charter_may_name() -> (
    None
):
    for gamma in range(MAX_GAMMA_PERMILLE + 1):
        floors = Floors(gamma_permille=gamma, cohort=LARGEST)
        for members in range(1, LARGEST + 1):
            corrupt = floors.corrupt(members)
            assert corrupt * 1000 <= gamma * members < (corrupt + 1) * 1000
            assert 3 * corrupt < members


@pytest.mark.parametrize("honest", HONEST)
def test_every_quorum_of_every_roster_keeps_the_honest_floor_and_two_share_an_honest_member(
    honest: int,
) -> None:
    """What a charter and a roster decide of it is (n, C) alone: with the test above, this is every (N, gamma, n)."""
    most = LARGEST * MAX_GAMMA_PERMILLE // 1000
    for corrupt in range(most + 1):
        for members in range(corrupt + honest, LARGEST + 1):
            q = quorum(members, corrupt=corrupt, honest=honest)
            assert q <= members, "a full roster can always be opened"
            assert q - corrupt >= honest, "whoever the colluders are, the honest floor is left"
            assert 2 * q - members > corrupt, "two quorums of one roster share an honest member"
            assert 2 * q > members + corrupt, "q shares of both secrets of one owner cannot come together"


@pytest.mark.parametrize("honest", HONEST)
def test_the_thresholds_of_every_complete_graph_are_these_quorums_and_smaller_rosters_are_refused(
    honest: int,
) -> None:
    for corrupt in range(86):
        for members in range(1, 257):
            if members < corrupt + honest:
                with pytest.raises(FloorError, match="too small"):
                    thresholds(members, corrupt=corrupt, honest=honest, dropouts=THIRD)
                continue
            numbers = thresholds(members, corrupt=corrupt, honest=honest, dropouts=THIRD)
            assert numbers.complete
            assert numbers.quorum == numbers.threshold == quorum(members, corrupt=corrupt, honest=honest)


@pytest.mark.slow
@pytest.mark.parametrize("dropouts", [Fraction(1, 10), Fraction(333, 1000), Fraction(1, 2)])
def test_every_sparse_graph_keeps_its_bounds_with_all_colluders_of_the_charter_in_the_roster(
    dropouts: Fraction,
) -> None:
    """A grid of n in 257 ... 1,000 and C up to a third of 1,000, against SciPy's hypergeometric distribution."""
    for members in range(257, LARGEST + 1, 21):
        for corrupt in range(0, min(members - 3, 333) + 1, 13):
            numbers = thresholds(members, corrupt=corrupt, honest=3, dropouts=dropouts)
            if numbers.complete:
                assert numbers.threshold == numbers.quorum
                continue
            t = numbers.threshold
            assert members * hypergeom.sf(t - 1, members, corrupt, numbers.degree) <= 2.0**-105
            assert numbers.neighbours == t + 2
            assert numbers.quorum == quorum(members, corrupt=corrupt, honest=3)


def test_what_200_of_1000_members_can_promise() -> None:
    """The table of docs/protocol.md, section 3."""
    for permille, corrupt, smallest, q in ((200, 200, 203, None), (100, 100, 103, 151), (50, 50, 53, 126)):
        floors = Floors(gamma_permille=permille, cohort=LARGEST)
        assert floors.corrupt(1000) == corrupt
        assert floors.smallest_cohort(1000) == smallest
        if q is None:
            with pytest.raises(
                FloorError, match="a roster of 200 is too small: 200 of its members may collude"
            ):
                thresholds(200, corrupt=corrupt, honest=3, dropouts=THIRD)
        else:
            assert thresholds(200, corrupt=corrupt, honest=3, dropouts=THIRD).quorum == q
    # A third of a roster may drop out from this size on, at gamma 0.2.
    bears_a_third = [n for n in range(203, 1001) if quorum(n, corrupt=200, honest=3) <= n - n // 3]
    assert min(bears_a_third) == 599
    # If nobody could steer the sample, so many colluders would be among 200 with probability at most 2^-40.
    assert [unsteered(colluders) for colluders in (200, 100, 50)] == [78, 49, 32]


def unsteered(colluders: int) -> int:
    return next(c for c in range(201) if hypergeom.sf(c, 1000, colluders, 200) <= 2.0**-40)


# The real checks, with every roster, every colluder and every survivor set --------------------------------------------


def unsigned(membership: Membership, context: RoundContext, names: tuple[str, ...]) -> Roster:
    """A roster as it is after every signature was checked: what its floors depend on is the names."""
    ctx = context.digest()
    entries = [
        Advertisement(ctx=ctx, name=name, exchange=b"", masking=b"", commitment=b"", nonce=b"")
        for name in names
    ]
    return Roster.of(membership, context, entries)


def context_of(membership: Membership) -> RoundContext:
    return RoundContext.under(
        membership,
        run="run",
        round=0,
        attempt=0,
        server_nonce=bytes(32),
        model_hash=bytes(32),
        train_config_hash=bytes(32),
        quantiser=Quantiser(groups=(Group(name="all", length=1, range=1.0),), cohort_limit=16),
    )


def subsets(names: tuple[str, ...]) -> Iterator[frozenset[str]]:
    return (frozenset(c) for size in range(len(names) + 1) for c in itertools.combinations(names, size))


def accepted(membership: Membership) -> Iterator[tuple[Roster, list[frozenset[str]]]]:
    """Every roster that a member accepts under this charter, with every survivor set that it accepts in it."""
    context = context_of(membership)
    everyone = tuple(member.name for member in membership.members)
    for chosen in subsets(everyone):
        names = tuple(sorted(chosen))
        try:
            membership.require_cohort(
                names,
                cohort=context.cohort,
                organisations=context.organisations,
                corrupt=membership.corrupt(context.gamma_permille),
            )
            roster = unsigned(membership, context, names)
        except FloorError:
            continue
        sums = []
        for u3 in subsets(names):
            try:
                require_survivors(roster, membership, context, set(u3))
            except (SurvivorError, FloorError):
                continue
            sums.append(u3)
        yield roster, sums


@pytest.mark.parametrize(
    ("members", "gamma", "honest", "organisations", "groups"),
    [
        (6, 333, 2, 2, 6),
        (6, 333, 2, 2, 3),
        (7, 333, 2, 2, 4),
        (7, 300, 3, 3, 7),
        (8, 250, 2, 1, 8),
        (9, 333, 3, 2, 5),
    ],
)
def test_whatever_roster_and_survivors_are_accepted_the_honest_part_keeps_every_floor(
    members: int, gamma: int, honest: int, organisations: int, groups: int
) -> None:
    corrupt = gamma * members // 1000
    floors = Floors(
        cohort=max(3, corrupt + honest),
        organisations=organisations,
        organisation_share_permille=1000,
        gamma_permille=gamma,
        honest=honest,
    )
    charter = membership(members, floors=floors, organisations=groups)
    organisation = {member.name: member.organisation for member in charter.members}
    everyone = tuple(organisation)
    found = 0
    for roster, sums in accepted(charter):
        context = context_of(charter)
        for colluders in itertools.combinations(everyone, corrupt):
            for u3 in sums:
                left = u3 - set(colluders)
                assert len(left) >= honest
                assert len({organisation[name] for name in left}) >= organisations
        for first, second in itertools.product(sums, repeat=2):
            # Whoever signs a set is in it, so two sets that may be signed share an honest member.
            assert len(first & second) > corrupt
        for u3 in sums:
            for signers in sums:
                if signers <= u3:
                    require_signers(roster, charter, context, set(u3), set(signers))
            with pytest.raises((SurvivorError, FloorError)):
                require_signers(
                    roster, charter, context, set(u3), set(sorted(u3)[: roster.numbers.quorum - 1])
                )
        found += len(sums)
    assert found, "some round is possible under this charter"


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 1 << 32), groups=st.integers(2, 20), organisations=st.integers(1, 3))
def test_the_floors_around_each_survivor_of_a_circulant_graph_are_those_of_the_page(
    seed: int, groups: int, organisations: int
) -> None:
    floors = Floors(
        cohort=6, organisations=organisations, organisation_share_permille=1000, gamma_permille=200, honest=2
    )
    try:
        charter = membership(20, floors=floors, organisations=groups)
    except ConfigurationError:
        return
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sordino_privacy.secagg.graph.COMPLETE_LIMIT", 5)
        patch.setattr("sordino_privacy.secagg.graph.degree_and_threshold", lambda *_: (8, 5))
        roster = unsigned(charter, context_of(charter), tuple(member.name for member in charter.members))
    organisation = {member.name: member.organisation for member in charter.members}
    u3 = set(chance.sample(roster.names, chance.randint(12, 20)))
    signers = set(chance.sample(sorted(u3), chance.randint(12, len(u3))))

    def left(names: set[str], corrupt: int) -> int:
        return honest_organisations(Counter(organisation[name] for name in names).values(), corrupt)

    around = [signers.intersection(roster.neighbours(name)) for name in u3]
    holds = (
        len(signers) >= 13
        and left(signers, 4) >= organisations
        and all(len(near) >= 6 and left(near, 4) >= organisations for near in around)
    )
    try:
        require_signers(roster, charter, context_of(charter), u3, signers)
    except (SurvivorError, FloorError):
        assert not holds
    else:
        assert holds


def test_a_quorum_of_too_few_organisations_convinces_neither_a_member_nor_who_reads_the_transcript() -> None:
    """Whoever signed joins no later attempt: the signers alone could be told apart there, so the floors are theirs."""
    floors = Floors(cohort=3, organisations=3, organisation_share_permille=1000, honest=2, gamma_permille=0)
    federation = Federation(membership(7, floors=floors, organisations=3))
    openings, _ = federation.until("unmask")
    assert isinstance(openings, Mapping)
    assents = {one.sender: one for one in Opening.decode(openings["member-0000"]).assents}
    # Members 0, 3 and 6 are of one organisation, 1 of another: a quorum of four, and two organisations.
    few = tuple(assents[f"member-000{number}"] for number in (0, 1, 3, 6))
    lie = replace(Opening.decode(openings["member-0000"]), assents=few)
    with pytest.raises(QuorumError, match="as few as 2 organisations"):
        federation.members["member-0000"].unmask(lie.encode(), federation.updates["member-0000"])

    whole = Federation(membership(7, floors=floors, organisations=3))
    whole.complete()
    record = Record.decode(whole.coordinator.record(GENESIS, bytes(32)))
    charters = {whole.membership.charter_hash: whole.membership}
    verify_transcript([record.encode()], charters)
    short = tuple(assent for assent in record.assents if assent.sender in {one.sender for one in few})
    with pytest.raises(TranscriptError, match="as few as 2 organisations"):
        verify_transcript([replace(record, assents=short).encode()], charters)


@pytest.mark.parametrize(
    ("sizes", "corrupt", "left"),
    [
        ((1, 1, 1), 0, 3),
        ((1, 1, 1), 2, 1),
        ((3, 2, 2), 4, 1),
        ((3, 2, 2), 3, 2),
        ((5,), 4, 1),
        ((), 3, 0),
        ((2, 2), 9, 0),
    ],
)
def test_colluders_sit_where_they_hurt_most(sizes: tuple[int, ...], corrupt: int, left: int) -> None:
    assert honest_organisations(sizes, corrupt) == left
    places = [number for number, size in enumerate(sizes) for _ in range(size)]
    choices = itertools.combinations(range(len(places)), min(corrupt, len(places)))
    assert left == min(
        len({organisation for place, organisation in enumerate(places) if place not in colluders})
        for colluders in choices
    )


# A charter that cannot keep them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("floors", "sizes", "complaint"),
    [
        (
            Floors(cohort=5),
            dict.fromkeys("abcdefghijklmnopqrst", 1),
            "of 20 members 4 may collude .* set it to 7 or more, or gamma to 149 thousandths or less",
        ),
        (Floors(cohort=5), dict.fromkeys("abcd", 1), "4 members are fewer than the smallest cohort, 5"),
        (Floors(cohort=7), {"a": 10, "b": 8, "c": 2}, "as few as 2 of 3 organisations .* set it to 2"),
        (
            Floors(cohort=7, organisations=2, organisation_share_permille=300),
            {"a": 9, "b": 9, "c": 2},
            "with at most 300 thousandths of its members in one",
        ),
    ],
)
def test_a_charter_whose_rounds_cannot_keep_the_floors_is_refused_with_numbers_that_work(
    floors: Floors, sizes: dict[str, int], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        floors.require_possible(sizes)


def test_the_numbers_that_a_refusal_names_do_work() -> None:
    for members in range(15, 1001, 7):
        sizes = Counter({f"organisation {number}": 1 for number in range(members)})
        floors = Floors(cohort=5)
        with pytest.raises(ConfigurationError) as refused:
            floors.require_possible(sizes)
        words = refused.value.message.split()
        cohort = int(words[words.index("set") + 3])
        gamma = int(words[words.index("gamma", words.index("set")) + 2])
        replace(floors, cohort=cohort).require_possible(sizes)
        replace(floors, gamma_permille=gamma).require_possible(sizes)
        for worse in (replace(floors, cohort=cohort - 1), replace(floors, gamma_permille=gamma + 1)):
            with pytest.raises(ConfigurationError):
                worse.require_possible(sizes)


def test_an_honest_coordinator_does_not_begin_with_a_roster_that_has_no_room_for_all_colluders() -> None:
    federation = Federation(membership(20))  # four may collude, two honest ones are needed
    with pytest.raises(AbortedError, match="too small: 4 of its members may collude"):
        federation.advertise(federation.names[:5])


def test_no_membership_can_be_made_of_floors_that_cannot_be_kept() -> None:
    good = membership(20, floors=Floors(cohort=7))
    with pytest.raises(ConfigurationError, match="7 or more"):
        replace(good, floors=Floors(cohort=6))


def test_a_sparse_graph_exists_where_the_numbers_of_the_page_say() -> None:
    assert degree_and_threshold(1000, 200, THIRD) == (236, 119)
    assert degree_and_threshold(300, 200, THIRD) is None
