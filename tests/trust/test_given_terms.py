"""Options that were left out change no term; those that were given change theirs and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sordino_platform.charter import Charter, PrivacyPolicy, SharedMemoryPolicy
from sordino_platform.identity import Identity
from sordino_platform.identity.ceremony import Foundation
from sordino_platform.terms.given import GivenTerms
from sordino_privacy.errors import UsageError


@pytest.fixture
def charter(founded: Foundation) -> Charter:
    return Identity.load(founded.coordinator).charter


def given(**options: Any) -> GivenTerms:
    nothing: dict[str, Any] = {
        "floors": {},
        "privacy": {"largest_epsilon": None},
        "training": {},
        "adapters": {},
    }
    return GivenTerms(**nothing | options)


def test_an_epoch_for_which_nothing_was_given_keeps_every_term(charter: Charter) -> None:
    assert given().following(charter) == {
        "floors": charter.floors,
        "privacy": charter.privacy,
        "training": charter.training_policy(),
        "shared_memory": charter.shared_memory,
        "renewals": charter.renewals,
    }


def test_one_option_changes_one_term(charter: Charter) -> None:
    wanted = given(privacy={"largest_epsilon": 3.0, "largest_delta": None}, shared_memory=True)
    terms = wanted.following(charter)
    assert terms["privacy"] == charter.privacy.model_copy(update={"largest_epsilon": 3.0})
    assert terms["shared_memory"] == SharedMemoryPolicy()
    assert terms["floors"] == charter.floors


def test_a_term_out_of_its_bounds_is_named(charter: Charter) -> None:
    with pytest.raises(UsageError, match="largest_epsilon"):
        given(privacy={"largest_epsilon": -1.0}).following(charter)


def test_the_first_epoch_has_the_defaults_and_the_cohort_of_the_members_that_are_expected() -> None:
    terms = given(members=20).first()
    assert terms["privacy"] == PrivacyPolicy()
    assert terms["shared_memory"] is None
    assert "renewals" not in terms
    assert terms["floors"].cohort >= given().first()["floors"].cohort


@pytest.mark.parametrize("option", [{"renewal_days": 20}, {"renewal_authority": Path("renewals.pem")}])
def test_no_authority_renews_before_there_is_a_coordinator(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs a coordinator"):
        given(**option).first()
