"""A charter of many epochs travels in one message: what fits is brought, and who lacks more is told what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from tests.federation import inprocess
from tests.federation.proposed import offer_of
from typer.testing import CliRunner

from sordino_coordinator import epochs as bringing_epochs
from sordino_coordinator.epochs import MOST_EPOCH_BYTES
from sordino_coordinator.federation import Federation
from sordino_coordinator.gathering import hello
from sordino_coordinator.up import link_limits
from sordino_platform.charter.commands import app as charter_commands
from sordino_platform.flower.codec import MAX_HEADER_BYTES
from sordino_platform.identity import Identity, authority
from sordino_platform.link import Limits
from sordino_platform.offer import OfferAnswer

EPOCHS = 3
OF_A_THOUSAND_MEMBERS = 170_000
"""Bytes of a signed charter, as one was founded: `sordino bench crowd --members 1000 --place DIR` leaves it there."""


def with_epochs(folder: Path) -> list[Path]:
    """Founds a federation; its coordinator has taken epochs that no member has. Their files."""
    inprocess.found_in(folder)
    charters = Identity.load(folder / "coordinator").charters
    for _ in range(EPOCHS):
        authority.begin_epoch(folder / "root")
        charters.accept(authority.sign_epoch(folder / "root").to_bytes())
    return sorted((folder / "coordinator" / "charters").glob("charter-*.json"))[1:]


def greeted(folder: Path) -> tuple[set[str], list[dict[str, object]]]:
    """Who is ready for the next round, and what was logged of epochs that do not fit."""
    federation = Federation.open(folder / "coordinator")
    with inprocess.opened(folder) as members, structlog.testing.capture_logs() as logs:
        grid = inprocess.InProcessGrid(members, run=7)
        nodes = list(grid.get_node_ids())
        offer = offer_of(
            federation,
            release=federation.releases.head().number,
            connected=len(nodes),
            ready=0,
            members=len(nodes),
        )
        found, _ = hello(federation, grid, nodes, offer)
    federation.rounds.close()
    return set(found), [dict(line) for line in logs if line["event"] == "epochs_do_not_fit"]


def accept(member: Path, files: list[Path]) -> None:
    done = CliRunner().invoke(charter_commands, ["accept", str(member), *map(str, files)])
    assert done.exit_code == 0, done.output


def test_the_epochs_of_a_year_fit_for_a_thousand_members_and_leave_room_for_what_goes_with_them() -> None:
    assert 52 * OF_A_THOUSAND_MEMBERS < MOST_EPOCH_BYTES <= MAX_HEADER_BYTES - (1 << 20)


def test_epochs_that_fit_are_brought_to_every_member_at_once(tmp_path: Path) -> None:
    with_epochs(tmp_path)
    names, told = greeted(tmp_path)
    assert names == set(inprocess.NAMES)
    assert told == []


def test_members_that_say_each_another_epoch_share_one_copy_of_every_one(tmp_path: Path) -> None:
    """A hundred that claim a hundred epochs each made the coordinator encode thousands of charters for one offer."""
    with_epochs(tmp_path)
    federation = Federation.open(tmp_path / "coordinator")
    behind = {
        name: OfferAnswer(member=name, release=-1, epoch=epoch, unready=None, head=b"")
        for epoch, name in enumerate(sorted(inprocess.NAMES)[: EPOCHS + 1])
    }
    brought = bringing_epochs.lacking(federation, behind)
    newest = federation.charter.epoch
    for name, answer in behind.items():
        assert brought[name] == federation.epochs(after=answer.epoch)
        assert len(brought[name]) == newest - answer.epoch
    assert len({id(one) for epochs in brought.values() for one in epochs}) == newest
    federation.rounds.close()


def test_the_link_of_a_large_charter_has_room_for_every_member_and_for_strangers() -> None:
    """Ten thousand may be in a charter; at 1,024 connections most of them never came in."""
    assert link_limits(10_000).connections > 20_000
    assert link_limits(5).connections > Limits().connections


def test_who_lacks_more_epochs_than_a_message_brings_is_left_out_with_what_to_do_and_comes_back_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_epochs(tmp_path)
    size = sum(file.stat().st_size for file in files)
    monkeypatch.setattr(bringing_epochs, "MOST_EPOCH_BYTES", size - 1)
    current, nearly, *late = sorted(inprocess.NAMES)
    accept(tmp_path / "members" / current, files)
    accept(tmp_path / "members" / nearly, files[:1])
    names, told = greeted(tmp_path)
    assert names == {current, nearly}
    assert {line["member"] for line in told} == set(late)
    for line in told:
        assert line["count"] == EPOCHS
        assert files[0].name in str(line["hint"])
        assert "sordino charter accept" in str(line["hint"])
    for member in late:
        accept(tmp_path / "members" / member, files)
    assert greeted(tmp_path) == (set(inprocess.NAMES), [])
