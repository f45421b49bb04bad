"""Read repositories into a corpus: one pass over names, then over text, cheapest question first.

By name: ignore rules, vendored folder, named like a secret, licence text, generated name, language. By content: size,
NUL bytes and UTF-8, generated or packed text, hardly anything but credentials, nothing left after the licence header, a
text that was already taken. A literal that may be a credential is masked first (in the whole text, licence header
included), so that every later step works on the masked text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from sordino_client.corpus import codesc, foreign, languages, licence
from sordino_client.corpus.corpus import Corpus, SecretCount, SourceFile, describe_excluded
from sordino_client.corpus.policy import CorpusPolicy, ExclusionReason
from sordino_client.corpus.secret_names import is_secret_directory, is_secret_name
from sordino_client.corpus.secrets import screen
from sordino_client.corpus.walk import unreadable, walk
from sordino_privacy.errors import DataError

_UNDECIDED = ""  # a name without suffix: the first line may tell the language
_BY_NAME = "named-like-a-secret"  # the rule that counts files and folders that were never opened, because of their name
_DEFAULT = CorpusPolicy()


def read_repositories(roots: Sequence[Path], *, policy: CorpusPolicy = _DEFAULT) -> Corpus:
    """Read folders of any language, and CoDesc files (`.json`, `.jsonl`, `.jsonl.gz`), into one corpus.

    Raises DataError when a root cannot be read, lies inside another one, or when no source file is left at all.
    """
    if not roots:
        raise DataError("no repository was named", hint="give at least one with --repo DIR")
    folders = [_resolved(root) for root in roots]
    for folder in folders:
        if any(other in folder.parents for other in folders) or folders.count(folder) > 1:
            raise DataError(
                f"{folder} is named twice, or lies inside another repository", hint="name it once"
            )
    reading = _Reading(policy)
    for folder, name in zip(folders, _unique_names(folders), strict=True):
        candidates = reading.of_folder(folder) if folder.is_dir() else reading.of_codesc(folder)
        for path, language, text in candidates:
            reading.take(name, path, language, text)
    corpus = reading.corpus(tuple(map(str, roots)))
    if not corpus.files:
        where = ", ".join(map(str, roots))
        raise DataError(
            f"no source files found in {where}; {describe_excluded(corpus.excluded)}",
            hint="name a folder that holds source code; `sordino client corpus` shows what is left out and why",
        )
    return corpus


def _resolved(root: Path) -> Path:
    try:
        return root.expanduser().resolve(strict=True)
    except OSError as error:
        raise unreadable(root, error) from error
    except RuntimeError as error:  # a home folder that does not exist
        raise DataError(f"cannot read {root}: {error}", hint="check the path given with --repo") from error


def _unique_names(folders: Sequence[Path]) -> Iterator[str]:
    """The folder's own name; the second one of that name gets -2."""
    seen: Counter[str] = Counter()
    for folder in folders:
        name = folder.name or "root"
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"


class _ByName:
    """Decides by name: a `walk.Judge`."""

    def __init__(self, policy: CorpusPolicy) -> None:
        self._policy = policy

    def directory(self, path: str) -> ExclusionReason | None:
        if is_secret_directory(path):
            return ExclusionReason.SECRET
        return (
            ExclusionReason.VENDORED if foreign.is_vendored(path) and not self._policy.keep_vendored else None
        )

    def file(self, path: str) -> ExclusionReason | None:
        if is_secret_name(path):
            return ExclusionReason.SECRET
        if licence.is_licence_name(path):
            return ExclusionReason.LICENCE
        if foreign.is_generated_name(path) and not self._policy.keep_generated:
            return ExclusionReason.GENERATED
        language = languages.by_name(path)
        if language is None:
            return ExclusionReason.LANGUAGE if languages.has_suffix(path) else None
        return (
            None
            if not self._policy.languages or language in self._policy.languages
            else ExclusionReason.LANGUAGE
        )


