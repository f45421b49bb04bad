"""What the child does with a job: load, prove the engine, train, store the update. Imports torch."""

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

from sordino_client.training.job import LocalMetrics, Tokens, TrainingError, TrainingJob, finish, read_units
from sordino_platform.architecture import Architecture, HuggingFaceConfig, Parameters, flatten
from sordino_platform.model import Decoder, build, parameters_of
from sordino_privacy.dpsgd.engine import PrivateTraining, StepRecord
from sordino_privacy.dpsgd.keystream import Keystream
from sordino_privacy.dpsgd.selfcheck import SelfCheckError
from sordino_privacy.errors import ConfigurationError, DataError, StorageError

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

    A window's last run of end tokens closes its document once; the rest is filling and does not count.
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
    """The job's parameters, float32."""
    try:
        stored = load_file(job.weights)
    except FileNotFoundError as error:
        raise StorageError(f"{job.weights} does not exist") from error
    except (SafetensorError, ValueError) as error:
        raise StorageError(f"{job.weights} is not a safetensors file") from error
    return {name: value.astype(np.float32, copy=False) for name, value in stored.items()}


def load_model(job: TrainingJob, parameters: Parameters) -> nn.Module:
    """The job's model. Raises ConfigurationError where the parameters, or the base in its folder, are others."""
    if isinstance(job.config, HuggingFaceConfig):
        from sordino_platform.huggingface_model import load  # an optional extra

        assert job.base is not None
        return load(job.base, job.config, parameters)
    return build(job.config, parameters)


def trained(model: nn.Module) -> Parameters:
    """A copy of the model's parameters, or of its adapters where only those are ours."""
    if isinstance(model, Decoder):
        return parameters_of(model)
    from sordino_platform.huggingface_model import adapters_of

    return adapters_of(model)


class Trainer:
    """Runs jobs one after another. The engine is proven once per model configuration and process."""

    def __init__(self, *, workers: int = 1) -> None:
        self._workers = workers
        self._proven: set[bytes] = set()

    def run(self, job: TrainingJob, on_step: Callable[[StepRecord], None]) -> None:
        """Trains and stores the update. Raises what the parsers raise, and TrainingError."""
        started = time.monotonic()
        units = [window_matrix(unit, job.config, job.plan.window) for unit in read_units(job.units)]
        parameters = load_weights(job)
        model = load_model(job, parameters)
        keystream = Keystream.from_system()
        # A foreign architecture gets the mode that is right for every one; it has no rule that could be wrong.
        ours = isinstance(model, Decoder)
        training = PrivateTraining(
            model,
            job.plan,
            window_losses=window_losses,
            keystream=keystream,
            mode="one-pass" if ours else "per-unit",
            workers=self._workers if ours else 1,
        )
        if job.config.digest() not in self._proven:
            self._prove(training, job, keystream)
        record = training.run(units, on_step=on_step)
        local = LocalMetrics(
            mean_loss=record.mean_loss,
            clipped_share=record.clipped_share,
            units=record.units,
            windows=record.windows,
            nonfinite=record.nonfinite,
            steps=job.plan.steps,
            seconds=time.monotonic() - started,
        )
        finish(job, _difference(model, job.config, parameters), local)

    def _prove(self, training: PrivateTraining, job: TrainingJob, keystream: Keystream) -> None:
        length = min(job.plan.window, 12) + 1
        probes = []
        for count in (1, 2):
            words = keystream.words(count * length) % np.uint64(job.config.vocabulary)
            probes.append(torch.from_numpy(words.astype(np.int32)).view(count, length))
        try:
            training.self_check(probes)
        except SelfCheckError as error:
            raise TrainingError(f"the private training engine failed its own check: {error}") from error
        self._proven.add(job.config.digest())


def _difference(
    model: nn.Module, config: Architecture, before: Parameters
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    after = flatten(config, trained(model))
    vector = after - flatten(config, before)
    if vector.dtype != np.float32:
        raise ConfigurationError("an update is a float32 vector")
    return cast("np.ndarray[tuple[int], np.dtype[np.float32]]", vector)
