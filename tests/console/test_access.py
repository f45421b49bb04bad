"""The operator's token and its sessions: pure, with a clock of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sordino_coordinator.console.access import (
    IDLE_SECONDS,
    MAX_SESSIONS,
    SESSION_SECONDS,
    TOKEN_FILE,
    WRONG_TOKENS,
    Access,
    console_token,
)
from sordino_privacy.errors import ConfigurationError

TOKEN = b"a-token-of-more-than-32-characters"


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    return Access(TOKEN, clock=clock)


def opened(access: Access) -> str:
    value = access.open(TOKEN)
    assert value is not None
    return value


def test_the_token_is_made_once_readable_by_its_owner_only(tmp_path: Path) -> None:
    token = console_token(tmp_path)
    assert (tmp_path / TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    assert console_token(tmp_path) == token
    assert len(token) >= 43  # 256 bits in base64


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    console_token(tmp_path)
    (tmp_path / TOKEN_FILE).chmod(0o640)
    with pytest.raises(ConfigurationError, match="other users"):
        console_token(tmp_path)


def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).touch(mode=0o600)
    (tmp_path / TOKEN_FILE).write_text("secret\n")
    with pytest.raises(ConfigurationError, match="fewer than 32"):
        console_token(tmp_path)


@pytest.mark.parametrize("offered", [b"", TOKEN[:-1], TOKEN + b"x", TOKEN.upper(), b"\xff" * 4000])
def test_only_the_token_opens_a_session(access: Access, offered: bytes) -> None:
    assert access.open(offered) is None


def test_a_session_is_known_until_it_is_closed_and_no_other_value_is(access: Access) -> None:
    first, second = opened(access), opened(access)
    assert first != second
    access.close(first)
    assert not access.knows(first)
    assert access.knows(second)
    assert not access.knows("")
    assert not access.knows("\udcff" + second)


def test_a_session_that_is_not_used_falls_idle(access: Access, clock: Clock) -> None:
    value = opened(access)
    clock.now += IDLE_SECONDS
    assert not access.knows(value)


def test_a_session_in_use_ends_at_last(access: Access, clock: Clock) -> None:
    value, began = opened(access), clock.now
    while clock.now - began < SESSION_SECONDS - IDLE_SECONDS / 2:
        assert access.knows(value)
        clock.now += IDLE_SECONDS / 2
    clock.now = began + SESSION_SECONDS
    assert not access.knows(value)


def test_sessions_are_bounded_and_the_longest_unused_goes_first(access: Access, clock: Clock) -> None:
    values = []
    for _ in range(MAX_SESSIONS + 1):
        values.append(opened(access))
        clock.now += 1
    assert not access.knows(values[0])
    assert all(access.knows(value) for value in values[1:])


def test_wrong_tokens_have_to_wait_and_right_ones_never_do(access: Access, clock: Clock) -> None:
    for _ in range(100):
        assert access.wait_seconds() == 0
        opened(access)
    for _ in range(int(WRONG_TOKENS)):
        assert access.wait_seconds() == 0
        access.open(b"wrong")
    wait = access.wait_seconds()
    assert wait > 0
    opened(access)
    clock.now += wait
    assert access.wait_seconds() == 0
    access.open(b"wrong")
    assert access.wait_seconds() > 0
