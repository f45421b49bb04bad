"""The policies of a charter: the floors of a round, its weakest privacy, its longest step, and the bounds of a count.

Every `require` is refusal 14 of the protocol (docs/protocol.md): the member's own software refuses a plan outside of a
policy, whatever the coordinator says. NaN lies outside of every bound.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sordino_platform.canonical import Document
from sordino_privacy.secagg import membership as secagg
from sordino_privacy.secagg.encoding import MAX_MEMBERS
from sordino_privacy.secagg.refusals import PolicyError

POLICY_HINT = "`sordino charter show` prints the policy; only a new epoch can change it"
Count = Annotated[int, Field(ge=1, le=MAX_MEMBERS)]


class FloorTerms(Document):
    """The lower bounds of a round. Each field is explained at `sordino_privacy.secagg.membership.Floors`."""

    cohort: int = Field(default=5, ge=secagg.MIN_COHORT, le=MAX_MEMBERS)
    organisations: Count = 3
    organisation_share_permille: int = Field(default=500, ge=1, le=1000)
    gamma_permille: int = Field(default=200, ge=0, le=secagg.MAX_GAMMA_PERMILLE)
    honest: int = Field(default=3, ge=secagg.MIN_HONEST, le=MAX_MEMBERS)
    dropout_permille: int = Field(default=333, ge=1, le=500)

    @model_validator(mode="after")
    def _consistent(self) -> FloorTerms:
        self.as_secagg()  # raises the protocol's own error
        return self

    def as_secagg(self) -> secagg.Floors:
        """The same floors as the protocol takes them."""
        return secagg.Floors(**self.model_dump())


def _require_inside(policy: str, bounds: dict[str, bool]) -> None:
    for what, holds in bounds.items():
        if not holds:
            raise PolicyError(
                f"{what} of this round is outside the charter's {policy} policy", hint=POLICY_HINT
            )


class PrivacyPolicy(Document):
    """The weakest privacy that a member may be asked for. Epsilon is local, per member, over the member's data."""

    largest_epsilon: float = Field(default=8.0, gt=0, le=1000)
    largest_delta: float = Field(default=1e-5, gt=0, le=1e-3)
    smallest_noise_multiplier: float = Field(default=0.5, gt=0, le=1000)
    largest_clip_norm: float = Field(default=1.0, gt=0, le=1e6)
    largest_sampling_rate: float = Field(default=0.25, gt=0, le=1)
    largest_steps: int = Field(default=200, ge=1, le=100_000)
    # What survivors sign about their own updates: only that the sum is theirs, or also a sketch of the update's length.
    update_check: Literal["sum", "norm"] = "sum"
    # Whether each member adds the whole noise, or its share of it (docs/distributed-noise.md).
    noise: Literal["local", "distributed"] = "local"

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        # A charter without the term keeps the bytes, and so the hash, that it had before the term existed.
        data: dict[str, object] = plain(self)
        return {name: value for name, value in data.items() if name != "noise" or value != "local"}

    @model_validator(mode="after")
    def _releasable(self) -> PrivacyPolicy:
        if self.noise == "distributed" and self.largest_steps != 1:
            raise ValueError(
                "noise = distributed is for rounds of one step, largest_steps = 1: what follows a noisy step would "
                "depend on noise that is not all there"
            )
        if self.noise == "distributed" and self.update_check != "sum":
            raise ValueError(
                "noise = distributed goes with update_check = sum only: a sketch of one member's update would show it "
                "under its own share of the noise"
            )
        return self

    def require(
        self, *, noise_multiplier: float, clip_norm: float, sampling_rate: float, steps: int, delta: float
    ) -> None:
        """Refusal 14: raises PolicyError unless one round of training lies inside this policy. NaN lies outside."""
        _require_inside(
            "privacy",
            {
                "the noise multiplier": noise_multiplier >= self.smallest_noise_multiplier,
                "the clip norm": 0 < clip_norm <= self.largest_clip_norm,
                "the sampling rate": 0 < sampling_rate <= self.largest_sampling_rate,
                "the number of steps": 0 < steps <= self.largest_steps,
                "delta": 0 < delta <= self.largest_delta,
            },
        )

    def require_count(self, *, noise_multiplier: float, delta: float) -> None:
        """Refusal 14: raises PolicyError unless a count, which takes every unit once, lies inside this policy."""
        _require_inside(
            "privacy",
            {
                "the noise multiplier": noise_multiplier >= self.smallest_noise_multiplier,
                "delta": 0 < delta <= self.largest_delta,
            },
        )


