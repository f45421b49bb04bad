"""In a large federation a member checks what its neighbours signed and leaves the rest to theirs: its work grows with
the graph's degree, and nobody can be in a sum whom no honest neighbour checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from tests.secagg.federation import SeededEntropy
from tests.secagg.large import ME, Among

from sordino_platform.bench.world import VolatileJournal
from sordino_privacy.secagg import (
    IdentityError,
    QuorumError,
    RosterError,
    SurvivorError,
    UploadSignatureError,
    merkle,
)
from sordino_privacy.secagg.graph import Graph, thresholds
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shares import Delivery, Leaf
from sordino_privacy.secagg.survivors import Claim, Opening, require_signers
from sordino_privacy.secagg.upload import UploadReceipt

COUNT = 300
FORGED = bytes(64)


@pytest.fixture(scope="module")
def among() -> Among:
    return Among(COUNT)


def afresh(among: Among) -> Any:
    """A session of ME that has advertised what it advertised before."""
    session = among.members[ME]
    state = replace(session._state, request=b"", reply=b"")
    among.federation.journals[ME] = VolatileJournal()
    copy = among.federation.member(ME)
    copy._state = type(state).decode(state.encode())
    return copy


def test_what_a_member_checks_before_it_signs_grows_with_the_degree_only(
    among: Among, checked: Counter[str]
) -> None:
    session, update = afresh(among), among.federation.updates[ME]
    degree = among.parsed.numbers.degree
    assert degree < COUNT - 100
    session.share(among.roster)
    *_, trailer = session.upload(among.delivery, update)
    claim = among.claim(bytes(trailer))
    assent = session.survivors(claim)
    assert checked == {"advertise": degree + 1, "shares": 1, "upload": degree + 1}
    session.unmask(among.opening(claim, assent), update)
    assert checked["survivors"] == COUNT


def neighbour_and_stranger(among: Among) -> tuple[str, str]:
    roster = among.parsed
    near = set(roster.neighbours(ME))
    return min(near), next(name for name in roster.names if name not in near and name != ME)


def forged(names: tuple[str, ...], entries: tuple[Any, ...], of: Callable[[Any], str]) -> tuple[Any, ...]:
    return tuple(replace(entry, signature=FORGED) if of(entry) in names else entry for entry in entries)


def test_a_neighbours_forged_signature_is_refused_in_every_phase(among: Among) -> None:
    near, _ = neighbour_and_stranger(among)
    session, update = afresh(among), among.federation.updates[ME]
    lie = replace(among.parsed, entries=forged((near,), among.parsed.entries, lambda e: e.name))
    with pytest.raises(IdentityError):
        session.share(lie.encode())
    session = afresh(among)
    session.share(among.roster)
    *_, trailer = session.upload(among.delivery, update)
    claim = Claim.decode(among.claim(bytes(trailer)))
    with pytest.raises(UploadSignatureError):
        session.survivors(
            replace(claim, receipts=forged((near,), claim.receipts, lambda r: r.sender)).encode()
        )


def tree_of(leaf: Leaf, place: int, count: int) -> tuple[bytes, tuple[bytes, ...]]:
    """A root of a coordinator's own that this leaf is under, and the leaf's path to it."""
    digests = [bytes([other % 256]) * 32 for other in range(count)]
    digests[place] = leaf.digest()
    return merkle.root(digests), merkle.paths(digests)[place]


def invented(among: Among, sender: str, leaf: Leaf) -> bytes:
    """The delivery with a parcel and a statement that a coordinator made up in the name of `sender`."""
    delivery = Delivery.decode(among.delivery, ME)
    place = among.parsed.place(sender, ME)
    root, path = tree_of(leaf, place, among.parsed.holders_each)
    return replace(
        delivery,
        statements=tuple(
            replace(s, root=root, signature=FORGED) if s.sender == sender else s for s in delivery.statements
        ),
        parcels=tuple(
            replace(p, leaf=leaf, path=path) if p.sender == sender else p for p in delivery.parcels
        ),
    ).encode()


def test_whatever_a_coordinator_puts_into_a_neighbours_parcel_is_refused_and_the_neighbour_not_accused(
    among: Among,
) -> None:
    """Nobody signed it: a parcel that does not open is no neighbour's doing before its signature was looked at."""
    near, _ = neighbour_and_stranger(among)
    true = next(p.leaf for p in Delivery.decode(among.delivery, ME).parcels if p.sender == near)
    lies = (
        replace(true, sealed=bytes(len(true.sealed))),
        replace(true, self_commitment=bytes(32)),
        replace(true, pair_commitment=true.self_commitment),
    )
    for leaf in lies:
        session = afresh(among)
        session.share(among.roster)
        with pytest.raises(IdentityError, match=near):
            session.upload(invented(among, near, leaf), among.federation.updates[ME])
        assert session._state.held == {}


def test_a_neighbours_parcel_of_another_attempt_or_for_somebody_else_does_not_open(among: Among) -> None:
    """What is sealed is bound to the roster, its sender and its reader: it says who made it, for whom and when."""
    near, _ = neighbour_and_stranger(among)
    delivery = Delivery.decode(among.delivery, ME)
    other = next(p for p in delivery.parcels if p.sender != near)
    session = afresh(among)
    session.share(among.roster)
    with pytest.raises(IdentityError, match=near):
        session.upload(invented(among, near, other.leaf), among.federation.updates[ME])
    earlier = {p.sender: p.leaf for p in Delivery.decode(Among(COUNT, 31).delivery, ME).parcels}
    sender = next(p.sender for p in delivery.parcels if p.sender in earlier)
    session = afresh(among)
    session.share(among.roster)
    with pytest.raises(IdentityError, match=sender):
        session.upload(invented(among, sender, earlier[sender]), among.federation.updates[ME])


