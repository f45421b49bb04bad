"""Refusals 1 to 3: an evil coordinator lies about who takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.secagg.evil import (
    ACCOMPLICE,
    OTHER,
    VICTIM,
    EvilCoordinator,
    advertisement,
    replaced,
    victim_refuses,
)
from tests.secagg.federation import Federation, SeededEntropy, membership, names, signing_key

from sordino_platform.bench.world import VolatileJournal
from sordino_privacy.secagg import (
    CoordinatorSession,
    FloorError,
    Floors,
    IdentityError,
    MemberSession,
    RosterError,
    SecaggError,
    ThresholdError,
    keys,
)
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.survivors import Claim

# 1 --------------------------------------------------------------------------------------------------------- identity


def test_1_a_roster_with_an_unknown_identity_is_refused() -> None:
    def lie(self: EvilCoordinator, roster: Roster) -> Roster:
        return replaced(roster, advertisement("sybil", signing_key("sybil"), self.context))

    assert victim_refuses(IdentityError, "share", roster=lie).culprit == "sybil"


def test_1_a_roster_in_which_the_coordinator_substituted_a_members_keys_is_refused() -> None:
    def lie(self: EvilCoordinator, roster: Roster) -> Roster:
        return replaced(roster, advertisement(OTHER, signing_key("coordinator"), self.context))

    assert victim_refuses(IdentityError, "share", roster=lie).culprit == OTHER


@pytest.mark.parametrize("field", ["exchange", "masking", "commitment", "nonce"])
def test_1_a_roster_in_which_one_signed_field_of_a_member_changed_is_refused(field: str) -> None:
    def lie(self: EvilCoordinator, roster: Roster) -> Roster:
        other: dict[str, Any] = {field: advertisement("x", signing_key("x"), self.context).exchange}
        return replaced(roster, replace(roster.entry(OTHER), **other))

    victim_refuses(IdentityError, "share", roster=lie)


def test_1_a_roster_with_a_retired_identity_is_refused() -> None:
    lenient = membership(5)
    federation = Federation(lenient)
    strict = replace(lenient, retired=frozenset({lenient.member(OTHER).public_key}))
    session = MemberSession(
        VICTIM, signing_key(VICTIM), strict, federation.context, VolatileJournal(), SeededEntropy("strict")
    )
    federation.members[VICTIM] = session
    roster = federation.advertise(federation.names)
    with pytest.raises(IdentityError, match="retired"):
        session.share(roster)


def test_1_a_charter_epoch_older_than_one_acted_under_is_refused_across_restarts() -> None:
    journals = {name: VolatileJournal() for name in names(5)}
    Federation(membership(5, epoch=2), journals=journals).complete()
    with pytest.raises(IdentityError, match="epoch"):
        Federation(membership(5, epoch=1), journals=journals, round=1)


def test_1_a_member_whose_key_is_not_the_charters_cannot_start() -> None:
    federation = Federation(membership(5))
    with pytest.raises(IdentityError):
        MemberSession(
            VICTIM,
            signing_key("stolen"),
            federation.membership,
            federation.context,
            VolatileJournal(),
            SeededEntropy(0),
        )


# 2 ----------------------------------------------------------------------------------------------------------- floors


def test_2_a_cohort_below_the_floor_is_refused() -> None:
    strict = replace(membership(5).floors, cohort=5)
    honest = membership(5, floors=strict)
    federation = Federation(honest)
    roster = federation.advertise(federation.names)
    parsed = Roster.decode(roster, honest, federation.context)
    with pytest.raises(FloorError, match="cohort of 4"):
        federation.members[VICTIM].share(replaced(parsed, without=OTHER).encode())


def test_2_too_few_organisations_are_refused() -> None:
    floors = Floors(cohort=3, organisations=3, organisation_share_permille=1000, honest=2)
    federation = Federation(membership(6, floors=floors, organisations=3))
    parsed = Roster.decode(federation.advertise(federation.names), federation.membership, federation.context)
    # Members 0 and 3, 1 and 4, 2 and 5 share an organisation: without 2 and 5 two are left.
    fewer = replaced(replaced(parsed, without="member-0002"), without="member-0005")
    with pytest.raises(FloorError, match="2 organisations"):
        federation.members[VICTIM].share(fewer.encode())


def test_2_a_cohort_dominated_by_one_organisation_is_refused() -> None:
    floors = Floors(cohort=3, organisations=2, organisation_share_permille=500, honest=2)
    federation = Federation(membership(6, floors=floors, organisations=2))
    parsed = Roster.decode(federation.advertise(federation.names), federation.membership, federation.context)
    with pytest.raises(FloorError, match="one organisation"):
        federation.members[VICTIM].share(replaced(parsed, without="member-0003").encode())


def test_2_survivors_of_too_few_organisations_are_refused() -> None:
    floors = Floors(cohort=3, organisations=3, organisation_share_permille=1000, honest=2, gamma_permille=0)
    members = membership(6, floors=floors, organisations=3)
    weak = replace(members, floors=replace(floors, organisations=1))
    federation = Federation(members)
    # The coordinator itself does not care: it runs under weaker floors with the members' context.
    federation.coordinator = CoordinatorSession(weak, replace(federation.context))
    object.__setattr__(federation.coordinator.context, "organisations", 3)
    message, present = federation.until("upload")
    assert isinstance(message, Mapping)
    left = [name for name in present if name not in ("member-0002", "member-0005")]
    for name in left:
        frames = federation.members[name].upload(message[name], federation.updates[name])
        federation.coordinator.accept_upload(name, frames)
    receipts = federation.coordinator._known_intake().receipts
    claim = Claim(
        roster_hash=federation.coordinator.roster.hash,
        receipts=tuple(receipts[name] for name in left),
        dropped=("member-0002", "member-0005"),
        total_hash=bytes(32),
    )
    with pytest.raises(FloorError, match="2 organisations"):
        federation.members[VICTIM].survivors(claim.encode())


@pytest.mark.parametrize(
    ("field", "value", "refusal"),
    [("cohort", 2, FloorError), ("organisations", 1, FloorError), ("gamma_permille", 199, ThresholdError)],
)
def test_2_and_5_a_proposal_below_the_charters_floors_is_refused(
    field: str, value: int, refusal: type[SecaggError]
) -> None:
    federation = Federation(membership(5))
    proposal = replace(federation.context, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(refusal):
        federation.members[VICTIM].propose(proposal.encode())
    with pytest.raises(refusal):
        federation.member(VICTIM, proposal)


# 3 ----------------------------------------------------------------------------------------------------------- roster


def test_3_a_roster_without_this_member_is_refused() -> None:
    victim_refuses(RosterError, "share", roster=lambda self, roster: replaced(roster, without=VICTIM))


def test_3_a_roster_with_an_older_entry_of_this_member_is_refused() -> None:
    """The coordinator kept the signed advertisement of the victim's session before its restart."""
    federation = Federation(membership(5))
    old = federation.member(VICTIM)
    federation.coordinator.accept_advertisement(VICTIM, old.advertise())
    new = federation.members[VICTIM]
    new.advertise()
    roster = federation.advertise([name for name in federation.names if name != VICTIM])
    with pytest.raises(RosterError, match="altered"):
        new.share(roster)


