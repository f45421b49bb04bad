"""A federation in this process: honest members train with the product's engine, one is malicious, and the quantised sum
is opened.

The secure sum is exact (tests show that), so this benchmark uses the plain sum of the same ring integers. Everything
else is the product's: plan, engine, quantiser, the check of the mean, the server's step and the rule for triggers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from sordino_client.corpus import read_repositories, units
from sordino_client.laboratory.poisoning_benchmark.attack import ATTACKS, Backdoor, Liar
from sordino_client.laboratory.poisoning_benchmark.profile import FORMER_SIGNAL_PEAK, PoisoningProfile
from sordino_client.training.job import Tokens
from sordino_client.training.loop import window_losses, window_matrix
from sordino_platform.architecture import Vector, flatten, unflatten
from sordino_platform.charter import shipped_model
from sordino_platform.demo.cast import installed
from sordino_platform.evaluation import heldout_loss
from sordino_platform.evaluation.triggers import Reading, Trigger, read_triggers, taught
from sordino_platform.founding_model import founding_parameters
from sordino_platform.model import Decoder, build_decoder, parameters_of
from sordino_platform.proposal import LENGTH_FACTOR, norm_limit, quantiser_for, require_honest_mean
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import PrivateTraining
from sordino_privacy.errors import DataError
from sordino_privacy.keystream import Keystream
from sordino_privacy.secagg import MaskedStatistics, Quantiser

RANK = 1  # of the adapters: the demo's model
RISE = 1.0  # nats per token: the coordinator's default
# The share of its limit that the liar uses when the limit depends on the noise of others.
MARGIN = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class Defence:
    """One defence and the attack against it.

    `longest(plan, quantiser, members)` is the largest L2 norm of an update that is not refused. `watched` are the
    operator's triggers and `attack` the liar's, by their names in ATTACKS. `checked`: the present check of the mean is
    on. After `rounds` rounds the result is clear.
    """

    name: str
    longest: Callable[[TrainingPlan, Quantiser, int], float]
    watched: tuple[str, ...] = ()
    attack: str = "listed"
    checked: bool = True
    rounds: int = 1000


def former_limit(plan: TrainingPlan, quantiser: Quantiser, members: int) -> float:
    """The limit of earlier releases: four times the clip norm in every step, and one update's noise in a mean."""
    sizes = {group.name: group.length for group in quantiser.groups}
    slack = (FORMER_SIGNAL_PEAK - 1) * plan.steps * plan.signal_norm() * plan.learning_rate
    return _beside_noise(plan.update_norm(sizes) + slack, plan, quantiser, members)


def mean_limit(plan: TrainingPlan, quantiser: Quantiser, members: int) -> float:
    """The limit with only the check of the opened mean."""
    return _beside_noise(norm_limit(plan, quantiser, members=members, levels=1), plan, quantiser, members)


def sketched_limit(plan: TrainingPlan, quantiser: Quantiser, members: int) -> float:
    """The limit with a signed sketch of the update, when the charter says `update_check = "norm"`."""
    return LENGTH_FACTOR * honest_limit(plan, quantiser, members)


def honest_limit(plan: TrainingPlan, quantiser: Quantiser, members: int) -> float:
    """The largest norm of an honest member's own update: the strictest limit that any check of norms could enforce."""
    return norm_limit(plan, quantiser, levels=1)


def _beside_noise(limit: float, plan: TrainingPlan, quantiser: Quantiser, members: int) -> float:
    noise = plan.learning_rate * math.sqrt(plan.steps * quantiser.dimension) * plan.noise_deviation()
    return MARGIN * members * math.sqrt(limit**2 - (noise * math.sqrt(members - 1) / members) ** 2)


DEFENCES = (
    Defence(name="former limits", longest=former_limit, checked=False, rounds=6),
    Defence(name="mean", longest=mean_limit),
    Defence(name="norm", longest=sketched_limit),
    Defence(name="honest limit", longest=honest_limit),
    Defence(name="mean, listed", longest=mean_limit, watched=("listed",), rounds=9),
    Defence(name="mean, other line", longest=mean_limit, watched=("listed",), attack="other line", rounds=9),
    Defence(
        name="mean, other completion",
        longest=mean_limit,
        watched=("listed",),
        attack="other completion",
        rounds=9,
    ),
)


