"""The memory's folder: at most two segments, the large one and what changed since.

    STATE/memory/memory.json       what is indexed: per file a keyed digest, its segment and its place; no text
    STATE/memory/<name>.tokens     uint16, or uint32 where the vocabulary is larger, little endian, padded (index.pad)
    STATE/memory/<name>.order      uint32, little endian (index.sort)

A change of some files rebuilds the small segment and marks their old text in the large one as dead. Text that was
*removed* (a file, a repository) must be gone from the disk: that rebuilds everything, and so does a change that is too
large. The manifest is replaced last; a reader keeps the maps that it has open.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sordino_client.completion import unread
from sordino_client.completion.memory.index import Index, Match, Positions, Tokens, pad, sort, width_of
from sordino_client.completion.unread import Gap
from sordino_client.completion.vocabulary import EngineTokenizer
from sordino_client.corpus.secrets import RULES_VERSION
from sordino_platform import durable
from sordino_privacy.errors import StorageError

VERSION = 2
MAX_TOKENS = 50_000_000
MAX_MANIFEST_BYTES = 256 << 20
# The small segment, and dead text in the large one, may together be this share of the large one.
REBUILD_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One indexed stream: names and digests of its documents, where each begins, and which are dead."""

    name: str
    documents: dict[str, str]
    starts: list[int]
    dead: list[int]
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatus:
    """The sizes of the memory, for `sordino client status`."""

    files: int
    tokens: int
    bytes: int
    unread: tuple[Gap, ...] = ()  # parts that are missing in it


class OpenSegment:
    """A segment mapped for reading."""

    def __init__(self, folder: Path, segment: Segment, *, vocabulary: int) -> None:
        shape = (segment.tokens,)
        tokens = np.memmap(folder / f"{segment.name}.tokens", width_of(vocabulary), "r", shape=shape)
        order = np.memmap(folder / f"{segment.name}.order", "<u4", "r", shape=shape)
        self.index = Index(tokens, order, vocabulary=vocabulary)
        self._starts = np.array(segment.starts, np.int64)
        self._dead = np.array(sorted(segment.dead), np.int64)

    def matches(self, context: Sequence[int]) -> list[Match]:
        """`Index.matches` over living text only; ends where a longer context stands in dead text alone."""
        found = self.index.matches(context)
        if not len(self._dead):
            return found
        living: list[Match] = []
        for match in found:
            alive = self._alive(match.positions)
            if not len(alive):
                break
            living.append(Match(match.order, alive))
        return living

    def _alive(self, positions: Positions) -> Positions:
        document = np.searchsorted(self._starts, positions, side="right") - 1
        alive: Positions = positions[~np.isin(document, self._dead)]
        return alive


