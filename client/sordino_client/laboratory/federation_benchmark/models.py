"""The models that all contenders of a benchmark start from, and two contenders.

The two are the mean of members that train without privacy, and one member that trains privately alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sordino_client.laboratory.federation_benchmark import contenders
from sordino_client.laboratory.federation_benchmark.contenders import Windows
from sordino_client.laboratory.federation_benchmark.private import train_alone
from sordino_client.laboratory.federation_benchmark.profile import PlanSchedule, TrainedProfile
from sordino_client.training.job import Tokens
from sordino_platform import base
from sordino_platform.architecture import Vector, merged, unflatten
from sordino_platform.founding_model import founding_parameters
from sordino_privacy.dpsgd import TrainingPlan

UNPRIVATE_RATE = 1e-3  # of the members' Adam, without privacy
Units = list[list[Tokens]]


class BenchmarkModels:
    """The public base, and the model built on it with which a profile's federations are founded.

    config, base        of the public base
    adapted, founding   the same with the adapters that a federation trains
    """

    def __init__(self, profile: TrainedProfile) -> None:
        # A benchmark uses one thread, so that its figures do not depend on the number of threads.
        torch.set_num_threads(1)
        self._profile = profile
        self.config, self.tokenizer, self.base = base.load()
        self.adapted = profile.model.config()
        self.founding = founding_parameters(profile.model)
        self.base_sha256: str = base.card()["sha256"]

    def plain(self, vector: Vector) -> dict[str, Vector]:
        """A federation's release with its adapters folded in."""
        return merged(unflatten(self.adapted, self.founding, vector))

    def average_members_without_any_privacy_for_comparison(
        self, units: Mapping[str, Units], *, seed: int
    ) -> list[Vector]:
        """The release of each round of the federation without clipping, noise and secure sum, from units by member."""
        profile = self._profile
        return contenders.average_members_without_any_privacy_for_comparison(
            {
                name: Windows.of(own, window=profile.window, config=self.adapted)
                for name, own in units.items()
            },
            self.adapted,
            self.founding,
            rounds=profile.averaging_rounds,
            tokens_per_round=profile.central_tokens // len(units) // profile.averaging_rounds,
            rate=UNPRIVATE_RATE,
            seed=seed,
        )

    def privately_alone(
        self, units: Sequence[Sequence[Tokens]], plan: TrainingPlan, schedule: PlanSchedule
    ) -> dict[str, Vector]:
        """One member's private training alone with that plan, its adapters folded in."""
        trained = train_alone(
            units, self.adapted, self.founding, plan, schedule.optimiser, rounds=schedule.rounds
        )
        return merged(trained)
