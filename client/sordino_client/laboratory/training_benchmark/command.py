"""`sordino bench dp`: the cost of privacy in time and memory, beside plain PyTorch and stock Opacus.

All modes train one decoder of random weights with *untied* embeddings, made of `nn.Linear`, `nn.Embedding` and
`nn.RMSNorm`, because stock Opacus is wrong on tied weights and slow on modules that it does not know. A step is
everything from windows to changed weights: gradients, clip, noise, optimiser. CPU time on one thread is measured, and
the modes take turns in one process, so that a busy machine changes the ratios as little as possible. Peak memory is
measured in a separate process for each mode.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

from sordino_client.laboratory.training_benchmark.apart import measured_apart
from sordino_client.laboratory.training_benchmark.plain import (
    WINDOW,
    measured_plan,
    plain_step,
    random_windows,
)
from sordino_platform.as_json import FiguresAsJson
from sordino_platform.machine.memory import peak
from sordino_platform.machine.processors import load_average
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCHES = (8, 32)
Ours = Literal["one-pass", "per-unit"]
Stock = Literal["hooks", "functorch", "ghost"]
Mode = Literal["plain", Ours, Stock]
OURS: tuple[Ours, ...] = ("one-pass", "per-unit")
STOCK: tuple[Stock, ...] = ("hooks", "functorch", "ghost")
MODES: tuple[Mode, ...] = ("plain", *OURS, *STOCK)
SIZES = {"2.3m": "2m3", "22m": "22m"}
TURNS = {("2.3m", 8): 6, ("2.3m", 32): 4, ("22m", 8): 2, ("22m", 32): 2}
# The slowest two need half a minute per step at 22M, so they get only one turn there.
ONCE = {("22m", "functorch"), ("22m", "ghost")}
# Modes whose memory is measured. At 22M stock Opacus would need a minute and many gigabytes and show nothing new.
MEMORY = {"2.3m": MODES, "22m": ("plain", "one-pass")}
WORKER_SECONDS = 8.0


def dp(
    as_json: FiguresAsJson = False,
    size: list[str] = typer.Option(list(SIZES), help="Sizes to measure, 2.3m or 22m; repeat."),
    base: str | None = typer.Option(
        None, help="Measure adapters on this base instead, beside plain LoRA: a name, a folder, a .gguf file."
    ),
) -> None:
    """Measures private training: time and memory of our modes, plain PyTorch and stock Opacus. About seven minutes.

    The ratios of each size are those of batch 32; `by_batch` has the same of batch 8, where noise weighs more.

    Example: sordino bench dp --json

    Example: sordino bench dp --base smollm2
    """
    if base is not None:
        from sordino_client.laboratory.training_benchmark import base as base_bench

        return base_bench.report(base, as_json=as_json)
    unknown = sorted(set(size) - set(SIZES))
    if unknown:
        raise UsageError(f"{unknown[0]} is not a size that is measured", hint="use 2.3m or 22m")
    found: dict[str, Any] = {"cores": os.cpu_count(), "load_average": round(load_average(), 2)}
    for name in size:
        _say(f"time of {name}")
        found |= _compared(name, {batch: _child("times", name, batch) for batch in BATCHES})
        _say(f"memory of {name}")
        peak = {mode: round(_child("memory", name, BATCHES[-1], mode)) for mode in MEMORY[name]}
        found[f"peak_rss_mb_{SIZES[name]}"] = peak
        found[f"rss_ratio_vs_plain_{SIZES[name]}"] = round(peak["one-pass"] / peak["plain"], 3)
    _say("two workers")
    found["two_workers_vs_plain_two_threads_2m3"] = _two_workers()
    found["accounting_seconds_50_rounds"] = _accounting()
    if as_json:
        typer.echo(json.dumps(found))
        return None
    for name, value in found.items():
        typer.echo(f"{name:40} {value}")
    return None


def _compared(size: str, measured: Mapping[int, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """The ratios and rates of one size, from the seconds of every turn by batch and mode.

    A ratio is the median over turns of neighbouring steps, so a slow machine slows both sides. The spread is from the
    smallest to the largest turn.
    """
    key, by_batch, rates = SIZES[size], {}, {}
    for batch, turns in measured.items():
        best = min(OURS, key=lambda mode: statistics.median(turns[mode]))
        slowdowns = [ours / plain for ours, plain in zip(turns[best], turns["plain"], strict=True)]
        rivals = {
            mode: statistics.median(
                theirs / ours for theirs, ours in zip(turns[mode], turns[best], strict=False)
            )
            for mode in STOCK
        }
        rival = min(rivals, key=rivals.__getitem__)
        by_batch[f"batch_{batch}"] = {
            "our_best": best,
            "slowdown_vs_plain": round(statistics.median(slowdowns), 3),
            "slowdown_spread": [round(min(slowdowns), 3), round(max(slowdowns), 3)],
            "best_opacus": rival,
            "speedup_vs_best_opacus": round(rivals[rival], 3),
        }
        rates[f"batch_{batch}"] = {mode: round(batch * WINDOW / min(found)) for mode, found in turns.items()}
    headline = by_batch[f"batch_{BATCHES[-1]}"]
    return {
        f"slowdown_vs_plain_{key}": headline["slowdown_vs_plain"],
        f"speedup_vs_best_opacus_{key}": headline["speedup_vs_best_opacus"],
        f"by_batch_{key}": by_batch,
        f"tokens_per_cpu_second_{key}": rates,
    }


def _say(doing: str) -> None:
    typer.echo(f"measuring: {doing}", err=True)


def times(size: str, batch: int) -> dict[str, list[float]]:
    """CPU seconds of one step, by mode and turn."""
    steps = {mode: make_step(mode, size) for mode in MODES}
    windows = random_windows(batch)
    for step in steps.values():
        step(windows[:4])  # warms up
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for turn in range(TURNS[size, batch]):
        for mode, step in steps.items():
            if turn and (size, mode) in ONCE:
                continue
            started = time.process_time()
            step(windows)
            found[mode].append(time.process_time() - started)
    return found


def memory(size: str, batch: int, mode: Mode) -> float:
    """Peak resident memory of this process after a step, in megabytes."""
    step, windows = make_step(mode, size), random_windows(batch)
    step(windows)
    return peak() / 1e6


def throughput(mode: Literal["plain", "one-pass"], threads: int, workers: int) -> float:
    """Tokens per second of wall time at 2.3M and batch 32, with this many threads per worker."""
    import torch

    torch.set_num_threads(threads)
    step, windows = make_step(mode, "2.3m", workers=workers), random_windows(BATCHES[-1])
    step(windows)
    started, tokens = time.monotonic(), 0
    while time.monotonic() - started < WORKER_SECONDS:
        step(windows)
        tokens += len(windows) * WINDOW
    return tokens / (time.monotonic() - started)


def make_step(mode: Mode, size: str, *, workers: int = 1) -> Callable[[Tensor], None]:
    """A step of one mode on its own model."""
    import torch

    from sordino_client.training.loop import window_losses
    from sordino_privacy.dpsgd.engine import PrivateTraining
    from sordino_privacy.dpsgd.opacus_layer import stock_step
    from sordino_privacy.keystream import Keystream

    torch.manual_seed(0)
    model = untied(size)
    plan = measured_plan(BATCHES[-1])
    if mode == "plain":
        return plain_step(model, model.parameters(), learning_rate=plan.learning_rate)
    if mode == "one-pass" or mode == "per-unit":
        training = PrivateTraining(
            model,
            plan,
            window_losses=window_losses,
            keystream=Keystream.from_system(),
            mode=mode,
            workers=workers,
        )
        return lambda windows: _discard(training.step(list(torch.split(windows, 1))))
    return stock_step(mode, model, window_losses, plan)


def untied(size: str) -> nn.Module:
    """The decoder of this size from torch's own modules, with a separate output layer."""
    from torch import nn

    from sordino_platform import architecture
    from sordino_platform.model import Decoder, Linear, RMSNorm

    class Untied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = architecture.SIZES[size]
            decoder = Decoder(config)
            self.embed = nn.Embedding(config.vocabulary, config.width)
            self.norm_in, self.blocks, self.norm_out = decoder.norm_in, decoder.blocks, decoder.norm_out
            self.head = nn.Linear(config.width, config.vocabulary)
            self.cos, self.sin = decoder.cos, decoder.sin
            for parent in list(self.modules()):
                for name, child in list(parent.named_children()):
                    if isinstance(child, Linear):
                        setattr(
                            parent, name, nn.Linear(child.weight.shape[1], child.weight.shape[0], bias=False)
                        )
                    elif isinstance(child, RMSNorm):
                        setattr(parent, name, nn.RMSNorm(config.width, eps=1e-6))

        def forward(self, tokens: Tensor) -> Tensor:
            time = tokens.shape[1]
            x = self.norm_in(self.embed(tokens))
            for block in self.blocks:
                x = block(x, self.cos[:time], self.sin[:time])
            logits: Tensor = self.head(self.norm_out(x))
            return logits

    return Untied().train()


def _discard(_: object) -> None:
    return None


def _two_workers() -> float:
    """Wall time of the trainer with two pinned workers and of plain PyTorch with two threads, in turns."""
    pairs = [
        (
            float(_child("throughput", "one-pass", 1, 2)),
            float(_child("throughput", "plain", 2, 1, threads=2)),
        )
        for _ in range(2)
    ]
    return round(max(ours for ours, _ in pairs) / max(plain for _, plain in pairs), 3)


def _accounting() -> float:
    import dp_accounting.pld  # noqa: F401  # loading it is not accounting

    events = [SampledGaussian(sampling_rate=0.02, noise_multiplier=0.8, steps=20)] * 50
    started = time.perf_counter()
    epsilon(events, 1e-6)
    return round(time.perf_counter() - started, 3)


def _child(function: str, *arguments: object, threads: int = 1) -> Any:
    return measured_apart(__name__, function, *arguments, threads=threads)
