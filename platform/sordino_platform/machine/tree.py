"""Reads folders without ever leaving them.

    with open_directory(root) as folder:
        for entry in folder.entries():
            descriptor = folder.open(entry.name)

On Linux and macOS a folder is an open descriptor, and everything in it is opened relative to that: no path is resolved
twice, so a change in between (a folder swapped for a symbolic link between a check and its use, CWE-367) cannot lead
outside. Windows opens by name only. There a folder is its path and the identity that it had. Links are refused before
they are opened. The opened file and the folders on the way to it are compared with those that were checked. That makes
the race narrow but does not close it: somebody who can swap a folder away and back within microseconds, twice, may
still lead a read outside.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final, Protocol

from sordino_platform.machine.files import FOLDER, NO_LINK, READ

NAME_SURROGATE: Final = (
    0x20000000  # a bit of a reparse tag (Windows): set for symbolic links and junctions, not for cloud files
)


class Folder(Protocol):
    """An open folder. Every method raises OSError; a name is one part of a path."""

    def __enter__(self) -> Folder: ...

    def __exit__(self, *_: object) -> None: ...

    def entries(self) -> list[os.DirEntry[str]]:
        """Its entries, in no order."""
        ...

    def folder(self, name: str) -> Folder:
        """A folder in it. A link is refused."""
        ...

    def open(self, name: str) -> int:
        """A descriptor of a file in it, for reading. A link is refused; the caller checks the file's type with
        fstat."""
        ...

    def is_link(self, name: str) -> bool:
        """Whether the name is a link, whatever its target."""
        ...


def open_directory(path: Path) -> Folder:
    """Opens `path`. Its parents may be links, but it must not be one itself. Raises OSError."""
    if (
        {os.open, os.stat} <= os.supports_dir_fd
        and os.scandir in os.supports_fd
        and hasattr(os, "O_NOFOLLOW")
    ):
        return DescribedFolder(os.open(path, READ | NO_LINK | FOLDER))
    return NamedFolder(path)


class DescribedFolder:
    """A folder, held by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def entries(self) -> list[os.DirEntry[str]]:
        with os.scandir(self._descriptor) as found:
            return list(found)

    def folder(self, name: str) -> Folder:
        return DescribedFolder(os.open(name, READ | NO_LINK | FOLDER, dir_fd=self._descriptor))

    def open(self, name: str) -> int:
        return os.open(name, READ | NO_LINK, dir_fd=self._descriptor)

    def is_link(self, name: str) -> bool:
        return is_link(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False))


class NamedFolder:
    """A folder, held by its path and the identity that it had when it was opened."""

    def __init__(self, path: Path, parent: NamedFolder | None = None) -> None:
        self._path, self._parent = path, parent
        self._seen = _looked_at(path)
        if not stat.S_ISDIR(self._seen.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def entries(self) -> list[os.DirEntry[str]]:
        with os.scandir(self._path) as found:
            entries = list(found)
        self._require_unchanged()
        return entries

    def folder(self, name: str) -> Folder:
        found = NamedFolder(self._path / name, self)
        self._require_unchanged()
        return found

    def open(self, name: str) -> int:
        path = self._path / name
        seen = _looked_at(path)
        descriptor = os.open(path, READ)
        try:
            if not os.path.samestat(os.fstat(descriptor), seen):
                raise _changed(path)
            self._require_unchanged()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def is_link(self, name: str) -> bool:
        return is_link((self._path / name).lstat())

    def _require_unchanged(self) -> None:
        """Raises OSError when this folder, or one on the way to it, has been replaced."""
        if not os.path.samestat(_looked_at(self._path), self._seen):
            raise _changed(self._path)
        if self._parent is not None:
            self._parent._require_unchanged()


def is_link(status: os.stat_result) -> bool:
    """Whether the status (of the name itself, not of its target) is that of a symbolic link or of a Windows
    junction."""
    return stat.S_ISLNK(status.st_mode) or bool(getattr(status, "st_reparse_tag", 0) & NAME_SURROGATE)


def _looked_at(path: Path) -> os.stat_result:
    status = path.lstat()
    if is_link(status):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return status


def _changed(path: Path) -> OSError:
    return OSError(errno.ESTALE, "it changed while it was read", str(path))
