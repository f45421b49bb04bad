"""What is read ahead of the first key waits for nobody: a request withdraws it, and finds read what was read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sordino_client.completion import generation
from sordino_client.completion.engine import Engine
from sordino_client.completion.query import Query

TEXT = "def area(width, height):\n    return width * height\n\n\n" * 4 + "def area(width, "
PIECE = 16


@pytest.fixture
def engine(tmp_path: Path, release: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Engine:
    release(tmp_path / "serving")
    monkeypatch.setattr(generation, "CHUNK", PIECE)
    made = Engine(tmp_path / "serving")
    made.refresh(wait=True)
    return made


def test_a_request_withdraws_what_is_read_ahead_for_any_editor_and_keeps_what_was_read(
    engine: Engine,
) -> None:
    generator = engine._generator
    assert generator is not None
    inner: Any = generator.network
    began, go = threading.Event(), threading.Event()

    class Held:
        """The network, which stops behind its first piece until it may go on."""

        def read(self, *given: Any) -> Any:
            found = inner.read(*given)
            began.set()
            assert go.wait(60)
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    generator.network = Held()
    ahead = engine.submit(Query(prefix=TEXT), editor="vscode-1/opened", warm=True)
    assert began.wait(60)
    asked = engine.submit(Query(prefix=TEXT, max_tokens=2, show="all"), editor="vscode-2")
    go.set()
    answer = asked.future.result(60)
    assert ahead.future.cancelled()
    assert PIECE <= answer.reused_tokens < answer.prompt_tokens - PIECE
    engine.close()


def test_reading_ahead_withdraws_no_request_and_no_reading_of_another_editor(engine: Engine) -> None:
    jobs = [
        engine.submit(Query(prefix=TEXT, max_tokens=2, show="all"), editor="a"),
        engine.submit(Query(prefix=TEXT), editor="a/opened", warm=True),
        engine.submit(Query(prefix=TEXT + "h"), editor="b/opened", warm=True),
    ]
    assert [job.future.result(60) is not None for job in jobs] == [True] * 3
    engine.close()
