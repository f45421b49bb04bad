"""A machine's places to train, one per core, shared by the members that run on it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sordino_platform.durable import make_folder
from sordino_platform.machine.locks import Lock

SLOT_SECONDS = 0.1


@contextlib.contextmanager
def training_slot(folder: Path | None, wanted: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds one of the machine's places to train, one per core, where several members share it. None: no waiting.

    `wanted` is called while waiting, and raises when the training is not wanted any more."""
    if folder is None:
        yield
        return
    make_folder(folder)
    with contextlib.ExitStack() as opened:
        numbers = range(os.cpu_count() or 1)
        slots = [opened.enter_context(Lock(folder / f"slot-{number}")) for number in numbers]
        while not any(slot.try_take() for slot in slots):
            wanted()
            time.sleep(SLOT_SECONDS)
        yield
