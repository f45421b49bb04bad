"""A machine's places to train, one per core, shared by the members that run on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sordino_platform.durable import make_folder

SLOT_SECONDS = 0.1


@contextlib.contextmanager
def training_slot(folder: Path | None, wanted: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds one of the machine's places to train, one per core, where several members share it. None: no waiting.

    `wanted` is asked while it waits, and raises when the training is not wanted any more."""
    if folder is None:
        yield
        return
    make_folder(folder)
    slots = [
        os.open(folder / f"slot-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for number in range(os.cpu_count() or 1)
    ]
    try:
        while not any(free(slot) for slot in slots):
            wanted()
            time.sleep(SLOT_SECONDS)
        yield
    finally:
        for slot in slots:
            os.close(slot)


def free(slot: int) -> bool:
    """Takes the lock on a slot's file, if nobody holds it."""
    try:
        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
