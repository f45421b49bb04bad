"""A budget belongs to the data: what one machine notices, and what `client ledger recover` charges."""

from __future__ import annotations

import json
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.federation import inprocess
from tests.federation.test_charging import module

from sordino_client import doctor
from sordino_client.corpus.origin import origins
from sordino_client.ledger import Budget, Ledger, LedgerRefusesError, Witness
from sordino_client.ledger.machine import FILE, TEXTS, LedgerRecord, Machine, machine_folder
from sordino_client.ledger.witness import keep, kept
from sordino_client.recovery import recover
from sordino_client.round.member import Member
from sordino_client.settings import BUDGET_DELTA
from sordino_coordinator.federation import Federation
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.charter import PrivacyPolicy
from sordino_platform.identity import Identity
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError, RefusalError, StorageError
from sordino_privacy.secagg.journal import JournalEntry, Step

PLAN = TrainingPlan.parse(dict(inprocess.PLAN))


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("machine") / "federation"
    inprocess.found_in(folder, cohort=4, of_members={"minimum_units": 4, "heldout_share": 0.0})
    return folder


def write_code(folder: Path, numbers: range) -> Path:
    for number in numbers:
        (folder / f"part{number}").mkdir(parents=True, exist_ok=True)
        (folder / f"part{number}" / "module.py").write_text(module(number))
    return folder


def set_code(member: Path, code: Path) -> None:
    settings = member / "member.toml"
    lines = [
        f"repositories = {json.dumps([str(code)])}" if line.startswith("repositories") else line
        for line in settings.read_text().splitlines()
    ]
    settings.write_text("\n".join(lines) + "\n")


def spend(ledger: Ledger, round: int, *, run: str = "run") -> None:
    """A round that was uploaded: charged for good."""
    ledger.reserve(run, round, PLAN)
    for step in (Step.ADVERTISED, Step.UPLOADED):
        ledger.record(
            JournalEntry(
                federation="test",
                epoch=1,
                run=run,
                round=round,
                attempt=0,
                step=step,
                update=b"" if step is Step.ADVERTISED else b"u" * 32,
                digest=b"d" * 32,
            )
        )


def spent(events: int, worst: int = 0) -> float:
    """Epsilon of so many rounds of the plan, and so many at the worst that the charter allows."""
    policy = PrivacyPolicy()
    dearest = SampledGaussian(
        sampling_rate=policy.largest_sampling_rate,
        noise_multiplier=policy.smallest_noise_multiplier,
        steps=policy.largest_steps,
    )
    return epsilon([SampledGaussian.of(PLAN)] * events + [dearest] * worst, BUDGET_DELTA).value


def restore(elm: Path, backup: Path) -> None:
    shutil.rmtree(elm)
    shutil.copytree(backup, elm)


def delete_ledger(elm: Path, backup: Path) -> None:
    shutil.rmtree(elm / "ledger")


def delete_all_but_identity(elm: Path, backup: Path) -> None:
    for name in ("ledger", "corpus", "releases", "round"):
        shutil.rmtree(elm / name, ignore_errors=True)


