"""The model that the coordinator measures: our own, or adapters on a base that lies on its own machine too.

torch is imported where it is used: a coordinator that measures nothing never needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sordino_platform.architecture import HuggingFaceConfig, ModelConfig, Parameters, Vector, unflatten
from sordino_platform.bases import find_by_digest, known_name, tokenizer_at
from sordino_platform.evaluation.loss import Encodes, Scored
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import ConfigurationError

if TYPE_CHECKING:
    from sordino_platform.huggingface_model import Logits

# What one passage has (heldout.py); a base's own context may be so long that a measurement would fill the memory.
MEASURED_CONTEXT = 512


class Measured(Protocol):
    """What makes a model of a release's vector."""

    def tokenizer(self) -> Encodes:
        """The tokenizer of the model."""

    def model(self, vector: Vector) -> Scored:
        """The model with this vector. One at a time: another may be made of the same memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OurModel:
    """The architecture of the base that ships."""

    config: ModelConfig
    parameters: Parameters = field(repr=False)

    def tokenizer(self) -> Encodes:
        return Tokenizer.shipped()

    def model(self, vector: Vector) -> Scored:
        from sordino_platform.model import build_decoder

        return build_decoder(self.config, unflatten(self.config, self.parameters, vector))


@dataclass(slots=True, kw_only=True)
class MeasuredOnBase:
    """Adapters on the base in `place`, which is loaded once, when something is measured first."""

    config: HuggingFaceConfig
    parameters: Parameters = field(repr=False)
    place: Path
    loaded: Logits | None = field(default=None, repr=False)

    def tokenizer(self) -> Encodes:
        return tokenizer_at(self.place)

    def model(self, vector: Vector) -> Scored:
        from sordino_platform.huggingface_model import load_base_model, put

        adapters = unflatten(self.config, self.parameters, vector)
        if self.loaded is None:
            self.loaded = load_base_model(self.place, self.config, adapters)
            self.loaded.eval()
            self.loaded.config = replace(self.config, context=min(self.config.context, MEASURED_CONTEXT))
        put(self.loaded, adapters)
        return self.loaded


def base_here(config: HuggingFaceConfig) -> Path:
    """Where the charter's base lies on this machine. Reads no weights. Raises ConfigurationError, with what to do."""
    found = find_by_digest(config.base_sha256)
    if found is None or found.place is None:
        raise ConfigurationError(
            f"nothing can be measured: the base with the digest {config.base_sha256} is not on this machine",
            hint=f"{how_to_add(config)}; or leave out `heldout` and `triggers` in coordinator.toml, and set "
            "release_without_any_heldout_measurement = true",
        )
    return found.place


def how_to_add(config: HuggingFaceConfig) -> str:
    """What brings the charter's base here, as the coordinator's user."""
    return f"add it here: `sordino base add {known_name(config.base_sha256) or 'FOLDER'}`"
