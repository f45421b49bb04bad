"""The ledger counts before it spends, remembers through crashes, and notices when somebody turns it back."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sordino_client.ledger import Budget, ChainHead, DayCapError, Ledger, read_account, repository_identity
from sordino_client.ledger.chain import DATABASE, MARK, Chain
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import BudgetError, ConfigurationError, RefusalError, StorageError
from sordino_privacy.secagg.journal import JournalEntry, Step
from sordino_privacy.secagg.refusals import ReplayError, RevealError
from sordino_privacy.shared_noise import SharedNoise

PLAN = TrainingPlan(
    sampling_rate=0.1,
    noise_multiplier=1.0,
    clip_norm=0.5,
    steps=4,
    windows_per_unit=4,
    window=256,
    learning_rate=0.5,
    optimiser="sgd",
    delta=1e-6,
    expected_units=32,
)
BUDGET = Budget(epsilon=8.0, delta=1e-6)
DATA = ["repository-a"]
DAY = 24 * 3600 * 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with Ledger.open(folder, datasets=DATA, budget=BUDGET) as opened:
        yield opened


def reopen(folder: Path, **changes: object) -> Ledger:
    return Ledger.open(folder, **{"datasets": DATA, "budget": BUDGET, **changes})  # type: ignore[arg-type]


def entry(step: Step, *, attempt: int = 0, digest: bytes = b"d" * 32, epoch: int = 1) -> JournalEntry:
    update = b"" if step is Step.ADVERTISED else b"u" * 32
    return JournalEntry(
        federation="f",
        epoch=epoch,
        run="run",
        round=1,
        attempt=attempt,
        step=step,
        update=update,
        digest=digest,
    )


# Charging


def test_a_reservation_is_charged_although_nothing_was_ever_committed(ledger: Ledger, folder: Path) -> None:
    assert ledger.spent().value == 0
    ledger.reserve("run", 1, PLAN)
    spent = ledger.spent()
    assert spent.value > 1
    ledger.close()
    with reopen(folder) as again:
        assert again.spent() == spent
        assert not again.reservations()[0].committed


def test_a_commit_adds_nothing_to_the_charge(ledger: Ledger, folder: Path) -> None:
    reservation = ledger.reserve("run", 1, PLAN)
    spent = ledger.spent()
    ledger.commit(reservation)
    ledger.commit(reservation)
    assert ledger.spent() == spent
    assert len(read_account(folder).reservations) == 1
    assert ledger.head().sequence == 3  # the data set, the reservation, one commit


def test_a_round_reserved_again_after_a_crash_is_charged_once(ledger: Ledger, folder: Path) -> None:
    first = ledger.reserve("run", 1, PLAN)
    spent = ledger.spent()
    ledger.close()
    with reopen(folder) as again:
        assert again.reserve("run", 1, PLAN) == first
        assert again.spent() == spent


def test_a_round_cannot_be_reserved_again_under_another_plan(ledger: Ledger) -> None:
    ledger.reserve("run", 1, PLAN)
    with pytest.raises(RefusalError, match="another plan"):
        ledger.reserve("run", 1, replace(PLAN, noise_multiplier=0.9))


def test_an_update_that_was_never_reserved_cannot_be_committed(ledger: Ledger) -> None:
    reservation = ledger.reserve("run", 1, PLAN)
    with pytest.raises(RefusalError, match="never reserved"):
        ledger.commit(replace(reservation, round=2))


def test_rounds_compose_instead_of_adding_up(ledger: Ledger) -> None:
    ledger.reserve("run", 1, PLAN)
    one = ledger.spent().value
    for round in range(2, 7):
        ledger.reserve("run", round, PLAN)
    assert ledger.spent().value < 4 * one


def test_every_run_on_the_same_data_draws_on_one_budget(ledger: Ledger) -> None:
    ledger.reserve("run-1", 1, PLAN)
    before = ledger.spent().value
    ledger.reserve("run-2", 1, PLAN)
    assert ledger.spent().value > before


# Refusing


def test_a_run_over_the_budget_is_refused_with_its_numbers_and_charges_nothing(folder: Path) -> None:
    with reopen(folder, budget=Budget(epsilon=3.0, delta=1e-6)) as ledger:
        ledger.reserve("run", 1, PLAN)
        spent, head = ledger.spent(), ledger.head()
        with pytest.raises(BudgetError) as refusal:
            ledger.reserve("run", 2, PLAN)
        assert "of 3.00" in refusal.value.message
        assert f"{spent.value:.2f} is spent already, no such run left" in refusal.value.message
        assert 0 < spent.value <= 3.0
        assert (ledger.spent(), ledger.head()) == (spent, head)


def test_a_preview_says_what_a_run_costs_and_how_many_are_left(ledger: Ledger) -> None:
    cost = ledger.preview(PLAN)
    for round in range(cost.runs_left):
        ledger.reserve("run", round, PLAN)
    with pytest.raises(BudgetError):
        ledger.reserve("run", cost.runs_left, PLAN)
    assert str(cost).startswith(f"this run: epsilon {cost.run:.2f} of 8.00; 0.00 is spent already, ")


def test_a_coordinator_that_proposes_round_after_round_meets_the_cap_of_the_day(folder: Path) -> None:
    now = [10 * DAY]
    capped = Budget(epsilon=8.0, delta=1e-6, epsilon_per_day=3.0)
    with reopen(folder, budget=capped, clock=lambda: now[0]) as ledger:
        ledger.reserve("run", 1, PLAN)
        with pytest.raises(BudgetError, match="24 hours"):
            ledger.reserve("run", 2, PLAN)
        now[0] -= 5 * DAY  # a clock that is set back opens no new day
        with pytest.raises(BudgetError, match="24 hours"):
            ledger.reserve("run", 2, PLAN)
        now[0] += 7 * DAY
        ledger.reserve("run", 2, PLAN)


@pytest.mark.parametrize(
    "bad", [{"epsilon": 0.0}, {"epsilon": float("inf")}, {"delta": 0.5}, {"epsilon_per_day": -1.0}]
)
def test_an_impossible_budget_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Budget(**{"epsilon": 8.0, "delta": 1e-6, **bad})


def test_no_more_rounds_begin_in_a_day_than_the_owner_allows_those_given_back_included(folder: Path) -> None:
    now = [10 * DAY]
    capped = Budget(epsilon=8.0, delta=1e-6, rounds_per_day=3)
    with reopen(folder, budget=capped, clock=lambda: now[0]) as ledger:
        for round in range(3):
            ledger.reserve("run", round, PLAN)
            assert ledger.void("run", round)
        assert ledger.spent().value == 0
        with pytest.raises(DayCapError, match="3 rounds began here"):
            ledger.reserve("run", 3, PLAN)
        now[0] += DAY + 1
        ledger.reserve("run", 3, PLAN)


# Giving back


def test_a_round_of_which_nothing_left_is_given_back_for_good(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    ledger.record(entry(Step.ADVERTISED))
    assert ledger.held() == (("run", 1),)
    assert ledger.void("run", 1)
    assert not ledger.void("run", 1)
    assert ledger.spent().value == 0
    ledger.close()
    with reopen(folder) as again:
        assert again.spent().value == 0
        assert again.reservations() == ()


def test_nothing_leaves_without_a_charge(ledger: Ledger) -> None:
    ledger.record(entry(Step.ADVERTISED))
    with pytest.raises(ReplayError, match="nothing of it may leave"):
        ledger.record(entry(Step.UPLOADED))
    ledger.reserve("run", 1, PLAN)
    ledger.void("run", 1)
    with pytest.raises(ReplayError, match="nothing of it may leave"):
        ledger.record(entry(Step.UPLOADED))
    ledger.reserve("run", 1, PLAN)
    ledger.record(entry(Step.UPLOADED))


def test_what_left_or_was_about_to_is_never_given_back(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    ledger.record(entry(Step.ADVERTISED))
    ledger.record(entry(Step.UPLOADED))  # durable before the first byte: a crash right here keeps the charge
    spent = ledger.spent()
    assert ledger.held() == ()
    with pytest.raises(RefusalError, match="its charge stays"):
        ledger.void("run", 1)
    ledger.close()
    with reopen(folder) as again, pytest.raises(RefusalError, match="its charge stays"):
        again.void("run", 1)
    assert ledger.spent() == spent


def test_whether_a_round_is_affordable_does_not_count_what_will_be_given_back(folder: Path) -> None:
    with reopen(folder, budget=Budget(epsilon=3.0, delta=1e-6)) as ledger:
        ledger.reserve("run", 1, PLAN)
        head = ledger.head()
        ledger.require(PLAN, run="run", round=2)
        ledger.require(PLAN, run="run", round=1)  # charged already
        ledger.record(entry(Step.ADVERTISED))
        ledger.record(entry(Step.UPLOADED))
        with pytest.raises(BudgetError, match="no such run left"):
            ledger.require(PLAN, run="run", round=2)
        assert ledger.head().sequence == head.sequence + 2


# Formats


def test_a_ledger_of_version_1_is_taken_over_with_all_that_it_charged(tmp_path: Path) -> None:
    """The files were made by sordino 0.1 as it stood before charges could be given back."""
    old = tmp_path / "ledger"
    shutil.copytree(Path(__file__).with_name("version-1"), old)
    with reopen(old) as ledger:
        assert ledger.head().sequence == 6
        assert [(r.run, r.round, r.committed) for r in ledger.reservations()] == [
            ("run", 1, True),
            ("run", 2, False),
        ]
        assert ledger.spent().value == pytest.approx(3.27, abs=0.01)
        assert ledger.held() == (("run", 2),)
        ledger.void("run", 2)
    with sqlite3.connect(old / DATABASE) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()


def test_a_ledger_of_a_later_version_is_refused_with_what_to_do(ledger: Ledger, folder: Path) -> None:
    ledger.close()
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 4")
    connection.close()
    with pytest.raises(StorageError, match="format 4, this sordino knows 3"):
        reopen(folder)


def test_a_ledger_of_version_2_is_taken_over_and_an_older_sordino_must_not_read_it_again(
    ledger: Ledger, folder: Path
) -> None:
    ledger.reserve("run", 1, PLAN)
    spent = ledger.spent().value
    ledger.close()
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with reopen(folder) as again:
        assert (again.spent().value, again.spent_alone().value) == (spent, spent)
    with sqlite3.connect(folder / DATABASE) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()


# Noise in shares


SHARES = SharedNoise(noise_multiplier=PLAN.noise_multiplier, honest=6, members=8, dimension=1000)
ONE_STEP = replace(PLAN, steps=1)


def test_a_round_with_noise_in_shares_is_kept_in_its_two_numbers(folder: Path) -> None:
    agreed = replace(BUDGET, epsilon_if_others_collude=1000.0)
    with Ledger.open(folder, datasets=DATA, budget=agreed) as ledger:
        charged = ledger.reserve("run", 1, ONE_STEP, noise=SHARES)
        together, alone = ledger.spent().value, ledger.spent_alone().value
        assert 2 * together < alone
    with Ledger.open(folder, datasets=DATA, budget=agreed) as ledger:
        assert ledger.reservations() == (charged,)
        assert (ledger.spent().value, ledger.spent_alone().value) == (together, alone)


def test_a_round_of_local_noise_after_one_in_shares_stays_within_what_the_owner_agreed_to(
    folder: Path,
) -> None:
    with Ledger.open(
        folder, datasets=DATA, budget=replace(BUDGET, epsilon_if_others_collude=1000.0)
    ) as ledger:
        ledger.reserve("run", 1, ONE_STEP, noise=SHARES)
        alone = ledger.spent_alone().value
    with Ledger.open(
        folder, datasets=DATA, budget=replace(BUDGET, epsilon_if_others_collude=alone)
    ) as ledger:
        with pytest.raises(BudgetError, match="if all others collude"):
            ledger.reserve("run", 2, ONE_STEP)
        assert len(ledger.reservations()) == 1


# Belonging to the data


def test_a_ledger_is_refused_for_wholly_other_repositories(ledger: Ledger, folder: Path) -> None:
    ledger.close()
    with pytest.raises(ConfigurationError, match="other repositories"):
        reopen(folder, datasets=["repository-b"])
    with reopen(folder, datasets=["repository-a", "repository-b"]):
        pass
    with reopen(folder, datasets=["repository-b"]):
        pass


def test_a_repository_keeps_its_identity_when_its_files_change(tmp_path: Path) -> None:
    before = repository_identity(tmp_path)
    (tmp_path / "new.java").write_text("class New {}")
    assert repository_identity(tmp_path) == before
    assert repository_identity(tmp_path / "other") != before
    assert str(tmp_path) not in before


# Rollback, deletion, alteration


def test_a_ledger_restored_from_an_older_copy_is_refused(
    ledger: Ledger, folder: Path, tmp_path: Path
) -> None:
    ledger.reserve("run", 1, PLAN)
    ledger.close()
    shutil.copy(folder / DATABASE, tmp_path / "old")
    with reopen(folder) as again:
        again.reserve("run", 2, PLAN)
    shutil.copy(tmp_path / "old", folder / DATABASE)
    with pytest.raises(StorageError, match="rolled back: it has 2 rows and had 3"):
        reopen(folder)


def test_a_deleted_ledger_is_refused(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    ledger.close()
    (folder / DATABASE).unlink()
    with pytest.raises(StorageError, match="deleted"):
        reopen(folder)


def test_a_deleted_mark_is_refused(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    ledger.close()
    (folder / MARK).unlink()
    with pytest.raises(StorageError, match="mark was deleted"):
        reopen(folder)


def test_an_altered_row_breaks_the_chain(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    ledger.reserve("run", 2, PLAN)
    ledger.close()
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("DROP TRIGGER row_is_never_changed")
        connection.execute(
            "UPDATE row SET body = replace(body, '\"steps\":4', '\"steps\":1') WHERE sequence = 2"
        )
    connection.close()
    with pytest.raises(StorageError, match="altered at row 2"):
        reopen(folder)


def test_the_database_itself_refuses_to_change_or_remove_a_row(ledger: Ledger, folder: Path) -> None:
    ledger.close()
    connection = sqlite3.connect(folder / DATABASE)
    for statement in ("UPDATE row SET body = '{}'", "DELETE FROM row"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_a_whole_folder_restored_from_backup_is_noticed_by_the_witness(
    ledger: Ledger, folder: Path, tmp_path: Path
) -> None:
    ledger.reserve("run", 1, PLAN)
    ledger.close()
    shutil.copytree(folder, tmp_path / "backup")
    with reopen(folder) as again:
        again.reserve("run", 2, PLAN)
        witness = again.head()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    with pytest.raises(StorageError, match="rolled back"):
        reopen(folder, witness=witness)


def test_a_ledger_started_anew_is_noticed_by_the_witness(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    witness = ledger.head()
    ledger.close()
    shutil.rmtree(folder)
    with pytest.raises(StorageError, match="rolled back"):
        reopen(folder, witness=witness)
    with reopen(folder) as other:
        other.reserve("elsewhere", 1, PLAN)
    with pytest.raises(StorageError, match="replaced"):
        reopen(folder, witness=witness)
    with reopen(folder, witness=ChainHead(sequence=other.head().sequence, digest=other.head().digest)):
        pass


# Processes, crashes, full disks


def test_a_second_opening_is_refused_while_reading_stays_possible(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    with pytest.raises(StorageError, match="another process holds"):
        reopen(folder)
    assert len(read_account(folder).reservations) == 1


def test_reading_a_ledger_that_is_not_there_says_so(folder: Path) -> None:
    with pytest.raises(StorageError, match="no ledger"):
        read_account(folder)


WRITER = """
import sys
from pathlib import Path
from typing import Any
from sordino_client.ledger.chain import Chain
chain = Chain(Path(sys.argv[1]))
for number in range(10**6):
    row = chain.append("dataset", {"repositories": [str(number)]}, time=number)
    chain.mark()
    print(row.sequence, flush=True)
