"""Chooses what is typed: passages of held-out files, which were used neither for training nor for tuning.

Files and passages are chosen by the files' hashes, so a file gives the same passage whatever other files there are. A
passage starts at the start of a line in the middle half of its file and ends at the end of a line. The text below it
stays there, as when somebody writes into an existing file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sordino_client.laboratory.completion_benchmark.typing.replay import Passage
from sordino_client.training.stream import SourceDocument

MIN_FILE_CHARACTERS = 2_000
MAX_FILE_CHARACTERS = 60_000


def passages(documents: Iterable[SourceDocument], *, files: int, characters: int) -> list[Passage]:
    """At most `files` passages of about `characters` characters each, one per file, from each project in turn."""
    usable: dict[str, list[tuple[bytes, SourceDocument]]] = {}
    for document in documents:
        if MIN_FILE_CHARACTERS <= len(document.text) <= MAX_FILE_CHARACTERS:
            draw = hashlib.sha256(document.text.encode()).digest()
            usable.setdefault(document.project, []).append((draw, document))
    chosen: list[Passage] = []
    queues = [sorted(rows, key=lambda row: row[0]) for _, rows in sorted(usable.items())]
    for turn in range(files):
        for rows in queues:
            if turn < len(rows) and len(chosen) < files:
                draw, document = rows[turn]
                chosen.append(_passage(document, draw, characters))
    return chosen


def _passage(document: SourceDocument, draw: bytes, characters: int) -> Passage:
    text = document.text
    quarter = len(text) // 4
    wanted = quarter + int.from_bytes(draw[:4], "big") % (2 * quarter)
    start = text.rfind("\n", 0, wanted) + 1
    end = text.find("\n", min(start + characters, len(text) - 1))
    end = len(text) if end < 0 else end
    return Passage(
        language=document.language,
        project=document.project,
        path=document.path,
        before=text[:start],
        text=text[start:end],
        after=text[end:],
    )
