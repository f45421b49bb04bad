"""The demo as a person sees it: typed into a shell in a real terminal, where its screen redraws itself.

The recording becomes artefacts/demo/demo.gif, which `make pictures` puts into docs/images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("pyte", reason="requirements/pictures.txt is not installed")

from tests.federation.terminal import Pace, draw, record

ARTEFACTS = Path(__file__).parents[2] / "artefacts" / "demo"
COLUMNS, LINES = 112, 30
PLAYED_SECONDS = 25.0
"""However long the machine took for it; what scrolls by at the end comes on top."""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_is_filmed_in_a_real_terminal(tmp_path: Path) -> None:
    seen = record(
        "sordino demo",
        folder=tmp_path,
        columns=COLUMNS,
        lines=LINES,
        path=Path(sys.executable).parent,
        seconds=1200,
    )
    assert seen.code == 0, seen.text()[-3000:]
    for words in ("killed (SIGKILL)", "3 of 3 rounds", "What happened", "joins with 8 files"):
        assert words in seen.text()
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    (ARTEFACTS / "demo.cast").write_text(seen.cast())
    assert draw(seen, ARTEFACTS / "demo.gif", Pace(times=max(1.0, seen.seconds() / PLAYED_SECONDS))) > 50
