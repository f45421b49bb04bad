"""Walk a repository without ever leaving it.

Every directory and file is opened relative to the descriptor of the directory that holds it, with `O_NOFOLLOW`: no
path is resolved twice, so nothing that changes under the walk (a folder swapped for a symbolic link between a check and
its use, CWE-367) can lead outside the root. Only regular files are opened; a FIFO or a device is refused by its type
before and after it is opened, and opened non-blocking. Entries come in the order of their names: two walks of an
unchanged tree are equal.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sordino_client.corpus.gitignore import RuleFile, ignored, parse
from sordino_client.corpus.policy import CorpusPolicy, Reason
from sordino_privacy.errors import DataError

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MAXIMUM_RULES = 1 << 20  # bytes of an ignore file
_MAXIMUM_GIT_POINTER = 4096  # bytes of a `.git` file that names another folder
# Version control's own folders: neither source nor worth a count.
_VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".bzr", ".jj", "CVS", "_darcs"})


class Judge(Protocol):
    """Decides by name alone, before anything is opened. `path` is relative to the root, with forward slashes."""

    def directory(self, path: str) -> Reason | None: ...

    def file(self, path: str) -> Reason | None: ...


@dataclass(frozen=True, slots=True)
class _Rules:
    """The ignore rules in force in one directory; `top` is that directory seen from the top of the work tree."""

    git: tuple[RuleFile, ...]
    own: tuple[RuleFile, ...]
    top: str

    def ignore(self, name: str, *, is_directory: bool) -> bool:
        path = f"{self.top}/{name}" if self.top else name
        return ignored(self.git, path, is_directory=is_directory) or ignored(
            self.own, path, is_directory=is_directory
        )

    def inside(self, name: str, descriptor: int) -> _Rules:
        """The rules in force in the directory `name`, which `descriptor` has open."""
        top = f"{self.top}/{name}" if self.top and name else name or self.top
        return _Rules(
            self.git + _read_rule_file(descriptor, ".gitignore", top),
            self.own + _read_rule_file(descriptor, ".sordinoignore", top),
            top,
        )


def walk(
    root: Path, judge: Judge, policy: CorpusPolicy, excluded: Counter[Reason]
) -> Iterator[tuple[str, bytes]]:
    """Yield (relative path, content) of every regular file that name, type, size and ignore rules let through.

    `root` must be resolved. What is left out is counted into `excluded`. Raises DataError when the root itself or one
    of its ignore files cannot be read: rules that cannot be read cannot be honoured.
    """
    try:
        descriptor = os.open(root, _OPEN | os.O_DIRECTORY)
    except OSError as error:
        raise unreadable(root, error) from error
    try:
        rules = _rules_above(root).inside("", descriptor)
        yield from _walk(descriptor, "", rules, judge, policy, excluded)
    finally:
        os.close(descriptor)


def unreadable(path: Path, error: OSError) -> DataError:
    """The one line for a path that cannot be opened."""
    hints = {
        FileNotFoundError: "check the path given with --repo",
        NotADirectoryError: "give a folder, or a CoDesc file ending in .json, .jsonl or .jsonl.gz",
        PermissionError: "run as a user who may read it, or leave it out",
    }
    hint = next((text for kind, text in hints.items() if isinstance(error, kind)), "")
    return DataError(f"cannot read {path}: {(error.strerror or 'error').lower()}", hint=hint)


def _walk(
    descriptor: int,
    prefix: str,
    rules: _Rules,
    judge: Judge,
    policy: CorpusPolicy,
    excluded: Counter[Reason],
) -> Iterator[tuple[str, bytes]]:
    with os.scandir(descriptor) as entries:
        listing = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in listing:
        name = entry.name
        path = prefix + name
        try:
            name.encode()
            mode = entry.stat(follow_symlinks=False).st_mode
        except (UnicodeEncodeError, OSError):
            excluded[Reason.UNREADABLE] += 1
            continue
        if stat.S_ISDIR(mode):
            if name in _VERSION_CONTROL:
                continue
            reason = Reason.IGNORED if rules.ignore(name, is_directory=True) else judge.directory(path)
            if reason is None and path.count("/") + 1 >= policy.maximum_depth:
                reason = Reason.UNREADABLE
            if reason is not None:
                excluded[reason] += 1
                continue
            try:
                below = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=descriptor)
            except OSError:
                excluded[Reason.UNREADABLE] += 1
                continue
            try:
                yield from _walk(below, path + "/", rules.inside(name, below), judge, policy, excluded)
            finally:
                os.close(below)
        elif stat.S_ISLNK(mode):
            excluded[Reason.SYMLINK] += 1
        elif not stat.S_ISREG(mode):
            excluded[Reason.SPECIAL] += 1
        elif name == ".git":  # a work tree's pointer to its repository
            continue
        elif (
            reason := Reason.IGNORED if rules.ignore(name, is_directory=False) else judge.file(path)
        ) is not None:
            excluded[reason] += 1
        else:
            content = _read(descriptor, name, policy)
            if isinstance(content, Reason):
                excluded[content] += 1
            else:
                yield path, content


def _read(directory: int, name: str, policy: CorpusPolicy) -> bytes | Reason:
    try:
        descriptor = os.open(name, _OPEN, dir_fd=directory)
    except OSError:
        return Reason.UNREADABLE
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Reason.SPECIAL
        if not policy.minimum_bytes <= status.st_size <= policy.maximum_bytes:
            return Reason.SIZE
        content = _read_at_most(descriptor, policy.maximum_bytes + 1)
    except OSError:
        return Reason.UNREADABLE
    finally:
        os.close(descriptor)
    # The file may have grown since it was measured.
    return content if len(content) <= policy.maximum_bytes else Reason.SIZE


def _read_at_most(descriptor: int, limit: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0 and (part := os.read(descriptor, min(limit, 1 << 20))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _read_rule_file(directory: int, name: str, base: str) -> tuple[RuleFile, ...]:
    """The ignore file `name` of an open directory, as a tuple of none or one."""
    where = f"{base}/{name}" if base else name
    try:
        descriptor = os.open(name, _OPEN, dir_fd=directory)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DataError(
            f"cannot read the ignore rules in {where}: {(error.strerror or 'error').lower()}",
            hint="ignore files are never followed through symbolic links: replace it by a regular, readable file",
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ()  # git takes a directory or FIFO of that name for no rules
        content = _read_at_most(descriptor, _MAXIMUM_RULES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAXIMUM_RULES:
        raise DataError(f"the ignore rules in {where} are larger than 1 MiB", hint="shorten the file")
    return (parse(content, base=base),)


def _rules_above(root: Path) -> _Rules:
    """The rules that reach `root` from the work tree it lies in: `.git/info/exclude`, then its parents' files.

    A folder that the work tree itself leaves out and that was named all the same (an installed package below `.venv`)
    is no part of that work tree: its rules do not reach it.
    """
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)
    if top is None:
        return _Rules((), (), "")
    rules = _Rules(_info_exclude(top), (), "")
    parts = root.relative_to(top).parts
    for depth, part in enumerate(parts):
        folder = top.joinpath(*parts[:depth])
        try:
            descriptor = os.open(folder, _OPEN | os.O_DIRECTORY)
        except OSError as error:
            raise unreadable(folder, error) from error
        try:
            rules = rules.inside(parts[depth - 1] if depth else "", descriptor)
        finally:
            os.close(descriptor)
        if rules.ignore(part, is_directory=True):
            return _Rules((), (), "")
    return _Rules(rules.git, rules.own, "/".join(parts))


def _info_exclude(top: Path) -> tuple[RuleFile, ...]:
    """`info/exclude` of the repository whose work tree is `top`; `.git` may be a file that points elsewhere."""
    git = top / ".git"
    if git.is_file():
        git = _pointer(git, prefix="gitdir: ")
        common = git / "commondir"
        if common.is_file():
            git = _pointer(common, prefix="")
    try:
        descriptor = os.open(git / "info", _OPEN | os.O_DIRECTORY)
    except OSError:
        return ()
    try:
        return _read_rule_file(descriptor, "exclude", "")
    finally:
        os.close(descriptor)


def _pointer(file: Path, *, prefix: str) -> Path:
    with file.open("rb") as handle:
        text = os.fsdecode(handle.read(_MAXIMUM_GIT_POINTER)).strip()
    return (file.parent / text.removeprefix(prefix)).resolve()
