"""The public projects that plans are searched on: two thirds of them train, and one third only measures.

They are of one field and in no other list, and only the search itself is reported on them. In order of size every third
project measures, so the largest projects train.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sordino_client.corpus import read_repositories, units
from sordino_client.laboratory.federation_benchmark.measuring import OVERLAP
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_client.laboratory.written import write_texts
from sordino_client.training.job import Tokens
from sordino_client.training.stream import SourceDocument
from sordino_platform.evaluation import Measurement, Plan
from sordino_platform.tokenizer import Tokenizer

EVERY = 3
MEASURED_TOKENS, TOKENS_PER_FILE = 600, 300
WINDOWS_KEPT = 4096  # tokens of a unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The documents that train and those that measure."""

    training: tuple[SourceDocument, ...]
    measured: tuple[SourceDocument, ...]

    @classmethod
    def read(cls, cache: Path) -> Proxies:
        """Reads the corpus cache. Raises DataError when the role was never fetched."""
        return cls.of(list(read_corpus(cache, "field-tuning")))

    @classmethod
    def of(cls, documents: Sequence[SourceDocument]) -> Proxies:
        """Every third project measures, from the largest to the smallest."""
        sizes = Counter(document.project for document in documents)
        order = sorted(sizes, key=lambda name: (-sizes[name], name))
        apart = set(order[EVERY - 1 :: EVERY])
        return cls(
            training=tuple(one for one in documents if one.project not in apart),
            measured=tuple(one for one in documents if one.project in apart),
        )

    def units(self, tokenizer: Tokenizer, *, window: int) -> list[list[Tokens]]:
        """The clusters of the training projects, each as its windows. A member's agent forms them in the same way."""
        with tempfile.TemporaryDirectory() as scratch:
            folders = sorted({Path(scratch) / one.project for one in self.training})
            write_texts(Path(scratch), {f"{one.project}/{one.path}": one.text for one in self.training})
            corpus = read_repositories(folders)
        found = units(corpus, tokenizer, window=window, windows_per_unit=max(1, WINDOWS_KEPT // window))
        return [list(unit.windows) for unit in found]

    def measurement(self, tokenizer: Tokenizer) -> Measurement:
        """The same tokens for every plan."""
        texts: dict[str, list[str]] = {}
        for one in self.measured:
            texts.setdefault(one.project, []).append(one.text)
        plan = Plan(tokens=MEASURED_TOKENS, tokens_per_file=TOKENS_PER_FILE, lines=0, overlap=OVERLAP)
        return Measurement(tokenizer, texts, plan)
