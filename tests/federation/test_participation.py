"""A member's own wish: ready or not, agreed to at a price, withdrawn, paused; and the endpoint that an editor uses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.federation import inprocess

from sordino_client.completion.asking import Endpoint
from sordino_client.control.server import ControlServer
from sordino_client.round.member import Member
from sordino_client.round.participation import Consent, Participation
from sordino_coordinator.federation import Federation
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.link import LinkState, LinkStatus
from sordino_platform.offer import Offer
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import LinkError, RefusalError, UsageError

PLAN = TrainingPlan.parse(dict(inprocess.PLAN))
OFFER = Offer(
    run="run",
    round=4,
    release=3,
    connected=5,
    ready=4,
    required=5,
    members=5,
    plan=PLAN,
)


@pytest.fixture
def wish(tmp_path: Path) -> Participation:
    found = Participation(tmp_path, "when_asked")
    found.offered(OFFER)
    return found


class TestReadiness:
    def test_a_member_that_waits_to_be_asked_is_ready_once_a_person_agreed(self, wish: Participation) -> None:
        assert not wish.ready
        wish.agree(Consent(offer=OFFER.id, round=4, epsilon_after=1.0))
        assert wish.ready

    def test_a_member_of_every_round_needs_no_agreement(self, tmp_path: Path) -> None:
        assert Participation(tmp_path, "every_round").ready

    def test_a_pause_holds_over_a_restart_and_an_agreement_does_not(
        self, wish: Participation, tmp_path: Path
    ) -> None:
        wish.agree(Consent(offer=OFFER.id, round=4, epsilon_after=1.0))
        assert not Participation(tmp_path, "when_asked").ready
        wish.pause()
        assert not wish.ready
        assert not Participation(tmp_path, "every_round").ready
        wish.resume()
        assert Participation(tmp_path, "every_round").ready

    def test_only_the_offered_round_can_be_agreed_to(self, wish: Participation) -> None:
        with pytest.raises(UsageError, match="round 5 is not offered"):
            wish.agree(Consent(offer=replace(OFFER, round=5).id, round=5, epsilon_after=1.0))
        wish.offered(None)
        with pytest.raises(UsageError):
            wish.agree(Consent(offer=OFFER.id, round=4, epsilon_after=1.0))


class TestProposals:
    def test_one_that_costs_more_than_was_agreed_to_is_refused(self, wish: Participation) -> None:
        wish.agree(Consent(offer=OFFER.id, round=4, epsilon_after=1.0))
        wish.admit("run", 4, PLAN.digest(), epsilon_after=1.0)
        with pytest.raises(RefusalError, match=r"1\.010; 1\.000 was agreed"):
            wish.admit("run", 4, PLAN.digest(), epsilon_after=1.01)

    def test_one_that_nobody_agreed_to_is_refused(self, wish: Participation) -> None:
        with pytest.raises(RefusalError, match="nobody"):
            wish.admit("run", 4, PLAN.digest(), epsilon_after=0.1)

    def test_an_agreement_is_used_up_by_one_round(self, wish: Participation) -> None:
        wish.agree(Consent(offer=OFFER.id, round=4, epsilon_after=1.0))
        wish.admit("run", 4, PLAN.digest(), epsilon_after=1.0)
        wish.entered("train", 4)
        wish.charged()
        wish.ended(4, "contributed")
        assert not wish.ready
        assert wish.last is not None
        assert wish.last.charged

    def test_another_attempt_of_the_round_is_still_agreed_to_and_another_round_is_not(
        self, wish: Participation
    ) -> None:
        wish.agree(Consent(offer=OFFER.id, round=4, epsilon_after=1.0))
        wish.entered("share_keys", 4)
        wish.offered(OFFER)
        assert wish.ready
        wish.entered("train", 4)
        wish.offered(replace(OFFER, round=5))
        assert wish.agreed is None
        assert wish.last is not None
        assert (wish.last.round, wish.last.outcome) == (4, "aborted")

    def test_who_withdrew_is_out_of_the_round_even_as_a_member_of_every_round(self, tmp_path: Path) -> None:
        wish = Participation(tmp_path, "every_round")
        wish.admit("run", 4, PLAN.digest(), epsilon_after=1.0)
        wish.withdraw()
        with pytest.raises(RefusalError, match="withdrew"):
            wish.trained(1, 2, 3.0)
        with pytest.raises(RefusalError, match="withdrew"):
            wish.admit("run", 4, PLAN.digest(), epsilon_after=1.0)
        wish.admit("run", 5, PLAN.digest(), epsilon_after=1.0)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("asked") / "federation"
    inprocess.found_in(folder, cohort=5)
    settings = folder / "members" / "alder" / "member.toml"
    settings.write_text(settings.read_text() + 'participate = "when_asked"\n')
    return folder


class Served:
    """A member with its control endpoint, asked as an editor asks."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.withdrawals = 0
        self.server = ControlServer(member, lambda: LinkStatus(state=LinkState.CONNECTED), self._withdrawn)
        self.server.start()
        folder = member.folder / "control"
        document = json.loads((folder / "control.json").read_text())
        assert (folder / "control.json").stat().st_mode & 0o777 == 0o600
        self.endpoint = Endpoint(
            host="127.0.0.1", port=document["port"], token=(folder / "token").read_text().strip()
        )

    def _withdrawn(self) -> None:
        self.withdrawals += 1