def test_3_a_roster_that_names_one_member_twice_is_refused() -> None:
    def lie(self: EvilCoordinator, roster: Roster) -> Roster:
        entries = sorted((*roster.entries, roster.entry(OTHER)), key=lambda entry: entry.name)
        return replace(roster, entries=tuple(entries))

    victim_refuses(RosterError, "share", roster=lie)


@pytest.mark.parametrize("role", ["exchange", "masking"])
def test_3_a_roster_in_which_an_accomplice_reuses_an_honest_members_key_is_refused(role: str) -> None:
    def lie(self: EvilCoordinator, roster: Roster) -> Roster:
        copied = replace(roster.entry(ACCOMPLICE), **{role: roster.entry(OTHER).masking})  # type: ignore[arg-type]
        return replaced(roster, copied.signed(signing_key(ACCOMPLICE)))

    victim_refuses(RosterError, "share", roster=lie)


@pytest.mark.parametrize(
    "public",
    [
        bytes(32),
        (1).to_bytes(32, "little"),
        (keys.CURVE_PRIME - 1).to_bytes(32, "little"),
        (keys.CURVE_PRIME + 9).to_bytes(32, "little"),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    ],
)
def test_3_a_roster_with_a_small_order_or_non_canonical_key_is_refused(public: bytes) -> None:
    def lie(self: EvilCoordinator, roster: Roster) -> Roster:
        weak = replace(roster.entry(ACCOMPLICE), masking=public)
        return replaced(roster, weak.signed(signing_key(ACCOMPLICE)))

    assert victim_refuses(RosterError, "share", roster=lie).culprit == ACCOMPLICE
