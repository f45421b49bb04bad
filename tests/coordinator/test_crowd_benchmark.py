"""The benchmark of many members, made small: real processes, real links, dropouts, a storm."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sordino_coordinator.crowd_benchmark.command import LEAVING, SHARE, figures, masking
from sordino_coordinator.crowd_benchmark.course import Course
from sordino_coordinator.crowd_benchmark.place import SIZES, founded
from sordino_platform.architecture import trainable_shapes
from sordino_platform.charter import shipped_model

MEMBERS = 12


@pytest.mark.slow
def test_a_crowd_completes_rounds_with_a_quarter_leaving_at_each_phase_and_comes_back_after_a_kill(
    tmp_path: Path,
) -> None:
    place = founded(tmp_path / "crowd", members=MEMBERS, size="25k")
    with Course(place) as course:
        course.start()
        course.connect()
        for leaving in (None, "share_keys", "masked_input", "survivors", "unmask"):
            row = course.round(leaving=leaving, share=0.25)
            gone = 3 if leaving in ("share_keys", "masked_input") else 0
            assert (row["outcome"], row["in_the_sum"]) == ("completed", MEMBERS - gone), row
            assert row["mb_in"] > 0
            course.connect()
        assert course.storm() > 0
        assert course.round()["outcome"] == "completed"
    assert founded(tmp_path / "crowd", members=MEMBERS, size="25k") == place


@pytest.mark.slow
def test_a_hundred_members_complete_a_round_with_a_third_leaving_at_each_phase(tmp_path: Path) -> None:
    """Real links, real sessions: what was uploaded counts, though nobody answers for it any more."""
    members, third = 100, 33
    with Course(founded(tmp_path / "crowd", members=members, size="25k")) as course:
        course.start()
        course.connect()
        for leaving in LEAVING:
            row = course.round(leaving=leaving, share=SHARE)
            counted = leaving in ("survivors", "unmask")
            assert (row["outcome"], row["left"]) == ("completed", third), row
            assert row["in_the_sum"] == members - (0 if counted else third), row
            course.connect()


def test_the_sizes_are_what_they_are_called() -> None:
    def parameters(size: str) -> int:
        adapter, embedding = SIZES[size]
        model = shipped_model(adapter_rank=adapter, embedding_rank=embedding)
        return sum(math.prod(shape) for shape in trainable_shapes(model.config()).values())

    assert [parameters(size) for size in SIZES] == [25_216, 2_187_904]


def test_a_members_masks_grow_with_the_degree_only() -> None:
    row = masking()
    assert (row["degree_256"], row["degree_1000"]) == (255, 236)
    assert row["ratio"] > 0


def test_what_was_not_measured_has_no_figure() -> None:
    rows = [{"what": "whole server", "size": "22m", "by": by, "threads": t, "median_ms": 2.0}
            for by, t in (("flower", 1), ("sordino", 2))]  # fmt: skip
    found = figures(rows, members=1000)
    assert found["round_seconds_1000_25k"] is None
    assert found["server_speedup_vs_flower_n5_22m"] == 1.0
