"""Searches one dimension after another, starting from the plan in use: the best value of each is kept for the next.

Every trial is saved as a line in the run's folder as soon as it is done, so an interrupted search continues after it.
The engine draws new noise each time. No trial is repeated to keep the luckiest result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sordino_client.laboratory.plan_search.proxies import Proxies
from sordino_client.laboratory.plan_search.trial import Candidate, Setting, gain
from sordino_client.training.job import Tokens
from sordino_platform import base
from sordino_platform.architecture import Vector
from sordino_platform.durable import make_folder, read_file
from sordino_platform.model import build_decoder

MAX_BYTES = 1 << 24
SEED = 20261129

# (dimension, changes to try). Rates come first; what needs the most compute comes last.
Dimension = tuple[str, tuple[Mapping[str, Any], ...]]
DIMENSIONS: tuple[Dimension, ...] = (
    ("rate", tuple({"rate": rate} for rate in (0.8, 1.6, 3.2))),
    ("momentum", ({"momentum": 0.9}, {"momentum": 0.6})),
    ("scale", ({"scale": 3.0}, {"scale": 12.0})),
    ("which parameters", ({"rank": 8, "embedding_rank": 16}, {"embedding_rank": 32})),
    ("clip", ({"clip": 0.1}, {"clip": 0.4})),
    ("schedule", ({"sampling": 0.2}, {"sampling": 0.05})),
    ("server", ({"server": "fedadam", "rate": 0.01},)),
    ("windows", ({"windows": 2}, {"windows": 4})),
)
QUICK: tuple[Dimension, ...] = (("rate", ({"rate": 0.8},)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search in `folder` under one setting. `on_progress` is called for each trial."""

    folder: Path
    proxies: Proxies
    setting: Setting
    on_progress: Callable[[str], None]

    def run(self, start: Candidate, dimensions: Sequence[Dimension] = DIMENSIONS) -> dict[str, Any]:
        """Runs all trials that are not done yet; returns the best plan and the table of all. Raises SordinoError."""
        config, tokenizer, parameters = base.load()
        measurement = self.proxies.measurement(tokenizer)
        units: dict[int, list[list[Tokens]]] = {}

        def measure(plain: Mapping[str, Vector]) -> float:
            found = measurement.of_model(build_decoder(config, plain).eval())["bits_per_byte"]
            return math.inf if found is None else float(found)  # a plan that diverged: NaN

        def tried(candidate: Candidate, what: str) -> dict[str, Any]:
            key = {"candidate": asdict(candidate), "setting": asdict(self.setting)}
            for line in self._kept():
                if line["key"] == key:
                    return line
            if candidate.window not in units:
                units[candidate.window] = self.proxies.units(tokenizer, window=candidate.window)
            outcome = gain(candidate, self.setting, units[candidate.window], measure, seed=SEED)
            line = {"what": what, "key": key, **outcome, "gain": started - outcome["bits_per_byte"]}
            self._keep(line)
            self.on_progress(f"{what}: {_changes(candidate, start)}: gains {line['gain']:.4f}")
            return line

        started = measure(parameters)
        best, table = start, [tried(start, "as it is")]
        for what, changes in dimensions:
            trials = [(replace(best, **change), what) for change in changes]
            outcomes = [(candidate, tried(candidate, name)) for candidate, name in trials]
            table += [line for _, line in outcomes]
            reached = max(outcomes, key=lambda one: float(one[1]["gain"]))
            if reached[1]["gain"] > max(line["gain"] for line in table[: -len(outcomes)]):
                best = reached[0]
        return {"base_bits_per_byte": started, "best": asdict(best), "trials": table}

    def _kept(self) -> Iterator[dict[str, Any]]:
        path = self.folder / "trials.jsonl"
        if path.exists():
            for line in read_file(path, limit=MAX_BYTES).splitlines():
                yield json.loads(line)

    def _keep(self, line: Mapping[str, Any]) -> None:
        make_folder(self.folder)
        with (self.folder / "trials.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")


def _changes(candidate: Candidate, start: Candidate) -> str:
    before = asdict(start)
    changed = {name: value for name, value in asdict(candidate).items() if value != before[name]}
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "as it is"
