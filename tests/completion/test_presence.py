"""The engine says that it is at work while it is, so that training can give way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sordino_client.completion import presence
from sordino_client.completion.engine import Engine
from sordino_client.completion.query import Query


def test_the_lock_is_held_while_a_completion_is_in_work_and_not_afterwards(
    tmp_path: Path, release: Callable[..., Path]
) -> None:
    release(tmp_path / "serving", 1)
    lock = presence.place(tmp_path)
    engine = Engine(tmp_path / "serving", precision="float32")
    seen: list[bool] = []
    try:
        query = Query(prefix="def add(a, b):\n    return a +", seed=1)
        engine.submit(
            query, editor="one", on_text=lambda *_: seen.append(presence.occupied(lock))
        ).future.result()
    finally:
        engine.close()
    assert seen
    assert all(seen)
    assert not presence.occupied(lock)
