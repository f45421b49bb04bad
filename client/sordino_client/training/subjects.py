"""What `sordino train` trains: a model of our own, whole; or adapters on a base that others made. Imports torch.

Settings fix a run, and it can be resumed only with the same ones. How much of the machine may be used (Means) is not
part of them: a run may go on with another memory limit, or on another device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from sordino_client.training.checkpoint import Optimiser
from sordino_client.training.muon import Muon, Rates
from sordino_client.training.on_base import AdamW, Means, OnBase
from sordino_client.training.stream import FILL_SHARE, Reads
from sordino_platform import base as shipped
from sordino_platform.architecture import SIZES, merged
from sordino_platform.bases import Base, find_base, tokenizer_at
from sordino_platform.huggingface import write_adapter
from sordino_platform.model import Decoder, build_decoder, loss, parameters_of
from sordino_platform.release import write_base_bundle, write_serving_bundle
from sordino_platform.tokenizer import END, Tokenizer
from sordino_privacy.errors import ConfigurationError, UsageError

# Tokens of a window on a base: long enough for a file's habits, short enough for a laptop's memory.
BASE_WINDOW = 512
ADAPTER_RATE = 1e-3


class Subject(Protocol):
    """A model under training.

    A window has `context` tokens, `at_once` of them are read in one pass; a share `fills` of the windows is rewritten
    to fill in the middle.
    """

    @property
    def context(self) -> int: ...

    @property
    def at_once(self) -> int: ...

    @property
    def fills(self) -> float: ...

    @property
    def optimiser(self) -> PacedOptimiser: ...

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """What is trained, by name."""
        ...

    def loss(self, windows: Tensor) -> Tensor:
        """Mean nats per token of int64 windows `(rows, context + 1)`."""
        ...

    def export(self, folder: Path, *, steps: int) -> None:
        """Writes the model of a run's folder as the completion engine loads it. Raises StorageError."""
        ...


class PacedOptimiser(Optimiser, Protocol):
    """An optimiser that is stepped by a run."""

    def step(self, factor: float) -> None:
        """Updates what is trained at `factor` times the full rate, and clears the gradients."""
        ...


