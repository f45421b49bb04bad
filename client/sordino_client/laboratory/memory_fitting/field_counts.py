"""Simulates a federation's count of phrases on public projects of one platform, with any count plan.

The projects of the corpus `field-tuning` (`sordino corpus fetch field-tuning`) are in no reported figure. They have
fewer clusters than a federation, so the noise is scaled down: a phrase is accepted if it occurs in the same share of
clusters as in a federation of `clusters`. A real federation's larger counts measure that share more exactly. The
projects cannot show this, so a trial tends to understate the gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sordino_client.corpus.licence import strip_header
from sordino_client.corpus.unit import cut
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_client.training.counting import cells_of
from sordino_platform import base
from sordino_platform.model import build_decoder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.counts import Choice, CountPlan, SharedMemory
from sordino_privacy.counts.counting import Counts, counted, noised
from sordino_privacy.keystream import Keystream

FIELD_CLUSTERS, FIELD_SURVIVORS, FIELD_SHARES = 7555, 18, 12
"""The simulated federation: eighteen members, of which twelve together add enough noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSetting:
    """The plan to try: fields of `CountPlan`, with the noise multiplier of the simulated federation."""

    phrases: int = 100
    choice: Choice = "surprise"
    shortest: int = 3
    longest: int = 3
    surprise: float = 1.5
    deviations: float = 4.0
    bits: int = 20
    window: int = 128
    windows_per_unit: int = 4
    noise_multiplier: float = 1.0

    def scaled(self, units: int) -> CountPlan:
        """The plan for this many clusters in one sum: the noise is scaled down with their number."""
        share = math.sqrt(FIELD_SURVIVORS / FIELD_SHARES) * units / FIELD_CLUSTERS
        plan = CountPlan(
            bits=self.bits,
            phrases=self.phrases,
            choice=self.choice,
            shortest=self.shortest,
            longest=self.longest,
            surprise=self.surprise,
            deviations=self.deviations,
            window=self.window,
            windows_per_unit=self.windows_per_unit,
            noise_multiplier=self.noise_multiplier * share,
            largest_count=1,
            delta=1e-6,
            salt=1,
        )
        return replace(plan, largest_count=max(1, int(plan.threshold(survivors=1) / plan.witnesses)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Projects of one platform: the texts of each, and the counts of each by the plan, without noise."""

    plan: CountPlan
    texts: Mapping[str, Sequence[str]]
    counts: Mapping[str, Counts]

    def memory(self, *, without: str, seed: bytes) -> SharedMemory:
        """The memory from the sum over all projects but `without`, with the noise of one whole share."""
        others = [counts for name, counts in self.counts.items() if name != without]
        total = noised(np.sum(others, axis=0), self.plan, Keystream(seed))
        return SharedMemory.of_sum(total, self.plan, survivors=1, step=1.0)


def counts_of(texts: Sequence[str], model: torch.nn.Module, tokenizer: Tokenizer, plan: CountPlan) -> Counts:
    """One project's counts. Each file is a separate unit."""
    cut_up = (cut(tokenizer.encode(text), plan.window) for text in texts)
    units = [list(windows) for windows in cut_up if len(windows)]
    config = base.load(None)[0]
    return counted(
        (cells_of(unit, model, plan, vocabulary=config.vocabulary, end=config.end) for unit in units), plan
    )


def read_field(cache: Path, setting: CountSetting) -> Field:
    """Reads the projects and counts. Raises DataError when the corpus was not fetched."""
    config, tokenizer, parameters = base.load(None)
    model = build_decoder(config, parameters).eval()
    texts: dict[str, list[str]] = {}
    for document in read_corpus(cache, "field-tuning"):
        # Read as a member reads its repositories. Otherwise the same licence would be in all files, and the fitted
        # table would trust every phrase.
        texts.setdefault(document.project, []).append(strip_header(document.text))
    plan = setting.scaled(sum(map(len, texts.values())))
    counts = {name: counts_of(rows, model, tokenizer, plan) for name, rows in texts.items()}
    return Field(plan=plan, texts=texts, counts=counts)