class TrainingPolicy(Document):
    """How far one round may move the model, and bounds on the numbers of a plan and of the server's step that decide
    it.

    A person can judge `largest_move_permille`: a share of the length (L2 norm) of the vector that the federation starts
    from. A plan is refused when it and the server's step together could move the model further in one round, whatever
    the single numbers are. The other fields bound each number alone.
    """

    largest_move_permille: int = Field(default=100, ge=1, le=10_000)
    largest_learning_rate: float = Field(default=1.0, gt=0, le=1000)
    largest_noise_multiplier: float = Field(default=100.0, gt=0, le=10_000)
    smallest_expected_units: int = Field(default=4, ge=1, le=1 << 24)
    largest_windows_per_unit: int = Field(default=64, ge=1, le=1024)
    largest_server_rate: float = Field(default=4.0, gt=0, le=1000)
    largest_momentum: float = Field(default=0.95, ge=0, lt=1)
    largest_second_momentum: float = Field(default=0.999, ge=0, lt=1)
    smallest_tau: float = Field(default=1e-4, gt=0, le=1)

    def require(
        self, *, learning_rate: float, noise_multiplier: float, expected_units: int, windows_per_unit: int
    ) -> None:
        """Refusal 14: raises PolicyError unless each number of a plan lies inside this policy. NaN lies outside."""
        _require_inside(
            "training",
            {
                "the learning rate": 0 < learning_rate <= self.largest_learning_rate,
                "the noise multiplier": 0 < noise_multiplier <= self.largest_noise_multiplier,
                "the expected number of units": expected_units >= self.smallest_expected_units,
                "the number of windows of a unit": 0 < windows_per_unit <= self.largest_windows_per_unit,
            },
        )

    def require_server_step(self, *, learning_rate: float, beta1: float, beta2: float, tau: float) -> None:
        """Refusal 14: raises PolicyError unless each number of the server's step lies inside this policy. This holds
        for numbers that the step does not use too, because they are signed with it."""
        _require_inside(
            "training",
            {
                "the server's learning rate": 0 < learning_rate <= self.largest_server_rate,
                "the server's momentum": 0 <= beta1 <= self.largest_momentum,
                "the server's second momentum": 0 <= beta2 <= self.largest_second_momentum,
                "the server's tau": tau >= self.smallest_tau,
            },
        )


class SharedMemoryPolicy(Document):
    """Whether phrases of very many file clusters may be counted, and on what terms. A charter without it allows no
    count. The privacy policy bounds the noise and delta of a count, as it does for a training."""

    largest_phrases: int = Field(default=1000, ge=1, le=4096)
    largest_length: int = Field(default=12, ge=2, le=16)
    largest_bits: int = Field(default=22, ge=12, le=22)
    smallest_deviations: float = Field(default=4.0, ge=1, le=100)
    smallest_witnesses: int = Field(default=3, ge=2, le=1024)
    smallest_surprise: float = Field(default=1.0, gt=0, le=20)
    largest_expected_units: int = Field(default=1 << 14, ge=1, le=1 << 24)

    def require(
        self,
        *,
        phrases: int,
        longest: int,
        bits: int,
        deviations: float,
        witnesses: int,
        surprise: float,
        expected_units: int,
    ) -> None:
        """Refusal 14: raises PolicyError unless each number of a count's plan lies inside this policy."""
        _require_inside(
            "shared memory",
            {
                "the number of phrases of a unit": phrases <= self.largest_phrases,
                "the length of a phrase": longest <= self.largest_length,
                "the number of cells": bits <= self.largest_bits,
                "the threshold in deviations": deviations >= self.smallest_deviations,
                "the number of witnesses": witnesses >= self.smallest_witnesses,
                "the surprise": surprise >= self.smallest_surprise,
                "the expected number of units": expected_units <= self.largest_expected_units,
            },
        )