class RunPlan(Protocol):
    """The settings of a run, whatever it trains. `tokens` is its length; the rates rise over `warmup` steps and fall
    to a tenth by its end; a step reads `windows` windows."""

    @property
    def tokens(self) -> int: ...

    @property
    def windows(self) -> int: ...

    @property
    def warmup(self) -> int: ...

    @property
    def seed(self) -> int: ...

    def tokenizer(self) -> Reads:
        """The run's tokenizer. Raises ConfigurationError."""
        ...

    def end(self) -> int:
        """The token that closes a document. Raises ConfigurationError."""
        ...

    def subject(self, means: Means) -> Subject:
        """The model at the run's beginning. Raises UsageError, ConfigurationError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneSettings:
    """A run that trains a model of our own, whole.

    `start` is "base" (the public base that ships; its size only) or "scratch".
    """

    size: str
    start: str
    tokens: int
    windows: int = 8
    warmup: int = 20
    seed: int = 20261122

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UsageError(f"there is no size {self.size!r}", hint=f"sizes: {', '.join(SIZES)}")
        if self.start not in ("base", "scratch"):
            raise UsageError("a run starts from 'base' or from 'scratch'")
        _require_length(self.tokens, self.windows)

    def tokenizer(self) -> Reads:
        return Tokenizer.shipped()

    def end(self) -> int:
        return END

    def subject(self, means: Means) -> Subject:
        return OwnModel(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptedSettings:
    """A run that trains adapters of `rank` on a base. `base` is its name, folder or file as it was given, `digest` what
    it was when the run began."""

    base: str
    digest: str
    rank: int
    tokens: int
    windows: int = 8
    warmup: int = 20
    seed: int = 20261122

    @classmethod
    def of(cls, name: str, *, rank: int, tokens: int) -> AdaptedSettings:
        """Raises ConfigurationError where there is no such base, UsageError for the one that ships."""
        found = find_base(name)
        if found.place is None:
            raise UsageError(
                "the base that ships is trained whole",
                hint="leave --base out, and add --start base --size 3.4m",
            )
        return cls(base=name, digest=found.digest, rank=rank, tokens=tokens)

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 64:
            raise UsageError("an adapter has a rank from 1 to 64")
        _require_length(self.tokens, self.windows)

    def tokenizer(self) -> Reads:
        return tokenizer_at(_place(find_base(self.base)))

    def end(self) -> int:
        return find_base(self.base).end

    def subject(self, means: Means) -> Subject:
        return AdaptedBase(self, means)


class OwnModel:
    """A decoder of our own, trained whole with Muon."""

    at_once = 8
    fills = FILL_SHARE

    def __init__(self, settings: StandaloneSettings) -> None:
        torch.manual_seed(settings.seed)
        self.model = _fresh(settings)
        self.optimiser = Muon(self.model.named_parameters(), _rates(settings))
        self.context = self.model.config.context

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self.model.named_parameters()

    def loss(self, windows: Tensor) -> Tensor:
        return loss(self.model(windows[:, :-1]), windows[:, 1:])

    def export(self, folder: Path, *, steps: int) -> None:
        with as_file(files("sordino_platform") / "base" / "tokenizer.json") as tokenizer:
            write_serving_bundle(
                folder / "serving",
                self.model.config,
                merged(parameters_of(self.model)),
                tokenizer,
                release=steps,
            )


class AdaptedBase:
    """Adapters on a base, which itself is not changed. Raises ConfigurationError."""

    # The base does not know our marks, so whether and how it fills in the middle is left as it was.
    fills = 0.0

    def __init__(self, settings: AdaptedSettings, means: Means) -> None:
        self.base = find_base(settings.base)
        self.context = min(BASE_WINDOW, self.base.context)
        self._on = OnBase.load(_place(self.base), rank=settings.rank, window=self.context, means=means)
        if self._on.config.base_sha256 != settings.digest:
            raise ConfigurationError(
                f"{self.base.place} is not the base any more that this run began with",
                hint="put its files back, or begin a new run in another folder",
            )
        self.optimiser = AdamW(self._on.named_parameters(), rate=ADAPTER_RATE)
        self.at_once = self._on.at_once

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self._on.named_parameters()

    def loss(self, windows: Tensor) -> Tensor:
        there = windows.to(self._on.device)
        return loss(self._on.model(there[:, :-1]).float(), there[:, 1:])

    def export(self, folder: Path, *, steps: int) -> None:
        """For other software in PEFT's format too, in FOLDER/adapter."""
        factors = {name: p.detach().cpu().numpy().copy() for name, p in self.named_parameters()}
        write_base_bundle(folder / "serving", self.base, factors, release=steps)
        write_adapter(folder / "adapter", self._on.config, factors)


def _require_length(tokens: int, windows: int) -> None:
    if tokens < 1 or not 1 <= windows <= 1024:
        raise UsageError("a run needs at least one token, and from 1 to 1024 windows per step")


def _place(base: Base) -> Path:
    assert base.place is not None, "the base that ships is no base of others"
    return base.place


def _fresh(settings: StandaloneSettings) -> Decoder:
    if settings.start == "scratch":
        return Decoder(SIZES[settings.size])
    config, _, parameters = shipped.load()
    if config != SIZES[settings.size]:
        raise UsageError(
            f"the base that ships is not of the size {settings.size}",
            hint="add --start scratch, or choose its size",
        )
    return build_decoder(config, parameters)


def _rates(settings: StandaloneSettings) -> Rates:
    full = Rates()
    if settings.start == "scratch":
        return full
    # At the rates that a fresh model needs, a trained one forgets.
    return Rates(matrix=full.matrix / 4, other=full.other / 4)
