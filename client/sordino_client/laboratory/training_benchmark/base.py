"""`sordino bench dp --base NAME`: the cost of privacy on a larger base, compared with plain LoRA.

Both train the same adapters of one model in one process, in turns, on one thread, and CPU time is measured. A step is
everything from windows to changed adapters. Plain LoRA is PEFT's own model, one pass over the batch, mean loss, SGD.
Peak memory is measured in a separate process for each.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import typer

from sordino_client.laboratory.training_benchmark.apart import measured_apart
from sordino_client.laboratory.training_benchmark.plain import (
    WINDOW,
    measured_plan,
    plain_step,
    random_windows,
)
from sordino_platform.machine.memory import peak

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH, RANK, TURNS = 8, 8, 3
Mode = Literal["plain", "private"]
MODES: tuple[Mode, ...] = ("plain", "private")
PLAN = measured_plan(BATCH)


def report(name: str, *, as_json: bool) -> None:
    """Measures and prints. Raises the errors of `bases.find_base`."""
    from sordino_platform.bases import find_base

    base = find_base(name)
    typer.echo("measuring: time", err=True)
    times: dict[str, list[float]] = measured_apart(__name__, "times", name)
    slowdowns = [ours / plain for ours, plain in zip(times["private"], times["plain"], strict=True)]
    typer.echo("measuring: memory", err=True)
    peak = {mode: round(float(measured_apart(__name__, "memory", name, mode))) for mode in MODES}
    found = {
        "base": base.name,
        "digest": base.digest,
        "adapter_rank": RANK,
        "windows": BATCH,
        "window": WINDOW,
        "private_step_ratio_vs_lora": round(statistics.median(slowdowns), 3),
        "private_step_ratio_spread": [round(min(slowdowns), 3), round(max(slowdowns), 3)],
        "step_seconds": {mode: round(statistics.median(seconds), 2) for mode, seconds in times.items()},
        "peak_rss_mb": peak,
        "rss_ratio_vs_lora": round(peak["private"] / peak["plain"], 3),
        "estimated_training_mb": round(base.shape.training_bytes(tokens=BATCH * WINDOW, rank=RANK) / 1e6),
    }
    if as_json:
        typer.echo(json.dumps(found))
        return
    for key, value in found.items():
        typer.echo(f"{key:30} {value}")


def times(name: str) -> dict[str, list[float]]:
    """CPU seconds of a step by mode and turn, both modes on one model."""
    import torch

    torch.set_num_threads(1)
    model, windows = _model(name), _windows()
    steps = {mode: _step(mode, model) for mode in MODES}
    for step in steps.values():
        step(windows[:1])  # warms up
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(TURNS):
        for mode, step in steps.items():
            started = time.process_time()
            step(windows)
            found[mode].append(time.process_time() - started)
    return found


def memory(name: str, mode: Mode) -> float:
    """Peak resident memory of this process after two steps, in megabytes."""
    import torch

    torch.set_num_threads(1)
    step, windows = _step(mode, _model(name)), _windows()
    step(windows)
    step(windows)
    return peak() / 1e6


def _model(name: str) -> nn.Module:
    from sordino_platform.architecture import add_adapters
    from sordino_platform.bases import find_base, open_folder
    from sordino_platform.huggingface_model import describe, load_base_model

    folder = open_folder(find_base(name))
    config = describe(folder, rank=RANK)
    return load_base_model(folder, config, add_adapters(config, {})).train()


def _windows() -> Tensor:
    import torch

    torch.manual_seed(0)
    return random_windows(BATCH)


def _step(mode: Mode, model: nn.Module) -> Callable[[Tensor], None]:
    import torch

    from sordino_client.training.loop import window_losses
    from sordino_privacy.dpsgd.engine import PrivateTraining
    from sordino_privacy.dpsgd.gradients import trainable_parameters
    from sordino_privacy.keystream import Keystream

    if mode == "plain":
        return plain_step(model, trainable_parameters(model), learning_rate=PLAN.learning_rate)
    training = PrivateTraining(model, PLAN, window_losses=window_losses, keystream=Keystream.from_system())

    def private(windows: Tensor) -> None:
        training.step(list(torch.split(windows, 1)))

    return private
