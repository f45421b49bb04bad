"""Folders are read without being left, by descriptors and by names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sordino_platform.machine import tree
from sordino_platform.machine.files import FOLDER, NO_LINK, READ
from sordino_platform.machine.tree import DescribedFolder, Folder, NamedFolder

OUTSIDE = b"OUTSIDE"


def by_descriptor(path: Path) -> Folder:
    return DescribedFolder(os.open(path, READ | NO_LINK | FOLDER))


pytestmark = pytest.mark.skipif(os.name != "posix", reason="compares with descriptors")
both = pytest.mark.parametrize("opening", [by_descriptor, NamedFolder], ids=["descriptor", "name"])
Opening = Callable[[Path], Folder]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "code.py").write_bytes(OUTSIDE)
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "code.py").write_bytes(b"INSIDE")
    return root


def content(folder: Folder, name: str) -> bytes:
    with os.fdopen(folder.open(name), "rb") as file:
        return file.read()


@both
def test_what_lies_in_it_is_listed_and_read(root: Path, opening: Opening) -> None:
    with opening(root) as folder, folder.folder("folder") as inner:
        assert [entry.name for entry in folder.entries()] == ["folder"]
        assert content(inner, "code.py") == b"INSIDE"
        assert not inner.is_link("code.py")


@both
def test_a_link_is_refused_as_folder_as_file_and_as_root(root: Path, opening: Opening) -> None:
    (root / "to-folder").symlink_to("folder")
    (root / "to-file").symlink_to("folder/code.py")
    with opening(root) as folder:
        assert folder.is_link("to-folder")
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            folder.folder("to-folder")
        with pytest.raises(OSError, match="symbolic links"):
            folder.open("to-file")
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        opening(root / "to-folder")


@both
def test_a_file_is_no_folder_and_what_is_not_there_is_told(root: Path, opening: Opening) -> None:
    with opening(root / "folder") as folder:
        with pytest.raises(NotADirectoryError):
            folder.folder("code.py")
        with pytest.raises(FileNotFoundError):
            folder.open("other.py")


@pytest.mark.parametrize("replaced", ["folder", "."])
def test_by_name_a_folder_that_became_another_one_is_read_no_more(root: Path, replaced: str) -> None:
    with NamedFolder(root) as folder, folder.folder("folder") as inner:
        (root / replaced).resolve().rename(root.parent / "moved")
        (root.parent / "outside").rename(root / "folder" if replaced == "folder" else root)
        for act in (lambda: inner.open("code.py"), inner.entries):
            with pytest.raises(OSError, match=r"changed while|No such file"):
                act()


def test_by_name_a_file_swapped_between_the_look_and_the_opening_is_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def swapping(path: Path, flags: int) -> int:
        (root / "folder" / "code.py").unlink()
        (root / "folder" / "code.py").symlink_to(root.parent / "outside" / "code.py")
        return opened(path, flags)

    with NamedFolder(root) as folder, folder.folder("folder") as inner:
        monkeypatch.setattr(os, "open", swapping)
        with pytest.raises(OSError, match="changed while"):
            inner.open("code.py")


def test_a_junction_is_a_link_and_a_file_of_a_cloud_is_none() -> None:
    class Status:
        st_mode = 0o040755

        def __init__(self, tag: int) -> None:
            self.st_reparse_tag = tag

    mount_point, one_drive = 0xA0000003, 0x9000001A  # winnt.h: IO_REPARSE_TAG_MOUNT_POINT, _CLOUD
    assert tree.is_link(Status(mount_point))  # type: ignore[arg-type]
    assert not tree.is_link(Status(one_drive))  # type: ignore[arg-type]


def test_here_folders_are_descriptors(root: Path) -> None:
    with tree.open_directory(root) as folder:
        assert isinstance(folder, DescribedFolder)
