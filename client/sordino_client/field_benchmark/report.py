"""From the stages' facts to the figures that are quoted: every worth in bits per byte, above 0 where it helps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from sordino_client.federation_benchmark.stages import Facts
from sordino_client.field_benchmark.benchmark import AVERAGED, CENTRAL, federation_name, party
from sordino_client.field_benchmark.knowledge import Knowledge
from sordino_client.field_benchmark.paired import Difference, Files, foretold, saved
from sordino_client.field_benchmark.profile import EPSILONS, FieldProfile


def summarise(facts: Mapping[str, Facts], profile: FieldProfile, base: Mapping[str, Any]) -> dict[str, Any]:
    """The report. `base` is what is said of the public base (its card).

    worth_*     own adapter and memory on the federated model, against the same on the public base: what the federation
                alone is worth to somebody who has everything else
    ceiling_*   the same of the text of all members in the memory, and of ordinary training on it: no privacy at all
    """
    members, newcomers = [name for name, _ in profile.training], list(profile.joining)
    first, second = (federation_name(value) for value in EPSILONS)

    def pairs(
        names: Sequence[str], before: tuple[str, Knowledge], after: tuple[str, Knowledge]
    ) -> list[tuple[Files, Files]]:
        return [(figures(facts, name, *before), figures(facts, name, *after)) for name in names]

    def worth(names: Sequence[str], federation: str, knowledge: Knowledge) -> list[tuple[Files, Files]]:
        return pairs(names, ("base own", knowledge), (f"{federation} own", knowledge))

    few, all_of_newcomers = worth(newcomers, first, "few"), worth(newcomers, first, "all")
    of_members = worth(members, first, "all")
    few_second = worth(newcomers, second, "few")
    ceiling = saved(pairs(newcomers, ("base own", "few"), ("base own", "few and others")))
    against_alone = saved(pairs(members, ("alone", "nothing"), (first, "nothing")))
    run = facts[first]["run"]
    return {
        "format": "sordino-bench-field/1",
        "profile": profile.name,
        "base": dict(base),
        "worth_newcomers_8_files": saved(few).mean,
        "worth_newcomers_8_files_ci": list(saved(few).interval),
        "worth_newcomers_8_files_next_token": foretold(few).as_json(),
        "worth_newcomers_all_files": saved(all_of_newcomers).as_json(),
        "worth_members": saved(of_members).mean,
        "worth_members_ci": list(saved(of_members).interval),
        "worth_members_next_token": foretold(of_members).as_json(),
        "members_better_off": _better(members, saved(of_members)),
        "worth_newcomers_eps2": saved(few_second).mean,
        "worth_newcomers_eps2_ci": list(saved(few_second).interval),
        "worth_members_eps2": saved(worth(members, second, "all")).as_json(),
        "members_better_than_alone": len(_better(members, against_alone)),
        "members_better_than_alone_names": _better(members, against_alone),
        "ceiling_newcomers_8_files": ceiling.mean,
        "ceiling_newcomers_8_files_ci": list(ceiling.interval),
        "ceiling_newcomers_8_files_trained": saved(
            pairs(newcomers, ("base", "few"), (CENTRAL, "few"))
        ).as_json(),
        "worth_newcomers_8_files_by_party": dict(zip(newcomers, saved(few).each, strict=True)),
        "worth_members_by_party": dict(zip(members, saved(of_members).each, strict=True)),
        "epsilon_federation": max(run["epsilon_by_member"].values()),
        "epsilon_if_others_collude": max(run["epsilon_if_others_collude_by_member"].values()),
        "epsilon_by_member": run["epsilon_by_member"],
        "rounds": run["rounds"],
        "members": len(members),
        "newcomers": len(newcomers),
        "parties": facts["repositories"]["parties"],
        "tables": {
            "newcomers": table(facts, newcomers),
            "members": table(facts, members),
        },
        "curves": {name: facts[name]["curve"] for name in (first, second, AVERAGED)},
        "plans": {name: facts[name]["run"]["plan"] for name in (first, second)},
        "server_optimisers": {name: facts[name]["run"]["server_optimiser"] for name in (first, second)},
        "bytes_on_the_link": {name: facts[name]["run"]["bytes"] for name in (first, second)},
        "seconds": sum(value["wall_seconds"] for value in facts.values()),
    }


def show(report: Mapping[str, Any]) -> Iterator[str]:
    """The report in a few lines, for a person."""

    def told(value: float, ci: Sequence[float]) -> str:
        return f"{value:+.4f} bits per byte [{ci[0]:+.4f}, {ci[1]:+.4f}]"

    yield (
        f"{report['members']} members trained in {report['rounds']} rounds, "
        f"{report['newcomers']} newcomers never took part"
    )
    for what, key in (
        ("newcomers with their first files gain", "worth_newcomers_8_files"),
        ("at epsilon 2", "worth_newcomers_eps2"),
        ("the text of all members in their memory, without privacy", "ceiling_newcomers_8_files"),
        ("members with all their code gain", "worth_members"),
    ):
        yield f"{what}: {told(report[key], report[f'{key}_ci'])}"
    yield f"members better than alone: {report['members_better_than_alone']} of {report['members']}"
    yield (
        f"epsilon: {report['epsilon_federation']:.2f} as the federation holds, "
        f"{report['epsilon_if_others_collude']:.2f} if all others collude"
    )


def figures(facts: Mapping[str, Facts], name: str, contender: str, knowledge: Knowledge) -> Files:
    """What a contender made of a party's held-out files with that knowledge in its memory."""
    return Files.parse(facts[party(name)]["figures"][knowledge][contender])


def table(facts: Mapping[str, Facts], names: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """By memory and contender, the means over those parties."""
    shape = facts[party(names[0])]["figures"]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for knowledge, of_knowledge in shape.items():
        for contender in of_knowledge:
            files = [figures(facts, name, contender, knowledge) for name in names]
            found.setdefault(knowledge, {})[contender] = {
                "bits_per_byte": fmean(one.bits_per_byte for one in files),
                "next_token_accuracy": fmean(one.accuracy for one in files),
            }
    return found


def _better(names: Sequence[str], difference: Difference) -> list[str]:
    return [name for name, value in zip(names, difference.each, strict=True) if value > 0]
