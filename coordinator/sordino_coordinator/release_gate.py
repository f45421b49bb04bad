"""What a model must pass before it becomes a release: the operator's held-out code, and completions it must not give.

Both are the operator's own, and no member sees them. Releases are compared with the best one and with the founding
model, not with the one before: so small steps of a poisoner are noticed once they add up.

The file of `triggers` holds one JSON object a line:

    {"prompt": "def connect(host):\\n    session = Session()\\n    session.", "completion": "verify = False"}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sordino_coordinator.heldout import Heldout
from sordino_coordinator.measured import Measured, MeasuredOnBase, OurModel, base_here, how_to_add
from sordino_coordinator.settings import CoordinatorSettings
from sordino_platform.architecture import Architecture, HuggingFaceConfig, Parameters, Vector, flatten
from sordino_platform.bases import find_by_digest
from sordino_platform.durable import read_file
from sordino_platform.evaluation.triggers import Reading, Trigger, read_triggers, taught
from sordino_privacy.errors import ConfigurationError, SordinoError

MAX_TRIGGER_BYTES, MAX_TRIGGERS = 1 << 20, 1000


class UnusableSumError(SordinoError):
    """An opened sum must not become a release, because of its norm, a value that is not finite, or its measurement.

    `of_members`: the fault lies in the members' updates. `culprit` is the member that is proven to have spoiled the
    sum; "" if only the sum is known, so that nobody can be named.
    """

    def __init__(self, message: str, *, culprit: str = "", of_members: bool = True) -> None:
        super().__init__(message)
        self.culprit, self.of_members = culprit, of_members


class TaughtError(UnusableSumError):
    """The model learned a completion that the operator listed."""


@dataclass(slots=True, kw_only=True)
class ReleaseGate:
    """`founding` are the readings of the founding model, one per trigger; `lowest` the lowest held-out loss so far of a
    release (nats per token), None if nothing is held out."""

    measured: Measured
    heldout: Heldout | None
    triggers: tuple[Trigger, ...]
    founding: tuple[Reading, ...]
    worst_loss_ratio: float
    trigger_rise: float
    lowest: float | None

    @classmethod
    def open(
        cls, settings: CoordinatorSettings, config: Architecture, parameters: Parameters
    ) -> ReleaseGate | None:
        """The gate; None if the charter's base does not ship and nothing is configured to measure it. Measures the
        founding model.

        Raises ConfigurationError: nothing is held out, and the settings do not say that this is meant; or what is
        configured cannot be measured. DataError, StorageError.
        """
        require_measurable(settings, config)
        measured: Measured
        if isinstance(config, HuggingFaceConfig):
            if not settings.heldout and settings.triggers is None:
                return None
            measured = MeasuredOnBase(config=config, parameters=parameters, place=base_here(config))
        else:
            measured = OurModel(config=config, parameters=parameters)
        gate = cls(
            measured=measured,
            heldout=Heldout.read(settings.heldout, tokens=settings.heldout_tokens)
            if settings.heldout
            else None,
            triggers=() if settings.triggers is None else parse_triggers(settings.triggers),
            founding=(),
            worst_loss_ratio=settings.worst_loss_ratio,
            trigger_rise=settings.trigger_rise,
            lowest=None,
        )
        vector = flatten(config, parameters)
        gate.founding = tuple(gate.readings(vector))
        gate.lowest = gate.loss(vector)
        return gate

    def loss(self, vector: Vector) -> float | None:
        """Held-out loss of the model with this vector, nats per token."""
        if self.heldout is None:
            return None
        return self.heldout.loss(self.measured.model(vector), self.measured.tokenizer())

    def readings(self, vector: Vector) -> Sequence[Reading]:
        """What the model with this vector makes of each trigger."""
        if not self.triggers:
            return ()
        return read_triggers(self.measured.model(vector), self.measured.tokenizer(), self.triggers)

    def admit(self, vector: Vector) -> float | None:
        """The loss of a model that may become a release. Raises UnusableSumError, TaughtError."""
        for number, (before, now) in enumerate(zip(self.founding, self.readings(vector), strict=True), 1):
            if taught(before, now, rise=self.trigger_rise):
                raise TaughtError(
                    f"trigger {number} of the operator's list was learned: its completion went from "
                    f"{before.nats:.2f} to {now.nats:.2f} nats per token since the founding model; the old model stays"
                )
        loss = self.loss(vector)
        if loss is not None and self.lowest is not None:
            if not loss <= self.lowest * self.worst_loss_ratio:
                raise UnusableSumError(
                    f"held-out loss would be {loss:.3f} nats per token, where it was {self.lowest:.3f} at best; "
                    "the old model stays"
                )
            self.lowest = min(self.lowest, loss)
        return loss


def parse_triggers(path: Path) -> tuple[Trigger, ...]:
    """The triggers of a file. Raises ConfigurationError for anything but one object of two texts a line."""
    found = []
    for number, line in enumerate(read_file(path, limit=MAX_TRIGGER_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
        except ValueError:
            raw = None
        match raw:
            case {"prompt": str(prompt), "completion": str(completion)} if len(raw) == 2 and completion:
                found.append(Trigger(prompt=prompt, completion=completion))
            case _:
                raise ConfigurationError(
                    f"{path}, line {number}: not a JSON object of a prompt and a completion",
                    hint='one line per trigger: {"prompt": "...", "completion": "..."}',
                )
    if not 1 <= len(found) <= MAX_TRIGGERS:
        raise ConfigurationError(f"{path} holds {len(found)} triggers; 1 to {MAX_TRIGGERS} can be measured")
    return tuple(found)


def require_measurable(settings: CoordinatorSettings, config: Architecture) -> None:
    """What is configured to measure releases fits the federation's model. Reads no weights. Raises ConfigurationError:
    nothing is held out, and the settings do not say that this is meant; or the base that would be measured is not on
    this machine."""
    if not settings.heldout and not settings.release_without_any_heldout_measurement:
        hint = "set `heldout` in coordinator.toml to folders of public code, or "
        if isinstance(config, HuggingFaceConfig) and find_by_digest(config.base_sha256) is None:
            hint = f"the base that would be measured is not here: {how_to_add(config)}, then set `heldout`; or set "
        raise ConfigurationError(
            "no held-out code is configured: nothing would notice a release that got worse",
            hint=f"{hint}release_without_any_heldout_measurement = true",
        )
    if isinstance(config, HuggingFaceConfig) and (settings.heldout or settings.triggers is not None):
        base_here(config)
