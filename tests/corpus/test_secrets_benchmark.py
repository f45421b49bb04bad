"""The rules hold what the benchmark says of them: on credentials that a generator plants, and on real code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sordino_client.laboratory.secrets_benchmark import recall
from sordino_client.laboratory.secrets_benchmark.commands import secrets
from sordino_client.laboratory.secrets_benchmark.planted import Planted, plant, write
from sordino_privacy.errors import DataError

SEED = 1301  # not the one that the figures in the documents were measured with


@pytest.fixture(scope="module")
def planted() -> list[Planted]:
    return list(plant(seed=SEED, contexts_per_pair=1))


def test_at_least_forty_kinds_stand_in_at_least_twelve_languages(planted: list[Planted]) -> None:
    assert len({file.kind for file in planted}) >= 40
    assert len({file.language for file in planted}) >= 12
    assert len({(file.kind, file.language) for file in planted}) >= 40 * 12
    assert len({file.path for file in planted}) == len(planted)
    assert 0.3 < sum(file.heldout for file in planted) / len(planted) < 0.9


def test_a_seed_gives_the_same_files_and_another_seed_other_values(planted: list[Planted]) -> None:
    assert list(plant(seed=SEED, contexts_per_pair=1)) == planted
    other = {file.secret for file in plant(seed=SEED + 1, contexts_per_pair=1)}
    assert len(other & {file.secret for file in planted}) < 5


def test_every_planted_file_holds_its_credential(planted: list[Planted]) -> None:
    assert not [file.path for file in planted if file.secret not in file.text]


def test_what_is_planted_is_caught_and_real_code_is_kept(planted: list[Planted]) -> None:
    app = typer.Typer()
    app.command()(secrets)
    arguments = ["--seed", str(SEED), "--contexts", "1", "--lines", "60000", "--no-peers", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["recall"] >= 0.97
    assert found["recall_held_out"] >= 0.97
    assert found["recall_new_languages"] >= 0.97
    assert found["recall_worst_kind"] >= 0.9
    # What is caught is masked, and its file kept, unless the file is hardly anything else.
    assert found["planted_files_left_out"] < 0.15 * len(planted)
    assert found["real_lines"] >= 60_000
    assert found["files_wrongly_left_out_per_1000"] <= 1000 / 500
    assert found["literals_masked_per_1000"] < 1500
    assert found["lines_per_second"] > 0
    assert found["peers"] == {}


def test_a_planted_file_that_was_never_looked_at_does_not_count_as_caught(tmp_path: Path) -> None:
    (file,) = [file for file in plant(seed=SEED, contexts_per_pair=1) if file.path.startswith("go/jwt/")]
    write([file], tmp_path)
    (tmp_path / file.path).write_bytes(b"\0" * 100)
    (tmp_path / "other.py").write_text("x = 1\n" * 20)
    with pytest.raises(DataError, match="other reasons"):
        recall.read([file], tmp_path)


def test_a_piece_of_eight_characters_is_enough_to_say_that_it_survived() -> None:
    assert recall.survives("abcdefghij", "x bcdefghi y")
    assert not recall.survives("abcdefghij", "x bcdefgh y")
    assert recall.survives("abc", "xabcx")
