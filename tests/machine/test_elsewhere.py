"""The member's own tests, run in a Python that lacks what Windows lacks (see lacking/sitecustomize.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="takes away what Windows lacks, here")
LACKING = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "lacking"), "OMP_NUM_THREADS": "1"}


def run_there(*arguments: str, without: str = "nothing") -> None:
    """Runs them there; they must pass, and be some."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    done = subprocess.run(
        [*command, *arguments, "-k", f"not ({without})"],
        cwd=ROOT,
        env=LACKING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_it_lacks_them() -> None:
    code = (
        "import os, socket; from sordino_platform.machine import files, processes, tree;"
        "from pathlib import Path; import json;"
        "print(json.dumps([hasattr(os, 'killpg'), hasattr(socket, 'AF_UNIX'), files.NO_LINK,"
        "processes.resource is None,"
        "type(tree.open_directory(Path('/'))).__name__]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=LACKING, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [False, False, 0, True, "NamedFolder"]


def test_a_repository_is_walked_and_its_rules_are_kept() -> None:
    # A parent that is swapped while it is walked: here the rest of it is refused (test_tree.py), and sockets of the
    # test itself.
    run_there(
        "tests/corpus/test_walk.py",
        "tests/corpus/test_gitignore.py",
        without="parent_swapped or fifos_and_sockets or git_s_own_files",
    )


def test_files_and_locks_hold() -> None:
    # A FIFO is nothing that Windows has among files; without O_NONBLOCK it would be waited for.
    places = ("tests/trust/test_durable.py", "tests/completion/test_presence.py")
    run_there(*places, without="sizes_kinds_and_absence")


@pytest.mark.slow
def test_the_ledger_s_own_tests_pass() -> None:
    # A full disk is played by a limit on files that only Unix has.
    run_there(
        "tests/ledger/test_ledger.py",
        "tests/ledger/test_machine.py",
        "tests/ledger/test_heads.py",
        without="disk_that_takes_no_more",
    )


@pytest.mark.slow
def test_a_trainer_trains_gives_way_and_is_held_to_its_memory() -> None:
    # Where no allocation is refused there is no limit to be read; test_machine.py has what is there instead.
    run_there("tests/training/test_training.py", without="lowest_priority or out_of_memory")


@pytest.mark.slow
def test_an_endpoint_serves_over_its_port_and_ends_when_told() -> None:
    run_there("tests/completion/test_serve.py")
