"""`noise` as a term of the charter: what goes with it, and where it is refused: at draft, signing and opening."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import ValidationError

from sordino_platform.canonical import decode, encode
from sordino_platform.charter import Charter, FloorTerms, PrivacyPolicy, drafting, shipped_model
from sordino_platform.charter.changes import changes
from sordino_platform.charter.document import MAX_CHARTER_BYTES
from sordino_platform.identity.ceremony import found_in_folder
from sordino_platform.terms.preflight import lines, preflight
from sordino_privacy.errors import ConfigurationError

DISTRIBUTED = PrivacyPolicy(noise="distributed", largest_steps=1)


def charter(folder: Path, *, privacy: PrivacyPolicy, floors: FloorTerms, members: int = 5) -> Charter:
    foundation = found_in_folder(
        folder,
        federation="test",
        members=[(f"m{n}", f"org {n}") for n in range(members)],
        model=shipped_model(adapter_rank=1),
        floors=floors,
        privacy=privacy,
    )
    return foundation.charter


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        ({"largest_steps": 2}, "one step"),
        ({"largest_steps": 1, "update_check": "norm"}, "sketch"),
        ({"largest_steps": 1, "noise": "shared"}, "noise"),
    ],
)
def test_terms_that_do_not_go_with_noise_in_shares_are_no_policy(
    terms: dict[str, object], match: str
) -> None:
    with pytest.raises(ValidationError, match=match):
        PrivacyPolicy.model_validate({"noise": "distributed"} | terms)


def test_a_charter_that_says_nothing_of_noise_has_the_bytes_that_it_had() -> None:
    assert b'noise"' not in encode(PrivacyPolicy())
    assert b'"noise": "distributed"' in encode(DISTRIBUTED)
    explicit = encode(DISTRIBUTED).replace(b'"distributed"', b'"local"')
    with pytest.raises(ConfigurationError, match="canonical"):
        decode(PrivacyPolicy, explicit, limit=1 << 16, what="policy")


def test_an_honest_floor_that_could_open_two_sums_is_refused_at_draft_signing_and_opening(
    tmp_path: Path,
) -> None:
    good = charter(tmp_path / "good", privacy=DISTRIBUTED, floors=FloorTerms(cohort=5, honest=3))
    assert good.noise_shares() == 3
    assert good.membership().shares == 3
    # Drafting and signing: seven members, of whom one colludes, need four.
    with pytest.raises(ConfigurationError, match="--honest 4 --cohort 5"):
        charter(tmp_path / "bad", privacy=DISTRIBUTED, floors=FloorTerms(cohort=5, honest=3), members=7)
    # Opening: the same in bytes that somebody signed elsewhere.
    raw = json.loads(encode(good))
    raw["floors"]["honest"] = 2
    forged = json.dumps(raw, sort_keys=True, indent=1, ensure_ascii=False).encode()
    with pytest.raises(ConfigurationError, match="above half"):
        decode(Charter, forged, limit=MAX_CHARTER_BYTES, what="charter")


@pytest.mark.parametrize("members", [5, 8, 18, 30, 256])
def test_the_floors_that_are_proposed_go_with_the_term(members: int) -> None:
    floors = drafting.floors_for(members, noise="distributed")
    core = floors.as_secagg()
    core.require_room(members)
    assert 2 * floors.honest > members - core.corrupt(members)
    assert floors.cohort <= members


def test_the_change_to_noise_in_shares_protects_less_and_back_is_stricter(tmp_path: Path) -> None:
    floors = FloorTerms(cohort=5, honest=3)
    local = charter(tmp_path / "local", privacy=PrivacyPolicy(), floors=floors)
    shared = local.model_copy(update={"privacy": DISTRIBUTED})
    there = {change.field: change for change in changes(local, shared)}
    back = {change.field: change for change in changes(shared, local)}
    assert there["privacy.noise"].weaker
    assert (there["privacy.noise"].before, there["privacy.noise"].after) == ("local", "distributed")
    assert not back["privacy.noise"].weaker


def test_the_preflight_shows_both_numbers_and_the_gain(tmp_path: Path) -> None:
    floors = drafting.floors_for(8, noise="distributed").model_copy(update={"honest": 6, "cohort": 7})
    found_in_shares = preflight(
        charter(tmp_path / "shared", privacy=DISTRIBUTED, floors=floors, members=8), members=8
    )
    alone = preflight(
        charter(
            tmp_path / "local", privacy=PrivacyPolicy(largest_steps=1), floors=FloorTerms(cohort=7), members=8
        ),
        members=8,
    )
    assert found_in_shares.noise_gain == pytest.approx(6**0.5)
    assert found_in_shares.noise_to_signal * 6**0.5 == pytest.approx(alone.noise_to_signal)
    assert found_in_shares.rounds in (alone.rounds, alone.rounds - 1)
    assert alone.noise_gain == 1
    assert found_in_shares.epsilon_if_others_collude > 5 * found_in_shares.epsilon
    said = dict(lines(found_in_shares))
    assert "2.4 times smaller" in said["shares"]
    assert "epsilon_if_others_collude" in said["if all collude"]
    assert asdict(found_in_shares)["noise"] == "distributed"
