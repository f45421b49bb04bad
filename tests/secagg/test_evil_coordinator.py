"""Refusals 1 to 15: an evil coordinator, which subclasses the real one, against honest members.

It knows everything a coordinator knows, may alter any message it sends, and owns the identity keys of the colluding
members. Each test says which lie it tells; the honest member must refuse, by name, before anything leaves that would
help it, and must hold no secret afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from tests.secagg.federation import (
    Federation,
    MemoryJournal,
    SeededEntropy,
    membership,
    names,
    quantiser,
    signing_key,
)

from sordino_platform.charter.document import PrivacyPolicy
from sordino_privacy.errors import BudgetError
from sordino_privacy.secagg import (
    BudgetExhaustedError,
    Context,
    ContextError,
    CoordinatorSession,
    DowngradeError,
    FloorError,
    Floors,
    IdentityError,
    MalformedError,
    Member,
    MemberSession,
    Membership,
    ModelError,
    OrderError,
    Phase,
    PolicyError,
    QuorumError,
    ReplayError,
    RevealError,
    RosterError,
    SecaggError,
    ShareError,
    Statistics,
    Step,
    SurvivorError,
    ThresholdError,
    UploadSignatureError,
    keys,
    require_architecture,
    require_budget,
    require_model,
    require_step,
)
from sordino_privacy.secagg.graph import thresholds
from sordino_privacy.secagg.roster import Advertisement, Roster
from sordino_privacy.secagg.shares import Delivery, Leaf, Statement
from sordino_privacy.secagg.survivors import Assent, Claim, Opening
from sordino_privacy.secagg.upload import UploadReceipt, u2_digest

VICTIM, ACCOMPLICE, OTHER = "member-0000", "member-0004", "member-0002"


class EvilCoordinator(CoordinatorSession):
    """Runs the honest code, and alters what it sends by one function per message (all but the roster and the claim,
    which are the same for everyone, only towards the victim)."""

    lies: ClassVar[Mapping[str, Callable[..., Any]]] = {}

    def close_advertisements(self) -> bytes:
        message = super().close_advertisements()
        if "roster" not in self.lies:
            return message
        lie: Roster = self.lies["roster"](self, self._known_roster())
        return lie.encode()

    def close_shares(self) -> Mapping[str, bytes]:
        messages = dict(super().close_shares())
        if "delivery" in self.lies:
            lie: Delivery = self.lies["delivery"](self, Delivery.decode(messages[VICTIM], VICTIM))
            messages[VICTIM] = lie.encode()
        return messages

    def close_uploads(self) -> bytes:
        message = super().close_uploads()
        if "claim" not in self.lies:
            return message
        lie: Claim = self.lies["claim"](self, Claim.decode(message))
        return lie.encode()

    def close_survivors(self) -> Mapping[str, bytes]:
        messages = dict(super().close_survivors())
        if "opening" in self.lies:
            lie: Opening = self.lies["opening"](self, Opening.decode(messages[VICTIM]))
            messages[VICTIM] = lie.encode()
        return messages


def victim_refuses(
    refusal: type[SecaggError],
    phase: str,
    count: int = 5,
    drop: Mapping[str, str] | None = None,
    **lies: Callable[..., Any],
) -> SecaggError:
    """Drives honest members up to `phase`, where the evil coordinator's lie meets the victim."""
    evil = type("Evil", (EvilCoordinator,), {"lies": lies})
    federation = Federation(membership(count), coordinator_type=evil)
    message, present = federation.until(phase, drop)
    assert VICTIM in present
    session = federation.members[VICTIM]
    before = list(federation.journals[VICTIM].rows)
    with pytest.raises(refusal) as refused:
        answer(federation, phase, message)
    assert type(refused.value) is refusal
    assert session.phase is Phase.ABORTED
    assert set(vars_of(session)) <= {b"", (), Phase.ABORTED}
    if phase in ("survivors", "unmask"):
        assert federation.journals[VICTIM].rows == before
    return refused.value


