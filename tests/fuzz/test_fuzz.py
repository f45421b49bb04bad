"""Fuzzing of every decoder that a peer can reach: ten minutes with eyes in `make test-all`, a moment in `make test`."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.targets import TARGETS

from sordino_platform.charter import SignedCharter
from sordino_platform.plans import parse_plan
from sordino_privacy.errors import ConfigurationError, LinkError

SECONDS = 600
"""Of the whole run, shared among the targets. The one place where it is said."""

ROOT = Path(__file__).parents[2]
EXAMPLES = 400


@pytest.mark.parametrize("name", TARGETS)
def test_true_messages_and_a_few_broken_ones_raise_nothing_unforeseen(name: str) -> None:
    """What the fuzzer does without its eyes: it shows that each target runs, and that its seeds are whole."""
    target, dice = TARGETS[name](), random.Random(name)
    for seed in target.seeds:
        target(seed)
    for _ in range(EXAMPLES if name != "proofs" else EXAMPLES // 20):
        data = bytearray(dice.choice(target.seeds))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data) + 1)
            data[at : at + dice.choice((0, 1, 1, 4))] = dice.randbytes(dice.choice((0, 1, 1, 4)))
        target(bytes(data))


def test_a_moment_that_no_calendar_holds_in_utc_is_refused() -> None:
    """Found by fuzzing: the year 1 in a zone east of Greenwich ended the reader with an OverflowError."""
    tree = json.loads(next(s for s in TARGETS["documents"]().seeds if b'"issued_at"' in s))
    for value in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        tree["charter"]["issued_at"] = value
        with pytest.raises(ConfigurationError):
            SignedCharter.parse_unverified((json.dumps(tree, sort_keys=True, indent=1) + "\n").encode())


def test_a_plan_that_is_nested_without_end_is_refused() -> None:
    """Found by fuzzing: the JSON decoder's RecursionError passed for a bug of this side."""
    for deep in (b"[" * 60_000, b'{"a":' * 12_000):
        with pytest.raises(LinkError, match="not JSON"):
            parse_plan(deep)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_raise_what_nobody_foresaw(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is missing: `make test-all` installs it")
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.fuzz",
        name,
        str(SECONDS // len(TARGETS)),
        str(tmp_path / "run"),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    broken = [path for path in (tmp_path / "run").glob("*-*") if path.is_file()]
    found = [path.read_bytes().hex() for path in broken]
    assert not found, f"{found}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, done.stderr[-4000:]
