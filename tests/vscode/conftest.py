"""The editor test needs Node, Chromium and a minute or two: it runs when it is asked for, by `make test-vscode`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vscode: drives a real VS Code; run by `make test-vscode`")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked `vscode` unless it was asked for; a file's scenes are one story, played in order."""
    if "vscode" in config.option.markexpr:
        items.sort(key=lambda item: (str(item.path), item.reportinfo()[1] or 0))
        return
    left_out = [item for item in items if item.get_closest_marker("vscode")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