class _Reading:
    """The state of one read: texts taken so far, bounds, counts."""

    def __init__(self, policy: CorpusPolicy) -> None:
        self._policy = policy
        self._files: dict[bytes, SourceFile] = {}
        self._copies: dict[bytes, list[str]] = {}
        self._excluded: Counter[ExclusionReason] = Counter()
        self._refused: Counter[str] = Counter()
        self._masked: Counter[str] = Counter()
        self._characters = 0

    def of_folder(self, root: Path) -> Iterator[tuple[str, str, str]]:
        """(path, language, raw text) of every candidate below a folder."""
        for path, content in walk(root, _ByName(self._policy), self._policy, self._excluded):
            language = languages.by_name(path) or languages.by_first_line(content)
            text = _decode(content)
            if language is None or (self._policy.languages and language not in self._policy.languages):
                self._excluded[ExclusionReason.LANGUAGE] += 1
            elif text is None:
                self._excluded[ExclusionReason.BINARY] += 1
            else:
                yield path, language, text

    def of_codesc(self, file: Path) -> Iterator[tuple[str, str, str]]:
        """(path, "Java", text) of every usable record of a CoDesc file."""
        for method in codesc.read_methods(file, maximum_bytes=self._policy.maximum_bytes):
            if isinstance(method, ExclusionReason):
                self._excluded[method] += 1
            else:
                yield method.path, "Java", method.text

    def take(self, repository: str, path: str, language: str, raw: str) -> None:
        """Put one text into the corpus, or count why not."""
        if not self._policy.keep_generated and foreign.is_generated(raw):
            self._excluded[ExclusionReason.GENERATED] += 1
            return
        screened = screen(raw, language)
        if screened.left_out is not None:
            self._excluded[ExclusionReason.SECRET] += 1
            self._refused[screened.left_out] += 1
            return
        text = licence.strip_header(screened.text)
        if not text.strip():
            self._excluded[ExclusionReason.LICENCE] += 1
            return
        if len(text.strip()) < self._policy.minimum_bytes:
            self._excluded[ExclusionReason.SIZE] += 1
            return
        file = SourceFile.of(repository, path, language, text)
        if file.digest in self._files:
            self._excluded[ExclusionReason.DUPLICATE] += 1
            self._copies.setdefault(file.digest, []).append(file.name)
            return
        self._files[file.digest] = file
        self._masked.update(screened.masked)
        self._characters += len(text)
        if (
            len(self._files) > self._policy.maximum_files
            or self._characters > self._policy.maximum_corpus_bytes
        ):
            raise DataError(
                f"more than {self._policy.maximum_files:,} source files or {self._policy.maximum_corpus_bytes >> 20:,} "
                "MiB of source text",
                hint="name fewer or smaller folders with --repo",
            )

    def corpus(self, sources: tuple[str, ...]) -> Corpus:
        files = (
            replace(file, copies=tuple(self._copies[digest])) if digest in self._copies else file
            for digest, file in self._files.items()
        )
        return Corpus(
            files=tuple(sorted(files, key=lambda file: file.name)),
            excluded=MappingProxyType(
                {reason: self._excluded[reason] for reason in ExclusionReason if self._excluded[reason]}
            ),
            secret_rules=self._secret_rules(),
            sources=sources,
        )

    def _secret_rules(self) -> Mapping[str, SecretCount]:
        left_out = self._refused.copy()
        if by_name := self._excluded[ExclusionReason.SECRET] - left_out.total():
            left_out[_BY_NAME] = by_name
        rules = (left_out + self._masked).most_common()
        return MappingProxyType(
            {rule: SecretCount(left_out=left_out[rule], masked=self._masked[rule]) for rule, _ in rules}
        )


def _decode(content: bytes) -> str | None:
    """UTF-8 text with line feeds, or None for anything else."""
    if b"\0" in content:
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")
