"""A request tells whoever handles it that nobody waits any more: once, at once, and also when it comes too late."""

from __future__ import annotations

import threading
import time

from sordino_platform.link.request import Request


def request() -> Request:
    return Request(id=1, payload=memoryview(b""), deadline=time.monotonic() + 60)


def test_a_handler_is_told_when_the_request_is_given_up_and_not_before() -> None:
    told = threading.Event()
    waiting = request()
    waiting.when_given_up(told.set)
    assert not told.is_set()
    waiting.give_up()
    assert told.wait(20)
    assert waiting.cancelled


def test_a_handler_that_asks_too_late_is_told_all_the_same_and_nobody_twice() -> None:
    told = threading.Semaphore(0)
    waiting = request()
    waiting.give_up()
    waiting.when_given_up(told.release)
    assert told.acquire(timeout=20)
    waiting.give_up()
    assert not told.acquire(blocking=False)
