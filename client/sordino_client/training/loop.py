"""The child's part in a job: load, check the engine against brute force, train, store the update. Imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor, nn

from sordino_client.training import counting
from sordino_client.training.device import device_for, precision_for, room_for
from sordino_client.training.job import (
    LocalMetrics,
    Tokens,
    TrainingError,
    TrainingJob,
    as_ring,
    finish,
    read_units,
)
from sordino_client.training.worker import DEFAULT_MEMORY
from sordino_platform.architecture import (
    Architecture,
    HuggingFaceConfig,
    Parameters,
    Vector,
    flatten,
    trainable_shapes,
)
from sordino_platform.model import Decoder, build_decoder, parameters_of
from sordino_privacy.counts import CountPlan
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import Mode, PrivateTraining, StepRecord
from sordino_privacy.dpsgd.gradients import trainable_parameters
from sordino_privacy.dpsgd.selfcheck import COARSE, TOLERANCE, SelfCheckError
from sordino_privacy.errors import ConfigurationError, DataError, StorageError
from sordino_privacy.keystream import Keystream
from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.shared_noise import Integers

# Token windows as a matrix: rows are windows, this fills the ends of short ones and never counts in a loss.
PADDING = -1
# Lengths are rounded up to this, so that units of about one length can share a backward pass.
_ROUND = 64


def window_losses(model: nn.Module, windows: Tensor) -> Tensor:
    """Mean cross-entropy per window in nats per token, shape `(rows,)`; `windows` is `(rows, tokens + 1)`, padded."""
    targets = windows[:, 1:].long()
    logits = model(windows[:, :-1].clamp(min=0))
    each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=PADDING)
    counts = (targets != PADDING).sum(dim=1).clamp(min=1)
    return each.view(targets.shape).sum(dim=1) / counts


def window_matrix(windows: Sequence[Tokens], config: Architecture, most: int) -> Tensor:
    """One unit's windows as an int32 matrix `(windows, tokens + 1)`. Raises DataError where it does not fit.

    Of the end tokens at a window's end the first closes the document; the others are filling and do not count.
    """
    longest = max(w.size for w in windows)
    if longest > most + 1:
        raise DataError(f"a training window has {longest} tokens, the plan allows {most}")
    if max(int(w.max()) for w in windows) >= config.vocabulary:
        raise DataError(
            "a token is outside the model's vocabulary", hint="tokenizer and model do not belong together"
        )
    read = [w[: max(np.flatnonzero(w != config.end)[-1:].sum() + 2, 2)] for w in windows]
    longest = max(w.size for w in read)
    width = min(-(-max(longest - 1, 1) // _ROUND) * _ROUND, most) + 1
    matrix = np.full((len(windows), width), PADDING, dtype=np.int32)
    for row, window in zip(matrix, read, strict=True):
        row[: window.size] = window
    return torch.from_numpy(matrix)


def load_weights(job: TrainingJob) -> Parameters:
    """The job's parameters, float32. Raises StorageError."""
    try:
        stored = load_file(job.weights)
    except FileNotFoundError as error:
        raise StorageError(f"{job.weights} does not exist") from error
    except (SafetensorError, ValueError) as error:
        raise StorageError(f"{job.weights} is not a safetensors file") from error
    return {name: value.astype(np.float32, copy=False) for name, value in stored.items()}


def training_for(
    job: TrainingJob,
    parameters: Parameters,
    keystream: Keystream,
    *,
    workers: int,
    memory: int,
    device: str,
) -> PrivateTraining:
    """The engine on the job's model, within `memory` bytes.

    Raises ConfigurationError where the parameters, or the base in its folder, are others, or it does not fit.
    """
    if not isinstance(job.config, HuggingFaceConfig):
        return PrivateTraining(
            build_decoder(job.config, parameters),
            training_plan(job),
            window_losses=window_losses,
            keystream=keystream,
            workers=workers,
        )
    from sordino_platform.bases import shape_at
    from sordino_platform.huggingface_model import load_base_model  # an optional extra

    assert job.base is not None
    where = device_for(device)
    dtype = precision_for(where)
    room = room_for(
        shape_at(job.base),
        rank=job.config.adapter_rank,
        unit_tokens=job.plan.windows_per_unit * job.plan.window,
        memory=memory,
        device=where.type,
        weight_bytes=dtype.itemsize,
    )
    model = load_base_model(
        job.base, job.config, parameters, device=where, dtype=dtype, checkpointing=room.checkpointing
    )
    return PrivateTraining(
        model, training_plan(job), window_losses=window_losses, keystream=keystream, bounds=room.bounds
    )


def training_plan(job: TrainingJob) -> TrainingPlan:
    """The plan of a job that trains. Raises ConfigurationError for one that counts."""
    if isinstance(job.plan, CountPlan):
        raise ConfigurationError("this job counts: it has no plan of a training")
    return job.plan


