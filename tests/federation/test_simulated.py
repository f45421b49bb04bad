"""`sordino simulate`: how code is split, what bounds the driver, what is refused on Flower's engines; one real run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation import inprocess

from sordino_client.laboratory.simulation.code import FEWEST_FILES, CodeText, split
from sordino_client.laboratory.simulation.command import RoundsMissingError, require_rounds, run
from sordino_client.laboratory.simulation.engine import SimulationRun, app_folder
from sordino_client.laboratory.simulation.place import smallest_cohort
from sordino_client.laboratory.written import write_texts
from sordino_client.round.addressee import is_virtual
from sordino_client.round.member import Member
from sordino_coordinator import app as server
from sordino_coordinator.boundary import Answered
from sordino_coordinator.exchange import UNDER_WAY, exchange
from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.stock_grid import StockGrid, content_bytes
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.charter import FloorTerms, RenewalTerms
from sordino_platform.flower import shim
from sordino_platform.flower.phases import Phase, pack
from sordino_platform.identity import Identity, authority
from sordino_platform.identity.renewal import RenewalBox, renewal_authority
from sordino_platform.link import Direction
from sordino_platform.machine.processes import processes_marked
from sordino_privacy.errors import ConfigurationError, DataError, LinkError


def repositories(*sizes: int) -> dict[str, list[CodeText]]:
    return {
        f"repo-{number}": [
            CodeText(path=f"p{at // 10}/f{at}.py", text=f"{number} {at}") for at in range(size)
        ]
        for number, size in enumerate(sizes)
    }


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(6, 200), min_size=2, max_size=6), members=st.integers(5, 30))
def test_no_file_is_two_members_and_no_member_has_a_file_that_measures(
    sizes: list[int], members: int
) -> None:
    try:
        shares = split(repositories(*sizes), members=members)
    except DataError:
        return
    assert len(shares.members) == members
    held = [file for share in shares.members for file in share]
    measuring = [file for files in shares.heldout.values() for file in files]
    assert len({id(file) for file in held}) == len(held)
    assert not {id(file) for file in held} & {id(file) for file in measuring}
    assert measuring
    assert all(len(share) >= FEWEST_FILES for share in shares.members)
    assert all(len({file.text.split()[0] for file in share}) == 1 for share in shares.members), (
        "of one repository"
    )
    assert split(repositories(*sizes), members=members) == shares


def test_too_few_files_and_one_repository_alone_are_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match="would have 3 files each") as caught:
        split(repositories(200, 100, 20), members=80)
    assert "--repo" in caught.value.hint or "fewer members" in caught.value.hint
    with pytest.raises(DataError, match="nothing is left to measure"):
        split(repositories(200), members=5)
    with pytest.raises(DataError, match="leads out"):
        write_texts(Path("/nowhere"), {"../x.py": ""})


@pytest.mark.parametrize("members", [5, 6, 10, 50, 300, 1000])
def test_every_number_of_members_has_a_cohort_that_the_charter_takes(members: int) -> None:
    cohort = smallest_cohort(members)
    assert cohort <= members
    FloorTerms(cohort=cohort)


@dataclass(slots=True)
class Silent:
    """What Flower's grids share: messages are kept until they are answered. Answers one that waits at a time; nodes
    below `mute` never answer."""

    mute: int = 0
    waiting: dict[str, Message] = field(default_factory=dict)
    most: int = 0
    run: object = None

    def get_node_ids(self) -> Iterable[int]:
        return []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            ids.append(shim.stamp(message))
            self.waiting[ids[-1]] = message
            self.most = max(self.most, len(self.waiting))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        able = [
            number
            for number in message_ids
            if number in self.waiting and self.waiting[number].metadata.dst_node_id >= self.mute
        ]
        if not able:
            return []
        message = self.waiting.pop(able[0])
        return [Message(pack({"said": 1}), reply_to=message)]


def test_a_stock_grid_holds_no_more_messages_than_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    shim.identify(run=7, node=shim.COORDINATOR_NODE)
    counted: dict[Direction, int] = {}

    def count(direction: Direction, kind: str, size: int) -> None:
        assert kind == Phase.RESULT.message_type
        counted[direction] = counted.get(direction, 0) + size

    inner = Silent()
    grid = StockGrid(inner, count=count)  # type: ignore[arg-type]  # the four methods that are used
    nodes = {f"member-{number}": number + 10 for number in range(500)}
    content = pack({"model": bytes(1000)})
    answers = list(
        exchange(
            grid,
            nodes,
            lambda _: content,
            lambda answer: answer.fields.drop(),
            message_type=Phase.RESULT.message_type,
            round=1,
            seconds=60_000.0,
            reply_bytes=lambda _: 100,
        )
    )
    assert {item.member for item in answers} == set(nodes)
    assert inner.most == UNDER_WAY
    assert counted[Direction.SENT] == 500 * content_bytes(Message(content, 11, Phase.RESULT.message_type))
    assert counted[Direction.SENT] >= 500 * 1000


def test_whoever_is_silent_keeps_nobody_else_from_being_asked() -> None:
    shim.identify(run=7, node=shim.COORDINATOR_NODE)
    silent, members = UNDER_WAY + 10, 3 * UNDER_WAY
    grid = StockGrid(Silent(mute=silent), count=lambda *_: None)  # type: ignore[arg-type]
    answers = exchange(
        grid,
        {f"member-{node:03d}": node for node in range(members)},
        lambda _: pack({"a": 1}),
        lambda answer: answer.fields.drop(),
        message_type=Phase.RESULT.message_type,
        round=1,
        seconds=4.0,
        reply_bytes=lambda _: 100,
    )
    assert sum(isinstance(item, Answered) for item in answers) == members - silent


def test_a_charter_that_needs_our_link_is_refused_on_flowers_engines_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = tmp_path / "federation", datetime.now(UTC)
    inprocess.found_in(folder)
    box = RenewalBox(folder / "coordinator")
    authority.begin_epoch(
        folder / "root", renewals=RenewalTerms(authority=renewal_authority(box.make_authority(now)))
    )
    epoch = authority.sign_epoch(folder / "root").to_bytes()
    Identity.load(folder / "coordinator").charters.accept(epoch)
    # It would change how every later test of this process logs.
    monkeypatch.setattr(server, "configure_logging", lambda path: None)
    grid, context = Silent(), shim.new_context(run=7, node=1, run_config={"federation-folder": str(folder)})
    with pytest.raises(ConfigurationError, match="renews members' certificates over their link") as caught:
        server.app(grid, context)  # type: ignore[arg-type]  # the methods that are used
    assert "sordino coordinator up" in caught.value.hint
    assert grid.most == 0


def virtual(partition: int) -> Context:
    context = shim.new_context(run=7, node=partition + 10, run_config={})
    context.node_config = {"partition-id": partition, "num-partitions": 5}
    return context


def test_a_virtual_members_session_is_in_its_folder_and_not_in_flowers_state(tmp_path: Path) -> None:
    """A thousand sessions in the process that holds the coordinator would be half a gigabyte of it."""
    folder = tmp_path / "federation"
    inprocess.found_in(folder)
    federation = Federation.open(folder / "coordinator")
    contexts = {name: virtual(number) for number, name in enumerate(sorted(inprocess.NAMES))}
    with inprocess.opened(folder) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        grid._contexts = contexts
        told = list[tuple[str, bool]]()
        grid.on_message = lambda kind: told.append((kind, any(map(in_folder, members.values()))))
        for member in members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        SecureFedAvg(federation).one_round(grid)
        assert federation.rounds.rounds()[-1].outcome is Outcome.COMPLETED
        assert (Phase.UPLOAD.message_type, True) in told
        assert not any(map(in_folder, members.values())), "and it is gone when the round is over"
    assert all(not context.state for context in contexts.values())
    (own := virtual(0)).node_config["member-folder"] = str(folder)
    assert not is_virtual(own), "a node with a member of its own keeps its secrets in memory"


def in_folder(member: Member) -> bool:
    return (member.folder / "session.bin").exists()


def test_a_simulation_that_ends_without_its_rounds_says_why_and_is_no_success() -> None:
    require_rounds(3, of=3, reason="")
    with pytest.raises(RoundsMissingError, match="ended after 1 of 3 rounds: too few members") as caught:
        require_rounds(1, of=3, reason="too few members")
    assert caught.value.exit_code == 11
    assert "--place" in caught.value.hint


def test_the_app_that_is_run_names_both_apps() -> None:
    text = (app_folder() / "pyproject.toml").read_text()
    for name in ("sordino_coordinator.app:app", "sordino_client.round.app:app"):
        assert name in text


def test_a_cluster_that_does_not_answer_is_said_before_anything_is_founded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{unused.getsockname()[1]}")
        engine = SimulationRun(folder=tmp_path / "place", members=5, workers=1)
        with pytest.raises(LinkError, match=r"no Ray cluster answers at 127\.0\.0\.1") as caught:
            engine.require()
        assert "unset RAY_ADDRESS" in caught.value.hint
        with pytest.raises(LinkError, match="no Ray cluster answers"):
            run(
                tmp_path / "place",
                members=5,
                rounds=1,
                repositories=[],
                rank=1,
                workers=1,
                seconds=60.0,
                cache=None,
            )
    assert not (tmp_path / "place").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_where_ray_cannot_start_the_simulation_ends_with_what_ray_said(tmp_path: Path) -> None:
    """And not when the hours that it may take are over: Flower's driver goes on, and its coordinator waits."""
    place, nowhere = tmp_path / "place", tmp_path / "a file"
    nowhere.write_text("no folder")
    command = [
        sys.executable,
        "-P",
        "-m",
        "sordino_platform.cli",
        "simulate",
        "--members",
        "5",
        "--place",
        str(place),
    ]
    command += ["--repo", str(ROOT / "platform"), "--repo", str(ROOT / "tests"), "--hours", "10"]
    done = subprocess.run(
        command,
        env={**os.environ, "RAY_TMPDIR": str(nowhere)},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode != 0
    assert "Ray did not start" in done.stderr, done.stderr[-2000:]
    assert "RAY_TMPDIR" in done.stderr
    assert processes_marked("FLWR_HOME", str(place / "flower")) == {}


ROOT = Path(__file__).parents[2]
REPOSITORIES = ("platform", "client/sordino_client", "coordinator", "privacy", "tests")


def simulated(place: Path, *, members: int) -> tuple[dict[str, Any], str]:
    """What `sordino simulate` says of one round, and what it said while it waited."""
    words = [word for name in REPOSITORIES for word in ("--repo", str(ROOT / name))]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sordino_platform.cli", "simulate", "--members", str(members), *words, "--json",
         "--place", str(place)],
        capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_twenty_and_a_hundred_virtual_members_complete_a_round_in_a_driver_of_the_same_size(
    tmp_path: Path,
) -> None:
    reports = {}
    for members in (20, 100):
        report, said = simulated(tmp_path / str(members), members=members)
        reports[members] = report
        assert (report["members"], report["rounds_completed"], report["members_in_the_last_sum"]) == (
            members,
            1,
            members,
        )
        gain = report["loss_before_nats_per_token"] - report["loss_after_nats_per_token"]
        assert report["gain_nats_per_token"] == gain
        assert 0 < report["epsilon_spent_at_most"] <= report["epsilon_budget"]
        assert report["bytes_from_a_member_and_round"] > 2 * report["parameters"]
        assert "round 1: completed" in said
        files = [path for path in (tmp_path / str(members) / "members").rglob("*") if path.is_file()]
        assert (
            sum(path.stat().st_size for path in files) < 3_000_000 * members
        )  # no model to serve among them
        print(json.dumps(report))
    assert reports[100]["driver_peak_mb"] < 1.25 * reports[20]["driver_peak_mb"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_simulation_that_is_told_to_end_leaves_no_process_behind(tmp_path: Path) -> None:
    home = tmp_path / "place" / "flower"
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "simulate", "--members", "5"]
    command += ["--repo", str(ROOT / "platform"), "--repo", str(ROOT / "tests"), "--place", str(home.parent)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not any("raylet" in words for words in processes_marked("FLWR_HOME", str(home)).values()):
        assert time.monotonic() < deadline, "Ray did not start"
        assert process.poll() is None
        time.sleep(0.5)
    process.terminate()
    assert process.wait(120) != 0
    assert processes_marked("FLWR_HOME", str(home)) == {}
