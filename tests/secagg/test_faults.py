"""The table of faults in docs/secure-aggregation.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[a-z_/]+\.py)::(test_\w+)`")


def test_every_fault_of_the_table_is_a_test() -> None:
    named = NAMED.findall((ROOT / "docs" / "secure-aggregation.md").read_text())
    assert len(named) >= 25
    missing = [
        f"{path}::{name}"
        for path, name in named
        if re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE) is None
    ]
    assert not missing
