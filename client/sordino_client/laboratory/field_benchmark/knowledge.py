"""The content of a party's memory while it is measured.

Results of look-ups are kept, because the models change and the memory does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.laboratory.federation_benchmark.repositories import Repository
from sordino_platform.evaluation import MemoryAtPlace, RepositoryMemory
from sordino_platform.tokenizer import Tokenizer

# Nothing; a newcomer's first files; all own files; and each with the text of all members beside it, which nobody has.
Knowledge = Literal["nothing", "few", "all", "few and others", "all and others"]
Memories = Mapping[Knowledge, MeasuredMemory | None]


class Remembered:
    """A memory that is asked the same questions by one model after the other, and looks each up once."""

    def __init__(self, memory: RepositoryMemory) -> None:
        self._memory = memory
        self._views: dict[tuple[int, ...], MemoryAtPlace] = {}

    def __call__(self, before: Sequence[int]) -> MemoryAtPlace:
        """The view from behind these tokens; it keeps what it found."""
        key = tuple(before)
        if key not in self._views:
            self._views[key] = self._memory(before)
        return self._views[key]


def others_text(folder: Path, members: Mapping[str, Repository], tokenizer: Tokenizer) -> MeasuredMemory:
    """The text of all members in one memory: what a federation without any privacy would hand out."""
    documents = {
        f"{name}/{path}": text
        for name, repository in members.items()
        for path, text in repository.documents().items()
    }
    return MeasuredMemory(folder, documents, tokenizer)


def knowledge_of_newcomer(
    folder: Path, first: Repository, whole: Repository, others: MeasuredMemory, tokenizer: Tokenizer
) -> Memories:
    """Every memory that a newcomer is measured with."""
    few = MeasuredMemory(folder / "few", first.documents(), tokenizer)
    every = MeasuredMemory(folder / "all", whole.documents(), tokenizer)
    return {
        "nothing": None,
        "few": few,
        "all": every,
        "few and others": few.beside(others),
        "all and others": every.beside(others),
    }


def knowledge_of_member(folder: Path, whole: Repository, tokenizer: Tokenizer) -> Memories:
    """Every memory that a member is measured with."""
    return {"nothing": None, "all": MeasuredMemory(folder / "all", whole.documents(), tokenizer)}