def trained(model: nn.Module) -> Parameters:
    """A copy of the model's parameters, or of its adapters where only those are ours."""
    if isinstance(model, Decoder):
        return parameters_of(model)
    from sordino_platform.huggingface_model import adapters_of

    return adapters_of(model)


class Trainer:
    """Runs jobs one after another. The engine is checked against brute force once per model configuration and process.

    `memory` in bytes and `device` (see device.py) are of larger bases; our own models are small and stay on the CPU.
    """

    def __init__(self, *, workers: int = 1, memory: int = DEFAULT_MEMORY, device: str = "cpu") -> None:
        self._workers, self._memory, self._device = workers, memory, device
        self._proven: dict[bytes, Mode] = {}

    def run(self, job: TrainingJob, on_step: Callable[[StepRecord], None]) -> None:
        """Trains and stores the update. Raises what the parsers raise, and TrainingError."""
        started, plan = time.monotonic(), job.plan
        if isinstance(plan, CountPlan):
            if isinstance(job.config, HuggingFaceConfig):
                raise ConfigurationError("phrases are counted in the tokens of sordino's own bases only")
            model = build_decoder(job.config, load_weights(job))
            counting.count(read_units(job.units), model, plan, job, Keystream.from_system())
            return
        units = [window_matrix(unit, job.config, plan.window) for unit in read_units(job.units)]
        parameters = load_weights(job)
        keystream = Keystream.from_system()
        training = training_for(
            job,
            parameters,
            keystream,
            workers=self._workers,
            memory=self._memory,
            device=self._device,
        )
        training = self._prove(training, job, keystream)
        vector: Vector | RingVector
        if job.noise is None:
            record = training.run(units, on_step=on_step)
            vector = _difference(training.model, job.config, parameters)
        else:
            integers, record = training.run_shared(units, job.noise, on_step=on_step)
            vector = _in_order(integers, training.model, job.config)
        local = LocalMetrics(
            mean_loss=record.mean_loss,
            clipped_share=record.clipped_share,
            units=record.units,
            windows=record.windows,
            nonfinite=record.nonfinite,
            steps=plan.steps,
            seconds=time.monotonic() - started,
        )
        finish(job, vector, local)

    def _prove(self, training: PrivateTraining, job: TrainingJob, keystream: Keystream) -> PrivateTraining:
        """An engine that was checked on this very model: the fast one, or, if the model uses an adapter in a way for
        which it has no rule, the one that is right for every model."""
        known = self._proven.get(job.config.digest())
        if known == "one-pass":
            return training
        if known is None:
            try:
                self._check(training, job, keystream)
                self._proven[job.config.digest()] = "one-pass"
                return training
            except TypeError:
                if isinstance(training.model, Decoder):
                    raise
        plain = PrivateTraining(
            training.model,
            training_plan(job),
            window_losses=window_losses,
            keystream=keystream,
            mode="per-unit",
        )
        if known is None:
            self._check(plain, job, keystream)
            self._proven[job.config.digest()] = "per-unit"
        return plain

    def _check(self, training: PrivateTraining, job: TrainingJob, keystream: Keystream) -> None:
        length = min(job.plan.window, 12) + 1
        probes = []
        for count in (1, 2):
            words = keystream.words(count * length) % np.uint64(job.config.vocabulary)
            probes.append(torch.from_numpy(words.astype(np.int32)).view(count, length))
        try:
            training.self_check(probes, tolerance=TOLERANCE if exact(training.model) else COARSE)
        except SelfCheckError as error:
            raise TrainingError(f"the private training engine failed its own check: {error}") from error


def exact(model: nn.Module) -> bool:
    """Whether every product of the model is in float32."""
    return all(p.dtype == torch.float32 for p in model.parameters())


def _in_order(integers: Integers, model: nn.Module, config: Architecture) -> RingVector:
    """The engine's integers, which lie as the model's parameters do, in the order of the protocol's vector and as
    elements of its ring."""
    if isinstance(model, Decoder):
        names = {id(p): name for name, p in model.named_parameters()}
    else:
        from sordino_platform.huggingface_model import factors_of

        names = {id(p): name for name, p in factors_of(model).items()}
    places, start = {}, 0
    for parameter in trainable_parameters(model):
        places[names[id(parameter)]] = integers[start : start + parameter.numel()]
        start += parameter.numel()
    vector = np.concatenate([places[name] for name in trainable_shapes(config)])
    return as_ring(vector)


def _difference(
    model: nn.Module, config: Architecture, before: Parameters
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    after = flatten(config, trained(model))
    vector = after - flatten(config, before)
    if vector.dtype != np.float32:
        raise ConfigurationError("an update is a float32 vector")
    return cast("np.ndarray[tuple[int], np.dtype[np.float32]]", vector)
