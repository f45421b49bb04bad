"""Requests to end: SIGTERM and Ctrl-C, and on Windows Ctrl-Break, the only one that a program can send to another
there."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, *filter(None, [getattr(signal, "SIGBREAK", None)]))


def on_ending(told: Callable[[str], object]) -> None:
    """From now on `told` is called with the signal's name, instead of ending the process. Call this from the main
    thread only."""
    for number in SIGNALS:
        signal.signal(number, lambda received, _: told(signal.Signals(received).name))


def on_ending_in(loop: asyncio.AbstractEventLoop, told: Callable[[], object]) -> None:
    """As `on_ending`, for an event loop that runs in the main thread: `told` is called within the loop."""
    try:
        for number in SIGNALS:
            loop.add_signal_handler(number, told)
    except NotImplementedError:  # Windows' loops
        on_ending(lambda _: loop.call_soon_threadsafe(told))
