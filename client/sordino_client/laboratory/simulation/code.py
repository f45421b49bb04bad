"""Splits repositories into many members: each gets files of one repository that lie beside each other, as a team's do.

Some repositories are given to no member and measure the model. The split follows from the files alone, so that the same
call makes the same federation.
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
"""A member with fewer files has too few file clusters to be private, whatever the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeText:
    """One source file: where it lies in its repository, and what stands in it."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeShares:
    """The files of each member, in order, and the files that no member has, by repository."""

    members: tuple[tuple[CodeText, ...], ...]
    heldout: Mapping[str, tuple[CodeText, ...]]


def of_field(cache: Path) -> dict[str, list[CodeText]]:
    """The projects of one field, as `sordino corpus fetch field` left them. Raises DataError."""
    found: dict[str, list[CodeText]] = {}
    for document in read_corpus(cache, "field"):
        found.setdefault(document.project, []).append(CodeText(path=document.path, text=document.text))
    return found


def of_folders(folders: Sequence[Path]) -> dict[str, list[CodeText]]:
    """Repositories of this machine, read as a member reads its own. Raises DataError."""
    found: dict[str, list[CodeText]] = {}
    for file in read_repositories(folders).files:
        found.setdefault(file.repository, []).append(CodeText(path=file.path, text=file.text))
    return found


def split(repositories: Mapping[str, Iterable[CodeText]], *, members: int) -> CodeShares:
    """Gives every member files of one repository; a repository that is larger has more members.

    The smallest repositories are held out until they hold `HELDOUT_SHARE` of all files. Raises DataError when there are
    too few files, or no repository is left over to measure with.
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
    ):  # what is left over at each repository's end makes more than one try
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
