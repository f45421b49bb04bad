"""`sordino bench secagg`, at toy sizes: every promised figure is there and follows from rows of the same run."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from sordino_platform import cli
from sordino_platform.bench import cells, crowd, secagg

PROMISED = (
    "mask_speedup_vs_flower_22m_u32",
    "mask_fraction_of_aes_stream",
    "client_speedup_vs_flower_n5_22m",
    "server_speedup_vs_flower_n5_22m",
    "upload_bytes_per_param_n5",
    "round_seconds_100_members_2m3",
    "coordinator_rss_ratio_100_vs_5",
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "SIZES", {"2.3m": 40_000, "22m": 80_000, "124m": 90_000})
    monkeypatch.setattr(cells, "KEYSTREAM_BYTES", {"mask": 4_000_000, "unmask": 4_000_000})
    monkeypatch.setattr(crowd, "FEDERATION", 70)


@pytest.mark.usefixtures("small")
def test_the_benchmark_prints_every_promised_figure_from_rows_of_the_same_run() -> None:
    done = CliRunner().invoke(cli.as_command("secagg", secagg.secagg), ["--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert set(PROMISED) <= said.keys()
    rows = said["rows"]
    assert {name: said[name] for name in PROMISED} == {
        name: value for name, value in secagg.figures(rows).items() if name in PROMISED
    }
    assert 2.0 < said["upload_bytes_per_param_n5"] < 2.01
    masked = {
        (row["size"], row["members"], row["threads"]) for row in rows if row["what"] == "mask per round"
    }
    assert masked == {(size, n, t) for size in cells.SIZES for n in cells.COHORTS for t in cells.THREADS}
    dropped = {
        (row["size"], row["members"], row["dropped"]) for row in rows if row["what"] == "server unmask"
    }
    assert dropped == {(size, n, d) for size in cells.SIZES for n in cells.COHORTS for d in (0, n // 3)}
    rounds = [row for row in rows if row["what"] == "round of simulated members"]
    assert [(row["members"], row["exact"]) for row in rounds] == [(5, True), (70, True)]


@pytest.mark.usefixtures("small")
def test_a_row_that_measured_a_part_says_so() -> None:
    rows = [row for row in cells.unmasking("22m", 1) if row["members"] == 100 and row["dropped"]]
    assert [(row["masks"], row["masks_measured"]) for row in rows] == [(67 + 33 * 67, 20)] * 2