@pytest.mark.parametrize("lose", [restore, delete_ledger, delete_all_but_identity])
def test_a_folder_that_was_restored_or_deleted_is_noticed_by_the_machine_and_recovered_exactly(
    place: Path, lose: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    """As it was found: restored, 2.985 instead of 4.111; deleted, 0.0."""
    elm, backup = place / "members" / "elm", tmp_path / "backup"
    with Member.open(elm) as member:
        spend(member.ledger, 1)
    shutil.copytree(elm, backup)
    with Member.open(elm) as member:
        spend(member.ledger, 2)
        spend(member.ledger, 3)
        before = member.epsilon_spent()
    lose(elm, backup)
    with pytest.raises(StorageError) as refused, Member.open(elm):
        pass
    assert "sordino client ledger recover" in refused.value.hint
    done = recover(elm)
    assert (done.named, done.counted) == (0, 0)
    assert done.known in (2, 3)
    assert done.after == before == spent(3)
    assert recover(elm).after == before, "a second recovery charges nothing more"
    with Member.open(elm) as member:
        assert member.epsilon_spent() == before
        spend(member.ledger, 4)


def test_what_was_held_when_a_ledger_is_recovered_is_never_given_back(place: Path, tmp_path: Path) -> None:
    """The backup says that nothing of the round has left; the row that said otherwise is among the lost."""
    elm, backup = place / "members" / "elm", tmp_path / "backup"
    with Member.open(elm) as member:
        held = member.ledger.reserve("run", 1, PLAN)
    shutil.copytree(elm, backup)
    with Member.open(elm) as member:
        member.ledger.record(
            JournalEntry(
                federation="test",
                epoch=1,
                run="run",
                round=1,
                attempt=0,
                step=Step.UPLOADED,
                update=bytes(32),
                digest=bytes(32),
            )
        )
        before = member.epsilon_spent()
    restore(elm, backup)
    recover(elm)
    with Member.open(elm) as member:
        assert not member.ledger.held()
        with pytest.raises(RefusalError, match="its charge stays"):
            member.ledger.void(held.run, held.round)
        assert member.epsilon_spent() == before


def test_of_two_copies_of_a_folder_only_the_one_that_was_there_first_may_run(place: Path) -> None:
    elm, copy = place / "members" / "elm", place / "copy"
    with Member.open(elm) as member:
        spend(member.ledger, 1)
    shutil.copytree(elm, copy)
    with pytest.raises(StorageError, match="copy of the ledger in"), Member.open(copy):
        pass
    with Member.open(elm):
        pass
    shutil.rmtree(elm)  # it was moved, then
    with Member.open(copy) as member:
        assert member.epsilon_spent() == spent(1)


def test_two_members_folders_on_one_repository_have_one_budget(place: Path, tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", range(8))
    other = shutil.copytree(code, tmp_path / "clone")  # another folder, the same code but for one file
    (other / "part0" / "module.py").write_text(module(99))
    elm, birch = place / "members" / "elm", place / "members" / "birch"
    set_code(elm, code)
    set_code(birch, other)
    with Member.open(elm) as member:
        member.prepared(window=64)
        spend(member.ledger, 1)
    with (
        Member.open(birch) as member,
        pytest.raises(ConfigurationError, match="has a budget already") as refused,
    ):
        member.prepared(window=64)
    assert "one member name all repositories" in refused.value.hint
    shutil.rmtree(elm)
    with Member.open(birch) as member, pytest.raises(ConfigurationError, match="which is gone"):
        member.prepared(window=64)
    assert recover(birch).known == 1
    with Member.open(birch) as member:
        member.prepared(window=64)
        assert member.epsilon_spent() == spent(1)


def test_members_on_other_code_have_budgets_of_their_own(place: Path, tmp_path: Path) -> None:
    for name, numbers in (("elm", range(8)), ("birch", range(8, 16))):
        set_code(place / "members" / name, write_code(tmp_path / name, numbers))
        with Member.open(place / "members" / name) as member:
            member.prepared(window=64)


def git(folder: Path, *words: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True, env=environment)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_repository_is_known_by_its_first_commit_whatever_became_of_its_files(tmp_path: Path) -> None:
    first, second = write_code(tmp_path / "first", range(4)), tmp_path / "second"
    git(first, "init", "-q")
    git(first, "add", ".")
    git(first, "commit", "-qm", "one")
    git(tmp_path, "clone", "-q", str(first), str(second))
    write_code(second, range(4, 8))
    git(second, "rm", "-qr", *[f"part{number}" for number in range(4)])
    git(second, "add", ".")
    git(second, "commit", "-qm", "all other files")
    assert origins([first]) == origins([second]) != ()
    assert origins([first / "part0"]) == (), "a part of a repository is other data than another part"
    assert origins([tmp_path]) == ()
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{second}", str(tmp_path / "shallow"))
    assert origins([tmp_path / "shallow"]) == ()
    record = LedgerRecord(ledger=bytes(32), folder="/x", generation=0, origins=origins([first]))
    assert record.same_data(origins([second]), [])


def test_a_repository_cannot_make_git_run_anything(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = write_code(tmp_path / "evil", range(2))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'sprung'}\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "diff.external"):
        git(folder, "config", name, str(trap))
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (folder / ".git" / "hooks").mkdir(exist_ok=True)
        shutil.copy(trap, folder / ".git" / "hooks" / hook)
    assert len(origins([folder])) == 1
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("texts", "shared", "same"),
    [(5000, 5000, True), (5000, 1000, True), (5000, 100, False), (40, 5, True), (40, 3, False), (3, 3, True)],
)
def test_a_tenth_of_the_texts_in_common_is_the_same_data(texts: int, shared: int, same: bool) -> None:
    """Also where both are known by a sample only."""
    draw = random.Random(texts + shared)
    common = [draw.randbytes(8).hex() for _ in range(shared)]
    mine, theirs = (common + [draw.randbytes(8).hex() for _ in range(texts - shared)] for _ in range(2))
    record = LedgerRecord(ledger=bytes(32), folder="/x", generation=0, texts=tuple(sorted(theirs)[:TEXTS]))
    assert record.same_data([], mine) is same


@pytest.fixture
def federation(place: Path) -> Iterator[Federation]:
    opened = Federation.open(place / "coordinator")
    yield opened
    opened.rounds.close()


def run_rounds(place: Path, federation: Federation, *numbers: int) -> None:
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for number in numbers:
            for member in members.values():
                inprocess.store_update(member, federation, number, 0.001)
            assert SecureFedAvg(federation).one_round(grid)