@pytest.fixture
def served(place: Path) -> Iterator[Served]:
    with Member.open(place / "members" / "alder") as member:
        found = Served(member)
        yield found
        found.server.stop()
        assert not (member.folder / "control" / "control.json").exists()


class TestControl:
    def test_it_shows_the_state_and_what_the_offered_round_costs(self, served: Served) -> None:
        served.member.participation.offered(OFFER)
        state = served.endpoint.ask("GET", "/v1/member")
        assert (state["member"], state["federation"], state["release"]) == ("alder", "test", -1)
        assert state["participation"] == {"mode": "when_asked", "paused": False, "agreed": None}
        cost = served.member.ledger.preview(OFFER.plan)
        assert state["offer"]["kind"] == "train"
        assert state["offer"]["cost"] == {
            "run": cost.run,
            "after": cost.after,
            "runs_left": cost.runs_left,
            "if_others_collude_after": cost.after,  # all noise is this member's own
        }
        assert state["privacy"]["spent"] == 0 < state["offer"]["cost"]["after"] < state["privacy"]["budget"]

    def test_a_person_agrees_withdraws_pauses_and_resumes(self, served: Served) -> None:
        served.member.participation.offered(OFFER)
        agreed = {"offer": served.endpoint.ask("GET", "/v1/member")["offer"]["id"], "epsilon_after": 2.5}
        answer = served.endpoint.ask("POST", "/v1/member/agree", agreed)
        assert answer["participation"]["agreed"] == {
            **agreed,
            "round": 4,
            "epsilon_if_others_collude_after": 2.5,
        }
        assert served.member.participation.ready
        assert served.endpoint.ask("POST", "/v1/member/withdraw", {})["participation"]["agreed"] is None
        assert served.endpoint.ask("POST", "/v1/member/pause", {})["participation"]["paused"] is True
        with pytest.raises(LinkError, match="paused"):
            served.endpoint.ask("POST", "/v1/member/agree", agreed)
        assert served.endpoint.ask("POST", "/v1/member/resume", {})["participation"]["paused"] is False
        assert served.withdrawals == 2

    def test_a_question_for_changes_waits_until_there_is_one(self, served: Served) -> None:
        revision = served.endpoint.ask("GET", "/v1/member")["revision"]
        answers: list[Any] = []
        asking = threading.Thread(
            target=lambda: answers.append(served.endpoint.ask("GET", f"/v1/member/changes?after={revision}"))
        )
        asking.start()
        time.sleep(0.3)
        assert not answers
        served.member.participation.entered("train", 7)
        asking.join(20)
        assert answers[0]["activity"]["round"] == 7
        assert answers[0]["revision"] > revision

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"offer": OFFER.id},
            {"offer": OFFER.id, "epsilon_after": 0},
            {"offer": OFFER.id, "epsilon_after": 1e9},
            {"offer": "4", "epsilon_after": 1},
            {"round": 4, "epsilon_after": 1},
            {"offer": OFFER.id, "epsilon_after": 1, "more": 1},
        ],
    )
    def test_a_wish_that_is_not_one_is_refused(self, served: Served, body: dict[str, Any]) -> None:
        served.member.participation.offered(OFFER)
        with pytest.raises(LinkError, match="not understood"):
            served.endpoint.ask("POST", "/v1/member/agree", body)
        assert not served.member.participation.ready

    def test_it_is_behind_the_guard_with_a_token_of_its_own(self, served: Served) -> None:
        thief = Endpoint(host="127.0.0.1", port=served.endpoint.port, token="x" * 43)
        for method, path in (("GET", "/v1/member"), ("POST", "/v1/member/agree"), ("GET", "/openapi.json")):
            with pytest.raises(LinkError, match="the token is missing or wrong"):
                thief.ask(method, path, {} if method == "POST" else None)
        assert served.member.metrics.http_rejected.labels("token")._value.get() == 3

    def test_its_openapi_document_names_every_route(self, served: Served) -> None:
        document = served.endpoint.ask("GET", "/openapi.json")
        names = ("", "/changes", "/ledger", "/releases", "/agree", "/withdraw", "/pause", "/resume")
        assert set(document["paths"]) == {f"/v1/member{name}" for name in names}

    def test_the_releases_and_the_ledger_are_there_to_be_drawn(self, served: Served) -> None:
        assert served.endpoint.ask("GET", "/v1/member/releases") == []
        ledger = served.endpoint.ask("GET", "/v1/member/ledger")
        assert (ledger["epsilon_spent"], ledger["rounds"]) == (0, [])


def test_a_round_waits_for_the_member_that_must_be_asked_and_runs_when_it_agrees(place: Path) -> None:
    """A real coordinator's strategy and five real members; only the wire and the training are absent."""
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        run = int(federation.run[:15], 16)
        grid = inprocess.InProcessGrid(members, run=run)
        for member in members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        wish = members["alder"].participation
        strategy = SecureFedAvg(federation)
        offered = threading.Event()

        def agree() -> None:
            while wish.offer is None:
                time.sleep(0.05)
            offered.set()
            wish.agree(Consent(offer=wish.offer.id, round=wish.offer.round, epsilon_after=8.0))

        person = threading.Thread(target=agree)
        person.start()
        assert strategy.one_round(grid) is True
        person.join()
        assert offered.is_set()
        assert wish.offer is not None
        assert (wish.offer.required, wish.offer.members) == (5, 5)
        assert [member.newest_release() for member in members.values()] == [1] * 5
        assert not wish.ready
    federation.rounds.close()
