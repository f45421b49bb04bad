"""A training job as a folder, and the update it leaves there.

    job.json        model configuration, plan, and where weights and units lie, with their SHA-256
    metrics.json    what the member may know of its own training, and the update's digest; written first
    update.npy      float32 vector, new - old, in the order of `architecture.flatten`, or the cells of a count; its
                    presence means "finished".
                    Where noise comes in shares: uint32 ring elements, the member's share in them; nothing computed from
                    data lies on a disk without noise

Each file appears whole or not at all. A finished job is never trained again: a retry after a crash finds the same
bytes, so one reservation in the ledger can release one update only.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_platform.architecture import Architecture, HuggingFaceConfig, ModelConfig, Vector
from sordino_platform.durable import make_folder, read_file, sha256_of_file, write_file
from sordino_platform.plans import Plan, parse_plan
from sordino_privacy.errors import ConfigurationError, DataError, SordinoError, StorageError
from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.shared_noise import Integers, SharedNoise

MAX_UNITS_BYTES = 4 << 30
MAX_WEIGHTS_BYTES = 5 << 30
_MAX_JSON = 1 << 20
_LABEL = b"sordino-training-job/1\n"
_NOISE = ("noise_multiplier", "honest", "members", "dimension")

# uint16, or uint32 where a base's vocabulary is larger than that.
Tokens = npt.NDArray[np.unsignedinteger[Any]]


class TrainingError(SordinoError):
    """The trainer stopped without an update: out of memory, killed, or the training diverged."""

    exit_code = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMetrics:
    """What the member may know of its own training. Never sent: each of these depends on the data without noise.

    mean_loss in nats per token before each step's update; clipped_share in [0, 1]; units and windows as read over all
    steps; nonfinite counts units whose gradient was not finite and therefore zeroed; seconds of wall time.
    """

    mean_loss: float
    clipped_share: float
    units: int
    windows: int
    nonfinite: int
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One round's training or count, as its plan says.

    `weights`: safetensors of all parameters. `units`: a file made by `write_units`.

    With a HuggingFaceConfig the weights are the adapters, and `base` is the folder of the model that they adapt.
    `noise` is given where the charter has it in shares: then the update is integers with this member's share.

    Raises ConfigurationError for a plan and a model, or noise, that do not belong together.
    """

    folder: Path
    config: Architecture
    weights: Path
    units: Path
    plan: Plan
    base: Path | None = None
    noise: SharedNoise | None = None

    def __post_init__(self) -> None:
        if isinstance(self.config, HuggingFaceConfig) != (self.base is not None):
            raise ConfigurationError("adapters of a Hugging Face model need the folder of their base")
        if self.plan.window > self.config.context:
            raise ConfigurationError(
                f"the plan's window of {self.plan.window} tokens exceeds the model's context of {self.config.context}"
            )

    def digest(self) -> str:
        """SHA-256 over the model, the plan, the weights and the units, in hexadecimal."""
        parts = [
            self.config.digest(),
            self.plan.digest(),
            sha256_of_file(self.weights),
            sha256_of_file(self.units),
            json.dumps(self._noise_terms(), sort_keys=True).encode() if self.noise is not None else b"",
        ]
        return hashlib.sha256(_LABEL + b"".join(parts)).hexdigest()

    def write(self) -> None:
        """Writes `job.json`."""
        make_folder(self.folder)
        raw = {
            "format": 1,
            "model": asdict(self.config),
            "plan": json.loads(self.plan.canonical()),
            "weights": str(self.weights.resolve()),
            "units": str(self.units.resolve()),
            "base": None if self.base is None else str(self.base.resolve()),
            "noise": self._noise_terms(),
        }
        write_file(self.folder / "job.json", json.dumps(raw, sort_keys=True).encode(), secret=True)

    def _noise_terms(self) -> dict[str, float] | None:
        if self.noise is None:
            return None
        return {name: getattr(self.noise, name) for name in _NOISE}

    @classmethod
    def read(cls, folder: Path) -> TrainingJob:
        """The job whose folder this is. Raises ConfigurationError for anything but what `write` wrote."""
        raw = _object(folder / "job.json")
        model, plan = raw.get("model"), raw.get("plan")
        noise = raw.get("noise")
        known = {"format", "model", "plan", "weights", "units", "base", "noise"}
        if set(raw) != known or raw["format"] != 1:
            raise ConfigurationError("the training job has unknown or missing fields")
        kind: type[ModelConfig | HuggingFaceConfig] = (
            ModelConfig if raw["base"] is None else HuggingFaceConfig
        )
        if (
            not isinstance(model, dict)
            or set(model) != {f.name for f in fields(kind)}
            or not isinstance(plan, dict)
            or (noise is not None and (not isinstance(noise, dict) or set(noise) != set(_NOISE)))
        ):
            raise ConfigurationError("the training job has unknown or missing fields")
        return cls(
            folder=folder,
            config=_config(kind, model),
            plan=parse_plan(json.dumps(plan).encode()),
            weights=Path(str(raw["weights"])),
            units=Path(str(raw["units"])),
            base=None if raw["base"] is None else Path(str(raw["base"])),
            noise=None if noise is None else SharedNoise(**noise),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedUpdate:
    """A finished update. `digest` is the SHA-256 of the vector's bytes; `local` stays on this machine."""

    path: Path
    count: int
    digest: bytes
    local: LocalMetrics = field(repr=False)

    def vector(self) -> Vector:
        """The float32 vector, new - old, shape `(count,)`. Raises StorageError when the file was damaged."""
        return self._read(np.dtype(np.float32))

    def integers(self) -> RingVector:
        """The ring elements with this member's share of the noise, uint32, shape `(count,)`. Raises StorageError."""
        return self._read(np.dtype("<u4"))

    def _read(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        data = read_file(self.path, limit=4 * self.count + 4096)
        try:
            vector = np.load(io.BytesIO(data), allow_pickle=False)
        except ValueError as error:
            raise StorageError(f"{self.path} is not an update") from error
        if vector.dtype != dtype or vector.shape != (self.count,) or _digest(vector) != self.digest:
            raise StorageError(
                f"{self.path} was damaged", hint="this round's update is lost; take part in the next"
            )
        return np.asarray(vector)


def as_ring(integers: Integers) -> RingVector:
    """Signed integers as elements of the ring of 32 bits, the one of noise in shares."""
    return (integers & 0xFFFFFFFF).astype("<u4")


def finish(job: TrainingJob, vector: Vector | RingVector, local: LocalMetrics) -> None:
    """Stores a finished update durably. Raises TrainingError when it is not finite."""
    if not np.isfinite(vector).all():
        raise TrainingError(
            "training diverged: the update is not finite", hint="lower the plan's learning rate"
        )
    metrics = {
        "job": job.digest(),
        "count": int(vector.size),
        "update": _digest(vector).hex(),
        "local": asdict(local),
    }
    write_file(job.folder / "metrics.json", json.dumps(metrics).encode(), secret=True)
    buffer = io.BytesIO()
    np.save(buffer, vector, allow_pickle=False)
    write_file(job.folder / "update.npy", buffer.getvalue(), secret=True)


def finished(job: TrainingJob) -> TrainedUpdate | None:
    """The update that this job's folder holds already, or None. Raises ConfigurationError when it is another job's,
    StorageError when it is damaged."""
    path = job.folder / "update.npy"
    if not path.exists():
        return None
    raw = _object(job.folder / "metrics.json")
    try:
        if raw["job"] != job.digest():
            raise ConfigurationError(f"{job.folder} holds the update of another training job")
        local = LocalMetrics(**raw["local"])  # type: ignore[arg-type]
        return TrainedUpdate(
            path=path, count=int(str(raw["count"])), digest=bytes.fromhex(str(raw["update"])), local=local
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{job.folder / 'metrics.json'} is damaged") from error


def write_units(path: Path, units: Sequence[Sequence[Tokens]]) -> None:
    """Stores units, each a sequence of token windows (uint16 or uint32, shape `(tokens,)`), for any number of jobs.

    Raises DataError when there is nothing to train on.
    """
    windows = [window for unit in units for window in unit]
    if not windows or any(not len(unit) for unit in units):
        raise DataError(
            "there is no code to train on: every file was excluded or is empty",
            hint="see what was excluded with `sordino client corpus`",
        )
    if any(w.dtype not in (np.uint16, np.uint32) or w.ndim != 1 or not w.size for w in windows):
        raise DataError("a token window is not a one-dimensional array of uint16 or uint32")
    buffer = io.BytesIO()
    np.savez(
        buffer,
        tokens=np.concatenate(windows),
        lengths=np.array([w.size for w in windows], dtype=np.int64),
        windows=np.array([len(unit) for unit in units], dtype=np.int64),
    )
    make_folder(path.parent)
    write_file(path, buffer.getvalue(), secret=True)


def read_units(path: Path) -> list[list[Tokens]]:
    """The units of a file made by `write_units`, each a list of token windows `(tokens,)`. Raises StorageError."""
    try:
        with np.load(io.BytesIO(read_file(path, limit=MAX_UNITS_BYTES)), allow_pickle=False) as stored:
            tokens, lengths, windows = stored["tokens"], stored["lengths"], stored["windows"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StorageError(f"{path} is not a file of training units") from error
    fits = (
        tokens.dtype in (np.uint16, np.uint32)
        and (lengths > 0).all()
        and (windows > 0).all()
        and lengths.sum() == tokens.size
        and windows.sum() == lengths.size
    )
    if not fits:
        raise StorageError(f"{path} is not a file of training units")
    pieces = np.split(tokens, np.cumsum(lengths)[:-1])
    ends = np.cumsum(windows)
    return [pieces[end - count : end] for count, end in zip(windows, ends, strict=True)]


def _config(kind: type[ModelConfig | HuggingFaceConfig], raw: dict[str, object]) -> Architecture:
    if kind is HuggingFaceConfig:
        targets = raw["targets"]
        if not isinstance(targets, list) or any(not isinstance(t, list) or len(t) != 3 for t in targets):
            raise ConfigurationError("the training job has unknown or missing fields")
        raw = {**raw, "targets": tuple(tuple(target) for target in targets)}
    return kind(**raw)  # type: ignore[arg-type]  # both check their own values


def _object(path: Path) -> dict[str, object]:
    try:
        raw = json.loads(read_file(path, limit=_MAX_JSON))
    except ValueError as error:
        raise StorageError(f"{path} is damaged") from error
    if not isinstance(raw, dict):
        raise StorageError(f"{path} is damaged")
    return raw


def _digest(vector: npt.NDArray[Any]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(vector).tobytes()).digest()
