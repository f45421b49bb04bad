"""Computes the quoted figures from the stages' facts, in bits per byte unless stated. Every mean is over members."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from sordino_client.laboratory.federation_benchmark.benchmark import alone_name, by_member, federation_name
from sordino_client.laboratory.federation_benchmark.measuring import LAYERS
from sordino_client.laboratory.federation_benchmark.profile import EPSILONS, Profile
from sordino_client.laboratory.federation_benchmark.stages import Facts

FIGURES = ("bits_per_byte", "next_token_accuracy", "line_exact_match")


def summarise(facts: Mapping[str, Facts], profile: Profile, base: Mapping[str, Any]) -> dict[str, Any]:
    """The report. `base` is the description of the public base (its card)."""
    first, second = EPSILONS
    runs = [federation_name(first, repeat) for repeat in range(profile.repeats)]
    other = federation_name(second, 0)
    closed = [gap_closed(facts, name) for name in runs]
    federated = {
        name: fmean(by_member(facts, run, "model", "bits_per_byte")[name] for run in runs)
        for name, _ in profile.parties
    }
    alone = by_member(facts, alone_name(first), "model", "bits_per_byte")
    better = sorted(name for name, bits in federated.items() if bits < alone[name])
    run = facts[runs[0]]["run"]
    worth = {f"eps{e:g}": worth_of(facts, federation_name(e, 0)) for e in EPSILONS}
    return {
        "format": "sordino-bench-federation/1",
        "profile": profile.name,
        "base": dict(base),
        "gap_closed_eps8": fmean(closed),
        "gap_closed_eps8_runs": closed,
        "gap_closed_eps2": gap_closed(facts, other),
        "gap_closed_without_privacy": gap_closed(facts, "federation_without_privacy"),
        "members_better_than_alone": len(better),
        "members_better_than_alone_names": better,
        "rounds": run["rounds"],
        "epsilon_by_member": run["epsilon_by_member"],
        "epsilon_by_member_eps2": facts[other]["run"]["epsilon_by_member"],
        "members": facts["repositories"]["members"],
        "worth": worth,
        "contenders": {name: figures_of(facts, name) for name in contenders(facts)},
        "curves": {name: value["curve"] for name, value in facts.items() if "curve" in value},
        "plans": {name: facts[name]["run"]["plan"] for name in (*runs, other)},
        "bytes_on_the_link": {name: facts[name]["run"]["bytes"] for name in (*runs, other)},
        "wall_seconds": sum(value["wall_seconds"] for value in facts.values()),
    }


def gap_closed(facts: Mapping[str, Facts], contender: str) -> float:
    """The gain over the base as a share of the gain of central training without privacy (mean bits per byte, model
    alone).
    """
    base, central, reached = (
        fmean(by_member(facts, name, "model", "bits_per_byte").values())
        for name in ("base", "central", contender)
    )
    return (base - reached) / (base - central)


def worth_of(facts: Mapping[str, Facts], federation: str) -> dict[str, Any]:
    """Compares what a member would use: own adapter and memory on the federated model, or on the public base.

    Gives by member the bits per byte that the federation saves (above 0: it helps) and the gain in next-token accuracy.
    """
    saved = _difference(facts, "base_own", f"{federation}_own", "bits_per_byte")
    gained = _difference(facts, f"{federation}_own", "base_own", "next_token_accuracy")
    return {
        "bits_per_byte_saved": saved,
        "next_token_accuracy_gained": gained,
        "mean_bits_per_byte_saved": fmean(saved.values()),
        "mean_next_token_accuracy_gained": fmean(gained.values()),
        "worth_it_for": sorted(name for name, bits in saved.items() if bits > 0),
    }


def contenders(facts: Mapping[str, Facts]) -> list[str]:
    """Everything that was measured, in the order of the stages."""
    return list(dict.fromkeys(name.partition(".")[0] for name in facts if name != "repositories"))


def figures_of(facts: Mapping[str, Facts], contender: str) -> dict[str, Any]:
    """By layer: the mean of each figure, and its value for each member."""
    found: dict[str, Any] = {}
    for layer in (*LAYERS, "memory"):
        for figure in FIGURES:
            try:
                values = by_member(facts, contender, layer, figure)
            except KeyError:  # this contender was not measured with this layer
                continue
            if all(value is not None for value in values.values()):
                found.setdefault(layer, {})[figure] = {"mean": fmean(values.values()), "by_member": values}
    return found


def _difference(facts: Mapping[str, Facts], left: str, right: str, figure: str) -> dict[str, float]:
    a, b = (by_member(facts, name, "with_memory", figure) for name in (left, right))
    return {name: a[name] - b[name] for name in a}
