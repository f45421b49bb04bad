"""Which epochs end a round that was begun under the one before: what is harmless is named, all else ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sordino_platform.charter import Charter, CharterMember, FloorTerms, ended_by, shipped_model
from sordino_platform.charter.policies import SharedMemoryPolicy
from sordino_platform.identity import authority
from sordino_platform.identity.ceremony import found_in_folder
from sordino_platform.keys import public_bytes

NAMES = ("alder", "birch", "cedar", "dogwood")


@pytest.fixture(scope="module")
def charter(tmp_path_factory: pytest.TempPathFactory) -> Charter:
    folder: Path = tmp_path_factory.mktemp("touching") / "federation"
    found_in_folder(
        folder,
        federation="test",
        members=[(name, f"{name} ltd") for name in NAMES],
        model=shipped_model(adapter_rank=1),
        floors=FloorTerms(cohort=3),
    )
    return authority.charters_of(folder / "root").head().charter


def stranger(name: str) -> CharterMember:
    return CharterMember(
        name=name,
        organisation=f"{name} ltd",
        identity_key=public_bytes(Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32))),
    )


def after(charter: Charter, **terms: Any) -> Charter:
    """The next epoch, with these terms."""
    return charter.model_copy(update={"epoch": charter.epoch + 1, "previous": charter.hash(), **terms})


def without(charter: Charter, *names: str) -> tuple[CharterMember, ...]:
    return tuple(member for member in charter.members if member.name not in names)


def with_one(charter: Charter, *, replacing: str = "", **fields: Any) -> tuple[CharterMember, ...]:
    return tuple(
        member.model_copy(update=fields) if member.name == replacing else member for member in charter.members
    )


def test_an_epoch_that_leaves_the_members_the_keys_and_the_terms_of_a_round_lets_it_go_on(
    charter: Charter,
) -> None:
    late = datetime.now(UTC) + timedelta(days=700)
    harmless = (
        charter,
        after(charter),
        after(charter, expires_at=late.replace(microsecond=0)),
        after(charter, members=without(charter, "dogwood")),
        after(charter, members=with_one(charter, replacing="dogwood", organisation="another")),
        after(
            charter, members=with_one(charter, replacing="dogwood", identity_key=stranger("x").identity_key)
        ),
    )
    assert [ended_by(charter, epoch, ("alder", "birch", "cedar")) for epoch in harmless] == [None] * len(
        harmless
    )


def test_a_member_that_joins_ends_no_round_unless_it_lets_more_collude(charter: Charter) -> None:
    four = after(charter, members=without(charter, "dogwood"))
    assert ended_by(four, after(four, members=charter.members), ("alder", "birch", "cedar")) is None
    five = after(charter, members=(*charter.members, stranger("elm")))
    assert charter.floors.as_secagg().corrupt(4) == 0
    assert ended_by(charter, five, ("alder", "birch", "cedar")) == (
        "a new epoch of the charter began (2): 1 of its members may collude, and the round was begun for 0"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_member_of_the_round_that_goes_or_is_another_ends_it(charter: Charter, name: str) -> None:
    gone = after(charter, members=without(charter, name))
    assert ended_by(charter, gone, NAMES) == f"a new epoch of the charter began (2): {name} was retired"
    for fields in ({"organisation": "another"}, {"identity_key": stranger("x").identity_key}):
        other = after(charter, members=with_one(charter, replacing=name, **fields))
        assert ended_by(charter, other, NAMES) is not None


def test_whatever_else_changed_ends_it_and_is_named(charter: Charter) -> None:
    """Each field of the terms but those that are of no round: what a later version adds is among them."""
    of_no_round = {
        "version",
        "epoch",
        "previous",
        "issued_at",
        "expires_at",
        "members",
        "retired",
        "renewals",
    }
    privacy = charter.privacy.model_copy(update={"largest_epsilon": charter.privacy.largest_epsilon / 2})
    floors = charter.floors.model_copy(update={"cohort": 4})
    policy = charter.training_policy()
    others: dict[str, Any] = {
        "federation": "other",
        "suite": "sordino-secagg/0",
        "quantiser": "another",
        "privacy": privacy,
        "floors": floors,
        "training": policy.model_copy(update={"largest_learning_rate": policy.largest_learning_rate / 2}),
        "coordinator": charter.coordinator.model_copy(update={"identity_key": stranger("x").identity_key}),
        "shared_memory": SharedMemoryPolicy(),
        "model": charter.model.model_copy(update={"adapter_rank": 3}),
        "tls_authority": charter.tls_authority.model_copy(update={"fingerprint": bytes(32)}),
    }
    assert set(Charter.model_fields) - of_no_round == set(others)
    for field, value in others.items():
        why = ended_by(charter, after(charter, **{field: value}), ("alder",))
        assert why is not None, field
        assert field in why