def test_a_ledger_that_knows_less_than_its_members_releases_does_not_open(
    place: Path, federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, with a coordinator that withholds the head: the releases are enough."""
    run_rounds(place, federation, 1, 2)
    elm = place / "members" / "elm"
    with Member.open(elm) as member:
        assert member.epsilon_spent() == spent(2)
    shutil.rmtree(elm / "ledger")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    with (
        pytest.raises(StorageError, match="2 releases were made") as refused,
        Member.open(elm),
    ):
        pass
    assert "sordino client ledger recover" in refused.value.hint
    with pytest.raises(StorageError, match="not charged"):
        doctor.ledger(elm, Identity.load(elm))
    done = recover(elm)
    assert doctor.ledger(elm, Identity.load(elm)).startswith("whole: 2 rounds")
    assert (done.known, done.named, done.counted) == (0, 2, 0)
    assert done.after == spent(0, worst=2) > spent(2)
    with Member.open(elm) as member:
        assert member.epsilon_spent() == done.after


def test_what_only_a_head_counted_is_charged_at_the_worst_and_the_member_goes_on(
    place: Path, federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds that were uploaded and never released: no release names them, and the machine is another."""
    elm, backup = place / "members" / "elm", tmp_path / "backup"
    with Member.open(elm) as member:
        for round in range(1, 5):
            spend(member.ledger, round)
    shutil.copytree(elm, backup)
    with Member.open(elm) as member:
        spend(member.ledger, 5)
        witness = member.ledger.stands()
    restore(elm, backup)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    with Member.open(elm) as member:
        member.ledger.compare_with(witness)
        with pytest.raises(StorageError, match="not whole"):
            member.ledger.reserve("run", 9, PLAN)
    with pytest.raises(StorageError, match="not whole"), Member.open(elm):
        pass
    done = recover(elm)
    # The newest row on which both certainly agree lies a few rows back: at most two rounds too many are charged.
    assert (done.known, done.named) == (0, 0)
    assert 1 <= done.counted <= 3
    with Member.open(elm) as member:
        member.ledger.compare_with(witness)  # it contradicts no more
        member.ledger.require_whole()
        assert member.ledger.stands().age > witness.age


@pytest.mark.parametrize("forked", [False, True])
@pytest.mark.parametrize("left", range(7))
def test_recovery_never_charges_less_than_was_lost(tmp_path: Path, left: int, forked: bool) -> None:
    """A ledger of six uploaded rounds falls back to `left` of them; a fork then goes its own way for a while."""
    budget = Budget(epsilon=1000.0, delta=1e-6)

    def opened(**options: Any) -> Ledger:
        return Ledger.open(tmp_path / "ledger", datasets=["data"], budget=budget, **options)

    with opened() as ledger:
        for round in range(left):
            spend(ledger, round)
    shutil.copytree(tmp_path / "ledger", tmp_path / "old")
    with opened() as ledger:
        for round in range(left, 6):
            spend(ledger, round)
        witness = ledger.stands()
    shutil.rmtree(tmp_path / "ledger")
    shutil.move(tmp_path / "old", tmp_path / "ledger")
    own = range(100, 110) if forked else range(0)
    with opened() as ledger:
        for round in own:
            spend(ledger, round)
        contradicted = ledger.contradiction(witness) is not None
        certain = ledger.firm_by(ledger.agrees(witness))
        missing = max(0, witness.charges - len(certain))
        assert contradicted is (left < 6)
        assert certain <= {("run", round) for round in range(left)}
        assert missing >= 6 - left


def test_a_witness_survives_its_file(tmp_path: Path) -> None:
    witness = Witness(generation=1, sequence=9, digest=b"d" * 32, charges=4, before=((8, b"e" * 32),))
    keep(tmp_path, witness)
    assert kept(tmp_path) == witness


def test_the_file_of_budgets_is_private_and_names_no_file_of_the_code(place: Path, tmp_path: Path) -> None:
    set_code(place / "members" / "elm", write_code(tmp_path / "code", range(8)))
    with Member.open(place / "members" / "elm") as member:
        member.prepared(window=64)
    path = machine_folder() / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "part0" not in path.read_text()
    assert len(Machine(machine_folder()).records()) == 1
    path.write_text("{}")
    with pytest.raises(LedgerRefusesError, match="canonical form"), Member.open(place / "members" / "elm"):
        pass


def test_the_command_says_what_it_charged(place: Path) -> None:
    elm = place / "members" / "elm"
    with Member.open(elm) as member:
        spend(member.ledger, 1)
    shutil.rmtree(elm / "ledger")
    command = [
        sys.executable,
        "-P",
        "-m",
        "sordino_platform.cli",
        "client",
        "ledger",
        "recover",
        "-f",
        str(elm),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "charged anew: 1 rounds as this machine knew them, 0 that releases name and 0"
    )
    facts = json.loads(
        subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    )
    assert facts["before"] == facts["after"] == pytest.approx(spent(1))