def test_a_parcel_that_opens_needs_no_signature_beside_it(among: Among) -> None:
    """Its sender sealed it. Whoever changed the signature beside it changed nothing that this member holds."""
    near, _ = neighbour_and_stranger(among)
    session, update = afresh(among), among.federation.updates[ME]
    session.share(among.roster)
    delivery = Delivery.decode(among.delivery, ME)
    altered = replace(delivery, statements=forged((near,), delivery.statements, lambda s: s.sender))
    session.upload(altered.encode(), update)
    true = afresh(among)
    true.share(among.roster)
    true.upload(among.delivery, update)
    assert session._state.held[near] == true._state.held[near]
    own = replace(delivery, statements=forged((ME,), delivery.statements, lambda s: s.sender))
    session = afresh(among)
    session.share(among.roster)
    with pytest.raises(IdentityError, match=ME):
        session.upload(own.encode(), update)


def test_a_member_shown_forged_statements_of_all_its_neighbours_gives_and_signs_what_it_would_have(
    among: Among,
) -> None:
    """Roots, paths and signatures of the coordinator's own around every true parcel: what the member uploads, signs and
    reveals is what it gives to an honest coordinator, byte for byte."""
    update, delivery = among.federation.updates[ME], Delivery.decode(among.delivery, ME)
    lie = delivery
    for parcel in delivery.parcels:
        place = among.parsed.place(parcel.sender, ME)
        root, path = tree_of(parcel.leaf, place, among.parsed.holders_each)
        lie = replace(
            lie,
            statements=tuple(
                replace(s, root=root, signature=FORGED) if s.sender == parcel.sender else s
                for s in lie.statements
            ),
            parcels=tuple(replace(p, path=path) if p.sender == parcel.sender else p for p in lie.parcels),
        )
    given = []
    for shown in (among.delivery, lie.encode()):
        session = afresh(among)
        session._entropy = SeededEntropy("the same in both")
        session.share(among.roster)
        frames = [bytes(frame) for frame in session.upload(shown, update)]
        claim = among.claim(frames[-1])
        assent = session.survivors(claim)
        given.append((frames, assent, session.unmask(among.opening(claim, assent), update)))
    assert given[0] == given[1]


def test_a_strangers_forged_assent_is_refused(among: Among) -> None:
    _, far = neighbour_and_stranger(among)
    session, update = afresh(among), among.federation.updates[ME]
    session.share(among.roster)
    *_, trailer = session.upload(among.delivery, update)
    claim = among.claim(bytes(trailer))
    opening = Opening.decode(among.opening(claim, session.survivors(claim)))
    with pytest.raises(QuorumError):
        session.unmask(
            replace(opening, assents=forged((far,), opening.assents, lambda a: a.sender)).encode(), update
        )


def test_a_forged_entry_is_refused_by_every_neighbour_and_no_quorum_passes_without_one_of_them(
    among: Among,
) -> None:
    membership, context = among.federation.membership, among.federation.context
    _, far = neighbour_and_stranger(among)
    lie = replace(among.parsed, entries=forged((far,), among.parsed.entries, lambda e: e.name)).encode()
    roster = Roster.accepted(lie, membership, context)
    near = set(roster.neighbours(far))
    for reader in roster.names:
        if reader in near or reader == far:
            with pytest.raises(IdentityError, match=far):
                Roster.decode(lie, membership, context, reader=reader)
    others = next(name for name in roster.names if name not in near and name != far)
    assert Roster.decode(lie, membership, context, reader=others) == roster
    # All sign but those that looked: too few around the forged one, even if every colluder is its neighbour.
    everyone, corrupt = set(roster.names), sorted(near)[: roster.numbers.threshold - 1]
    with pytest.raises(SurvivorError, match=far):
        require_signers(roster, membership, context, everyone, (everyone - near) | set(corrupt))
    honest = sorted(near)[: roster.numbers.neighbours]
    require_signers(roster, membership, context, everyone, (everyone - near) | set(honest))


@pytest.mark.parametrize("members", [300, 1000])
def test_neighbours_around_each_member_are_counted_as_one_by_one(members: int) -> None:
    numbers = thresholds(members, corrupt=members // 10, honest=3, dropouts=Fraction(1, 3))
    graph = Graph.of(numbers, b"R")
    counted = np.random.default_rng(members).random(members) < 0.6
    one_by_one = [sum(counted[other] for other in graph.neighbours(member)) for member in range(members)]
    assert graph.near(counted).tolist() == one_by_one


def test_a_receipt_over_another_u2_is_refused_whoever_it_is_of(among: Among) -> None:
    _, far = neighbour_and_stranger(among)
    session, update = afresh(among), among.federation.updates[ME]
    session.share(among.roster)
    *_, trailer = session.upload(among.delivery, update)
    claim = Claim.decode(among.claim(bytes(trailer)))
    lie: tuple[UploadReceipt, ...] = tuple(
        replace(receipt, u2_hash=bytes(32)) if receipt.sender == far else receipt
        for receipt in claim.receipts
    )
    with pytest.raises(UploadSignatureError):
        session.survivors(replace(claim, receipts=lie).encode())


def test_a_roster_that_leaves_its_reader_out_is_refused_as_such(among: Among) -> None:
    membership, context = among.federation.membership, among.federation.context
    others = Roster.of(membership, context, (e for e in among.parsed.entries if e.name != ME))
    with pytest.raises(RosterError, match="missing"):
        afresh(among).share(others.encode())
