"""Refusals 4 to 7 and 13 to 15: an evil coordinator proposes another round than the charter allows, or an old one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.secagg.evil import OTHER, VICTIM, EvilCoordinator, answer, replaced, victim_refuses
from tests.secagg.federation import (
    Federation,
    SeededEntropy,
    membership,
    names,
    quantiser,
    signing_key,
)

from sordino_platform.bench.world import VolatileJournal
from sordino_platform.charter.policies import PrivacyPolicy
from sordino_privacy.secagg import (
    ContextError,
    DowngradeError,
    EnrolledMember,
    IdentityError,
    MaskedStatistics,
    Membership,
    ModelError,
    OrderError,
    PolicyError,
    ReplayError,
    Step,
    ThresholdError,
    require_model,
)
from sordino_privacy.secagg.roster import Advertisement, Roster

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
    journals = {name: VolatileJournal() for name in names(5)}
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
        retry.updates[VICTIM].vector[:37].astype("float32"), 0.5, MaskedStatistics(), SeededEntropy("other")
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


def test_7_a_round_from_another_model_than_the_members_newest_is_refused() -> None:
    require_model(b"m", b"m")
    with pytest.raises(ModelError, match="newest"):
        require_model(b"m", b"other")


# 14, 15 ------------------------------------------------------------------------------------ policy, downgrade


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
    name = b"\x10sordino-secagg/2"
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
        federation.members[VICTIM].share(roster.replace(b"sordino-secagg/2", b"sordino-secagg/0", 1))


# What remains possible ---------------------------------------------------------------------------------------------


def test_a_coordinator_may_only_be_stricter_than_the_charter() -> None:
    federation = Federation(membership(5))
    stricter = replace(federation.context, cohort=4, organisations=4, gamma_permille=300)
    federation.member(VICTIM, stricter).propose(stricter.encode())


def test_members_of_the_charter_that_do_not_take_part_do_not_disturb() -> None:
    members = membership(5)
    extra = EnrolledMember(
        name="zz-absent", organisation="absent", public_key=signing_key("zz-absent").public_key
    )
    larger: Membership = replace(members, members=(*members.members, extra))
    federation = Federation(larger)
    opened = federation.complete({"zz-absent": "advertise"})
    assert opened.survivors == tuple(names(5))
    assert all(row.step in Step for row in federation.journals[VICTIM].rows)
