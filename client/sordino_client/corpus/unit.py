"""The privacy unit: a cluster of near-duplicate files, and the token windows it trains on.

A step of private training draws units, takes at most k windows of each, and clips once per unit: what is protected is
everything a unit holds, however many files and windows that is (docs/privacy-statement.md says why an epsilon for
single windows would be a false promise for code).
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sordino_client.corpus.corpus import Corpus, SourceFile
from sordino_client.corpus.registry import UnitRegistry
from sordino_privacy.errors import DataError, UsageError

END = 0  # <|end|> of our own tokenizer: closes a document, and fills up its last window
_SHORTEST_TAIL = 16  # tokens: a shorter rest of a file teaches nothing that its other windows do not

# uint16, or uint32 where a base's vocabulary is larger than that.
Windows = npt.NDArray[np.unsignedinteger[Any]]


class UnitEncoder(Protocol):
    """What the corpus needs of a tokenizer: token ids of plain text."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One unit. `windows` has shape (n, window), 1 <= n <= windows_per_unit; behind the end of a file all is `end`."""

    identity: str
    names: tuple[str, ...]
    windows: Windows = field(repr=False)
    end: int = END

    @property
    def tokens(self) -> int:
        """Tokens of source text in the windows, the filling left out."""
        return int(np.count_nonzero(self.windows != self.end))


def units(
    corpus: Corpus,
    tokenizer: UnitEncoder,
    *,
    window: int,
    windows_per_unit: int,
    registry: UnitRegistry | None = None,
    end: int = END,
) -> tuple[Unit, ...]:
    """The units of a corpus in the order of their identities, each with at most `windows_per_unit` windows.

    A unit with more windows gives an even spread over all its files, the same one every time. Pass the member's
    registry wherever privacy is accounted: without one, units are only as stable as the texts are. Units that the
    registry calls overgrown are left out. Raises UsageError for a window or a number of windows too small to train on.
    """
    if window < 2 or windows_per_unit < 1:
        raise UsageError(f"a window of {window} tokens, {windows_per_unit} per unit: nothing to train on")
    left_out: frozenset[str] = frozenset()
    if registry is None:
        with UnitRegistry() as forgotten:
            identities = forgotten.assign(corpus.files)
    else:
        identities, left_out = registry.assign(corpus.files), registry.overgrown()
    grouped: dict[str, list[SourceFile]] = {}
    for identity, file in zip(identities, corpus.files, strict=True):
        grouped.setdefault(identity, []).append(file)
    return tuple(
        Unit(
            identity=identity,
            names=tuple(file.name for file in files),
            windows=_spread(
                [cut(tokenizer.encode(file.text), window, end=end) for file in files], windows_per_unit
            ),
            end=end,
        )
        for identity, files in sorted(grouped.items())
        if identity not in left_out
    )


def cut(ids: Sequence[int], window: int, *, end: int = END) -> Windows:
    """Cut one document into consecutive windows, shape (n, window), n >= 1.

    The document is closed by `end`; the last window is filled up with it, or left out when fewer than 16 tokens of
    the document are in it and it is not the only one.
    """
    kind = np.uint16 if max(ids, default=0) < 1 << 16 and end < 1 << 16 else np.uint32
    closed = np.asarray([*ids, end], dtype=kind)
    whole, rest = divmod(len(closed), window)
    rows = whole + (rest >= _SHORTEST_TAIL or whole == 0)
    out: Windows = np.full((rows, window), end, dtype=kind)
    kept = closed[: rows * window]
    out.ravel()[: len(kept)] = kept
    return out


def _spread(parts: Sequence[Windows], limit: int) -> Windows:
    rows = np.concatenate(parts)
    if len(rows) <= limit:
        return rows
    return rows[(np.arange(limit) * len(rows)) // limit]


def require_units(found: Sized, minimum: int) -> None:
    """Raise DataError when there are too few units to hide one among them."""
    if len(found) < minimum:
        raise DataError(
            f"{len(found)} units of code are too few to be private: this run needs at least {minimum}",
            hint="name more repositories with --repo (near-duplicate files count as one unit), or join a run with a"
            " smaller minimum; `sordino client corpus` shows what is left out and why",
        )
