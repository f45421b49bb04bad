"""One member's counts: which phrases of each unit, how often over all units, and the noise.

| step | why it keeps the bound |
| --- | --- |
| a unit's phrases are chosen by what is public and by its own text | no other unit changes the choice |
| a unit adds at most 1 to a cell, and to at most `2 * phrases` cells | a unit's vector has length sqrt(2 phrases) |
| a cell is cut at `largest_count`, the vector at `longest_counts()` | such a projection moves no two points apart |
| Gaussian noise in float64, rounded once | as in training (sordino_privacy.dpsgd.noise) |
| or a share of discrete noise, on integers | as in training (sordino_privacy.shared_noise) |

The choice is coordinated: every member ranks phrases by the same rule. So units that share more phrases than they may
count leave out nearly the same ones, and those that are counted are counted by all. By surprise: the phrases whose last
tokens the round's public starting model predicts worst come first. Two units give the same phrase about the same
surprise, and a memory helps most where the model predicts badly. By turn: a hash ranks the phrases (consistent
sampling, Broder 1997).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from sordino_privacy.counts.cells import Cells, Keys, Phrases, rows, turns
from sordino_privacy.counts.plan import CountPlan
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.keystream import Keystream
from sordino_privacy.shared_noise import Integers, SharedNoise

Counts = npt.NDArray[np.float64]


def chosen(found: Sequence[Phrases], plan: CountPlan) -> Keys:
    """The keys of at most `plan.phrases` different phrases of one unit, by the plan's choice.

    A phrase that occurs several times counts with its largest surprise. Among phrases of equal surprise, the one whose
    turn comes first is taken.
    """
    if not found:
        return np.zeros(0, np.uint64)
    different, place = np.unique(np.concatenate([phrases.keys for phrases in found]), return_inverse=True)
    if len(different) <= plan.phrases:
        return different
    order = turns(different)
    if plan.choice == "surprise":
        nats = np.zeros(len(different))
        np.maximum.at(nats, place, np.concatenate([phrases.nats for phrases in found]))
        return different[np.lexsort((order, -nats))[: plan.phrases]]
    return different[np.argpartition(order, plan.phrases)[: plan.phrases]]


def marked(phrases: Keys, plan: CountPlan) -> Cells:
    """The cells to which a unit with these phrases adds 1: each once, at most `2 * plan.phrases`."""
    return np.unique(np.concatenate(rows(phrases[: plan.phrases], plan)))


def counted(units: Iterable[Cells], plan: CountPlan) -> Counts:
    """The counts of one member over its units' cells, bounded but without noise, shape `(plan.cells,)`."""
    total = np.zeros(plan.cells, np.float64)
    for cells in units:
        total[cells] += 1.0
    np.minimum(total, plan.largest_count, out=total)
    length = float(np.linalg.norm(total))
    if length > plan.longest_counts():
        total *= plan.longest_counts() / length
    return total


def noised(total: Counts, plan: CountPlan, keystream: Keystream) -> npt.NDArray[np.float32]:
    """The counts with this member's whole noise, float32. This form may leave the machine."""
    import torch

    from sordino_privacy.dpsgd.noise import add_noise

    out = torch.empty(len(total), dtype=torch.float32)
    add_noise(torch.from_numpy(total), plan.deviation(), 1.0, keystream, out)
    return np.asarray(out.numpy())


def noised_in_shares(total: Counts, plan: CountPlan, noise: SharedNoise, keystream: Keystream) -> Integers:
    """The counts as integers with this member's share of the noise, int64, in steps of
    `plan.sensitivity() * noise.step` counts. This form may leave the machine.

    Raises ConfigurationError for the noise of another plan.
    """
    if (noise.noise_multiplier, noise.dimension) != (plan.noise_multiplier, plan.cells):
        raise ConfigurationError("the shares are of another count's noise")
    return noise.release(total / plan.sensitivity(), keystream)
