"""Training without privacy and without a federation, on a person's own repositories: `sordino train`. Imports torch.

The run is a folder, and everything about it survives an interruption:

    settings.json              the settings of the run; a resume with others is refused
    training/, heldout/        the tokens, encoded once: a resume sees the same text although files have changed
    checkpoint-N/, CURRENT     the newest whole state (weights, optimiser, position in the stream)
    log.jsonl, loss.png        the loss graph
    serving/                   the model as the completion engine loads it
    adapter/                   of a run on a base: its adapters in PEFT's format

What is trained, and how, is in subjects.py. The stream of windows, fill-in-the-middle included, follows from seed and
position, so an interrupted run continues as if it had not been.

The result is not private, and must not leave the machine as if it were.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from sordino_client.corpus import Corpus, read_repositories, split_heldout
from sordino_client.corpus.secrets import RULES_VERSION
from sordino_client.training import checkpoint, curve
from sordino_client.training.on_base import Means
from sordino_client.training.stream import (
    Position,
    Shard,
    SourceDocument,
    WindowStream,
    encode_shard,
    open_shard,
)
from sordino_client.training.subjects import AdaptedSettings, RunPlan, StandaloneSettings, Subject
from sordino_platform.durable import make_folder, write_file
from sordino_privacy.errors import ConfigurationError, DataError, UsageError

SCREENED = "screened.json"
HELDOUT_SHARE = 0.1
HELDOUT_WINDOWS = 16
LOG_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where a run is. Losses in nats per token; `heldout` is NaN until it was measured; seconds of this session."""

    steps: int
    tokens: int
    of_tokens: int
    loss: float
    heldout: float
    tokens_per_second: float
    seconds_left: float


class Standalone:
    """One run in a folder: new, or resumed where it stood."""

    def __init__(
        self,
        folder: Path,
        repositories: Sequence[Path],
        settings: StandaloneSettings | AdaptedSettings,
        *,
        threads: int = 2,
        means: Means | None = None,
    ) -> None:
        """Encodes the repositories when the folder is new; otherwise resumes.

        Raises DataError for repositories with nothing to train on, ConfigurationError for another run's folder, and for
        a base that is not here or too large.
        """
        torch.set_num_threads(threads)
        make_folder(folder)
        _agree(folder / "settings.json", settings)
        training, heldout = prepare(folder, repositories, settings)
        self.folder, self.settings = folder, settings
        self.subject: Subject = settings.subject(means or Means())
        restored = checkpoint.load(folder, self.subject, self.subject.optimiser)
        position, self.progress = restored or (Position(), checkpoint.RunCounters())
        context = self.subject.context
        self._stream = WindowStream(training, context, settings.seed, position, fill_share=self.subject.fills)
        self._heldout = _windows(heldout, context)
        self._stopped = False
        curve.truncate(folder / "log.jsonl", self.progress.steps)
        # Every measurement so far, oldest first: nats per token on files of directories that are not trained on.
        measured = [e for e in curve.read(folder / "log.jsonl") if "validation" in e]
        self.heldout = [e["validation"] for e in measured]
        self._measured_at = int(measured[-1]["steps"]) if measured else -1

    @property
    def finished(self) -> bool:
        return self.progress.tokens >= self.settings.tokens

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for _, parameter in self.subject.named_parameters())

    def stop(self) -> None:
        """Asks `run` to write a checkpoint and return after the step under way. May be called by a signal handler."""
        self._stopped = True

    def run(self, on_report: Callable[[Report], None], *, checkpoint_seconds: float = 60.0) -> None:
        """Trains to the end of the run or until `stop`, with a checkpoint every `checkpoint_seconds` and at the end.

        The held-out files are measured with each checkpoint, the last one too."""
        if self.progress.steps == 0:
            self._log(math.nan, measured=True)
        began = saved = logged = time.monotonic()
        start = self.progress.tokens
        losses: list[float] = []
        mean = math.nan
        while not self.finished and not self._stopped:
            before = time.monotonic(), time.process_time()
            losses.append(self._step())
            now = time.monotonic()
            self.progress.wall_seconds += now - before[0]
            self.progress.cpu_seconds += time.process_time() - before[1]
            due = now - saved >= checkpoint_seconds or self.finished
            if not due and now - logged < LOG_SECONDS:
                continue
            mean, logged = float(np.mean(losses)), now
            losses.clear()
            self._log(mean, measured=due)
            if due:
                self._save()
                saved = now
            rate = (self.progress.tokens - start) / (now - began)
            on_report(
                Report(
                    steps=self.progress.steps,
                    tokens=self.progress.tokens,
                    of_tokens=self.settings.tokens,
                    loss=mean,
                    heldout=self.heldout[-1],
                    tokens_per_second=rate,
                    seconds_left=max(0, self.settings.tokens - self.progress.tokens) / rate,
                )
            )
        # After an interruption between two checkpoints the last report is of the step where it ended.
        if self._measured_at != self.progress.steps:
            self._log(float(np.mean(losses)) if losses else mean, measured=True)
        self._save()
        self.subject.export(self.folder, steps=self.progress.steps)

    def _log(self, mean: float, *, measured: bool) -> None:
        entry = dict(asdict(self.progress))
        if measured:
            entry["validation"] = self._heldout_loss()
            self.heldout.append(entry["validation"])
            self._measured_at = self.progress.steps
        entry["loss"] = entry["validation"] if math.isnan(mean) else mean
        curve.append(self.folder / "log.jsonl", entry)

    def _save(self) -> None:
        checkpoint.save(
            self.folder, self.subject, self.subject.optimiser, self._stream.position, self.progress
        )
        curve.draw(self.folder, fills=self.subject.fills > 0)

    def _step(self) -> float:
        windows = torch.from_numpy(self._stream.batch(self.settings.windows))
        total = 0.0
        for part in torch.split(windows, self.subject.at_once):
            value = self.subject.loss(part) * (len(part) / len(windows))
            value.backward()  # type: ignore[no-untyped-call]
            total += float(value.detach())
        rise = min(1.0, (self.progress.steps + 1) / self.settings.warmup)
        fall = 0.55 + 0.45 * math.cos(math.pi * min(1.0, self.progress.tokens / self.settings.tokens))
        self.subject.optimiser.step(rise * fall)
        self.progress.steps += 1
        self.progress.tokens += windows[:, 1:].numel()
        return total

    @torch.no_grad()
    def _heldout_loss(self) -> float:
        parts = torch.split(self._heldout, self.subject.at_once)
        return float(
            np.average([float(self.subject.loss(w)) for w in parts], weights=[len(w) for w in parts])
        )


