"""Training gives way: it is stopped while a completion is in work, and while the machine runs on its battery.

    with giving_way(worker, busy=lambda: occupied(lock), on_battery=on_battery):
        update = worker.train(job)

A stopped trainer holds its memory and uses no processor. It goes on after a second without a reason to stop, so that it
does not restart in every pause between two words.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from sordino_client.training.worker import TrainingWorker
from sordino_platform.telemetry import log

LOOK_SECONDS = 0.05
QUIET_SECONDS = 1.0
BATTERY_SECONDS = 10.0


@contextlib.contextmanager
def giving_way(
    worker: TrainingWorker, *, busy: Callable[[], bool], on_battery: Callable[[], bool]
) -> Iterator[None]:
    """Pauses `worker` whenever `busy` or `on_battery` says so, until the block ends; then lets it go on."""
    ended, looked = threading.Event(), threading.Event()
    watch = threading.Thread(
        target=_watch, args=(worker, busy, on_battery, ended, looked), name="give-way", daemon=True
    )
    watch.start()
    while watch.is_alive() and not looked.wait(LOOK_SECONDS):
        pass  # no step before the first look, however short the job
    try:
        yield
    finally:
        ended.set()
        watch.join()
        worker.resume()


def _watch(
    worker: TrainingWorker,
    busy: Callable[[], bool],
    on_battery: Callable[[], bool],
    ended: threading.Event,
    looked: threading.Event,
) -> None:
    paused, battery, failed = False, False, False
    quiet_since = battery_seen = float("-inf")
    while True:
        now = time.monotonic()
        try:
            if now - battery_seen >= BATTERY_SECONDS:
                battery, battery_seen = on_battery(), now
            waits, failed = battery or busy(), False
        except Exception as error:  # noqa: BLE001 - a look that fails must not leave a paused child so for ever
            if not failed:
                log().warning("giving_way_failed", error=type(error).__name__, hint="training goes on")
            waits, failed = False, True
        if waits:
            quiet_since = now
            # Repeated each time: a child that was started meanwhile is not stopped yet.
            worker.pause()
            paused = True
        elif paused and now - quiet_since >= QUIET_SECONDS:
            worker.resume()
            paused = False
        looked.set()
        if ended.wait(LOOK_SECONDS):
            return
