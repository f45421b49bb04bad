"""What the trial of a count's plan stands on: noise by share of the clusters, tables that keep what was not tried."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from sordino_client.completion.memory import shared
from sordino_client.completion.memory.shared import LAYOUT, LENGTHS
from sordino_client.laboratory.memory_fitting.field_counts import (
    FIELD_CLUSTERS,
    FIELD_SHARES,
    FIELD_SURVIVORS,
    CountSetting,
)
from sordino_client.laboratory.memory_fitting.shared_fitting import completed, summary
from sordino_privacy.counts import CountPlan


@pytest.mark.parametrize("units", [1000, 3000, FIELD_CLUSTERS])
def test_a_phrase_must_stand_in_as_large_a_share_of_the_projects_clusters_as_of_the_federations(
    units: int,
) -> None:
    setting = CountSetting()
    federation = CountPlan(
        phrases=setting.phrases,
        noise_multiplier=setting.noise_multiplier,
        largest_count=1,
        delta=1e-6,
        salt=1,
    )
    share = federation.threshold(survivors=FIELD_SURVIVORS, shares=FIELD_SHARES) / FIELD_CLUSTERS
    plan = setting.scaled(units)
    assert math.isclose(plan.threshold(survivors=1) / units, share)
    assert plan.witnesses * plan.largest_count <= plan.threshold(survivors=1)
    assert (plan.choice, plan.shortest, plan.longest) == (setting.choice, 3, 3)


def test_lengths_that_a_plan_does_not_count_keep_what_the_table_says_of_them() -> None:
    before = shared.fitted("turn")
    fitted = {part: torch.full(shape, 7.0) for part, shape in LAYOUT.items()}
    table: dict[str, Any] = completed(fitted, before, CountSetting(shortest=3, longest=4).scaled(1000))
    for part in LAYOUT:
        found = np.array(table[part])
        for place, length in enumerate((*LENGTHS, LENGTHS[-1] + 1)):
            expected = 7.0 if length in (3, 4) else np.round(before[part][place], 3)
            np.testing.assert_array_equal(found[place], np.broadcast_to(expected, found[place].shape))


def test_what_is_saved_is_told_without_the_two_that_save_most_too() -> None:
    told = summary([0.0, -0.01, 0.02, 0.5, 0.7])
    assert told["mean"] == pytest.approx(0.242)
    assert told["without_the_two_highest"] == pytest.approx(0.01 / 3, abs=1e-4)
    assert told["better"] == 0.6
