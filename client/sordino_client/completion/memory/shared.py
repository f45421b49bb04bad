"""The third memory: phrases that very many file clusters of the federation hold, between model and own memories.

At each place it is asked (`sordino_privacy.counts`), for each length of phrase, which tokens are believed to follow and
how often each was counted. Like the own memories it is blended into the model's distribution by fitted weights, from
the shortest phrases to the longest, and below them: the developer's own files have the last word.

Only phrases that surprised the model are counted, and only those far above the noise are in it. So a missing phrase
says nothing, and a phrase that is there seldom stands alone; the weights were fitted to both. They were fitted below
own memories, which hold many of the same phrases.

The tables of `shared_mixture.json` were fitted on public projects that are in no figure
(sordino_client/laboratory/memory_fitting): one for each way in which units choose their phrases, because a believed
phrase is worth more under one than under another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from sordino_client.completion.memory.mixture import Table
from sordino_client.completion.query import Probabilities
from sordino_privacy.counts import Choice, Foretold, SharedMemory

# Upper bounds of the classes: length of the phrase, the highest count as a multiple of what is believed, different
# tokens, the model's certainty.
LENGTHS = (3, 4, 5, 6, 8)
STRENGTHS = (1.2, 1.5, 2, 3, 5)
VARIETIES = (1, 2, 4)
CERTAINTIES = (0.1, 0.2, 0.4, 0.6, 0.8)
LAYOUT: Mapping[str, tuple[int, ...]] = {
    "base": (len(LENGTHS) + 1,),
    "strength": (len(LENGTHS) + 1, len(STRENGTHS) + 1),
    "variety": (len(LENGTHS) + 1, len(VARIETIES) + 1),
    "model": (len(LENGTHS) + 1, len(CERTAINTIES) + 1, 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedEvidence:
    """The evidence of phrases of one length about the next token. `strength`: the highest count, divided by the
    threshold."""

    foretold: Foretold
    strength: float

    @property
    def likeliest(self) -> int:
        """The token with the highest count."""
        return int(self.foretold.tokens[self.foretold.counts.argmax()])

    def places(self, *, certainty: float, model_likeliest: int) -> dict[str, tuple[int, ...]]:
        """Where each of the table's parts is read beside a model that is so sure of that token."""
        at = int(np.searchsorted(LENGTHS, self.foretold.length))
        return {
            "base": (at,),
            "strength": (at, int(np.searchsorted(STRENGTHS, self.strength))),
            "variety": (at, int(np.searchsorted(VARIETIES, len(self.foretold.tokens)))),
            "model": (
                at,
                int(np.searchsorted(CERTAINTIES, certainty)),
                int(model_likeliest == self.likeliest),
            ),
        }


def evidence(memory: SharedMemory, context: Sequence[int], *, vocabulary: int) -> list[SharedEvidence]:
    """The shared memory's evidence about the token after `context`, in the order in which it is blended."""
    threshold = memory.threshold
    return [
        SharedEvidence(foretold=found, strength=float(found.counts.max()) / threshold)
        for found in memory.follows(context, vocabulary=vocabulary)
    ]


def blend(probabilities: Probabilities, found: Sequence[SharedEvidence], table: Table) -> Probabilities:
    """The model's distribution, `(vocabulary,)`, blended with the evidence in order; the same object without any."""
    if not found:
        return probabilities
    model_likeliest = int(probabilities.argmax())
    certainty = float(probabilities[model_likeliest])
    mixed = probabilities.copy()
    for one in found:
        places = one.places(certainty=certainty, model_likeliest=model_likeliest)
        weight = 1 / (1 + np.exp(-sum(float(table[part][place]) for part, place in places.items())))
        counts = one.foretold.counts.astype(np.float64)
        mixed *= 1 - weight
        mixed[one.foretold.tokens] += weight * counts / counts.sum()
    return mixed


@lru_cache(maxsize=2)
def fitted(choice: Choice) -> Table:
    """The table that ships for memories whose plan has this choice."""
    place = files("sordino_client.completion.memory") / "shared_mixture.json"
    document = json.loads(place.read_text("utf-8"))
    table = {part: np.array(document["tables"][choice][part], np.float64) for part in LAYOUT}
    assert all(table[part].shape == shape for part, shape in LAYOUT.items()), (
        "the table and this code are one version"
    )
    return table
