"""Differentially private training of any `torch.nn.Module`, one clip per unit (Abadi et al. 2016; Opacus in shape).

    plan          what a round does, as public numbers (imports no torch; re-exported here)
    keystream     all randomness: AES-256 in counter mode, seeded by the operating system
    sampling      Poisson sampling of units, and the choice of their windows
    noise         Gaussian noise in float64
    per_unit      one backward pass per unit: any architecture
    one_pass      per-unit weight gradients written during one backward pass: fast
    watching      which functions may use a parameter in such a pass, and what each writes
    gradient_block  one parameter's gradients of all units of the group in progress
    parallel      several pinned workers that share a step
    opacus_layer  the only file that knows Opacus: its optimiser as our base class, its hooks as an oracle
    selfcheck     the engine against brute force, before it may see data
    engine        `PrivateTraining`: the loop of a round, over all of the above

This package's surface imports no torch, because the processes that plan, account and refuse must start fast; the
engine is imported by name: `from sordino_privacy.dpsgd.engine import PrivateTraining`.
"""

from sordino_privacy.training_plan import Optimiser, TrainingPlan

__all__ = ["Optimiser", "TrainingPlan"]
