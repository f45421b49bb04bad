"""Reads planted files with the real reader: a credential is caught if no piece of it is in any kept text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sordino_client.corpus import CorpusPolicy, ExclusionReason, read_repositories
from sordino_client.laboratory.secrets_benchmark.planted import Planted
from sordino_privacy.errors import DataError

# A credential counts as missed if this many of its characters in a row are left.
PIECE = 8
_EXPECTED = frozenset({ExclusionReason.SECRET, ExclusionReason.DUPLICATE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """The planted files whose credential was caught, and how many of them were left out completely."""

    files: frozenset[str]
    left_out: int


def read(planted: Sequence[Planted], folder: Path) -> Caught:
    """Reads `folder`, which holds the planted files, as a member's repository is read.

    Raises DataError when a file was left out for another reason than its credential, because it would count as caught
    without a check.
    """
    corpus = read_repositories([folder], policy=CorpusPolicy(keep_generated=True, keep_vendored=True))
    if others := {str(reason): count for reason, count in corpus.excluded.items() if reason not in _EXPECTED}:
        raise DataError(f"planted files were left out for other reasons: {others}")
    texts = {name.partition("/")[2]: file.text for file in corpus.files for name in (file.name, *file.copies)}
    caught = frozenset(file.path for file in planted if not survives(file.secret, texts.get(file.path, "")))
    return Caught(files=caught, left_out=corpus.excluded.get(ExclusionReason.SECRET, 0))


def survives(secret: str, text: str) -> bool:
    """Whether `PIECE` characters in a row of the credential (or all of a shorter one) are in the text."""
    size = min(PIECE, len(secret))
    return any(secret[at : at + size] in text for at in range(len(secret) - size + 1))


def recall(planted: Iterable[Planted], files: frozenset[str]) -> float:
    """The share of the planted files that are in `files`."""
    rows = list(planted)
    return sum(file.path in files for file in rows) / len(rows)


def by(planted: Sequence[Planted], files: frozenset[str], field: str) -> dict[str, float]:
    """Recall by a field of `Planted`, the worst first."""
    groups: dict[Any, list[Planted]] = defaultdict(list)
    for file in planted:
        groups[getattr(file, field)].append(file)
    found = {name: recall(rows, files) for name, rows in groups.items()}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def figures(planted: Sequence[Planted], caught: Caught) -> dict[str, Any]:
    """The figures of the report; shares between 0 and 1."""
    kinds = by(planted, caught.files, "kind")
    languages = by(planted, caught.files, "language")
    held = [file for file in planted if file.heldout]
    return {
        "planted_files": len(planted),
        "kinds": len(kinds),
        "languages": len(languages),
        "recall": recall(planted, caught.files),
        "recall_worst_kind": min(kinds.values()),
        "worst_kind": next(iter(kinds)),
        "recall_worst_language": min(languages.values()),
        "recall_held_out": recall(held, caught.files),
        "recall_worst_kind_held_out": min(by(held, caught.files, "kind").values()),
        "recall_new_languages": recall([file for file in planted if file.new_language], caught.files),
        "planted_files_left_out": caught.left_out,
        "missed_by_kind": dict(
            Counter(file.kind for file in planted if file.path not in caught.files).most_common()
        ),
    }
