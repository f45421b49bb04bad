"""Splits repositories into many members: each gets neighbouring files of one repository, like the files of a team.

Some repositories belong to no member and measure the model. The split depends only on the files, so the same call makes
the same federation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sordino_client.corpus import read_repositories
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_privacy.errors import DataError

HELDOUT_SHARE: Final = 0.05
FEWEST_FILES: Final = 6
"""A member with fewer files has too few file clusters for privacy with any plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeText:
    """One source file: its path in the repository and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeShares:
    """The files of each member, in order, and the files of no member, by repository."""

    members: tuple[tuple[CodeText, ...], ...]
    heldout: Mapping[str, tuple[CodeText, ...]]


def of_field(cache: Path) -> dict[str, list[CodeText]]:
    """The projects of one field, from `sordino corpus fetch field`. Raises DataError."""
    found: dict[str, list[CodeText]] = {}
    for document in read_corpus(cache, "field"):
        found.setdefault(document.project, []).append(CodeText(path=document.path, text=document.text))
    return found


def of_folders(folders: Sequence[Path]) -> dict[str, list[CodeText]]:
    """Repositories on this machine, read as a member reads its own. Raises DataError."""
    found: dict[str, list[CodeText]] = {}
    for file in read_repositories(folders).files:
        found.setdefault(file.repository, []).append(CodeText(path=file.path, text=file.text))
    return found


def split(repositories: Mapping[str, Iterable[CodeText]], *, members: int) -> CodeShares:
    """Gives every member files of one repository; larger repositories have more members.

    The smallest repositories are held out until they hold `HELDOUT_SHARE` of all files. Raises DataError when there are
    too few files, or no repository is left for measuring.
    """
    by_size = sorted(
        ((name, tuple(sorted(files, key=lambda file: file.path))) for name, files in repositories.items()),
        key=lambda item: (len(item[1]), item[0]),
    )
    total = sum(len(files) for _, files in by_size)
    heldout: dict[str, tuple[CodeText, ...]] = {}
    while len(by_size) > 1 and sum(map(len, heldout.values())) < HELDOUT_SHARE * total:
        name, files = by_size.pop(0)
        heldout[name] = files
    if not heldout:
        raise DataError(
            "with one repository nothing is left to measure the model with",
            hint="name a second one: --repo DIR",
        )
    each = sum(len(files) for _, files in by_size) // members
    if each < FEWEST_FILES:
        raise DataError(
            f"{members} members of these repositories would have {each} files each; {FEWEST_FILES} are the fewest",
            hint="simulate fewer members, or name more repositories",
        )
    shares: list[tuple[CodeText, ...]] = []
    for size in range(
        each, FEWEST_FILES - 1, -1
    ):  # each repository has leftover files, so more than one try may be needed
        shares = [
            files[first : first + size]
            for _, files in reversed(by_size)
            for first in range(0, len(files) - size + 1, size)
        ]
        if len(shares) >= members:
            return CodeShares(members=tuple(shares[:members]), heldout=heldout)
    raise DataError(
        f"these repositories make {len(shares)} members with {FEWEST_FILES} files each",
        hint="simulate fewer members, or name more repositories",
    )
