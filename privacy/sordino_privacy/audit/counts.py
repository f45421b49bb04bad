"""Audits a count of phrases with canaries: what a member releases about one unit, and what is
believed from a sum.

    counts_noise     the standard deviation of an empty count, in units of what the plan says
    counts_signal    what a canary unit adds to its own cells
    counts_epsilon   what an attacker who sees one member's release proves on canary units, each in by a fair coin
    counts_alone     phrases that one member of five holds in all of its units, and the sum made believed
    counts_common    share of the phrases that all five hold, which the sum made believed

The audited function is `release`: from a member's units (the cells of each) to its noised counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.audit.canaries import judge_canaries
from sordino_privacy.audit.report import AuditCheck
from sordino_privacy.counts.cells import Cells, rows
from sordino_privacy.counts.counting import counted, marked, noised
from sordino_privacy.counts.plan import CountPlan
from sordino_privacy.counts.reading import SharedMemory
from sordino_privacy.keystream import Keystream

Release = Callable[[Sequence[Cells], CountPlan], npt.NDArray[np.floating]]

CANARIES = 256
MEMBERS = 5
PHRASES = 50
# A measured value may be off by this many standard errors: one in 500 million honest ones is off by more.
_ERRORS = 6.0


def released(units: Sequence[Cells], plan: CountPlan) -> npt.NDArray[np.float32]:
    """What a member of this installation releases."""
    return noised(counted(units, plan), plan, Keystream.from_system())


def audit_counts(plan: CountPlan, release: Release = released) -> list[AuditCheck]:
    """All findings, within seconds. Reads no data and keeps nothing."""
    rng = np.random.default_rng()
    return [_noise(plan, release), *_canaries(plan, release, rng), *_phrases(plan, release, rng)]


def _noise(plan: CountPlan, release: Release) -> AuditCheck:
    measured = float(release([], plan).std()) / plan.deviation()
    error = 1 / math.sqrt(2 * plan.cells)
    return AuditCheck(
        name="counts_noise",
        what="noise of an empty count, by the plan's",
        measured=measured,
        low=1 - _ERRORS * error,
        high=1 + _ERRORS * error,
    )


def _canaries(plan: CountPlan, release: Release, rng: np.random.Generator) -> list[AuditCheck]:
    # Each canary is a unit with cells of its own, as many as a unit may have if the vector has room.
    width = min(2 * plan.phrases, plan.cells // CANARIES)
    cells = rng.permutation(plan.cells)[: CANARIES * width].reshape(CANARIES, width)
    inserted = rng.random(CANARIES) < 0.5
    seen = release([np.sort(cells[index]) for index in np.flatnonzero(inserted)], plan)
    scores = seen.astype(np.float64)[cells].mean(axis=1)
    ins, outs = scores[inserted], scores[~inserted]
    error = plan.deviation() / math.sqrt(width) * math.sqrt(1 / len(ins) + 1 / len(outs))
    claimed = epsilon([SampledGaussian.of(plan)], plan.delta).value
    verdict = judge_canaries(scores, inserted, delta=plan.delta)
    return [
        AuditCheck(
            name="counts_signal",
            what="what a canary adds to each of its cells",
            measured=float(ins.mean() - outs.mean()),
            low=1 - _ERRORS * error,
            high=1 + _ERRORS * error,
        ),
        AuditCheck(
            name="counts_epsilon",
            what=f"epsilon that an attacker proves on {CANARIES} canaries; the claim is the upper end",
            measured=verdict.lower,
            low=0.0,
            high=claimed,
        ),
    ]


def _phrases(plan: CountPlan, release: Release, rng: np.random.Generator) -> list[AuditCheck]:
    alone, common = (rng.integers(0, 1 << 63, PHRASES, dtype=np.uint64) for _ in range(2))
    many = [marked(common, plan)] * plan.largest_count
    own = [marked(alone, plan)] * (10 * plan.largest_count)
    total = np.sum([release(many + own * (member == 0), plan) for member in range(MEMBERS)], axis=0)
    memory = SharedMemory.of_sum(total, plan, survivors=MEMBERS, step=1.0)
    believed = set(memory.cells.tolist())

    def share(phrases: npt.NDArray[np.uint64]) -> float:
        both = zip(*(cells.tolist() for cells in rows(phrases, plan)), strict=True)
        return sum(first in believed and second in believed for first, second in both) / PHRASES

    # All members together count a common phrase this far above the threshold, in deviations of the sum's noise.
    room = MEMBERS * plan.largest_count - memory.threshold
    expected = (0.5 * math.erfc(-room / (plan.deviation() * math.sqrt(2 * MEMBERS)))) ** 2
    return [
        AuditCheck(
            name="counts_alone",
            what=f"phrases of one member alone that are believed, of {PHRASES}",
            measured=share(alone) * PHRASES,
            low=0.0,
            high=0.5,
        ),
        AuditCheck(
            name="counts_common",
            what="share of the phrases of all members that are believed",
            measured=share(common),
            low=expected / 2,
            high=1.0,
        ),
    ]