def vars_of(session: MemberSession) -> list[object]:
    """All values that the session still holds beside its configuration; a dict of shares must be empty."""
    state = session._state
    assert state.held == {}
    return [getattr(state, name) for name in state.__slots__ if name != "held"]


def answer(federation: Federation, phase: str, message: object, name: str = VICTIM) -> bytes:
    session = federation.members[name]
    if phase == "share":
        assert isinstance(message, bytes)
        return session.share(message)
    if phase == "survivors":
        assert isinstance(message, bytes)
        return session.survivors(message)
    assert isinstance(message, Mapping)
    if phase == "upload":
        return b"".join(bytes(frame) for frame in session.upload(message[name], federation.updates[name]))
    return session.unmask(message[name])


def advertisement(name: str, key: bytes, context: Context, seed: object = "evil") -> Advertisement:
    entropy = SeededEntropy((seed, name))
    return Advertisement(
        ctx=context.digest(),
        name=name,
        exchange=keys.public_key(entropy(32)),
        masking=keys.public_key(entropy(32)),
        commitment=entropy(32),
        nonce=entropy(32),
    ).signed(key)


def replaced(roster: Roster, *entries: Advertisement, without: str = "") -> Roster:
    """The roster with entries replaced or added by name; thresholds recomputed, as a careful liar would."""
    by_name = {entry.name: entry for entry in roster.entries if entry.name != without}
    by_name |= {entry.name: entry for entry in entries}
    ordered = tuple(entry for _, entry in sorted(by_name.items()))
    n = len(ordered)
    corrupt = n * 200 // 1000
    numbers = replace(
        roster.numbers,
        members=n,
        quorum=(n + corrupt) // 2 + 1,
        threshold=(n + corrupt) // 2 + 1,
        degree=n - 1,
    )
    return replace(roster, entries=ordered, numbers=numbers)


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
        return replaced(
            roster,
            replace(roster.entry(OTHER), **{field: advertisement("x", b"\1" * 32, self.context).exchange}),  # type: ignore[arg-type]
        )

    victim_refuses(IdentityError, "share", roster=lie)


def test_1_a_roster_with_a_retired_identity_is_refused() -> None:
    lenient = membership(5)
    federation = Federation(lenient)
    strict = replace(lenient, retired=frozenset({lenient.member(OTHER).public_key}))
    session = MemberSession(
        VICTIM, signing_key(VICTIM), strict, federation.context, MemoryJournal(), SeededEntropy("strict")
    )
    federation.members[VICTIM] = session
    roster = federation.advertise(federation.names)
    with pytest.raises(IdentityError, match="retired"):
        session.share(roster)


