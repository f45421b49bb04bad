"""Marks of tests that need more than Python: a folder's tests of such a mark run where somebody asks for it."""

from __future__ import annotations

import pytest


def leave_out(mark: str, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Takes the tests of that mark out of `items`, unless it stands in `-m`."""
    if mark in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker(mark)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
