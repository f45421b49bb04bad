"""Memory is bounded: by one message at a member, and hardly grows at the coordinator, whatever comes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MB = 1_000_000
UPDATE = 92_000_000 // 256 * 256
"""Bytes of the largest update: 23 million float32."""


def measured(members: int, size: int, direction: str) -> dict[str, int]:
    """Bytes by which the coordinator's and the members' memory rose."""
    command = [sys.executable, "-m", "tests.link.measure", "coordinator"]
    arguments = [str(members), str(size), direction]
    done = subprocess.run([*command, *arguments], cwd=ROOT, check=True, capture_output=True, timeout=280)
    figures: dict[str, int] = json.loads(done.stdout)
    print(f"{members} x {size / MB:.0f} MB {direction}:", {k: v / MB for k, v in figures.items()})
    return figures


def test_92_mb_down_costs_the_sender_nothing_and_the_receiver_one_copy() -> None:
    grown = measured(1, UPDATE, "down")
    assert grown["coordinator"] < 16 * MB
    assert UPDATE < grown["members"] < UPDATE + 32 * MB


def test_92_mb_up_costs_neither_side_any_memory() -> None:
    grown = measured(1, UPDATE, "up")
    assert grown["coordinator"] < 16 * MB
    assert grown["members"] < 32 * MB


@pytest.mark.slow
def test_one_model_for_many_members_is_in_memory_once() -> None:
    assert measured(8, 20 * MB // 256 * 256, "down")["coordinator"] < 8 * 2 * MB


def test_many_uploads_at_once_lie_on_disk() -> None:
    size, members = 8 * MB // 256 * 256, 20
    grown = measured(members, size, "up")
    # What HTTP/2 lets a peer send ahead (1 to 1.6 MB measured).
    assert grown["coordinator"] < members * 3 * MB < members * size


@pytest.mark.slow
def test_two_hundred_members_at_once_fit_into_three_threads_and_little_memory() -> None:
    grown = measured(200, 100_096, "up")
    assert grown["coordinator"] < 100 * MB
    assert grown["threads"] <= 4