def test_1_a_charter_epoch_older_than_one_acted_under_is_refused_across_restarts() -> None:
    journals = {name: MemoryJournal() for name in names(5)}
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
            MemoryJournal(),
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
    object.__setattr__(federation.coordinator._context, "organisations", 3)
    message, present = federation.until("upload")
    assert isinstance(message, Mapping)
    left = [name for name in present if name not in ("member-0002", "member-0005")]
    for name in left:
        frames = federation.members[name].upload(message[name], federation.updates[name])
        federation.coordinator.accept_upload(name, frames)
    receipts = federation.coordinator._known_intake().receipts
    claim = Claim(
        roster_hash=federation.coordinator._known_roster().hash,
        receipts=tuple(receipts[name] for name in left),
        dropped=("member-0002", "member-0005"),
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


# 4 ---------------------------------------------------------------------------------------------------------- context


CHANGES: dict[str, object] = {
    "run": "run-2",
    "round": 7,
    "attempt": 1,
    "server_nonce": bytes(32),
    "model_hash": b"m" * 32,
    "train_config_hash": bytes(32),
    "quantiser": quantiser(38),
    "gamma_permille": 201,
    "cohort": 4,
    "organisations": 3,
}


@pytest.mark.parametrize("field", CHANGES)
def test_4_a_proposal_that_differs_in_any_field_is_refused(field: str) -> None:
    federation = Federation(membership(5))
    federation.members[VICTIM].propose(federation.context.encode())
    proposal = replace(federation.context, **{field: CHANGES[field]})  # type: ignore[arg-type]
    with pytest.raises(ContextError, match=field):
        federation.members[VICTIM].propose(proposal.encode())


@pytest.mark.parametrize("field", ["epoch", "charter_hash", "federation"])
def test_4_a_proposal_under_another_charter_is_refused(field: str) -> None:
    federation = Federation(membership(5))
    value = {"epoch": 2, "charter_hash": bytes(32), "federation": "choir"}[field]
    proposal = replace(federation.context, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(IdentityError):
        federation.members[VICTIM].propose(proposal.encode())


@pytest.mark.parametrize("field", CHANGES)
def test_4_a_member_that_was_shown_another_context_is_noticed_in_the_roster(field: str) -> None:
    """Split view: the coordinator gives one member another model, config or floor and mixes their advertisements."""
    federation = Federation(membership(5))
    other = replace(federation.context, **{field: CHANGES[field]})  # type: ignore[arg-type]
    roster = Roster.decode(federation.advertise(federation.names), federation.membership, federation.context)
    split = federation.member(OTHER, other).advertise()
    with pytest.raises(ContextError) as refused:
        federation.members[VICTIM].share(replaced(roster, Advertisement.decode(split)).encode())
    assert refused.value.culprit == OTHER


# 5 ------------------------------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize("field", ["quorum", "threshold", "degree"])
@pytest.mark.parametrize("by", [-1, 1])
def test_5_a_server_chosen_quorum_threshold_or_degree_is_refused(field: str, by: int) -> None:
    def lie(self: EvilCoordinator, roster: Roster) -> Roster:
        return replace(
            roster, numbers=replace(roster.numbers, **{field: getattr(roster.numbers, field) + by})
        )

    victim_refuses(ThresholdError, "share", roster=lie)


# 6 ----------------------------------------------------------------------------------------------------------- replay


def test_6_a_spent_round_is_refused_for_ever_across_restarts() -> None:
    federation = Federation(membership(5))
    federation.complete()
    for attempt in (0, 1, 2):
        again = Federation(
            membership(5), attempt=attempt, journals=federation.journals, updates=federation.updates
        )
        with pytest.raises(ReplayError, match="spent"):
            again.members[VICTIM].advertise()


def test_6_an_attempt_that_was_overtaken_is_refused() -> None:
    journals = {name: MemoryJournal() for name in names(5)}
    Federation(membership(5), attempt=3, journals=journals).until("share")
    with pytest.raises(ReplayError, match="overtaken"):
        Federation(membership(5), attempt=2, journals=journals).members[VICTIM].advertise()


def test_6_an_uploaded_attempt_cannot_be_joined_again_after_a_restart() -> None:
    federation = Federation(membership(5))
    federation.until("survivors")
    with pytest.raises(ReplayError, match="already uploaded"):
        federation.member(VICTIM).advertise()


def test_6_a_retry_with_another_update_is_refused() -> None:
    federation = Federation(membership(5))
    federation.until("survivors")
    retry = Federation(
        membership(5), attempt=1, journals=federation.journals, updates=dict(federation.updates)
    )
    again = quantiser().quantise(
        retry.updates[VICTIM].vector[:37].astype("float32"), 0.5, Statistics(), SeededEntropy("other")
    )
    retry.updates[VICTIM] = again
    message, _ = retry.until("upload")
    with pytest.raises(ReplayError, match="same stored update"):
        answer(retry, "upload", message)


def test_6_messages_of_an_earlier_attempt_are_refused() -> None:
    first = Federation(membership(5))
    deliveries, _ = first.until("upload")
    retry = Federation(membership(5), attempt=1, journals=first.journals, updates=first.updates)
    retry.until("upload")
    with pytest.raises(ReplayError, match="another attempt"):
        answer(retry, "upload", deliveries)


def test_6_a_claim_and_an_opening_of_an_earlier_attempt_are_refused() -> None:
    first = Federation(membership(5), seed=1)
    claim, _ = first.until("survivors")
    retry = Federation(membership(5), seed=2)
    retry.until("survivors")
    with pytest.raises(ReplayError, match="another attempt"):
        answer(retry, "survivors", claim)


def test_6_every_message_out_of_its_phase_is_refused_and_changes_nothing() -> None:
    phases = ("share", "upload", "survivors", "unmask")
    messages = {phase: Federation(membership(3), seed=1).until(phase)[0] for phase in phases}
    for now in phases:
        federation = Federation(membership(3))
        message, _ = federation.until(now)
        for phase in phases:
            if phase != now:
                before = federation.members[VICTIM].snapshot_with_secrets()
                with pytest.raises(OrderError):
                    answer(federation, phase, messages[phase])
                assert federation.members[VICTIM].snapshot_with_secrets() == before
        with pytest.raises(OrderError):
            federation.members[VICTIM].advertise()
        answer(federation, now, message)


# 7 ------------------------------------------------------------------------------------------------------------ model


def test_7_an_unknown_architecture_a_foreign_model_and_a_false_step_are_refused() -> None:
    def hash_of(vector: npt.NDArray[np.float32]) -> bytes:
        return hashlib.sha256(vector.tobytes()).digest()

    old, step = np.zeros(3, np.float32), np.array([3.0, 0.0, 4.0], np.float32)
    require_architecture(b"a", {b"a"})
    require_model(b"m", b"m")
    assert np.array_equal(require_step(old, step, hash_of(old + step), norm_limit=5.0, hash_of=hash_of), step)
    with pytest.raises(ModelError, match="architecture"):
        require_architecture(b"b", {b"a"})
    with pytest.raises(ModelError, match="newest"):
        require_model(b"m", b"other")
    with pytest.raises(ModelError, match="norm"):
        require_step(old, step, hash_of(old + step), norm_limit=4.99, hash_of=hash_of)
    with pytest.raises(ModelError, match="finite"):
        require_step(old, step * np.float32("nan"), b"", norm_limit=5.0, hash_of=hash_of)
    with pytest.raises(ModelError, match="old one plus"):
        require_step(old, step, hash_of(step * 2), norm_limit=5.0, hash_of=hash_of)
    with pytest.raises(ModelError, match="shape"):
        require_step(old, step[:2], b"", norm_limit=5.0, hash_of=hash_of)


# 8 -------------------------------------------------------------------------------------------------------- survivors


def without(*gone: str) -> Callable[[EvilCoordinator, Claim], Claim]:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        receipts = tuple(receipt for receipt in claim.receipts if receipt.sender not in gone)
        return replace(claim, receipts=receipts, dropped=tuple(sorted({*claim.dropped, *gone})))

    return lie


def test_8_a_u2_below_the_quorum_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        keep = {VICTIM, OTHER, "member-0001"}
        return replace(
            delivery,
            statements=tuple(s for s in delivery.statements if s.sender in keep),
            parcels=tuple(p for p in delivery.parcels if p.sender in keep),
        )

    victim_refuses(SurvivorError, "upload", delivery=lie)


def test_8_a_u2_beyond_the_roster_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        ghost = Statement.signed(signing_key("member-0005"), delivery.roster_hash, "member-0005", bytes(32))
        return replace(delivery, statements=(*delivery.statements, ghost))

    victim_refuses(SurvivorError, "upload", count=6, drop={"member-0005": "advertise"}, delivery=lie)


def test_8_a_u2_without_this_member_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        return replace(delivery, statements=tuple(s for s in delivery.statements if s.sender != VICTIM))

    victim_refuses(SurvivorError, "upload", delivery=lie)


def test_8_a_u2_with_a_forged_statement_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        forged = tuple(replace(s, root=bytes(32)) if s.sender == OTHER else s for s in delivery.statements)
        return replace(delivery, statements=forged)

    assert victim_refuses(IdentityError, "upload", delivery=lie).culprit == OTHER


def test_8_a_claim_listing_this_member_as_dropped_is_refused() -> None:
    victim_refuses(SurvivorError, "survivors", claim=without(VICTIM))


def test_8_a_claim_that_does_not_mention_this_member_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        return replace(claim, receipts=tuple(r for r in claim.receipts if r.sender != VICTIM))

    victim_refuses(SurvivorError, "survivors", claim=lie)


def test_8_survivors_below_the_floor_are_refused() -> None:
    victim_refuses(SurvivorError, "survivors", claim=without(OTHER, ACCOMPLICE))


def test_8_a_claim_listing_a_member_as_surviving_and_as_dropped_is_refused() -> None:
    victim_refuses(SurvivorError, "survivors", claim=lambda self, claim: replace(claim, dropped=(OTHER,)))


def test_8_a_claim_listing_an_unknown_member_as_dropped_is_refused() -> None:
    victim_refuses(
        SurvivorError, "survivors", claim=lambda self, claim: replace(claim, dropped=("stranger",))
    )


def test_8_a_claim_that_forgets_a_dropped_member_is_refused() -> None:
    victim_refuses(
        SurvivorError,
        "survivors",
        drop={"member-0003": "upload"},
        claim=lambda self, claim: replace(claim, dropped=()),
    )


def test_8_a_claim_with_a_survivor_that_was_not_in_u2_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        ghost = UploadReceipt.signed(
            signing_key("member-0005"), claim.roster_hash, "member-0005", u2_digest(self._u2), bytes(32)
        )
        return replace(claim, receipts=(*claim.receipts, ghost))

    victim_refuses(SurvivorError, "survivors", count=6, drop={"member-0005": "share"}, claim=lie)


def test_8_a_claim_listing_a_member_twice_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        return replace(claim, receipts=(*claim.receipts, claim.receipts[-1]))

    victim_refuses(MalformedError, "survivors", claim=lie)


# 9 ------------------------------------------------------------------------------------------------- upload signatures


def test_9_an_invalid_upload_signature_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        forged = tuple(replace(r, signature=bytes(64)) if r.sender == OTHER else r for r in claim.receipts)
        return replace(claim, receipts=forged)

    assert victim_refuses(UploadSignatureError, "survivors", claim=lie).culprit == OTHER


def test_9_an_upload_that_the_member_did_not_send_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        swapped = tuple(replace(r, vector_hash=bytes(32)) if r.sender == OTHER else r for r in claim.receipts)
        return replace(claim, receipts=swapped)

    victim_refuses(UploadSignatureError, "survivors", claim=lie)


def test_9_a_member_that_was_shown_another_u2_is_noticed() -> None:
    """Split view of U2: the accomplice signs an upload over U2 without `OTHER`, to have that mask revealed."""

    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        smaller = u2_digest(name for name in self._u2 if name != OTHER)
        receipt = UploadReceipt.signed(
            signing_key(ACCOMPLICE), claim.roster_hash, ACCOMPLICE, smaller, bytes(32)
        )
        return replace(
            claim, receipts=tuple(receipt if r.sender == ACCOMPLICE else r for r in claim.receipts)
        )

    assert victim_refuses(UploadSignatureError, "survivors", claim=lie).culprit == ACCOMPLICE


# 10 ---------------------------------------------------------------------------------------------------------- quorum


def test_10_fewer_survivor_signatures_than_the_quorum_are_refused() -> None:
    victim_refuses(
        QuorumError, "unmask", opening=lambda self, opening: replace(opening, assents=opening.assents[:3])
    )


def test_10_one_survivor_signature_counted_twice_is_refused() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, assents=(*opening.assents[:3], opening.assents[2]))

    victim_refuses(MalformedError, "unmask", opening=lie)


def test_10_a_signature_over_another_survivor_set_is_refused() -> None:
    """Equivocation: another member signed a U3 without the victim, too."""

    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        other = Assent.signed(signing_key(OTHER), opening.roster_hash, OTHER, u2_digest(self._u2), bytes(32))
        return replace(opening, assents=tuple(other if a.sender == OTHER else a for a in opening.assents))

    victim_refuses(QuorumError, "unmask", opening=lie)


def test_10_a_signature_of_a_member_that_did_not_survive_does_not_count() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        u3 = self._known_claim().u3_hash()
        dropped = Assent.signed(
            signing_key(ACCOMPLICE), opening.roster_hash, ACCOMPLICE, u2_digest(self._u2), u3
        )
        return replace(opening, assents=(*opening.assents[:3], dropped))

    victim_refuses(QuorumError, "unmask", drop={ACCOMPLICE: "upload"}, opening=lie)


def test_10_two_disjoint_views_of_the_survivors_cannot_both_reach_a_quorum() -> None:
    for n in range(3, 257):
        for gamma in (0, 100, 200, 333):
            numbers = thresholds(n, gamma=Fraction(gamma, 1000), honest=3, dropouts=Fraction(1, 3))
            assert 2 * numbers.quorum - n > numbers.corrupt
            assert numbers.quorum <= n
            assert numbers.survivors >= numbers.corrupt + 3


# 11 ---------------------------------------------------------------------------------------------------------- reveal


def test_11_a_request_for_both_shares_of_one_peer_is_refused() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, dropped=tuple(sorted({*opening.dropped, OTHER})))

    assert "both shares" in victim_refuses(RevealError, "unmask", opening=lie).message


