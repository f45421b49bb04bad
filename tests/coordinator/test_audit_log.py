"""The audit log shows every change that somebody makes to it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sordino_coordinator.control.audit import FILE, FOLDER, Action, AuditLog, verify_audit
from sordino_platform.identity import Identity
from sordino_privacy.errors import StorageError


@pytest.fixture
def log(hub: Path) -> tuple[Path, frozenset[bytes]]:
    """A log of five entries, and the key that signed them."""
    identity = Identity.load(hub)
    (hub / FOLDER / FILE).unlink(missing_ok=True)
    audit = AuditLog(hub, key=identity.signing_key)
    for number in range(5):
        audit.append(Action.PAUSED, f"entry {number}", by="command")
    return hub, frozenset({identity.card.identity_key})


def lines(hub: Path) -> list[bytes]:
    return (hub / FOLDER / FILE).read_bytes().splitlines(keepends=True)


def test_what_was_appended_verifies(log: tuple[Path, frozenset[bytes]]) -> None:
    hub, keys = log
    count, head = verify_audit(hub, keys=keys)
    assert count == 5
    assert verify_audit(hub, keys=keys, head=head) == (5, head)
    assert (hub / FOLDER / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", range(5))
def test_a_changed_entry_is_found(log: tuple[Path, frozenset[bytes]], number: int) -> None:
    hub, keys = log
    changed = lines(hub)
    changed[number] = changed[number].replace(b"entry ", b"ENTRY ")
    (hub / FOLDER / FILE).write_bytes(b"".join(changed))
    with pytest.raises(StorageError, match=f"entry {number + 1} of the audit log is not signed"):
        verify_audit(hub, keys=keys)


def test_a_removed_a_doubled_and_a_moved_entry_are_found(log: tuple[Path, frozenset[bytes]]) -> None:
    hub, keys = log
    whole = lines(hub)
    for changed in (whole[:2] + whole[3:], whole[:2] + whole[1:], [whole[1], whole[0], *whole[2:]]):
        (hub / FOLDER / FILE).write_bytes(b"".join(changed))
        with pytest.raises(StorageError, match="does not follow"):
            verify_audit(hub, keys=keys)


def test_an_end_that_was_cut_off_shows_against_a_head_that_was_noted(
    log: tuple[Path, frozenset[bytes]],
) -> None:
    hub, keys = log
    _, head = verify_audit(hub, keys=keys)
    (hub / FOLDER / FILE).write_bytes(b"".join(lines(hub)[:3]))
    assert verify_audit(hub, keys=keys)[0] == 3
    with pytest.raises(StorageError, match="cut off"):
        verify_audit(hub, keys=keys, head=head)


def test_half_a_line_of_a_crash_is_cut_off_by_the_next_entry(log: tuple[Path, frozenset[bytes]]) -> None:
    hub, keys = log
    with (hub / FOLDER / FILE).open("ab") as file:
        file.write(b'{"entry": {"ver')
    assert verify_audit(hub, keys=keys)[0] == 5
    AuditLog(hub, key=Identity.load(hub).signing_key).append(Action.RESUMED)
    assert verify_audit(hub, keys=keys)[0] == 6


def test_words_from_outside_cannot_break_a_line_or_drive_a_terminal(
    log: tuple[Path, frozenset[bytes]],
) -> None:
    hub, keys = log
    AuditLog(hub, key=Identity.load(hub).signing_key).append(
        Action.PAUSED, "a\n{}\x1b[31m\u202e" + "x" * 5000
    )
    assert verify_audit(hub, keys=keys)[0] == 6
    detail = json.loads(lines(hub)[-1])["entry"]["detail"]
    assert detail.startswith("a?{}?[31m?x")
    assert len(detail) == 1000
