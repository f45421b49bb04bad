"""The pretraining loop: warm-up, stable phase, and a decay branch.

The schedule is warmup-stable-decay (Hu et al. 2024, MiniCPM): the stable run can continue for any time, in any number
of sessions. What ships is a *branch*: a copy of the newest checkpoint whose rate falls linearly to zero over a given
number of tokens. The stable run does not change.

Run as `python -m sordino_client.laboratory.pretrain.trainer`; `sordino pretrain` starts it with the process settings
that it needs.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from sordino_client.laboratory.pretrain.compute import DEVICES, Compute
from sordino_client.laboratory.pretrain.packed import unpack
from sordino_client.laboratory.pretrain.plan import PLANS, PretrainingSettings, SessionPace
from sordino_client.training import checkpoint, curve
from sordino_client.training.muon import Muon
from sordino_client.training.stream import KINDS, MIXTURE, Position, Shard, WindowStream, open_shard
from sordino_platform.architecture import SIZES
from sordino_platform.model import loss
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError, StorageError


class PretrainingRun:
    """One training run in a folder: new, or resumed from its last checkpoint."""

    def __init__(
        self,
        folder: Path,
        training: Shard,
        validation: Shard,
        settings: PretrainingSettings,
        pace: SessionPace,
    ) -> None:
        compute = Compute.of_this_machine() if pace.compute is None else pace.compute
        compute.prepare(seed=settings.seed, threads=pace.threads)
        self.folder, self.settings, self.pace, self._compute = folder, settings, pace, compute
        self.model = compute.decoder(replace(SIZES[settings.size], vocabulary=training.vocabulary))
        self._loss = compute.window_loss(self.model)
        self.optimiser = Muon(
            self.model.named_parameters(),
            settings.rates,
            compute.matrix_precision,
            together=compute.device != "cpu",
        )
        position, self.progress = checkpoint.load(folder, self.model, self.optimiser) or (
            Position(),
            checkpoint.RunCounters(),
        )
        self._shards = training, validation
        self._open_stage(position)
        self._stop = False
        folder.mkdir(parents=True, exist_ok=True)
        _agree_on_settings(folder / "settings.json", settings)
        curve.truncate(folder / "log.jsonl", self.progress.steps)

    def stop(self, signal_number: int = 0, frame: FrameType | None = None) -> None:
        """Asks the loop to write a checkpoint and return after the current step."""
        self._stop = True

    def train(self, factor: Callable[[int, int], float] | None = None, *, log: str = "log.jsonl") -> None:
        """Trains until `stop` is called or the pace's bound is reached, with checkpoints on the way and at the end.

        `factor(step, tokens)` is the factor on the full rates; by default that of the settings.
        """
        factor = self.settings.factor if factor is None else factor
        begin = last_save = wall = time.monotonic()
        cpu = time.process_time()
        losses: list[Tensor] = []
        while not self._stop and not self._at_bound(wall - begin):
            # The losses stay on the device until they are logged, because reading one would wait for the step.
            losses.append(self._step(factor(self.progress.steps, self.progress.tokens)))
            now, used = time.monotonic(), time.process_time()
            self.progress.wall_seconds += now - wall
            self.progress.cpu_seconds += used - cpu
            wall, cpu = now, used
            due = now - last_save >= self.pace.checkpoint_seconds
            if self.progress.steps % self.pace.log_steps == 0 or due:
                entry = {**asdict(self.progress), "loss": float(torch.stack(losses).mean())}
                if due:
                    entry["validation"] = self.validation_loss()
                curve.append(self.folder / log, entry)
                losses.clear()
            if due:
                self.save()
                last_save = time.monotonic()
        self.save()

    def _at_bound(self, seconds: float) -> bool:
        tokens, pace = self.progress.tokens, self.pace
        return (
            (pace.stop_tokens is not None and tokens >= pace.stop_tokens)
            or (pace.stop_seconds is not None and seconds >= pace.stop_seconds)
            or 0 < self.settings.goal_tokens <= tokens
        )

    def save(self) -> None:
        checkpoint.save(self.folder, self.model, self.optimiser, self.stream.position, self.progress)
        curve.draw(self.folder)

    def _open_stage(self, position: Position) -> None:
        """The stream and the validation windows, with the context of the run's current stage."""
        training, validation = self._shards
        _, context, _ = self._stage()
        self.stream = WindowStream(training, context, self.settings.seed, position, self.settings.mixture)
        self._validation = _validation_windows(validation, context).to(self._compute.device)

    def _stage(self) -> tuple[int, int, int]:
        return max(stage for stage in self.settings.stages if stage[0] <= self.progress.tokens)

    def _step(self, factor: float) -> Tensor:
        windows = torch.from_numpy(self.stream.batch(self._stage()[2])).to(self._compute.device)
        total = torch.zeros((), device=windows.device)
        for part in torch.split(windows, self.pace.pass_windows or len(windows)):
            value = self._loss(part) * (len(part) / len(windows))
            value.backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        self.optimiser.step(factor)
        self.progress.steps += 1
        self.progress.tokens += windows[:, 1:].numel()
        if (
            self._stage()[1] != self.stream.context
        ):  # a position counts windows of one length, so a new epoch starts
            self._open_stage(Position(epoch=self.stream.position.epoch + 1))
        return total

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Loss in nats per token on the fixed validation windows."""
        parts = [float(loss(self.model(w[:, :-1]), w[:, 1:])) for w in torch.split(self._validation, 8)]
        return float(np.mean(parts))


def _validation_windows(shard: Shard, context: int, *, count: int = 48) -> torch.Tensor:
    """The same windows at every measurement: plain text, evenly spread over the held-out documents."""
    length = context + 1
    starts = np.linspace(0, max(0, len(shard.tokens) - length), count).astype(np.int64)
    return torch.from_numpy(np.stack([shard.tokens[s : s + length].astype(np.int64) for s in starts]))


def decay_from(start_tokens: int, length_tokens: int, rate: float = 1.0) -> Callable[[int, int], float]:
    """The branch: a linear fall from `rate` at `start_tokens` to 0 after `length_tokens` more."""
    return lambda step, tokens: rate * max(0.0, 1 - (tokens - start_tokens) / length_tokens)


def _agree_on_settings(path: Path, settings: PretrainingSettings) -> None:
    text = json.dumps(asdict(settings), indent=1) + "\n"
    if path.is_file() and json.loads(path.read_text()) != json.loads(text):
        raise StorageError(
            f"{path.parent} was started with other settings", hint="use them, or another folder"
        )
    path.write_text(text)


def main(arguments: list[str] | None = None) -> None:
    """`--data`: the folder with `training` and `validation` shards; `--run`: the run's folder."""
    parser = argparse.ArgumentParser(prog="sordino pretrain")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--unpack", type=Path, help="unpack what `pretrain --pack` wrote into --data first")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="3.4m")
    parser.add_argument("--seed", type=int, default=PretrainingSettings().seed)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--plan", choices=sorted(PLANS), default="processor")
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--mixture", type=float, nargs=len(KINDS), default=MIXTURE, metavar="SHARE")
    parser.add_argument("--goal-tokens", type=int, default=0)
    parser.add_argument("--decay-tokens", type=int, default=0)
    parser.add_argument("--stop-tokens", type=int)
    parser.add_argument("--minutes", type=float, help="end with a checkpoint after this long")
    parser.add_argument("--pass-windows", type=int, help="windows held in memory at once")
    parser.add_argument("--from-base", type=Path, help="start from the weights of an exported base")
    parser.add_argument("--branch", type=Path, help="decay a copy of the newest checkpoint into this folder")
    parser.add_argument("--branch-tokens", type=int, default=0)
    options = parser.parse_args(arguments)

    if options.unpack is not None:
        unpack(options.unpack, options.data)
    of_data = options.tokenizer or options.data / "tokenizer.json"
    tokenizer = Tokenizer.load(of_data) if of_data.is_file() else Tokenizer.shipped()
    shards = [open_shard(options.data / name, tokenizer) for name in ("training", "validation")]
    training, validation = shards
    if training is None or validation is None:
        raise DataError(
            f"there are no encoded documents in {options.data}", hint="run: sordino pretrain --help"
        )
    settings = PretrainingSettings(
        size=options.size,
        seed=options.seed,
        stages=PLANS[options.plan],
        rate=options.rate,
        mixture=tuple(options.mixture),
        goal_tokens=options.goal_tokens,
        decay_tokens=options.decay_tokens,
    )
    pace = SessionPace(
        threads=options.threads,
        stop_tokens=options.stop_tokens,
        stop_seconds=None if options.minutes is None else options.minutes * 60,
        pass_windows=options.pass_windows,
        compute=Compute.of_this_machine(options.device),
    )
    if options.from_base is not None and not (options.run / "CURRENT").is_file():
        checkpoint.start_from_base(options.run, options.from_base)
    schedule: Callable[[int, int], float] = settings.factor
    if options.branch is None:
        run = PretrainingRun(options.run, training, validation, settings, pace)
    else:
        run, schedule = branch(
            options.run, options.branch, options.branch_tokens, training, validation, settings, pace
        )
    checkpoint.keep_tokenizer(run.folder, tokenizer)
    signal.signal(signal.SIGTERM, run.stop)
    signal.signal(signal.SIGINT, run.stop)
    run.train(schedule)


def branch(
    stable: Path,
    folder: Path,
    tokens: int,
    training: Shard,
    validation: Shard,
    settings: PretrainingSettings,
    pace: SessionPace,
) -> tuple[PretrainingRun, Callable[[int, int], float]]:
    """A run in `folder` that starts as a copy of the stable run and decays over `tokens`, and its schedule.

    An interrupted branch continues from its last checkpoint, over the number of tokens with which it was started.
    """
    origin_path = folder / "origin.json"
    if not origin_path.is_file():
        checkpoint.copy_current(stable, folder)
        start = checkpoint.current_progress(folder).tokens
        origin_path.write_text(json.dumps({"tokens": start, "decay": tokens}) + "\n")
    origin = json.loads(origin_path.read_text())
    start, length = int(origin["tokens"]), int(origin["decay"])
    pace = replace(pace, stop_tokens=start + length)
    return PretrainingRun(folder, training, validation, settings, pace), decay_from(
        start, length, settings.rate
    )


if __name__ == "__main__":
    main()
