"""A coordinator's proposal for a round, and the values that both sides derive from it.

The proposal travels in the TRAIN message. A member does not trust it. It derives its own context from its own charter,
the release that it verified and the plan that it parsed, and continues only if both contexts agree
(sordino_privacy.secagg.RoundContext).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from sordino_platform.architecture import Architecture, trainable_shapes
from sordino_platform.flower.phases import Fields, Scalar, pack
from sordino_platform.plans import Plan, parse_plan
from sordino_platform.provenance import Provenance, packed
from sordino_platform.tenure import optional_tenure
from sordino_privacy.counts import CountPlan
from sordino_privacy.secagg import (
    Group,
    Lengths,
    NormError,
    Quantiser,
    RoundContext,
    Totals,
    euclidean_norm,
    sketched_length,
)
from sordino_privacy.shared_noise import SharedNoise

CELLS = "cells"
SIZE_BUCKETS = 8
"""A member's weight is its declared size bucket, 1 to 8, as a share of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The content of a TRAIN message.

    `provenance` covers the releases that the member lacks; None if it holds the newest. The model itself is not sent to
    a member that holds it. `charters` are the signed epochs that the member lacks. `tenure` is the coordinator's, as in
    the offer; empty on a federation's first machine.
    """

    context: RoundContext
    plan: Plan
    provenance: Provenance | None = None
    charters: tuple[bytes, ...] = ()
    tenure: bytes = b""

    def pack(self) -> RecordDict:
        """As Flower records."""
        fields: dict[str, Scalar] = {"context": self.context.encode(), "plan": self.plan.canonical()}
        if self.charters:
            fields["charters"] = list(self.charters)
        if self.tenure:
            fields["tenure"] = self.tenure
        return pack(*packed(self.provenance, fields))

    @classmethod
    def parse(cls, fields: Fields) -> Proposal:
        """Parses the message. Raises LinkError, or what the parsers of its parts raise."""
        context = RoundContext.decode(fields.blob("context"))
        plan = fields.blob("plan")
        charters = fields.blobs("charters") if "charters" in fields else []
        provenance = Provenance.parse(fields) if "manifests" in fields else None
        tenure = optional_tenure(fields)
        fields.done()
        return cls(
            context=context,
            plan=parse_plan(plan),
            provenance=provenance,
            charters=tuple(charters),
            tenure=tenure,
        )


def quantiser_for(config: Architecture, plan: Plan, *, members: int, shares: int = 1) -> Quantiser:
    """The quantiser, which follows on both sides from the architecture, the plan, and the charter's number of members
    and shares of noise.

    It has one group per trained tensor, in the order of the vector, or the cells of a count. Ranges come from the plan,
    never from data.
    """
    sizes = sizes_of(config, plan)
    if shares > 1:
        noise = shared_noise(config, plan, members=members, shares=shares)
        if isinstance(plan, CountPlan):
            unit = plan.sensitivity()
        else:
            # One integer stands for this part of the clip, divided and multiplied in the same way as the step of an
            # update.
            unit = plan.learning_rate * plan.clip_norm / plan.expected_units
        ranges = dict.fromkeys(sizes, noise.levels * (unit * noise.step))
    else:
        ranges = plan.update_range(sizes)
    groups = tuple(Group(name=name, length=size, range=ranges[name]) for name, size in sizes.items())
    return Quantiser(groups=groups, cohort_limit=members, shares=shares)


def sizes_of(config: Architecture, plan: Plan) -> dict[str, int]:
    """The tensor groups of a round's vector, in its order, and the coordinates of each."""
    if isinstance(plan, CountPlan):
        return {CELLS: plan.cells}
    return {name: int(np.prod(shape)) for name, shape in trainable_shapes(config).items()}


def shared_noise(config: Architecture, plan: Plan, *, members: int, shares: int) -> SharedNoise:
    """The noise under a charter with noise in shares: what each member adds to its integers, and what that costs."""
    dimension = sum(sizes_of(config, plan).values())
    return SharedNoise(
        noise_multiplier=plan.noise_multiplier, honest=shares, members=members, dimension=dimension
    )


def norm_limit(
    plan: Plan, quantiser: Quantiser, *, members: float = 1.0, levels: float = SIZE_BUCKETS
) -> float:
    """The largest L2 norm that the weighted mean of honest updates can have, when their weights add up to `members` (1:
    any mean, and any single update). `levels` quantiser levels per coordinate are added for the rounding."""
    sizes = {group.name: group.length for group in quantiser.groups}
    squares = sum(group.length * (group.range / quantiser.levels) ** 2 for group in quantiser.groups)
    length = plan.update_norm(sizes, members=members, shares=quantiser.shares)
    return length + levels * math.sqrt(squares)


LENGTH_FACTOR = 1.425
"""How much a sketch's estimate of an update's length may exceed the limit. For an update at its limit, the estimate is
that long by chance once in 10^9 times (chi-square with 128 degrees of freedom)."""


def require_honest_lengths(plan: Plan, quantiser: Quantiser, lengths: Lengths) -> None:
    """Refuses a sum to which a survivor contributed more than an honest member can, when the charter requires sketches.

    Each sketch is bounded by itself. The rest of the sum, beyond the members that answered, is bounded by one limit for
    each silent member. A false sketch shows up in that rest. Raises NormError, with the member that signed a sketch
    that is too long.
    """
    if not lengths.whole.size:
        return
    limit = LENGTH_FACTOR * norm_limit(plan, quantiser, levels=1)
    for name, projections in lengths.given.items():
        if not (length := sketched_length(projections)) <= limit:
            raise NormError(
                f"{name!r} signed an update of length {length:.4g}, above the limit of {limit:.4g}",
                culprit=name,
            )
    # Sums of the same products in another order: equal except for the last bits.
    rounding = 1e-6 * (limit + sketched_length(lengths.whole))
    if not (rest := sketched_length(lengths.rest)) <= len(lengths.silent) * limit + rounding:
        raise NormError(
            f"the sum holds {rest:.4g} that no survivor owned up to, more than {len(lengths.silent)} silent ones may"
        )


def require_honest_mean(plan: Plan, totals: Totals, *, survivors: int) -> None:
    """Refuses an opened sum that honest members cannot have made: the same check at the coordinator and at members.

    Each weight is 1/8 to 1; in a count, and with noise in shares, it is 1. The noise of a mean is largest with few,
    large weights: it is never more than with as many members of weight 1 as the weights add up to. Raises NormError;
    which member sent too much stays hidden.
    """
    equal = isinstance(plan, CountPlan) or totals.quantiser.shares > 1
    least = SIZE_BUCKETS if equal else 1
    if not least * survivors <= totals.weight * SIZE_BUCKETS <= survivors * SIZE_BUCKETS:
        raise NormError(f"the sum of weights is impossible for {survivors} survivors")
    limit = norm_limit(
        plan, totals.quantiser, members=max(totals.weight, 1.0), levels=survivors / totals.weight
    )
    if not (norm := euclidean_norm(totals.mean())) <= limit:
        raise NormError(f"the opened mean has norm {norm:.4g}, above the limit of {limit:.4g}")
