"""Keeps what needs tools beside Python's for `make test-deploy`."""

from __future__ import annotations

import pytest
from tests.asked_for import leave_out


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deploy: needs tools beside Python's; run by `make test-deploy`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked `deploy` unless it was asked for, as `make test-deploy` does."""
    leave_out("deploy", config, items)
