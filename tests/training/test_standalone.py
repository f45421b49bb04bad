"""`sordino train`: interrupted anywhere, it goes on as if it had not been; and its graph can be read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.loaded import loaded_by

from sordino_client.training import curve, standalone
from sordino_client.training.commands import clock, graph, line
from sordino_client.training.standalone import SCREENED, Report, Standalone, prepare
from sordino_client.training.subjects import StandaloneSettings
from sordino_privacy.errors import ConfigurationError, DataError, UsageError

SETTINGS = StandaloneSettings(size="2.3m", start="scratch", tokens=512 * 2, windows=1)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for folder in range(6):
        (root / f"part{folder}").mkdir()
        for file in range(3):
            lines = [
                f"def function_{folder}_{file}_{n}(x, y):\n    return x * {n + folder} + y\n"
                for n in range(20)
            ]
            (root / f"part{folder}" / f"module{file}.py").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Standalone:
    session = Standalone(tmp_path_factory.mktemp("whole"), [repository], SETTINGS, threads=1)
    session.run(lambda report: None)
    return session


def test_a_run_trains_to_its_end_and_leaves_a_graph_a_checkpoint_and_a_model_to_serve(
    finished: Standalone,
) -> None:
    assert finished.finished
    assert finished.progress.steps == 2
    assert finished.heldout[-1] < finished.heldout[0]
    assert (finished.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (finished.folder / "serving" / "CURRENT").read_text().startswith("release-000002-")
    entries = [json.loads(text) for text in (finished.folder / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["tokens"] == SETTINGS.tokens


def test_an_interrupted_run_ends_as_the_uninterrupted_one(
    finished: Standalone, repository: Path, tmp_path: Path
) -> None:
    session = Standalone(tmp_path, [repository], SETTINGS, threads=1)
    session.run(lambda report: session.stop(), checkpoint_seconds=0)
    assert session.progress.steps == 1
    again = Standalone(tmp_path, [], SETTINGS, threads=1)  # the repository is no longer needed
    assert again.progress.steps == 1
    again.run(lambda report: None)
    assert again.finished
    mine, whole = (dict(one.subject.named_parameters()) for one in (again, finished))
    assert mine.keys() == whole.keys()
    assert all(torch.equal(mine[name], whole[name]) for name in mine)
    assert again.heldout[0] == finished.heldout[0]
    assert again.heldout[-1] == finished.heldout[-1]


def test_an_interrupted_run_measures_where_it_ended(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two checkpoints: what is said after Ctrl-C is of the model that is left, not of the last checkpoint."""
    monkeypatch.setattr(standalone, "LOG_SECONDS", 0.0)
    session = Standalone(tmp_path, [repository], SETTINGS, threads=1)
    session.run(lambda report: session.stop(), checkpoint_seconds=3600)
    assert (session.progress.steps, session.finished) == (1, False)
    assert session.heldout == [session.heldout[0], session._heldout_loss()]
    measured = [e["steps"] for e in curve.read(tmp_path / "log.jsonl") if "validation" in e]
    assert measured == [0, 1]


def test_the_graph_shows_validation_from_the_first_point(finished: Standalone) -> None:
    """Measured before the first step, at no tokens: a logarithmic axis would leave it out."""
    (axes,) = curve.picture(curve.read(finished.folder / "log.jsonl")).axes
    training, validation = (np.asarray(drawn.get_xydata()) for drawn in axes.get_lines())
    places = axes.transAxes.inverted().transform(axes.transData.transform(validation))
    assert len(places) == len(finished.heldout)
    assert bool(((places >= -1e-9) & (places <= 1 + 1e-9)).all())
    assert validation[0, 0] == 0
    assert training[:, 0].min() > 0


def test_a_folder_with_another_run_is_refused(finished: Standalone, repository: Path) -> None:
    other = StandaloneSettings(size="2.3m", start="scratch", tokens=512 * 8, windows=1)
    with pytest.raises(ConfigurationError, match="other settings"):
        Standalone(finished.folder, [repository], other)


def test_a_run_whose_files_other_rules_screened_is_refused(tmp_path: Path, repository: Path) -> None:
    prepare(tmp_path, [repository], SETTINGS)
    prepare(tmp_path, [], SETTINGS)
    (tmp_path / SCREENED).unlink()  # as before literals were masked
    with pytest.raises(ConfigurationError, match="rules about credentials"):
        prepare(tmp_path, [], SETTINGS)


def test_bad_input_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no size"):
        StandaloneSettings(size="7b", start="scratch", tokens=1)
    with pytest.raises(UsageError, match="scratch"):
        StandaloneSettings(size="2.3m", start="elsewhere", tokens=1)
    with pytest.raises(UsageError, match="repository"):
        Standalone(tmp_path / "none", [], SETTINGS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        Standalone(tmp_path / "run", [tmp_path / "empty"], SETTINGS)


def test_the_command_loads_without_torch() -> None:
    assert not loaded_by("sordino_client.training.commands") & {"torch", "matplotlib"}


def test_the_graph_falls_when_the_loss_falls() -> None:
    lines = graph([4.0, 3.0, 2.0, 1.0], rows=2, columns=4)
    assert lines == ["  4.00 ┤█▃  ", "  2.50 ┤██▆▁"]
    assert graph([]) == []
    assert len(graph([1.0] * 5, rows=3)) == 3
    assert all(len(text) <= 8 + 10 for text in graph([float(n) for n in range(1000)], columns=10))


def test_a_report_says_rate_and_time_left() -> None:
    report = Report(
        steps=3,
        tokens=50,
        of_tokens=200,
        loss=2.5,
        heldout=math.nan,
        tokens_per_second=1234.5,
        seconds_left=3723,
    )
    assert line(report) == "step 3  25 %  loss 2.500  held out nan  1,234 tokens/s  1:02:03 left"
    assert clock(59.2) == "1:00"
