"""What a corpus reader takes and what it leaves out: the policy, and the reasons it gives.

The policy is public configuration. Nothing in it is learned from the member's data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sordino_client.corpus.languages import LANGUAGES
from sordino_privacy.errors import UsageError


class ExclusionReason(StrEnum):
    """Why an entry of a repository is not in the corpus. A directory that is not entered counts once."""

    SECRET = "secret"  # noqa: S105 -- hardly anything but credentials, or a file that is named like one
    IGNORED = "ignored"  # .gitignore, info/exclude, core.excludesFile or .sordinoignore
    RULES = "rules"  # a folder whose ignore rules cannot be read: nothing in it is
    GENERATED = "generated"  # written or packed by a program
    VENDORED = "vendored"  # someone else's code
    LICENCE = "licence"  # a licence text, or nothing but a licence header
    SIZE = "size"  # too small to learn from or too large to read
    BINARY = "binary"  # a NUL byte, or not UTF-8
    DUPLICATE = "duplicate"  # the same text as a file that was taken
    SYMLINK = "symlink"  # never followed
    SPECIAL = "special"  # FIFO, socket, device
    MERGED = "merged"  # near-duplicates that were trained on as separate units: not trained on any more
    LANGUAGE = "language"  # not a known source language, or not one of those asked for
    UNREADABLE = "unreadable"  # permission denied, a name that is not UTF-8, a malformed record


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusPolicy:
    """Bounds and choices of a read. Sizes are in bytes of the file on disk.

    `languages` limits the corpus to the named languages (see `languages.LANGUAGES`); empty takes every known one.
    `keep_vendored` and `keep_generated` exist for repositories whose own code stands in a folder called `vendor`.
    Secrets, symbolic links and ignore rules have no switch.
    """

    minimum_bytes: int = 64
    maximum_bytes: int = 512 * 1024
    maximum_files: int = 200_000
    maximum_corpus_bytes: int = 1 << 30
    maximum_depth: int = 64
    languages: frozenset[str] = frozenset()
    keep_vendored: bool = False
    keep_generated: bool = False

    def __post_init__(self) -> None:
        for name in (
            "minimum_bytes",
            "maximum_bytes",
            "maximum_files",
            "maximum_corpus_bytes",
            "maximum_depth",
        ):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.minimum_bytes > self.maximum_bytes:
            raise UsageError(
                f"minimum_bytes {self.minimum_bytes} is above maximum_bytes {self.maximum_bytes}"
            )
        if unknown := sorted(self.languages - LANGUAGES.keys()):
            raise UsageError(
                f"unknown language: {', '.join(unknown)}", hint=f"known are {', '.join(LANGUAGES)}"
            )
