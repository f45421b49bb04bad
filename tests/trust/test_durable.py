"""Files that appear whole or not at all, and secrets that only their owner reads."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sordino_platform.durable import locked, make_folder, read_file, read_secret, write_file
from sordino_platform.keys import load_identity_key, load_tls_key
from sordino_privacy.errors import ConfigurationError, StorageError


def test_what_was_written_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"one ", memoryview(b"two"))
    write_file(path, b"three")
    assert read_file(path, limit=5) == b"three"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_secret_is_private_from_its_first_moment(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_file(tmp_path / "key", b"k", secret=True)
        make_folder(tmp_path / "folder")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


def test_a_file_that_must_not_be_replaced_is_not(tmp_path: Path) -> None:
    write_file(tmp_path / "key", b"first", replace=False)
    with pytest.raises(ConfigurationError, match="exists already"):
        write_file(tmp_path / "key", b"second", replace=False)
    assert read_file(tmp_path / "key", limit=10) == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_sizes_kinds_and_absence_are_checked_before_reading(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"12345")
    with pytest.raises(StorageError, match="larger than the 4 bytes"):
        read_file(tmp_path / "file", limit=4)
    with pytest.raises(StorageError, match="does not exist"):
        read_file(tmp_path / "none", limit=4)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StorageError, match="not a regular file"):
        read_file(tmp_path / "fifo", limit=4)
    with pytest.raises(StorageError):
        read_file(tmp_path, limit=4)
    with pytest.raises(StorageError):
        write_file(tmp_path / "none" / "file", b"")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o601])
def test_a_secret_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    write_file(tmp_path / "key", b"k", secret=True)
    assert read_secret(tmp_path / "key") == b"k"
    (tmp_path / "key").chmod(mode)
    with pytest.raises(ConfigurationError, match="other users"):
        read_secret(tmp_path / "key")


def test_a_damaged_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    text = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    for loader in (load_identity_key, load_tls_key):
        write_file(tmp_path / "key", text, secret=True)
        with pytest.raises(ConfigurationError, match="damaged") as refused:
            loader(tmp_path / "key")
        assert "c2VjcmV0" not in refused.value.message + refused.value.hint


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    import fcntl

    with locked(tmp_path), (tmp_path / ".lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_of_another_user_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "key", b"k", secret=True)
    os.chown(tmp_path / "key", 12345, -1)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        read_secret(tmp_path / "key")
