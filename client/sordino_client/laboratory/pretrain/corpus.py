"""Builds one role's corpus from archives: one cleaned and deduplicated JSON-lines file, and its manifest.

The rules, in order:

1. The first role that holds a document keeps it (`sources.earlier_roles`): a document of a later role that shares over
30 % of its 13-word runs with an earlier role is dropped.

2. Within a role, a document that shares over 60 % with the role's documents so far is a duplicate and is dropped.

3. In a field's roles, a document that shares over 50 % with the other projects is dropped too: code that one member
copied from another would make a federation look better than it is.

The manifest lists what is in the corpus, what was left out and why, and the remaining overlap.

    cache/archives/*           as fetched
    cache/<role>.jsonl         {"project", "path", "language", "text"} per line
    cache/<role>.json          the manifest
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sordino_client.laboratory.pretrain.clean import RejectedFile, clean
from sordino_client.laboratory.pretrain.overlap import SeenRuns, Slots, runs
from sordino_client.laboratory.pretrain.sources import Role, earlier_roles
from sordino_client.training.stream import SourceDocument
from sordino_privacy.errors import DataError

FOREIGN_OVERLAP = 0.30
OWN_OVERLAP = 0.60
# Projects of one field copy from each other: the share, by role, that may overlap with all other projects together.
OTHERS_OVERLAP: Mapping[Role, float] = {"field": 0.50, "field-tuning": 0.50}

RawFiles = Iterable[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedProject:
    """One fetched project: its origin, and a function that reads its files (a new iterator for each call)."""

    name: str
    version: str
    sha256: str
    licence: str
    files: Callable[[Counter[str]], RawFiles]


def corpus_path(cache: Path, role: Role) -> Path:
    return cache / f"{role}.jsonl"


def read_corpus(cache: Path, role: Role) -> Iterator[SourceDocument]:
    """The documents of a role's corpus. Raises DataError when the role was never fetched."""
    path = corpus_path(cache, role)
    if not path.is_file():
        raise DataError(f"the {role} corpus is not in the cache", hint=f"run: sordino corpus fetch {role}")
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield SourceDocument(**json.loads(line))


def build_corpus(
    cache: Path,
    role: Role,
    projects: Iterable[FetchedProject],
    *,
    on_progress: Callable[[str, int, int], None] = lambda name, files, characters: None,
) -> dict[str, object]:
    """Writes the role's corpus and manifest; returns the manifest. Earlier roles must be built first.

    `on_progress(project, files kept, characters kept)` is called after each project.
    """
    foreign, own, others = SeenRuns(), SeenRuns(), SeenRuns()
    for earlier in earlier_roles(role):
        for document in read_corpus(cache, earlier):
            foreign.add(runs(document.text))
    target, temporary = corpus_path(cache, role), cache / f"{role}.jsonl.part"
    entries: list[dict[str, object]] = []
    overlaps: list[float] = []
    digest = hashlib.sha256()
    with temporary.open("wb") as out:
        for project in projects:
            excluded: Counter[str] = Counter()
            kept = characters = 0
            languages: Counter[str] = Counter()
            of_project: list[Slots] = []
            for path, language, raw in project.files(excluded):
                text = clean(raw, language, permissive_only=role == "public")
                if isinstance(text, RejectedFile):
                    excluded[text.reason] += 1
                    continue
                slots = runs(text)
                shared = foreign.overlap(slots)
                if shared > FOREIGN_OVERLAP:
                    excluded["overlaps another role"] += 1
                    continue
                if own.overlap(slots) > OWN_OVERLAP:
                    excluded["duplicate"] += 1
                    continue
                if role in OTHERS_OVERLAP and others.overlap(slots) > OTHERS_OVERLAP[role]:
                    excluded["copied from another project"] += 1
                    continue
                own.add(slots)
                of_project.append(slots)
                overlaps.append(shared)
                record = {"project": project.name, "path": path, "language": language, "text": text}
                line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
                digest.update(line)
                out.write(line)
                kept += 1
                characters += len(text)
                languages[language] += len(text)
            for slots in of_project:
                others.add(slots)
            entries.append(
                {
                    "name": project.name,
                    "version": project.version,
                    "archive_sha256": project.sha256,
                    "licence": project.licence,
                    "files": kept,
                    "characters": characters,
                    "languages": dict(languages),
                    "excluded": dict(sorted(excluded.items())),
                }
            )
            on_progress(project.name, kept, characters)
    if not overlaps:
        temporary.unlink()
        raise DataError(
            f"no source file was found for the {role} corpus", hint="check the network and fetch again"
        )
    temporary.replace(target)
    manifest: dict[str, object] = {
        "format": "sordino-corpus/1",
        "role": role,
        "sha256": digest.hexdigest(),
        "files": len(overlaps),
        "characters": sum(int(str(entry["characters"])) for entry in entries),
        "overlap_left": round(sum(overlaps) / len(overlaps), 5),
        "projects": entries,
    }
    (cache / f"{role}.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest
