"""A ledger that was restored, deleted or copied is told that it once stood further on, by whoever kept its head."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.federation import inprocess

from sordino_client.round.heads import compare_head, signed_head
from sordino_client.round.member import Member
from sordino_coordinator.federation import Federation
from sordino_coordinator.noted import keep_ledger_head
from sordino_coordinator.round_tables import MEMBERS, SCHEMA
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.ledger_head import LedgerHead, SignedLedgerHead
from sordino_platform.offer import Unready
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError, StorageError
from sordino_privacy.signing import KeySigner, Signer

PLAN = TrainingPlan.parse(dict(inprocess.PLAN))


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("heads") / "federation"
    inprocess.found_in(folder, cohort=4)
    return folder


def one_round(place: Path, federation: Federation, number: int) -> dict[str, Unready | None]:
    """A round with constant updates; why each member was not ready for it."""
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for member in members.values():
            inprocess.store_update(member, federation, number, 0.001)
        assert SecureFedAvg(federation).one_round(grid)
    return dict(federation.unready)


def restore(elm: Path, backup: Path) -> None:
    shutil.rmtree(elm / "ledger")
    shutil.copytree(backup, elm / "ledger")


def delete(elm: Path, backup: Path) -> None:
    shutil.rmtree(elm / "ledger")


def start_another(elm: Path, backup: Path) -> None:
    """A ledger with as many rows, of another history."""
    delete(elm, backup)
    with Member.open(elm) as member:
        for round in range(20):
            member.ledger.reserve("elsewhere", round, PLAN)


@pytest.mark.parametrize("lose", [restore, delete, start_another])
def test_a_member_whose_ledger_lost_rows_is_told_and_trains_no_more(
    place: Path,
    federation: Federation,
    lose: Callable[[Path, Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elm, backup = place / "members" / "elm", tmp_path / "backup"
    with Member.open(elm):
        pass
    shutil.copytree(elm / "ledger", backup)
    assert one_round(place, federation, 1) == dict.fromkeys(inprocess.NAMES)
    # What the other rules find, the releases that name it and the machine's own file, must not be what stops it here.
    shutil.rmtree(elm / "releases")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    lose(elm, backup)
    assert one_round(place, federation, 2) == dict.fromkeys(inprocess.NAMES) | {"elm": Unready.LEDGER}
    with pytest.raises(StorageError, match="not whole") as refused, Member.open(elm):
        pass
    assert "sordino client ledger recover" in refused.value.hint
    # It had no say in which head is the newest: what the coordinator keeps is still the one from before.
    assert (
        SignedLedgerHead.parse(
            federation.rounds.heads()["elm"],
            federation="test",
            member="elm",
            public_key=federation.membership.member("elm").public_key,
        ).head.charges
        == 1
    )


def test_a_head_is_kept_only_if_its_member_signed_it_and_only_the_newest(
    federation: Federation, place: Path
) -> None:
    def head(sequence: int, *, key: Signer, generation: int = 0, member: str = "elm") -> bytes:
        made = LedgerHead(
            federation="test",
            member=member,
            generation=generation,
            sequence=sequence,
            charges=0,
            digest=bytes(32),
        )
        return SignedLedgerHead.sign(made, key).to_bytes()

    with Member.open(place / "members" / "elm") as elm:
        mine, stranger = elm.identity.signing_key, KeySigner.generate()
        for data in (b"", b"junk", head(9, key=stranger), head(9, key=mine, member="birch"), b"x" * 5000):
            keep_ledger_head(federation, "elm", data)
        assert federation.rounds.heads() == {}
        keep_ledger_head(federation, "elm", newest := head(9, key=mine))
        for data in (head(8, key=mine), head(9, key=stranger)):
            keep_ledger_head(federation, "elm", data)
        assert federation.rounds.heads() == {"elm": newest}
        keep_ledger_head(federation, "elm", later := head(3, key=mine, generation=1))
        assert federation.rounds.heads() == {"elm": later}


def test_a_member_believes_no_head_but_its_own(place: Path) -> None:
    with Member.open(place / "members" / "elm") as elm, Member.open(place / "members" / "birch") as birch:
        for round in range(3):
            birch.ledger.reserve("run", round, PLAN)
        head = signed_head(birch)
        altered = head.replace(b'"member": "birch"', b'"member": "elm"')
        for data in (head, altered, b"junk"):
            compare_head(elm, data)
        assert elm.ledger.whole


def test_a_head_says_how_many_rows_and_charges_and_no_epsilon(place: Path) -> None:
    with Member.open(place / "members" / "elm") as elm:
        elm.ledger.reserve("run", 1, PLAN)
        said = SignedLedgerHead.parse(
            signed_head(elm),
            federation="test",
            member="elm",
            public_key=elm.identity.signing_key.public_key,
        ).head
        assert (said.sequence, said.charges, said.generation) == (elm.ledger.head().sequence, 1, 0)
        assert set(LedgerHead.model_fields) == {
            "version",
            "federation",
            "member",
            "generation",
            "sequence",
            "charges",
            "digest",
            "before",
        }


def test_a_coordinators_state_from_before_heads_is_taken_over(place: Path, federation: Federation) -> None:
    federation.rounds.close()
    path = place / "coordinator" / "state.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP TABLE rounds; DROP TABLE facts; DROP TABLE members; DROP TABLE standings; DROP TABLE attendance;"
        f"{SCHEMA} {MEMBERS} PRAGMA user_version=2;"
    )
    connection.close()
    again = Federation.open(place / "coordinator")
    assert again.rounds.heads() == {}
    again.rounds.note_unready("elm", "paused")
    again.rounds.close()
    with pytest.raises(ConfigurationError):
        SignedLedgerHead.parse(b"{}", federation="test", member="elm", public_key=bytes(32))