class Store:
    """The folder, for the one process that builds; `read` is for the one that serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / "memory.json"

    def refresh(self, documents: Mapping[str, str], tokenizer: EngineTokenizer) -> bool:
        """Makes the memory hold exactly `documents` (name to text); returns whether anything changed.

        Raises StorageError. Bounded: documents beyond MAX_TOKENS tokens are left out, the last ones first.
        """
        durable.make_folder(self.folder)
        with durable.locked(self.folder):
            digests = {name: _digest(text) for name, text in documents.items()}
            large, small = self._segments(tokenizer)
            size = tokenizer.size
            known = {**(large.documents if large else {}), **(small.documents if small else {})}
            if known == digests and (large is not None or not digests):
                return False
            changed = [
                name for name in digests if large is None or large.documents.get(name) != digests[name]
            ]
            removed = known.keys() - digests.keys()
            if large is not None and not removed:
                fresh = _encode(documents, changed, tokenizer)
                dead = [n for n, name in enumerate(large.documents) if large.documents[name] != digests[name]]
                extra = sum(map(len, fresh)) + _tokens_of(large, dead)
                if extra <= REBUILD_SHARE * large.tokens:
                    kept = Segment(**(asdict(large) | {"dead": dead}))
                    self._commit([kept, self._write(changed, fresh, digests, vocabulary=size)], tokenizer)
                    return True
            names = list(digests)
            encoded = _encode(documents, names, tokenizer)
            self._commit([self._write(names, encoded, digests, vocabulary=size)], tokenizer)
            return True

    def purge(self) -> None:
        """Removes everything. Raises StorageError."""
        try:
            self.manifest.unlink(missing_ok=True)
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as error:
            raise StorageError(
                "the local memory could not be removed", hint=f"remove {self.folder}"
            ) from error

    def read(self, tokenizer: EngineTokenizer, *, without: Collection[str] = ()) -> list[OpenSegment]:
        """The segments that were built with this tokenizer; none where there is nothing to use. `without` are texts
        that are not to be recalled, wherever they stand."""
        hidden = {_digest(text) for text in without}
        try:
            return [
                OpenSegment(self.folder, _hiding(segment, hidden), vocabulary=tokenizer.size)
                for segment in self._segments(tokenizer)
                if segment is not None
            ]
        except (OSError, ValueError):
            return []  # replaced while it was opened: the next look finds the new one

    def status(self) -> MemoryStatus:
        """Sizes; zeros where nothing is indexed."""
        segments = self._load().get("segments", [])
        size = sum(path.stat().st_size for path in self.folder.glob("*") if path.is_file()) if segments else 0
        files = len({name for segment in segments for name in segment["documents"]})
        return MemoryStatus(
            files=files,
            tokens=sum(s["tokens"] for s in segments),
            bytes=size,
            unread=unread.read(self.folder),
        )

    def stamp(self) -> int:
        """Changes when the memory does; 0 while there is none."""
        try:
            return self.manifest.stat().st_mtime_ns
        except OSError:
            return 0

    def _load(self) -> dict[str, Any]:
        try:
            document = json.loads(durable.read_file(self.manifest, limit=MAX_MANIFEST_BYTES))
        except (StorageError, ValueError):
            return {}
        known = isinstance(document, dict) and document.get("version") == VERSION
        # Text that was screened by other rules may hold a credential that the present ones mask: so it is built again,
        # and the old files are removed.
        return document if known and document.get("secret_rules") == RULES_VERSION else {}

    def _segments(self, tokenizer: EngineTokenizer) -> tuple[Segment | None, Segment | None]:
        document = self._load()
        if document.get("tokenizer") != tokenizer.digest.hex():
            return None, None
        segments = [Segment(**entry) for entry in document["segments"]]
        return segments[0] if segments else None, segments[1] if len(segments) > 1 else None

    def _write(
        self,
        names: Sequence[str],
        encoded: Sequence[Tokens],
        digests: Mapping[str, str],
        *,
        vocabulary: int,
    ) -> Segment:
        stream, starts = pad(encoded, vocabulary=vocabulary)
        segment = Segment(
            name=secrets.token_hex(8),
            documents={name: digests[name] for name in names},
            starts=starts.tolist(),
            dead=[],
            tokens=len(stream),
        )
        durable.write_file(self.folder / f"{segment.name}.tokens", stream.tobytes(), secret=True)
        order = sort(stream)
        durable.write_file(self.folder / f"{segment.name}.order", order.astype("<u4").tobytes(), secret=True)
        return segment

    def _commit(self, segments: Sequence[Segment], tokenizer: EngineTokenizer) -> None:
        document = {
            "version": VERSION,
            "secret_rules": RULES_VERSION,
            "tokenizer": tokenizer.digest.hex(),
            "segments": [asdict(segment) for segment in segments],
        }
        durable.write_file(self.manifest, json.dumps(document).encode(), secret=True)
        kept = {segment.name for segment in segments}
        for path in self.folder.glob("*"):
            if path.suffix in {".tokens", ".order"} and path.stem not in kept:
                with contextlib.suppress(OSError):
                    path.unlink()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _hiding(segment: Segment, digests: Collection[str]) -> Segment:
    """The segment, with the documents of these digests marked as dead too."""
    hidden = {number for number, digest in enumerate(segment.documents.values()) if digest in digests}
    return replace(segment, dead=sorted({*segment.dead, *hidden}))


def _encode(documents: Mapping[str, str], names: Sequence[str], tokenizer: EngineTokenizer) -> list[Tokens]:
    encoded: list[Tokens] = []
    total = 0
    for start in range(0, len(names), 256):
        for ids in tokenizer.encode_many([documents[name] for name in names[start : start + 256]]):
            total += len(ids)
            encoded.append(np.array(ids if total <= MAX_TOKENS else [], width_of(tokenizer.size)))
    return encoded


def _tokens_of(segment: Segment, documents: Sequence[int]) -> int:
    ends = [*segment.starts[1:], segment.tokens]
    return sum(ends[n] - segment.starts[n] for n in documents)