def prepare(folder: Path, repositories: Sequence[Path], plan: RunPlan) -> tuple[Shard, Shard]:
    """The run's tokens, training and held out: encoded on the first call, read from the folder afterwards. Raises
    UsageError for a new run without repositories, DataError, StorageError."""
    tokenizer, end = plan.tokenizer(), plan.end()
    stored = [open_shard(folder / name, tokenizer, end=end) for name in ("training", "heldout")]
    if stored[0] is not None and stored[1] is not None:
        _require_screened(folder)
        return stored[0], stored[1]
    if not repositories:
        raise UsageError("a new run needs at least one repository", hint="--repo DIR")
    training, heldout = split_heldout(read_repositories(repositories), HELDOUT_SHARE)
    write_file(folder / SCREENED, json.dumps({"secret_rules": RULES_VERSION}).encode(), secret=True)
    encode_shard(_documents(training), tokenizer, folder / "training", end=end)
    encode_shard(_documents(heldout), tokenizer, folder / "heldout", end=end)
    return prepare(folder, repositories, plan)


def _require_screened(folder: Path) -> None:
    """Raises ConfigurationError when the run's files were read under other rules about credentials."""
    try:
        screened = json.loads((folder / SCREENED).read_bytes())
    except (OSError, ValueError):
        screened = None
    if screened != {"secret_rules": RULES_VERSION}:
        raise ConfigurationError(
            f"{folder} holds files that were read before today's rules about credentials: one may stand in them",
            hint="begin a new run in another folder, and delete this one",
        )


def _documents(corpus: Corpus) -> list[SourceDocument]:
    # "code" for every language: the shares of the public corpus' languages are not for a person's own files.
    return [
        SourceDocument(project="own", path=file.name, language="code", text=file.text)
        for file in corpus.files
    ]


def _windows(shard: Shard, context: int) -> torch.Tensor:
    length = min(context + 1, len(shard.tokens))
    if length < 2:
        raise DataError("the held-out files are empty", hint="name more repositories with --repo")
    starts = np.unique(np.linspace(0, len(shard.tokens) - length, HELDOUT_WINDOWS).astype(np.int64))
    return torch.from_numpy(np.stack([shard.tokens[s : s + length].astype(np.int64) for s in starts]))


def _agree(path: Path, settings: StandaloneSettings | AdaptedSettings) -> None:
    text = json.dumps(asdict(settings), indent=1) + "\n"
    if path.is_file() and path.read_text() != text:
        raise ConfigurationError(
            f"{path.parent} holds a run with other settings", hint="use its settings, or another --run folder"
        )
    write_file(path, text.encode(), secret=True)
