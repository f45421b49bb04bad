"""Computes the quoted figures from the stages' facts: every worth is in bits per byte, above 0 if it helps.

A figure whose stages are not finished is null, and `missing` says what it waits for. So a running or interrupted run
has a report too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from sordino_client.laboratory.federation_benchmark.profile import EPSILONS
from sordino_client.laboratory.federation_benchmark.stages import Facts
from sordino_client.laboratory.field_benchmark.benchmark import (
    AVERAGED,
    CENTRAL,
    COUNTS,
    counted_name,
    field_federation_name,
    party,
)
from sordino_client.laboratory.field_benchmark.knowledge import Knowledge
from sordino_client.laboratory.field_benchmark.paired import Difference, Files, foretold, saved
from sordino_client.laboratory.field_benchmark.profile import FieldProfile
from sordino_client.laboratory.field_benchmark.taking import TAKEN, TWICE

Contender = tuple[str, Knowledge]
Figures = Mapping[str, Mapping[str, Mapping[str, Files]]]  # by party, knowledge and contender
FIRST, SECOND = (field_federation_name(epsilon) for epsilon in EPSILONS)
BOTH = counted_name(FIRST)
NOT_CHOSEN = "worth_members is of everything: the members have not chosen yet what they take"
NOT_COUNTED = "only the adapters: the shared memory has not been counted and measured yet"


def summarise_field(
    facts: Mapping[str, Facts], profile: FieldProfile, base: Mapping[str, Any]
) -> dict[str, Any]:
    """The report. `base` is the description of the public base (its card).

    worth_*     own adapter and all memories on the federated model, against own adapter and memory on the public base:
                the gain from the federation for a party that already uses everything else.
                `worth_members` measures what each member takes, chosen on files that are not reported (`members_take`).
                `worth_members_everything` measures adapters and shared memory without that choice.
                `worth_members_beyond_averaging` compares what each member takes with the mean of two own trainings
                without the federation.
                `worth_*_adapters` is without the shared memory; `_pulled` is the same with both own adapters pulled
                towards the model under them.
    ceiling_*   the same for the text of all members in the memory, and for ordinary training on it: without any privacy
    """
    members, newcomers = [name for name, _ in profile.training], list(profile.joining)
    measured, missing = figures_of(facts), dict[str, str]()

    def compared(
        key: str, names: Sequence[str], before: Contender, after: Contender, *, tokens: bool = False
    ) -> Difference | None:
        pairs = []
        for name in names:
            both = [measured.get(name, {}).get(memory, {}).get(one) for one, memory in (before, after)]
            if both[0] is None or both[1] is None:
                missing[key] = f"{name} has not been measured yet with {before[0]} and {after[0]}"
                return None
            pairs.append((both[0], both[1]))
        return foretold(pairs) if tokens else saved(pairs)

    def worth(
        key: str,
        names: Sequence[str],
        federation: str,
        memory: Knowledge,
        how: str = "own",
        *,
        after: str | None = None,
    ) -> dict[str, Any]:
        """`after` for a contender that is not a federation's model as it is."""
        own: tuple[Contender, Contender] = (
            (f"base {how}", memory),
            (after or f"{federation} {how}", memory),
        )
        difference = compared(key, names, *own)
        accuracy = compared(f"{key}_next_token", names, *own, tokens=True)
        return {
            key: None if difference is None else difference.mean,
            f"{key}_ci": None if difference is None else list(difference.interval),
            f"{key}_by_party": None if difference is None else dict(zip(names, difference.each, strict=True)),
            f"{key}_next_token": None if accuracy is None else accuracy.as_json(),
        }

    own = f"{BOTH} own"
    whole = all(own in measured.get(name, {}).get("all", {}) for name in members) and all(
        own in measured.get(name, {}).get("few", {}) for name in newcomers
    )
    if not whole:
        missing["shared_memory"] = NOT_COUNTED
    headline = BOTH if whole else FIRST
    chosen = all(TAKEN in measured.get(name, {}).get("all", {}) for name in members)
    if not chosen:
        missing["members_take"] = NOT_CHOSEN
    few = worth("worth_newcomers_8_files", newcomers, headline, "few")
    beyond = compared("worth_members_beyond_averaging", members, (TWICE, "all"), (TAKEN, "all"))
    of_members = worth("worth_members", members, headline, "all", after=TAKEN if chosen else None)
    against_alone = compared("members_better_than_alone", members, ("alone", "nothing"), (FIRST, "nothing"))
    ceiling = compared(
        "ceiling_newcomers_8_files", newcomers, ("base own", "few"), ("base own", "few and others")
    )
    trained = compared("ceiling_newcomers_8_files_trained", newcomers, ("base", "few"), (CENTRAL, "few"))
    run, second = (facts.get(name, {}).get("run") for name in (FIRST, SECOND))
    spent = facts[COUNTS]["run"] if whole else run
    for key, there in (("epsilon_federation", spent), ("plans", second)):
        if there is None:
            missing[key] = "the federation has not run to its end yet"
    better = None if against_alone is None else _better(members, against_alone)
    return {
        "format": "sordino-bench-field/2",
        "profile": profile.name,
        "base": dict(base),
        "complete": not missing,
        "missing": missing,
        "worth_is_of": "adapters and shared memory" if whole else "adapters",
        **few,
        **worth("worth_newcomers_8_files_adapters", newcomers, FIRST, "few"),
        **worth("worth_newcomers_all_files", newcomers, headline, "all"),
        **of_members,
        "worth_members_beyond_averaging": None if beyond is None else beyond.as_json(),
        **worth("worth_members_everything", members, headline, "all"),
        **worth("worth_members_adapters", members, FIRST, "all"),
        "members_better_off": _above(of_members["worth_members_by_party"]),
        "members_worse_off": _below(of_members["worth_members_by_party"]),
        "members_take": {
            name: facts[party(name, TAKEN)]["taken"] for name in members if party(name, TAKEN) in facts
        },
        **worth("worth_newcomers_eps2", newcomers, SECOND, "few"),
        **worth("worth_members_eps2", members, SECOND, "all"),
        **worth("worth_newcomers_8_files_pulled", newcomers, FIRST, "few", "own pulled"),
        **worth("worth_members_pulled", members, FIRST, "all", "own pulled"),
        "members_better_than_alone": None if better is None else len(better),
        "members_better_than_alone_names": better,
        "ceiling_newcomers_8_files": None if ceiling is None else ceiling.mean,
        "ceiling_newcomers_8_files_ci": None if ceiling is None else list(ceiling.interval),
        "ceiling_newcomers_8_files_trained": None if trained is None else trained.as_json(),
        "epsilon_federation": _largest(spent, "epsilon_by_member"),
        "epsilon_if_others_collude": _largest(spent, "epsilon_if_others_collude_by_member"),
        "epsilon_by_member": None if spent is None else spent["epsilon_by_member"],
        "rounds": None if run is None else run["rounds"],
        "members": len(members),
        "newcomers": len(newcomers),
        "parties": facts.get("repositories", {}).get("parties"),
        "tables": {"newcomers": table(measured, newcomers), "members": table(measured, members)},
        "curves": {name: facts[name]["curve"] for name in (FIRST, SECOND, AVERAGED) if name in facts},
        "runs": {name: _short(facts[name]["run"]) for name in (FIRST, COUNTS, SECOND) if name in facts},
        "stages": {name: value["wall_seconds"] for name, value in facts.items()},
        "seconds": sum(value["wall_seconds"] for value in facts.values()),
    }


