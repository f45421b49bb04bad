"""Real source files: files left out wrongly, masked literals, and lines read per second.

Nobody checked the files by hand: every file left out counts as wrong, so the figure is an upper bound.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from sordino_client.corpus import CorpusPolicy, languages
from sordino_client.corpus.secret_names import is_secret_name
from sordino_client.corpus.secrets import screen
from sordino_privacy.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class RealFile:
    """One source file in memory."""

    path: Path
    language: str
    text: str = field(repr=False)


def sample(folders: Sequence[Path], *, lines: int, seed: int) -> list[RealFile]:
    """Source files of the folders, in a random order from `seed`, until they have that many lines.

    Raises DataError when there are none.
    """
    policy = CorpusPolicy()
    places = sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if languages.by_name(str(path)) and path.is_file() and not path.is_symlink()
    )
    Random(seed).shuffle(places)
    files: list[RealFile] = []
    for file in _texts(places, policy):
        files.append(file)
        lines -= file.text.count("\n")
        if lines <= 0:
            break
    if not files:
        raise DataError("no source files in the folders that were given", hint="name others with --code")
    return files


def measure(files: Sequence[RealFile]) -> dict[str, Any]:
    """Figures over the files. The speed is in lines per second of the process's CPU time."""
    masked: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with_masks = by_name = 0
    started = time.process_time()
    for file in files:
        screened = screen(file.text, file.language)
        masked.update(screened.masked)
        with_masks += bool(screened.masked)
        left_out.update([screened.left_out] if screened.left_out else [])
    seconds = time.process_time() - started
    by_name = sum(is_secret_name(file.path.as_posix()) for file in files)
    lines = sum(file.text.count("\n") for file in files)
    thousands = len(files) / 1000
    return {
        "real_files": len(files),
        "real_lines": lines,
        "real_languages": len({file.language for file in files}),
        "files_wrongly_left_out_per_1000": (left_out.total() + by_name) / thousands,
        "left_out_by_rule": dict(left_out.most_common())
        | ({"named-like-a-secret": by_name} if by_name else {}),
        "files_with_masks_per_1000": with_masks / thousands,
        "literals_masked_per_1000": masked.total() / thousands,
        "masked_by_rule": dict(masked.most_common()),
        "lines_per_second": lines / seconds,
    }


def _texts(places: Sequence[Path], policy: CorpusPolicy) -> Iterator[RealFile]:
    for path in places:
        try:
            if not policy.minimum_bytes <= path.stat().st_size <= policy.maximum_bytes:
                continue
            text = path.read_text()
        except (OSError, ValueError):
            continue
        language = languages.by_name(str(path))
        if language is not None and "\0" not in text:
            yield RealFile(path=path, language=language, text=text)