@pytest.mark.parametrize("kind", ["alive", "dropped"])
def test_11_a_request_for_a_share_of_a_stranger_is_refused(kind: str) -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        more = tuple(sorted({*getattr(opening, kind), "stranger"}))
        return replace(opening, **{kind: more})  # type: ignore[arg-type]

    assert "no neighbour" in victim_refuses(RevealError, "unmask", opening=lie).message


def test_11_a_request_for_the_pairwise_seed_of_a_survivor_is_refused() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, alive=tuple(n for n in opening.alive if n != OTHER), dropped=(OTHER,))

    victim_refuses(RevealError, "unmask", opening=lie)


def test_11_a_request_for_the_self_mask_of_a_dropped_member_is_refused() -> None:
    """A late upload is in the coordinator's hands: with the self mask too it would be an open book."""

    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, alive=tuple(sorted({*opening.alive, "member-0003"})), dropped=())

    victim_refuses(RevealError, "unmask", drop={"member-0003": "upload"}, opening=lie)


def test_11_a_request_listing_this_member_as_dropped_is_refused() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, alive=tuple(n for n in opening.alive if n != VICTIM), dropped=(VICTIM,))

    victim_refuses(RevealError, "unmask", opening=lie)


def test_11_a_second_request_is_refused_in_the_same_session() -> None:
    federation = Federation(membership(5))
    openings, _ = federation.until("unmask")
    answer(federation, "unmask", openings)
    with pytest.raises(RevealError, match="already"):
        answer(federation, "unmask", openings)


