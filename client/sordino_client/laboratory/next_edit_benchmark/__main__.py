"""Prints, as JSON, how often a next edit is offered and how often it is right.

python -m sordino_client.laboratory.next_edit_benchmark
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sordino_client.completion.edits.next import LEAST, MAX_TEXT, log_odds
from sordino_client.laboratory.next_edit_benchmark.releases import HELDOUT, TUNING
from sordino_client.laboratory.next_edit_benchmark.replay import Replayed, replayed
from sordino_client.laboratory.pretrain.fetch import fetch_pinned
from sordino_client.laboratory.pretrain.field import Pinned
from sordino_client.laboratory.pretrain.launch import user_cache

MAX_FILES = 60  # of a package


def edits(cache: Path, releases: tuple[tuple[Pinned, ...], tuple[Pinned, ...]]) -> Iterator[Replayed]:
    """Every edit between the first and the second release of each package. Raises DataError."""
    older, newer = (fetch_pinned(cache / f"releases-{n}", pins) for n, pins in enumerate(releases))
    for one, other in zip(older, newer, strict=True):
        was, will = (
            {name: text for name, language, text in project.files(Counter()) if language == "python"}
            for project in (one, other)
        )
        changed = [name for name in sorted(was) if name in will and was[name] != will[name]]
        for name in changed[:MAX_FILES]:
            if max(len(was[name]), len(will[name])) <= MAX_TEXT:
                yield from replayed(was[name], will[name])


def measured(found: list[Replayed]) -> dict[str, dict[str, float]]:
    """Counts offers, by setting.

    The figures are offers per 100 edits, the share of offers that are right, and the share of repeated edits whose
    repetition was offered.
    """
    best = []
    for edit in found:
        odds = [
            (
                log_odds(edit.after, edit.change, one.place, count=len(edit.considered), made=edit.made),
                one.right,
            )
            for one in edit.considered
        ]
        best.append(max(odds, key=lambda pair: pair[0], default=(float("-inf"), False)))
    figures: dict[str, dict[str, float]] = {}
    for show, least in LEAST.items():
        offered = [
            (right, edit.repeated) for (odds, right), edit in zip(best, found, strict=True) if odds > least
        ]
        figures[show] = {
            "offered_per_100_edits": round(100 * len(offered) / len(found), 1),
            "right_share": round(sum(right for right, _ in offered) / max(1, len(offered)), 3),
            "repetitions_offered_share": round(
                sum(right and repeated for right, repeated in offered)
                / max(1, sum(e.repeated for e in found)),
                3,
            ),
        }
    return figures


def main() -> int:
    """Measures both lists."""
    cache = user_cache()
    report = {}
    for name, releases in (("tuning", TUNING), ("heldout", HELDOUT)):
        found = list(edits(cache, releases))
        report[name] = {"edits": len(found), **measured(found)}
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
