"""A coordinator with its true key, and every colluder that the charter allows for, against one real member.

The colluders sign with the keys that the charter names for them, so every signature in a roster is good. What is told
here is only who takes part: the choice that belongs to the coordinator, whatever it is worth.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.federation.hub import VICTIM, Opened, found_many, others_of, refused_as

from sordino_client.round.member import Member as RealMember
from sordino_coordinator.federation import Federation
from sordino_platform.charter import FloorTerms
from sordino_privacy.errors import ConfigurationError


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int, FloorTerms], Path]:
    made: dict[object, Path] = {}

    def make(members: int, organisations: int, floors: FloorTerms) -> Path:
        which = members, organisations, floors
        if which not in made:
            made[which] = tmp_path_factory.mktemp("crowd") / "federation"
            found_many(made[which], members, organisations=organisations, floors=floors)
        return made[which]

    return make


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "federation"
    shutil.rmtree(tmp_path / "federation", ignore_errors=True)


SIZES = [20, 100, pytest.param(1000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("members", SIZES)
def test_a_roster_of_the_victim_and_four_colluders_is_refused_by_the_member_itself(
    founded: Callable[..., Path], place: Path, members: int
) -> None:
    floors = FloorTerms(cohort=members // 5 + 3)
    with Opened(founded(members, members, floors), place) as hub:
        assert refused_as(hub.share(others_of(members)[:4])) == "floors"
        assert not hub.member.ledger.entries("crowd", hub.context.run, 1)[1:], (
            "nothing after the advertisement"
        )


@pytest.mark.parametrize("members", SIZES)
def test_all_colluders_of_the_charter_and_the_victim_are_too_few_and_a_roster_with_room_is_answered(
    founded: Callable[..., Path], place: Path, members: int
) -> None:
    corrupt = members // 5
    floors = FloorTerms(cohort=corrupt + 3)
    with Opened(founded(members, members, floors), place) as hub:
        assert refused_as(hub.share(others_of(members)[: corrupt + 1])) == "floors"
        assert refused_as(hub.share(others_of(members)[: corrupt + 2])) == "answered"


def test_a_roster_of_the_victims_organisation_and_the_colluders_of_two_others_is_refused(
    founded: Callable[..., Path], place: Path
) -> None:
    """Three organisations take part, as the floor asks; without the four colluders only the victim's is left."""
    with Opened(founded(20, 6, FloorTerms(cohort=7)), place) as hub:
        members = hub.federation.charter.members
        own = next(member.organisation for member in members if member.name == VICTIM)
        colleagues = [m.name for m in members if m.organisation == own and m.name != VICTIM]
        colluders = [
            member.name
            for wanted in ("organisation 1", "organisation 2")
            for member in [m for m in members if m.organisation == wanted][:2]
        ]
        assert (len(colleagues), len(colluders)) == (3, 4)
        chosen = [*colleagues[:2], *colluders]
        assert refused_as(hub.share(chosen)) == "floors"


@pytest.mark.parametrize(
    ("stricter", "too_small", "large_enough"),
    [({"cohort": 9}, 8, 9), ({"organisations": 8}, 11, 12), ({"gamma_permille": 333}, 8, 9)],
)
def test_floors_that_are_stricter_than_the_charters_are_accepted_and_kept(
    founded: Callable[..., Path], place: Path, stricter: dict[str, int], too_small: int, large_enough: int
) -> None:
    """Of 20 members at gamma 333 six may collude, so that nine are needed where the charter alone asks for seven."""
    with Opened(founded(20, 20, FloorTerms(cohort=7)), place) as hub:
        context = replace(hub.context, **stricter)  # type: ignore[arg-type]
        for size, answer in ((too_small, "floors"), (large_enough, "answered")):
            assert refused_as(hub.share(others_of(20)[: size - 1], context)) == answer


@pytest.mark.parametrize(
    ("weaker", "refusal"),
    [
        ({"cohort": 6}, "floors"),
        ({"organisations": 2}, "floors"),
        ({"gamma_permille": 149}, "threshold"),
    ],
)
def test_a_context_that_is_weaker_than_the_charter_is_refused_before_anything_is_charged(
    founded: Callable[..., Path], place: Path, weaker: dict[str, int], refusal: str
) -> None:
    with Opened(founded(20, 20, FloorTerms(cohort=7)), place) as hub:
        assert refused_as(hub.propose(replace(hub.context, **weaker))) == refusal  # type: ignore[arg-type]
        assert not hub.member.ledger.reservations()


def test_a_charter_without_room_for_its_colluders_is_refused_when_it_is_drafted_signed_and_opened(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"of 20 members 4 may collude .* set it to 7 or more"):
        found_many(place, 20, organisations=20, floors=FloorTerms(cohort=5))
    shutil.rmtree(place)
    # A root's holder whose software does not look: the charter is signed, and no party opens it.
    with monkeypatch.context() as careless:
        careless.setattr("sordino_privacy.secagg.membership.Floors.require_room", lambda self, members: None)
        found_many(place, 20, organisations=20, floors=FloorTerms(cohort=5))
    with pytest.raises(ConfigurationError, match="set it to 7 or more"), RealMember.open(place / "member"):
        raise AssertionError("a member opened it")
    with pytest.raises(ConfigurationError, match="set it to 7 or more"):
        Federation.open(place / "coordinator")
