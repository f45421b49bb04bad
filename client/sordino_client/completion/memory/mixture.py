"""How much the memory counts: matches of several lengths are blended one after the other, with fitted weights.

In the manner of PPM (Cleary and Witten 1984) and of interpolated back-off: the model's distribution is blended with
what followed the last token, the last two, three, ... in the repositories and in the open file, from the shortest
context to the longest, so that the longest has the last word. The share of each blend is a logistic sum of what is
known about its evidence: how often the context was seen, how sure and how varied its followers are, how sure the
model is and whether the two agree, and in the open file whether the likeliest follower is also the latest.

The table `mixture.json` was fitted on public projects that are in no other list
(sordino_client/laboratory/memory_fitting).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_client.completion.query import Probabilities
from sordino_platform.tokenizer import END

# Lengths of context, in tokens. More lengths than these were tried and bring under a hundredth.
ORDERS = (1, 2, 3, 5, 8, 16)
REPOSITORY, OPEN_FILE = 0, 1
SOURCES = 2
# Upper bounds of the classes: occurrences, the likeliest follower's share, different followers, the model's certainty.
TOTALS = (1, 2, 3, 6, 12, 30, 100)
SHARES = (0.3, 0.5, 0.7, 0.85, 0.95, 0.999)
VARIETIES = (1, 2, 4, 10)
CERTAINTIES = (0.2, 0.4, 0.6, 0.8, 0.95)
LAYOUT: Mapping[str, tuple[int, ...]] = {
    "base": (SOURCES, len(ORDERS)),
    "total": (SOURCES, len(ORDERS), len(TOTALS) + 1),
    "share": (SOURCES, len(ORDERS), len(SHARES) + 1),
    "variety": (SOURCES, len(ORDERS), len(VARIETIES) + 1),
    "model": (SOURCES, len(ORDERS), len(CERTAINTIES) + 1, 2),
    "latest": (SOURCES, len(ORDERS), 2),
}

Table = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchEvidence:
    """The tokens that followed one context in one source: `tokens` (ascending), each `counts` times.

    `order` is a place in ORDERS; `likeliest` the token that came most; `latest` whether it also came last.
    """

    source: int
    order: int
    tokens: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    likeliest: int
    latest: bool

    @classmethod
    def of(
        cls, source: int, order: int, followers: npt.NDArray[Any], *, latest: int | None
    ) -> MatchEvidence | None:
        """Evidence from the tokens that followed, `(n,)`, without END: that a file ended says nothing about the
        cursor's line. None if no token is left."""
        counts = np.bincount(followers)
        counts[END : END + 1] = 0
        tokens = np.flatnonzero(counts)
        if not len(tokens):
            return None
        likeliest = int(counts.argmax())
        return cls(
            source=source,
            order=order,
            tokens=tokens,
            counts=counts[tokens],
            likeliest=likeliest,
            latest=latest == likeliest,
        )

    def places(self, *, certainty: float, model_likeliest: int) -> dict[str, tuple[int, ...]]:
        """Where each of the table's parts is read for this evidence beside a model that is so sure of that token."""
        total = int(self.counts.sum())
        share = int(self.counts.max()) / total
        at = (self.source, self.order)
        return {
            "base": at,
            "total": (*at, int(np.searchsorted(TOTALS, total))),
            "share": (*at, int(np.searchsorted(SHARES, share))),
            "variety": (*at, int(np.searchsorted(VARIETIES, len(self.tokens)))),
            "model": (
                *at,
                int(np.searchsorted(CERTAINTIES, certainty)),
                int(model_likeliest == self.likeliest),
            ),
            "latest": (*at, int(self.latest)),
        }


def blend(probabilities: Probabilities, evidence: Sequence[MatchEvidence], table: Table) -> Probabilities:
    """The model's distribution, `(vocabulary,)`, blended with the evidence in order; the same object without any."""
    if not evidence:
        return probabilities
    likeliest = int(probabilities.argmax())
    certainty = float(probabilities[likeliest])
    mixed, kept = probabilities.copy(), 1.0
    for one in evidence:
        places = one.places(certainty=certainty, model_likeliest=likeliest)
        score = sum(float(table[part][place]) for part, place in places.items())
        # Everything blended so far keeps this share. It is multiplied in at the end, once for all tokens.
        kept /= 1 + math.exp(score)
        mixed[one.tokens] += one.counts * (1 / (1 + math.exp(-score)) / (kept * float(one.counts.sum())))
    mixed *= kept
    return mixed


@lru_cache(maxsize=1)
def fitted() -> Table:
    """The table that ships."""
    document = json.loads((files("sordino_client.completion.memory") / "mixture.json").read_text("utf-8"))
    table = {part: np.array(document["table"][part], np.float64) for part in LAYOUT}
    assert all(table[part].shape == shape for part, shape in LAYOUT.items()), (
        "the table and this code are one version"
    )
    return table