"""


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_what_was_durable_survives_a_kill(folder: Path, rows: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < rows:
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.communicate()[0].split()
    acknowledged = int(rest[-1]) if rest else acknowledged
    chain = Chain(folder)
    found = [row.body["repositories"] for row in chain.rows()]
    chain.close()
    # At most the row that was being acknowledged is more than was heard of.
    assert len(found) in (acknowledged, acknowledged + 1)
    assert found == [[str(number)] for number in range(len(found))]


FILLER = """
import json, resource, signal, sys
from pathlib import Path
from typing import Any
from sordino_client.ledger.chain import Chain
from sordino_privacy.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
chain = Chain(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
stored, message = 0, None
for number in range(1000):
    try:
        chain.append("dataset", {"repositories": ["x" * 4000]}, time=0)
        chain.mark()
        stored += 1
    except StorageError as error:
        message = error.message
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
chain.append("dataset", {"repositories": ["after"]}, time=0)
chain.mark()
print(json.dumps({"stored": stored, "message": message}))
"""


def test_a_disk_that_takes_no_more_refuses_the_row_keeps_the_others_and_recovers(folder: Path) -> None:
    # A limit on file size is the nearest thing to a full disk that needs no privilege.
    result = subprocess.run(
        [sys.executable, "-c", FILLER, str(folder)], capture_output=True, text=True, check=True
    )
    outcome = json.loads(result.stdout)
    assert outcome["message"] is not None
    assert outcome["stored"] > 0
    chain = Chain(folder)
    assert chain.head.sequence == outcome["stored"] + 1
    chain.close()


def test_files_are_private_to_their_owner(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


# The journal of secure aggregation


def test_the_journal_remembers_across_restarts(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    for step in (Step.ADVERTISED, Step.UPLOADED, Step.SPENT):
        ledger.record(entry(step, digest=b"r" * 32))
    ledger.close()
    with reopen(folder) as again:
        assert [e.step for e in again.entries("f", "run", 1)] == [Step.ADVERTISED, Step.UPLOADED, Step.SPENT]
        assert again.highest_epoch("f") == 1
        assert again.highest_epoch("other") == 0
        assert again.entries("f", "run", 2) == ()
        with pytest.raises(ReplayError):
            again.record(entry(Step.ADVERTISED, attempt=1))


def test_shares_are_revealed_once_even_across_a_restart(ledger: Ledger, folder: Path) -> None:
    ledger.reserve("run", 1, PLAN)
    for step in (Step.ADVERTISED, Step.UPLOADED, Step.SPENT, Step.REVEALED):
        ledger.record(entry(step))
    ledger.close()
    with reopen(folder) as again, pytest.raises(RevealError):
        again.record(entry(Step.REVEALED))


def test_a_resent_message_is_recorded_once(ledger: Ledger) -> None:
    ledger.reserve("run", 1, PLAN)
    ledger.record(entry(Step.ADVERTISED))
    ledger.record(entry(Step.UPLOADED))
    head = ledger.head()
    ledger.record(entry(Step.UPLOADED))
    assert ledger.head() == head


def test_what_the_journal_refuses_leaves_no_row(ledger: Ledger) -> None:
    head = ledger.head()
    with pytest.raises(ReplayError):
        ledger.record(entry(Step.SPENT))
    assert ledger.head() == head