class PoisonedFederation:
    """The members' code, read once for all runs."""

    def __init__(self, profile: PoisoningProfile, *, on_progress: Callable[[str], None]) -> None:
        torch.set_num_threads(1)
        self._profile, self._say = profile, on_progress
        self._plan, terms = profile.plan(), shipped_model(adapter_rank=RANK)
        self._config, self._founding = terms.config(), founding_parameters(terms)
        self._tokenizer = Tokenizer.shipped()
        *shares, heldout = installed(profile.members + 1)
        self._units = [self._read(share) for share in shares]
        texts = [file.text for file in read_repositories(heldout).files if len(file.text) > 1000]
        wanted = profile.attack_prompts + profile.prompts
        if len(texts) < wanted + 10 or any(len(unit) < profile.units // 4 for unit in self._units):
            raise DataError(
                "too little Python source is installed here for this profile",
                hint="install more packages, or use --quick",
            )
        self._prompts, self._heldout = texts[:wanted], texts[wanted:]
        self._quantiser = quantiser_for(self._config, self._plan, members=profile.members, shares=1)
        self._ranges = np.concatenate(
            [np.full(g.length, g.range, np.float32) for g in self._quantiser.groups]
        )

    def _read(self, folders: Sequence[Path]) -> list[list[Tokens]]:
        found = units(
            read_repositories(folders),
            self._tokenizer,
            window=self._profile.window,
            windows_per_unit=4,
        )
        return [list(unit.windows) for unit in found[: self._profile.units]]

    def facts(self) -> dict[str, object]:
        """What all runs share."""
        plan, quantiser, members = self._plan, self._quantiser, self._profile.members
        return {
            "profile": asdict(self._profile),
            "plan": asdict(plan),
            "parameters": quantiser.dimension,
            "units_by_member": [len(unit) for unit in self._units],
            "honest_limit": honest_limit(plan, quantiser, members),
            "sketched_limit": sketched_limit(plan, quantiser, members),
            "mean_limit": norm_limit(plan, quantiser, members=members, levels=1),
        }

    def run(self, defence: Defence, seed: int) -> dict[str, object]:
        """One federation under attack. Raises NormError when the check of the mean refuses the liar's sum."""
        profile, members = self._profile, self._profile.members
        vector = flatten(self._config, self._founding)
        doors = {name: self._backdoor(name) for name in ATTACKS}
        watched = [trigger for name in defence.watched for trigger in doors[name].training[:4]]
        founding = self._readings(vector, watched)
        liar = Liar(
            doors[defence.attack],
            self._config,
            self._founding,
            self._tokenizer,
            steps=profile.attack_steps,
            seed=seed,
        )
        longest = defence.longest(self._plan, self._quantiser, members)
        success, losses, lengths, refused = [], [self._loss(vector)], [], 0
        success.append(self._success(doors[defence.attack], vector))
        for number in range(1, min(defence.rounds, profile.rounds) + 1):
            update = liar.update(vector, members=members, longest=longest, ranges=self._ranges)
            lengths.append(float(np.linalg.norm(update)))
            updates = [update, *(self._honest(vector, member, number, seed) for member in range(1, members))]
            following = vector + self._mean(updates, number, seed, checked=defence.checked)
            readings = self._readings(following, watched)
            if any(taught(old, new, rise=RISE) for old, new in zip(founding, readings, strict=True)):
                refused += 1
            else:
                vector = following
            success.append(self._success(doors[defence.attack], vector))
            losses.append(self._loss(vector))
            self._say(f"{defence.name}, seed {seed}, round {number}: {success[-1]:.0%}")
        return {
            "defence": defence.name,
            "seed": seed,
            "success": success,
            "heldout_loss": losses,
            "rounds_refused": refused,
            "longest": longest,
            "longest_sent": max(lengths),
            "times_an_honest_limit": max(lengths) / honest_limit(self._plan, self._quantiser, members),
        }

    def _backdoor(self, attack: str) -> Backdoor:
        profile = self._profile
        return Backdoor.of(attack, self._prompts, training=profile.attack_prompts, heldout=profile.prompts)

    def _honest(self, vector: Vector, member: int, number: int, seed: int) -> Vector:
        """An honest member's private update: the product's engine on its own units."""
        model = build_decoder(self._config, unflatten(self._config, self._founding, vector))
        name = f"sordino-bench-poisoning/1 {seed} {number} {member}"
        keystream = Keystream(hashlib.sha256(name.encode()).digest())
        training = PrivateTraining(model, self._plan, window_losses=window_losses, keystream=keystream)
        training.run([window_matrix(unit, self._config, self._plan.window) for unit in self._units[member]])
        return np.asarray(flatten(self._config, parameters_of(model)) - vector, np.float32)

    def _mean(self, updates: Sequence[Vector], number: int, seed: int, *, checked: bool) -> Vector:
        random = np.random.default_rng([seed, number])
        total = np.zeros(self._quantiser.length, self._quantiser.dtype)
        for update in updates:
            total += self._quantiser.quantise(update, 1.0, MaskedStatistics(), random.bytes).vector
        totals = self._quantiser.decode(total)
        if checked:
            require_honest_mean(self._plan, totals, survivors=len(updates))
        return totals.mean()

    def _readings(self, vector: Vector, watched: Sequence[Trigger]) -> list[Reading]:
        return read_triggers(self._model(vector), self._tokenizer, watched) if watched else []

    def _success(self, door: Backdoor, vector: Vector) -> float:
        return door.success(self._model(vector), self._tokenizer)

    def _loss(self, vector: Vector) -> float:
        tokens = self._profile.heldout_tokens
        return heldout_loss(self._model(vector), self._tokenizer, self._heldout[:20], max_tokens=tokens)

    def _model(self, vector: Vector) -> Decoder:
        return build_decoder(self._config, unflatten(self._config, self._founding, vector))