def test_11_a_second_request_is_refused_by_a_session_restored_from_before_the_first() -> None:
    federation = Federation(membership(5))
    openings, _ = federation.until("unmask")
    assert isinstance(openings, Mapping)
    snapshot = federation.members[VICTIM].snapshot_with_secrets()
    answer(federation, "unmask", openings)
    restored = MemberSession.restore(
        snapshot,
        VICTIM,
        signing_key(VICTIM),
        federation.membership,
        federation.context,
        federation.journals[VICTIM],
        SeededEntropy("restored"),
    )
    with pytest.raises(RevealError, match="already revealed"):
        restored.unmask(openings[VICTIM])


def test_11_a_session_restored_from_before_its_signature_cannot_sign_another_survivor_set() -> None:
    federation = Federation(membership(5))
    claim, _ = federation.until("survivors")
    assert isinstance(claim, bytes)
    snapshot = federation.members[VICTIM].snapshot_with_secrets()
    federation.members[VICTIM].survivors(claim)
    restored = MemberSession.restore(
        snapshot,
        VICTIM,
        signing_key(VICTIM),
        federation.membership,
        federation.context,
        federation.journals[VICTIM],
        SeededEntropy("restored"),
    )
    smaller = without(OTHER)(EvilCoordinator(federation.membership, federation.context), Claim.decode(claim))
    with pytest.raises(ReplayError, match="another set of survivors"):
        restored.survivors(smaller.encode())


