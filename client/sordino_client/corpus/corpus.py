"""The result of a read: source files as they will be tokenised, what was left out and why, and a fingerprint.

No text of a file appears in any `repr`, message or report made here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from sordino_client.corpus.policy import ExclusionReason

_TEXT_LABEL = b"sordino/corpus/text/v1\n"
_FINGERPRINT_LABEL = b"sordino/corpus/fingerprint/v1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One source file: licence header and byte-order mark taken off, credentials masked, lines ended by a line feed."""

    repository: str  # name of the folder that was read
    path: str  # relative to that folder, with forward slashes
    language: str
    text: str = field(repr=False)
    digest: bytes = field(repr=False)  # SHA-256 of the text, domain separated
    copies: tuple[str, ...] = ()  # names of the files with the same text that were left out as duplicates

    @classmethod
    def of(cls, repository: str, path: str, language: str, text: str) -> Self:
        """A file with its digest computed."""
        digest = hashlib.sha256(_TEXT_LABEL + text.encode("utf-8", "surrogatepass")).digest()
        return cls(repository=repository, path=path, language=language, text=text, digest=digest)

    @property
    def name(self) -> str:
        """Repository and path: unique in a corpus."""
        return f"{self.repository}/{self.path}"

    @property
    def directory(self) -> str:
        """Repository and directory: a package, in most languages."""
        return self.name[: self.name.rfind("/")]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which this text stands in the repositories."""
        return (self.name, *self.copies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Files and bytes of one language."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretCount:
    """The effect of one rule about credentials: files left out whole, and literals masked in files that were taken."""

    left_out: int = 0
    masked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The source files of one member. `excluded` counts entries by reason, `secret_rules` what each rule did."""

    files: tuple[SourceFile, ...] = field(repr=False)
    excluded: Mapping[ExclusionReason, int]
    secret_rules: Mapping[str, SecretCount] = field(default_factory=lambda: MappingProxyType({}))
    sources: tuple[str, ...] = ()  # the folders that were read, as shown to the person

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the set of texts, in hex: it does not depend on the files' names and places.

        An edit changes it. A ledger that must survive edits belongs to `UnitRegistry.dataset` instead.
        """
        digest = hashlib.sha256(_FINGERPRINT_LABEL)
        for text in sorted({file.digest for file in self.files}):
            digest.update(text)
        return digest.hexdigest()

    @property
    def bytes(self) -> int:
        """Size of all texts in UTF-8."""
        return sum(share.bytes for share in self.languages.values())

    @property
    def lines(self) -> int:
        """Lines of all texts."""
        return sum(file.text.count("\n") + (not file.text.endswith("\n")) for file in self.files)

    @property
    def languages(self) -> dict[str, Share]:
        """Files and bytes by language, the largest first."""
        files: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for file in self.files:
            files[file.language] += 1
            sizes[file.language] += len(file.text.encode("utf-8", "surrogatepass"))
        return {name: Share(files=files[name], bytes=size) for name, size in sizes.most_common()}

    def of(self, files: Iterable[SourceFile]) -> Corpus:
        """A part of this corpus: the same read, fewer files."""
        return replace(self, files=tuple(files))


def describe_excluded(excluded: Mapping[ExclusionReason, int]) -> str:
    """'7 excluded: 4 binary, 3 ignored', the most frequent first."""
    parts = [f"{count} {reason}" for reason, count in Counter(excluded).most_common() if count]
    return f"{sum(excluded.values())} excluded" + (": " + ", ".join(parts) if parts else "")
