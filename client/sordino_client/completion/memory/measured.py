"""The memory as an evaluation sees it: `sordino_platform.evaluation.RepositoryMemory` over an index on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path

from sordino_client.completion.memory.recall import LocalRecall
from sordino_client.completion.memory.store import Store
from sordino_client.completion.prompt import Prompt
from sordino_client.completion.vocabulary import EngineTokenizer
from sordino_privacy.counts import SharedMemory


class MeasuredMemory:
    """Remembers `documents` (name to text), which must hold no measured file, and whatever file is open.

    `shared` is a federation's memory beside them. The index lies in `folder` and is built again only when the documents
    change. Raises StorageError.
    """

    def __init__(
        self,
        folder: Path,
        documents: Mapping[str, str],
        tokenizer: EngineTokenizer,
        shared: SharedMemory | None = None,
    ) -> None:
        store = Store(folder)
        store.refresh(documents, tokenizer)
        self._segments, self._shared = store.read(tokenizer), shared

    def beside(self, other: MeasuredMemory) -> MeasuredMemory:
        """This memory and another one as one."""
        both = copy(self)
        both._segments = [*self._segments, *other._segments]
        return both

    def with_shared(self, shared: SharedMemory) -> MeasuredMemory:
        """This memory with a federation's beside it."""
        other = copy(self)
        other._shared = shared
        return other

    def __call__(self, before: Sequence[int]) -> LocalRecall:
        """The view from behind these tokens of the open file."""
        open_file = Prompt(tokens=[], typed=b"", healed=0, opening=(), before=list(before), after=[])
        return LocalRecall(self._segments, open_file, self._shared)