# 12 ----------------------------------------------------------------------------------------------------------- share


@pytest.mark.parametrize("field", ["sealed", "self_commitment", "pair_commitment"])
def test_12_a_tampered_share_is_refused_and_its_sender_named(field: str) -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        def tampered(leaf: Leaf) -> Leaf:
            return replace(leaf, **{field: bytes(len(getattr(leaf, field)))})  # type: ignore[arg-type]

        parcels = (replace(p, leaf=tampered(p.leaf)) if p.sender == OTHER else p for p in delivery.parcels)
        return replace(delivery, parcels=tuple(parcels))

    assert victim_refuses(ShareError, "upload", delivery=lie).culprit == OTHER


def test_12_a_share_sealed_for_another_member_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        first, second, *rest = delivery.parcels
        return replace(delivery, parcels=(replace(first, leaf=second.leaf, path=second.path), second, *rest))

    victim_refuses(ShareError, "upload", delivery=lie)


def test_12_a_withheld_share_is_refused() -> None:
    victim_refuses(
        ShareError,
        "upload",
        delivery=lambda self, delivery: replace(delivery, parcels=delivery.parcels[1:]),
    )


# 13, 14, 15 ---------------------------------------------------------------------------- budget, policy, downgrade


@pytest.mark.parametrize("after", [8.01, float("inf"), float("nan")])
def test_13_a_round_beyond_the_budget_is_refused(after: float) -> None:
    require_budget(8.0, 8.0)
    with pytest.raises(BudgetExhaustedError) as refused:
        require_budget(after, 8.0)
    assert isinstance(refused.value, BudgetError)


