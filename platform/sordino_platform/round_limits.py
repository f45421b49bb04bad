"""How far one round may move the model: the charter's bounds on a plan and on the server's step. Both sides check them.

The coordinator proposes a plan, and the limit for updates follows from the plan. Without a bound on the plan itself,
that limit would mean nothing. So the charter names one number, a share of the length of the vector that the federation
starts from. A plan or a server's step that could move the model further in one round is refused.

    limits = RoundLimits.of(charter, parameters)
    limits.require_plan(plan)                     # before anything is read, charged or trained
    limits.require_step(plan, optimiser)          # the plan, and the server's step after it
    limits.move                                   # the number that `charter show` prints
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sordino_platform.architecture import Architecture, HuggingFaceConfig, Parameters, trainable_shapes
from sordino_platform.charter import Charter, Draft, PrivacyPolicy, SharedMemoryPolicy, TrainingPolicy
from sordino_platform.charter.policies import POLICY_HINT
from sordino_platform.plans import Plan
from sordino_platform.proposal import norm_limit, quantiser_for, shared_noise
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_privacy.accounting import SampledGaussian
from sordino_privacy.counts import CountPlan
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.secagg import PolicyError, euclidean_norm

PLAIN = ServerOptimiser()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundLimits:
    """The limits of one charter. `norm` is the L2 norm of the vector that the federation starts from, `members` the
    number of members in the charter, `shares` the number of members whose noise is enough for a sum."""

    privacy: PrivacyPolicy
    training: TrainingPolicy
    shared_memory: SharedMemoryPolicy | None
    config: Architecture
    norm: float
    members: int
    shares: int

    @classmethod
    def of(cls, charter: Charter | Draft, parameters: Parameters) -> RoundLimits:
        """The limits under `charter`; `parameters` are those from which its model starts (`founding_parameters`)."""
        config = charter.model.config()
        return cls(
            privacy=charter.privacy,
            training=charter.training_policy(),
            shared_memory=charter.shared_memory,
            config=config,
            norm=math.hypot(*(euclidean_norm(parameters[name].ravel()) for name in trainable_shapes(config))),
            members=max(charter.noise_shares(), len(charter.members)),
            shares=charter.noise_shares(),
        )

    @property
    def move(self) -> float:
        """The longest step that one round may take, as an L2 norm."""
        return self.training.largest_move_permille / 1000 * self.norm

    def costs(self, plan: Plan) -> tuple[SampledGaussian, SampledGaussian]:
        """The cost of one round of this plan for each member, for `accounting.epsilon`: under the charter's assumption
        on collusion, and if all others collude with the coordinator. Both are the same when every member adds all of
        the noise."""
        if self.shares == 1:
            event = SampledGaussian.of(plan)
            return event, event
        noise = shared_noise(self.config, plan, members=self.members, shares=self.shares)
        rate, steps = plan.sampling_rate, plan.steps
        return noise.event(sampling_rate=rate, steps=steps), noise.event_alone(
            sampling_rate=rate, steps=steps
        )

    def reach(self, plan: TrainingPlan, optimiser: ServerOptimiser) -> float:
        """The longest step that a round of this plan and this server's step can take."""
        quantiser = quantiser_for(self.config, plan, members=self.members, shares=self.shares)
        return optimiser.reach(norm_limit(plan, quantiser), quantiser.dimension)

    def require_plan(self, plan: Plan) -> None:
        """Refusal 14: raises PolicyError unless the plan of a training, with a plain average after it, or that of a
        count lies within every bound of the charter."""
        if isinstance(plan, CountPlan):
            self._require_count(plan)
        else:
            self._require_training(plan)

    def _require_count(self, plan: CountPlan) -> None:
        if self.shared_memory is None:
            raise PolicyError("the charter allows no count of phrases", hint=POLICY_HINT)
        if isinstance(self.config, HuggingFaceConfig):
            raise PolicyError("phrases are counted in the tokens of sordino's own bases only")
        self._require_window(plan)
        self.privacy.require_count(noise_multiplier=plan.noise_multiplier, delta=plan.delta)
        self.shared_memory.require(
            phrases=plan.phrases,
            longest=plan.longest,
            bits=plan.bits,
            deviations=plan.deviations,
            witnesses=plan.witnesses,
            surprise=plan.surprise,
            expected_units=plan.expected_units,
        )

    def _require_window(self, plan: Plan) -> None:
        if plan.window > self.config.context:
            raise PolicyError(
                f"a window of {plan.window} tokens is longer than the model's {self.config.context}"
            )

    def _require_training(self, plan: TrainingPlan) -> None:
        self._require_window(plan)
        self.privacy.require(
            noise_multiplier=plan.noise_multiplier,
            clip_norm=plan.clip_norm,
            sampling_rate=plan.sampling_rate,
            steps=plan.steps,
            delta=plan.delta,
        )
        self.training.require(
            learning_rate=plan.learning_rate,
            noise_multiplier=plan.noise_multiplier,
            expected_units=plan.expected_units,
            windows_per_unit=plan.windows_per_unit,
        )
        if self.shares > 1 and (plan.steps, plan.optimiser) != (1, "sgd"):
            raise PolicyError(
                "under noise = distributed a round is one step of sgd",
                hint='set steps = 1 and optimiser = "sgd"',
            )
        self._require_move(self.reach(plan, PLAIN))

    def require_step(self, plan: TrainingPlan, optimiser: ServerOptimiser) -> None:
        """Refusal 14: raises PolicyError unless plan and server's step lie within every bound of the charter, each
        alone and both together."""
        self._require_training(plan)
        require_optimiser(self.training, optimiser)
        self._require_move(self.reach(plan, optimiser))

    def _require_move(self, reach: float) -> None:
        if not (math.isfinite(reach) and reach <= self.move):
            raise PolicyError(
                f"a round of this plan could move the model by {reach:.4g}, "
                f"{reach / self.norm:.1%} of its length; the charter allows {self.move:.4g}, "
                f"{self.training.largest_move_permille / 1000:.1%}",
                hint=POLICY_HINT,
            )


def require_optimiser(training: TrainingPolicy, optimiser: ServerOptimiser) -> None:
    """Refusal 14: raises PolicyError unless the terms of the server's step lie within the charter's bounds."""
    training.require_server_step(
        learning_rate=optimiser.learning_rate, beta1=optimiser.beta1, beta2=optimiser.beta2, tau=optimiser.tau
    )
