"""Computes what a charter would mean in its rounds, before it is signed: privacy, noise, how far a round moves the
model, how many may collude and how many may drop out.

The figures are of the suggested plan (`sordino_platform.suggested`), which `sordino coordinator new` writes. Another
plan has other figures; `sordino doctor` for the coordinator shows those of its plan.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sordino_platform.architecture import trainable_shapes
from sordino_platform.charter.document import Charter, Draft
from sordino_platform.founding_model import founding_parameters
from sordino_platform.round_limits import RoundLimits
from sordino_platform.suggested import suggested_training
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.secagg.graph import quorum
from sordino_privacy.shared_noise import SharedNoise

MOST_ROUNDS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """`members` is the number of members for the figures. Of them, `may_collude` may collude and `may_drop_out` may
    drop out in a round of all; `may_drop_out_of_smallest` may drop out in a round of the smallest cohort.

    `epsilon_first_round` is the cost of one round for a fresh budget, `rounds` the number of rounds that fit into
    `epsilon` (at `delta`; local, or under the charter's assumption on collusion when `noise` is distributed).
    `epsilon_if_others_collude` is the cost of those rounds if all others collude with the coordinator. `noise_gain`
    says how many times smaller the noise of a sum is than if every member added all of it. `noise_to_signal`: the
    length of the noise in the mean of all members over the longest signal there can be. `reach` is how far a round can
    move the model, `largest_move` how far it may, both as shares of the model's length. `parameters` is the number of
    trained parameters. `plan` and `server_optimiser` are the training for these figures.
    """

    members: int
    may_collude: int
    may_drop_out: int
    may_drop_out_of_smallest: int
    smallest_cohort: int
    epsilon: float
    delta: float
    epsilon_first_round: float
    rounds: int
    noise: str
    noise_gain: float
    epsilon_if_others_collude: float
    parameters: int
    noise_to_signal: float
    reach: float
    largest_move: float
    plan: Mapping[str, Any]
    server_optimiser: Mapping[str, Any]
    warnings: tuple[str, ...]


def preflight(terms: Draft | Charter, *, members: int = 0, clusters: int = 0) -> Preflight:
    """The figures of `terms` for `members` members (by default those of the terms, or the smallest cohort, if that is
    more) with this many file clusters together (0: no estimate).

    Raises ConfigurationError when the base that is installed here is not the charter's.
    """
    floors = terms.floors.as_secagg()
    members = max(members, len(terms.members), floors.cohort)
    corrupt = floors.corrupt(members)

    def dropouts(roster: int) -> int:
        return max(0, roster - quorum(roster, corrupt=corrupt, honest=floors.honest))

    shares = terms.noise_shares()
    training = suggested_training(
        terms.privacy, context=terms.model.context, members=members, clusters=clusters, shares=shares
    )
    plan = training.plan
    limits = RoundLimits.of(terms, founding_parameters(terms.model))
    dimension = sum(math.prod(shape) for shape in trainable_shapes(limits.config).values())
    noise = plan.noise_deviation() * math.sqrt(plan.steps * dimension / (members * shares))
    together, alone = _events(plan, shares=shares, members=members, dimension=dimension)
    rounds = _rounds(together, terms.privacy.largest_epsilon, plan.delta)
    found = Preflight(
        members=members,
        may_collude=corrupt,
        may_drop_out=dropouts(members),
        may_drop_out_of_smallest=dropouts(floors.cohort),
        smallest_cohort=floors.cohort,
        epsilon=terms.privacy.largest_epsilon,
        delta=plan.delta,
        epsilon_first_round=_cost(together, 1, plan.delta),
        rounds=rounds,
        noise=terms.privacy.noise,
        noise_gain=math.sqrt(shares),
        epsilon_if_others_collude=_cost(alone, rounds, plan.delta) if rounds else 0.0,
        parameters=dimension,
        noise_to_signal=noise / (plan.steps * plan.signal_norm()),
        reach=limits.reach(plan, training.optimiser) / limits.norm,
        largest_move=limits.move / limits.norm,
        plan=asdict(plan),
        server_optimiser=training.optimiser.model_dump(),
        warnings=(),
    )
    return _with_warnings(found, terms)


def lines(found: Preflight) -> Iterator[tuple[str, str]]:
    """(name, value in words), for a person; warnings are separate."""
    scope = "local" if found.noise == "local" else "as the federation holds"
    yield (
        "privacy",
        f"{found.epsilon_first_round:.2f} epsilon for the first round; {found.rounds} rounds fit into epsilon "
        f"{found.epsilon:g} ({scope}, delta {found.delta:g}) at each member",
    )
    if found.noise == "distributed":
        yield (
            "if all collude",
            f"epsilon {found.epsilon_if_others_collude:.1f} after those rounds, for a member whose others all "
            "collude with the coordinator: each owner allows it in member.toml (epsilon_if_others_collude), "
            "or takes no part",
        )
        yield (
            "shares",
            f"the noise of a sum is {found.noise_gain:.1f} times smaller than if every member added all of it; "
            "a larger --honest makes it smaller still, and bears fewer dropouts",
        )
    yield (
        "noise",
        f"{found.noise_to_signal:.1f} times as long as the longest signal there can be, in the mean of "
        f"{found.members} members ({found.parameters:,} trained parameters)",
    )
    yield (
        "step",
        f"a round moves the model by at most {found.reach:.1%} of its length; "
        f"the charter allows {found.largest_move:.1%}",
    )
    plan, server = found.plan, found.server_optimiser
    yield (
        "plan",
        f"{plan['sampling_rate']:g} of the clusters in a round, {plan['windows_per_unit']} windows of each; "
        f"rate {plan['learning_rate']:g} at the members, {server['learning_rate']:g} with momentum {server['beta1']:g} "
        "at the server",
    )
    yield "collusion", f"{found.may_collude} of {found.members} members may collude with the coordinator"
    yield (
        "dropouts",
        f"{found.may_drop_out} of {found.members} members may drop out of a round of all, "
        f"{found.may_drop_out_of_smallest} of a round of {found.smallest_cohort}",
    )


def _with_warnings(found: Preflight, terms: Draft | Charter) -> Preflight:
    floors, warnings = terms.floors.as_secagg(), []
    share = floors.gamma_permille / 1000
    if found.may_collude == 0:
        warnings.append(
            f"no collusion is borne: floor({share:g} x {found.members}) = 0, so one member that tells the coordinator "
            "its own update leaves the others with less than the honest floor"
        )
    if found.may_drop_out == 0:
        warnings.append(
            f"no dropout is borne: a round of {found.members} ends without a model when one member leaves it"
        )
    if (needed := floors.smallest_cohort(found.members)) > floors.cohort:
        warnings.append(
            f"with {found.members} members the smallest cohort must be {needed} or more: --cohort {needed}"
        )
    if found.reach > found.largest_move:
        warnings.append(
            "the suggested plan is beyond --largest-move: choose a shorter one in coordinator.toml"
        )
    if found.noise_to_signal > 4:
        warnings.append(
            "the noise is so long that little can be learnt: more members, or fewer trained parameters"
        )
    sizes = Counter(member.organisation for member in terms.members)
    for organisation, size in sizes.most_common(1):
        if size > found.may_collude > 0:
            warnings.append(
                f"{organisation} has {size} members: if it colludes as a whole, that is more than the "
                f"{found.may_collude} that are allowed for"
            )
    return replace(found, warnings=tuple(warnings))


def _events(
    plan: TrainingPlan, *, shares: int, members: int, dimension: int
) -> tuple[SampledGaussian, SampledGaussian]:
    """The cost of one round under the charter's assumption on collusion, and if all others collude. Both are the same
    when every member adds all the noise."""
    if shares == 1:
        event = SampledGaussian(
            sampling_rate=plan.sampling_rate, noise_multiplier=plan.noise_multiplier, steps=plan.steps
        )
        return event, event
    noise = SharedNoise(
        noise_multiplier=plan.noise_multiplier, honest=shares, members=members, dimension=dimension
    )
    return (
        noise.event(sampling_rate=plan.sampling_rate),
        noise.event_alone(sampling_rate=plan.sampling_rate),
    )


def _cost(event: SampledGaussian, rounds: int, delta: float) -> float:
    return epsilon([replace(event, steps=event.steps * rounds)], delta).value


def _rounds(event: SampledGaussian, budget: float, delta: float) -> int:
    """The number of rounds of that cost that fit into the budget."""
    low, high = 0, 1
    while high < MOST_ROUNDS and _cost(event, high, delta) <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _cost(event, middle, delta) <= budget else (low, middle)
    return low