@pytest.mark.parametrize(
    "weaker",
    [{"noise_multiplier": 0.1}, {"clip_norm": 10.0}, {"delta": 0.1}, {"noise_multiplier": float("nan")}],
)
def test_14_training_outside_the_charters_privacy_policy_is_refused(weaker: dict[str, float]) -> None:
    terms = {"noise_multiplier": 1.0, "clip_norm": 1.0, "sampling_rate": 0.1, "steps": 10, "delta": 1e-6}
    policy = PrivacyPolicy()
    policy.require(**terms)  # type: ignore[arg-type]
    with pytest.raises(PolicyError):
        policy.require(**(terms | weaker))  # type: ignore[arg-type]


@pytest.mark.parametrize("suite", ["plaintext", "none", "sordino-secagg/0", "secaggplus", ""])
def test_15_plaintext_aggregation_and_every_other_suite_are_refused(suite: str) -> None:
    federation = Federation(membership(5))
    honest = federation.context.encode()
    name = b"\x10sordino-secagg/1"
    assert honest.count(name) == 1
    downgraded = honest.replace(name, bytes([len(suite)]) + suite.encode())
    with pytest.raises(DowngradeError):
        federation.members[VICTIM].propose(downgraded)
    with pytest.raises(DowngradeError):
        replace(federation.context, suite=suite)


def test_15_a_message_of_another_protocol_version_is_refused() -> None:
    federation = Federation(membership(5))
    roster, _ = federation.until("share")
    assert isinstance(roster, bytes)
    with pytest.raises(DowngradeError, match="version"):
        federation.members[VICTIM].share(roster.replace(b"sordino-secagg/1", b"sordino-secagg/0", 1))


# What remains possible ---------------------------------------------------------------------------------------------


def test_a_coordinator_may_only_be_stricter_than_the_charter() -> None:
    federation = Federation(membership(5))
    stricter = replace(federation.context, cohort=4, organisations=4, gamma_permille=300)
    federation.member(VICTIM, stricter).propose(stricter.encode())


def test_members_of_the_charter_that_do_not_take_part_do_not_disturb() -> None:
    members = membership(5)
    extra = Member(
        name="zz-absent", organisation="absent", public_key=keys.identity_key(signing_key("zz-absent"))
    )
    larger: Membership = replace(members, members=(*members.members, extra))
    federation = Federation(larger)
    opened = federation.complete({"zz-absent": "advertise"})
    assert opened.survivors == tuple(names(5))
    assert all(row.step in Step for row in federation.journals[VICTIM].rows)
