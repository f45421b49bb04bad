"""Makes the area importable as `tests.ops`, and keeps what needs tools beside Python's for `make test-deploy`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    # At the end, so that no folder of the project can shadow an installed or standard package.
    sys.path.append(ROOT)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deploy: needs tools beside Python's; run by `make test-deploy`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked `deploy` unless it was asked for, as `make test-deploy` does."""
    if "deploy" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("deploy")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