def show(report: Mapping[str, Any]) -> Iterator[str]:
    """The report in a few lines, for people."""
    yield (
        f"{report['members']} members trained in {report['rounds'] or 'unfinished'} rounds, "
        f"{report['newcomers']} newcomers never took part"
    )
    for what, key in (
        ("newcomers with their first files gain", "worth_newcomers_8_files"),
        ("at epsilon 2", "worth_newcomers_eps2"),
        ("the text of all members in their memory, without privacy", "ceiling_newcomers_8_files"),
        ("members with all their code gain", "worth_members"),
    ):
        value, interval = report[key], report[f"{key}_ci"]
        told = report["missing"].get(key, "not measured")
        if value is not None:
            told = f"{value:+.4f} bits per byte [{interval[0]:+.4f}, {interval[1]:+.4f}]"
        yield f"{what}: {told}"
    if report["members_worse_off"] is not None:
        better, worse = len(report["members_better_off"]), len(report["members_worse_off"])
        yield f"of the members {better} are better off and {worse} worse off than without the federation"
    if (better := report["members_better_than_alone"]) is not None:
        yield f"members better than alone: {better} of {report['members']}"
    if report["epsilon_federation"] is not None:
        yield (
            f"epsilon: {report['epsilon_federation']:.2f} as the federation holds, "
            f"{report['epsilon_if_others_collude']:.2f} if all others collude"
        )


def figures_of(facts: Mapping[str, Facts]) -> dict[str, dict[str, dict[str, Files]]]:
    """The results of every contender on each party's held-out files, by the knowledge in its memory."""
    found: dict[str, dict[str, dict[str, Files]]] = {}
    for stage, value in facts.items():
        kind, _, rest = stage.partition(".")
        if kind != "party":
            continue
        name = rest.rpartition(".")[0]
        for knowledge, contenders in value["figures"].items():
            place = found.setdefault(name, {}).setdefault(knowledge, {})
            place |= {contender: Files.parse(raw) for contender, raw in contenders.items()}
    return found


def table(measured: Figures, names: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """The means over those parties, by memory and contender, if all parties were measured."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for knowledge, contenders in measured.get(names[0], {}).items():
        for contender in contenders:
            files = [measured.get(name, {}).get(knowledge, {}).get(contender) for name in names]
            there = [one for one in files if one is not None]
            if len(there) == len(names):
                found.setdefault(knowledge, {})[contender] = {
                    "bits_per_byte": fmean(one.bits_per_byte for one in there),
                    "next_token_accuracy": fmean(one.accuracy for one in there),
                }
    return found


def _short(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if not key.startswith("epsilon_")}


def _largest(run: Mapping[str, Any] | None, key: str) -> float | None:
    return None if run is None else max(run[key].values())


def _above(by_party: Mapping[str, float] | None) -> list[str] | None:
    return None if by_party is None else [name for name, value in by_party.items() if value > 0]


def _below(by_party: Mapping[str, float] | None) -> list[str] | None:
    return None if by_party is None else [name for name, value in by_party.items() if value < 0]


def _better(names: Sequence[str], difference: Difference) -> list[str]:
    return [name for name, value in zip(names, difference.each, strict=True) if value > 0]
