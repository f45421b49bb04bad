"""Walk a repository without ever leaving it.

Every directory and file is opened within the open directory that holds it (`machine.tree`), so nothing that changes
under the walk can lead outside the root. Only regular files are opened; a FIFO or a device is refused by its type
before and after it is opened, and opened non-blocking. Entries come in the order of their names: two walks of an
unchanged tree are equal.

Whatever a repository holds, a walk ends with what can be read, and a count of what cannot. Only the root itself can
make it fail.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sordino_client.corpus.gitignore import RuleFile, ignored, parse_rules
from sordino_client.corpus.policy import CorpusPolicy, ExclusionReason
from sordino_client.corpus.worktree import git_directory, read_opened, rules_of
from sordino_platform.machine.tree import Folder, is_link, open_directory
from sordino_privacy.errors import DataError

# Each repository within a repository costs a call of git. Nobody has this many; a folder made to stall a walk may.
_MAXIMUM_REPOSITORIES = 1000
# Version control's own folders: neither source nor worth a count.
_VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".bzr", ".jj", "CVS", "_darcs"})


class Judge(Protocol):
    """Decides by name alone, before anything is opened. `path` is relative to the root, with forward slashes."""

    def directory(self, path: str) -> ExclusionReason | None: ...

    def file(self, path: str) -> ExclusionReason | None: ...


@dataclass(frozen=True, slots=True)
class _Rules:
    """The ignore rules in force in one directory.

    `git` are those of the repository that it lies in, and `top` is the directory seen from the top of that work tree;
    `own` are ours, and `own_top` is the directory seen from the top of the outermost one: they reach into repositories
    that lie within it.
    """

    git: tuple[RuleFile, ...] = ()
    own: tuple[RuleFile, ...] = ()
    top: str = ""
    own_top: str = ""

    def ignore(self, name: str, *, is_directory: bool) -> bool:
        return ignored(self.git, _join(self.top, name), is_directory=is_directory) or ignored(
            self.own, _join(self.own_top, name), is_directory=is_directory
        )

    def inside(self, name: str, folder: Folder, begins: tuple[RuleFile, ...] | None = None) -> _Rules:
        """The rules in force in the directory `name`, which is open as `folder`; `begins`: what a repository that
        begins there brings. Raises DataError when an ignore file cannot be read."""
        git, top = (self.git, _join(self.top, name)) if begins is None else (begins, "")
        own_top = _join(self.own_top, name)
        return _Rules(
            git + _read_rule_file(folder, ".gitignore", top),
            self.own + _read_rule_file(folder, ".sordinoignore", own_top),
            top,
            own_top,
        )


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else name or folder


def walk(
    root: Path, judge: Judge, policy: CorpusPolicy, excluded: Counter[ExclusionReason]
) -> Iterator[tuple[str, bytes]]:
    """Yield (relative path, content) of every regular file that name, type, size and ignore rules let through.

    `root` must be resolved. What is left out is counted into `excluded`. Raises DataError when the root itself or one
    of its ignore files cannot be read: rules that cannot be read cannot be honoured.
    """
    with _opened(root) as folder:
        rules = _rules_above(root).inside("", folder)
        yield from _Walk(root, judge, policy, excluded).below(folder, "", rules)


def _opened(path: Path) -> Folder:
    try:
        return open_directory(path)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """The one line for a path that cannot be opened."""
    hints = {
        FileNotFoundError: "check the path given with --repo",
        NotADirectoryError: "give a folder, or a CoDesc file ending in .json, .jsonl or .jsonl.gz",
        PermissionError: "run as a user who may read it, or leave it out",
    }
    hint = next((text for kind, text in hints.items() if isinstance(error, kind)), "")
    return DataError(f"cannot read {path}: {(error.strerror or 'error').lower()}", hint=hint)


class _Walk:
    """One walk: what decides, what is counted, and how many repositories it has met."""

    def __init__(
        self, root: Path, judge: Judge, policy: CorpusPolicy, excluded: Counter[ExclusionReason]
    ) -> None:
        self._root, self._judge, self._policy, self._excluded = root, judge, policy, excluded
        self._repositories = 0

    def below(self, folder: Folder, prefix: str, rules: _Rules) -> Iterator[tuple[str, bytes]]:
        """Everything that is taken below an open directory."""
        try:
            listing = sorted(folder.entries(), key=lambda entry: os.fsencode(entry.name))
        except OSError:
            self._excluded[ExclusionReason.UNREADABLE] += 1
            return
        for entry in listing:
            name = entry.name
            try:
                name.encode()
                status = entry.stat(follow_symlinks=False)
            except (UnicodeEncodeError, OSError):
                self._excluded[ExclusionReason.UNREADABLE] += 1
                continue
            if is_link(status):
                self._excluded[ExclusionReason.SYMLINK] += 1
            elif stat.S_ISDIR(status.st_mode):
                if name not in _VERSION_CONTROL:
                    yield from self._directory(folder, prefix, name, rules)
            elif not stat.S_ISREG(status.st_mode):
                self._excluded[ExclusionReason.SPECIAL] += 1
            elif name != ".git":  # a work tree's pointer to its repository
                yield from self._file(folder, prefix, name, rules)

    def _directory(
        self, folder: Folder, prefix: str, name: str, rules: _Rules
    ) -> Iterator[tuple[str, bytes]]:
        path = prefix + name
        reason = (
            ExclusionReason.IGNORED if rules.ignore(name, is_directory=True) else self._judge.directory(path)
        )
        if reason is None and path.count("/") + 1 >= self._policy.maximum_depth:
            reason = ExclusionReason.UNREADABLE
        if reason is not None:
            self._excluded[reason] += 1
            return
        try:
            opened = folder.folder(name)
        except OSError:
            self._excluded[ExclusionReason.UNREADABLE] += 1
            return
        with opened as below:
            try:
                inner = rules.inside(name, below, self._begins(path))
            except DataError:
                self._excluded[ExclusionReason.RULES] += 1
            else:
                yield from self.below(below, path + "/", inner)

    def _begins(self, path: str) -> tuple[RuleFile, ...] | None:
        """The rules of the repository that begins in a directory, None where none does. Raises DataError."""
        begins = rules_of(self._root / path)
        if begins is not None:
            self._repositories += 1
            if self._repositories > _MAXIMUM_REPOSITORIES:
                raise DataError(f"more than {_MAXIMUM_REPOSITORIES:,} repositories lie in {self._root}")
        return begins

    def _file(self, folder: Folder, prefix: str, name: str, rules: _Rules) -> Iterator[tuple[str, bytes]]:
        path = prefix + name
        reason = ExclusionReason.IGNORED if rules.ignore(name, is_directory=False) else self._judge.file(path)
        content = _read(folder, name, self._policy) if reason is None else reason
        if isinstance(content, ExclusionReason):
            self._excluded[content] += 1
        else:
            yield path, content


def _read(folder: Folder, name: str, policy: CorpusPolicy) -> bytes | ExclusionReason:
    try:
        descriptor = folder.open(name)
    except OSError:
        return ExclusionReason.UNREADABLE
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return ExclusionReason.SPECIAL
        if not policy.minimum_bytes <= status.st_size <= policy.maximum_bytes:
            return ExclusionReason.SIZE
        content = _read_at_most(descriptor, policy.maximum_bytes + 1)
    except OSError:
        return ExclusionReason.UNREADABLE
    finally:
        os.close(descriptor)
    # The file may have grown since it was measured.
    return content if len(content) <= policy.maximum_bytes else ExclusionReason.SIZE


def _read_at_most(descriptor: int, limit: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0 and (part := os.read(descriptor, min(limit, 1 << 20))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _read_rule_file(folder: Folder, name: str, base: str) -> tuple[RuleFile, ...]:
    """The ignore file `name` of an open directory, as a tuple of none or one. Raises DataError.

    One that is a symbolic link is no ignore file: git warns of it and goes on without (the link itself is counted).
    """
    try:
        if folder.is_link(name):
            return ()
        return (parse_rules(read_opened(lambda: folder.open(name), name), base=base),)
    except OSError:
        return ()


def _rules_above(root: Path) -> _Rules:
    """The rules that reach `root` from the work tree it lies in: the repository's own, then its parents' files.

    A folder that the work tree itself leaves out and that was named all the same (an installed package below `.venv`)
    is no part of that work tree: its rules do not reach it. Raises DataError when rules cannot be read.
    """
    top = next((folder for folder in (root, *root.parents) if git_directory(folder) is not None), None)
    if top is None:
        return _Rules()
    rules = _Rules(git=rules_of(top) or ())
    parts = root.relative_to(top).parts
    for depth, part in enumerate(parts):
        with _opened(top.joinpath(*parts[:depth])) as folder:
            rules = rules.inside(parts[depth - 1] if depth else "", folder)
        if rules.ignore(part, is_directory=True):
            return _Rules()
    within = "/".join(parts)
    return _Rules(rules.git, rules.own, within, within)
