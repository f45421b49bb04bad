"""Finds where a git repository begins, and its ignore rules besides the `.gitignore` files of its work tree.

As in git, a repository within a repository obeys its own rules and none of the outer one's: submodules, linked work
trees, and clones within clones. Its rules, the weakest first:

* the file that `core.excludesFile` names, in the repository's configuration or the person's, else
  `$XDG_CONFIG_HOME/git/ignore` (git itself is asked, where it is installed: includes and conditions are its matter);
* `info/exclude` of the repository, which for a linked work tree is that of the repository it belongs to.

A `.git` that is not a repository (an empty folder, a file that points nowhere) begins none. One that cannot be read, or
whose rules cannot be, is an error: rules that cannot be read cannot be honoured.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from sordino_client.corpus.gitignore import RuleFile, parse_rules
from sordino_platform.machine.files import READ
from sordino_privacy.errors import DataError

MAXIMUM_RULES = 1 << 20  # bytes of an ignore file
_MAXIMUM_POINTER = 4096  # bytes of a file that names another folder
_POINTER = b"gitdir: "
_GIT_SECONDS = 10.0
_HEAD = re.compile(rb"ref:\s*refs/|[0-9a-f]{40}")


def rules_of(folder: Path) -> tuple[RuleFile, ...] | None:
    """The rules of the repository whose work tree begins at `folder`, the weakest first; None where none begins there.

    Raises DataError when one does, and its rules cannot be read.
    """
    git = git_directory(folder)
    if git is None:
        return None
    common = _common(git)
    return (*_excludes_file(folder, git, common), *_rule_file(common / "info" / "exclude"))


def git_directory(folder: Path) -> Path | None:
    """The repository that `folder`'s `.git` is or points to. Raises DataError when that cannot be read."""
    entry = folder / ".git"
    try:
        mode = entry.stat().st_mode
    except PermissionError as error:
        raise _unreadable(entry, error) from error
    except OSError:
        return None  # nothing there, or a link that leads in circles
    if stat.S_ISREG(mode):
        content = read_rules(entry)
        if not content.startswith(_POINTER):
            return None
        # git takes the name up to the first NUL, as every program in C does.
        target = content.removeprefix(_POINTER).rstrip(b"\r\n").split(b"\0", 1)[0]
        entry = folder / os.fsdecode(target)
    elif not stat.S_ISDIR(mode):
        return None
    return entry if _is_repository(entry) else None


def read_rules(path: Path) -> bytes:
    """The bytes of a file of rules. See `read_opened`."""
    return read_opened(lambda: os.open(path, READ), path)


def read_opened(opening: Callable[[], int], path: Path | str) -> bytes:
    """The bytes of a file of rules, b"" if it is not a regular file. `opening` gives its descriptor.

    Raises FileNotFoundError, and DataError, which names `path`, when it cannot be read or is larger than 1 MiB.
    """
    try:
        descriptor = opening()
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ENXIO:
            return b""  # a socket
        raise _unreadable(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        parts = []
        left = MAXIMUM_RULES + 1
        while left > 0 and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    if left <= 0:
        raise DataError(f"the ignore rules in {path} are larger than 1 MiB", hint="shorten the file")
    return b"".join(parts)


def _unreadable(path: Path | str, error: OSError) -> DataError:
    return DataError(
        f"cannot read the ignore rules in {path}: {(error.strerror or 'error').lower()}",
        hint="make the file readable, or leave the folder out",
    )


def _is_repository(git: Path) -> bool:
    """git's own test: a HEAD that names something, and folders for objects and references."""
    try:
        head = git / "HEAD"
        named = head.is_symlink() or _HEAD.match(_small(head)) is not None
        common = _common(git)
        return named and (common / "objects").is_dir() and (common / "refs").is_dir()
    except (OSError, ValueError):
        return False


def _common(git: Path) -> Path:
    """The folder that a linked work tree shares with its repository; itself for any other."""
    try:
        named = _small(git / "commondir").rstrip(b"\r\n")
    except (OSError, ValueError):
        return git
    return git / os.fsdecode(named.split(b"\0", 1)[0]) if named else git


def _small(path: Path) -> bytes:
    descriptor = os.open(path, READ)
    try:
        return os.read(descriptor, _MAXIMUM_POINTER) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def _rule_file(path: Path) -> tuple[RuleFile, ...]:
    try:
        return (parse_rules(read_rules(path)),)
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _excludes_file(folder: Path, git: Path, common: Path) -> tuple[RuleFile, ...]:
    named = _configured(folder, git, common)
    if named is None:
        home = os.environ.get("XDG_CONFIG_HOME") or f"{os.environ.get('HOME', '')}/.config"
        try:
            return _rule_file(Path(home) / "git" / "ignore")
        except DataError:
            return ()  # another person's home: git would not make this process obey it either
    return _rule_file(folder / named) if named else ()


def _configured(folder: Path, git: Path, common: Path) -> str | None:
    """What `core.excludesFile` says for this repository; None if it says nothing, or if git is not installed."""
    for name in ("config", "config.worktree", "commondir"):
        for place in {git, common}:
            # git would wait for ever at a FIFO.
            if (place / name).exists() and not (place / name).is_file():
                raise DataError(f"{place / name} is no regular file", hint="run git status there")
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_REPOSITORY}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "config", "--type=path", "--null", "--get", "core.excludesFile"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise DataError(
            f"git does not say which rules hold in {folder}: {type(error).__name__}",
            hint="run git status there",
        ) from error
    if done.returncode > 1:
        raise DataError(
            f"git does not say which rules hold in {folder}", hint="git status, run there, says what is wrong"
        )
    return os.fsdecode(done.stdout.removesuffix(b"\0")) if done.returncode == 0 else None


# Variables that would make git answer for another repository than this one.
_OF_A_REPOSITORY = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_PREFIX"}
)
