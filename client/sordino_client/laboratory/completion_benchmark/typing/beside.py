"""Measures the gain from other files in each request, as an editor sends its open tabs. There is no repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from sordino_client.completion.context import MAX_BYTES, Snippet, around
from sordino_client.completion.showing.worth import Show
from sordino_client.laboratory.completion_benchmark.typing.contenders import endpoint
from sordino_client.laboratory.completion_benchmark.typing.errors import adds_error
from sordino_client.laboratory.completion_benchmark.typing.replay import Passage, Typed, replay
from sordino_client.training.stream import SourceDocument


def nearest(path: str, documents: Sequence[SourceDocument], count: int) -> list[SourceDocument]:
    """The `count` other files that share the most folders with `path`, the nearest first; ties are ordered by name."""
    folders = PurePosixPath(path).parts[:-1]

    def shared(other: SourceDocument) -> int:
        pairs = zip(folders, PurePosixPath(other.path).parts[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    others = [document for document in documents if document.path != path]
    return sorted(
        others, key=lambda other: (-shared(other), len(PurePosixPath(other.path).parts), other.path)
    )[:count]


def beginnings(documents: Sequence[SourceDocument]) -> tuple[Snippet, ...]:
    """The first whole lines of each file. Each file gets an equal part of what one request may hold."""
    part = MAX_BYTES // max(len(documents), 1)
    return tuple(Snippet(path=d.path, text=around(d.text, 0, part)) for d in documents)


def typed_beside(
    chosen: Sequence[Passage],
    documents: Mapping[str, Sequence[SourceDocument]],
    show: Show,
    model: Path | None,
    counts: Sequence[int],
) -> dict[int, list[Typed]]:
    """For each of `counts`, types every passage with the first lines of that many files as context."""
    results: dict[int, list[Typed]] = {count: [] for count in counts}
    with endpoint([], "both", model=model) as asking:
        for passage in chosen:
            for count in counts:
                context = beginnings(nearest(passage.path, documents[passage.project], count))
                suggest = asking(passage.path, show, context)
                results[count].append(replay(passage, suggest, adds_error(passage.path)))
    return results
