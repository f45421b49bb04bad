"""The content of a party's memory during a measurement.

Look-ups are cached, because the models change and the memory does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.laboratory.federation_benchmark.repositories import Repository
from sordino_platform.evaluation import MemoryAtPlace, RepositoryMemory
from sordino_platform.tokenizer import Tokenizer

# Nothing; a newcomer's first files; all own files; and each of these with the text of all members, which nobody has.
Knowledge = Literal["nothing", "few", "all", "few and others", "all and others"]
Memories = Mapping[Knowledge, MeasuredMemory | None]


class Remembered:
    """A memory that gets the same queries from one model after another and looks up each query once."""

    def __init__(self, memory: RepositoryMemory) -> None:
        self._memory = memory
        self._views: dict[tuple[int, ...], MemoryAtPlace] = {}

    def __call__(self, before: Sequence[int]) -> MemoryAtPlace:
        """The view after these tokens. It caches its results."""
        key = tuple(before)
        if key not in self._views:
            self._views[key] = self._memory(before)
        return self._views[key]


def others_text(folder: Path, members: Mapping[str, Repository], tokenizer: Tokenizer) -> MeasuredMemory:
    """One memory with the text of all members, which a federation without any privacy would share."""
    documents = {
        f"{name}/{path}": text
        for name, repository in members.items()
        for path, text in repository.documents().items()
    }
    return MeasuredMemory(folder, documents, tokenizer)


def knowledge_of_newcomer(
    folder: Path, first: Repository, whole: Repository, others: MeasuredMemory, tokenizer: Tokenizer
) -> Memories:
    """All memories with which a newcomer is measured."""
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
    """All memories with which a member is measured."""
    return {"nothing": None, "all": MeasuredMemory(folder / "all", whole.documents(), tokenizer)}
