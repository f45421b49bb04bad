"""Training without privacy and without a federation, on a person's own repositories: `sordino train`. Imports torch.

The run is a folder, and everything about it survives an interruption:

    settings.json              what fixes the run; a resume with other settings is refused
    training/, heldout/        the tokens, encoded once: a resume sees the same text although files have changed
    checkpoint-N/, CURRENT     the newest whole state (weights, optimiser, position in the stream)
    log.jsonl, loss.png        the loss graph
    serving/                   the model as the completion engine loads it

The stream of windows, fill-in-the-middle included, follows from seed and position, so an interrupted run continues
as if it had not been. The optimiser is Muon, as for the public base.

Nothing that this makes may leave the machine as if it were private: it is not.
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
from sordino_client.training.muon import Muon, Rates
from sordino_client.training.stream import (
    Position,
    Shard,
    SourceDocument,
    WindowStream,
    encode_shard,
    open_shard,
)
from sordino_platform import base
from sordino_platform.architecture import SIZES, merged
from sordino_platform.durable import make_folder, write_file
from sordino_platform.model import Decoder, build_decoder, loss, parameters_of
from sordino_platform.release import write_serving_bundle
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import ConfigurationError, DataError, UsageError

SCREENED = "screened.json"
HELDOUT_SHARE = 0.1
HELDOUT_WINDOWS = 16
LOG_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneSettings:
    """What fixes a run. `tokens` is its length; the rates rise over `warmup` steps and fall to a tenth by its end.

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
        if self.tokens < 1 or not 1 <= self.windows <= 1024:
            raise UsageError("a run needs at least one token, and from 1 to 1024 windows per step")


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
        self, folder: Path, repositories: Sequence[Path], settings: StandaloneSettings, *, threads: int = 2
    ) -> None:
        """Encodes the repositories when the folder is new; otherwise resumes.

        Raises DataError for repositories with nothing to train on, ConfigurationError for another run's folder.
        """
        torch.set_num_threads(threads)
        torch.manual_seed(settings.seed)
        make_folder(folder)
        _agree(folder / "settings.json", settings)
        tokenizer = Tokenizer.shipped()
        training, heldout = prepare(folder, repositories, tokenizer)
        self.folder, self.settings, self._tokenizer = folder, settings, tokenizer
        self.model = _fresh(settings)
        self._optimiser = Muon(self.model.named_parameters(), _rates(settings))
        restored = checkpoint.load(folder, self.model, self._optimiser)
        position, self.progress = restored or (Position(), checkpoint.RunCounters())
        self._stream = WindowStream(training, self.model.config.context, settings.seed, position)
        self._heldout = _windows(heldout, self.model.config.context)
        self._stopped = False
        curve.truncate(folder / "log.jsonl", self.progress.steps)
        # Every measurement so far, oldest first: nats per token on files of directories that are not trained on.
        measured = [e for e in curve.read(folder / "log.jsonl") if "validation" in e]
        self.heldout = [e["validation"] for e in measured]
        self._measured_at = int(measured[-1]["steps"]) if measured else -1

    @property
    def finished(self) -> bool:
        return self.progress.tokens >= self.settings.tokens

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
        # Interrupted between two checkpoints: what is said at the end is of where it ended.
        if self._measured_at != self.progress.steps:
            self._log(float(np.mean(losses)) if losses else mean, measured=True)
        self._save()
        self._export()

    def _log(self, mean: float, *, measured: bool) -> None:
        entry = dict(asdict(self.progress))
        if measured:
            entry["validation"] = self._heldout_loss()
            self.heldout.append(entry["validation"])
            self._measured_at = self.progress.steps
        entry["loss"] = entry["validation"] if math.isnan(mean) else mean
        curve.append(self.folder / "log.jsonl", entry)

    def _save(self) -> None:
        checkpoint.save(self.folder, self.model, self._optimiser, self._stream.position, self.progress)
        curve.draw(self.folder)

    def _export(self) -> None:
        tokenizer = self.folder / "tokenizer.json"
        write_file(tokenizer, self._tokenizer.to_json().encode(), secret=True)
        weights = merged(parameters_of(self.model))
        write_serving_bundle(
            self.folder / "serving", self.model.config, weights, tokenizer, release=self.progress.steps
        )

    def _step(self) -> float:
        windows = torch.from_numpy(self._stream.batch(self.settings.windows))
        value = loss(self.model(windows[:, :-1]), windows[:, 1:])
        value.backward()  # type: ignore[no-untyped-call]
        rise = min(1.0, (self.progress.steps + 1) / self.settings.warmup)
        fall = 0.55 + 0.45 * math.cos(math.pi * min(1.0, self.progress.tokens / self.settings.tokens))
        self._optimiser.step(rise * fall)
        self.progress.steps += 1
        self.progress.tokens += windows[:, 1:].numel()
        return float(value.detach())

    @torch.no_grad()
    def _heldout_loss(self) -> float:
        parts = [float(loss(self.model(w[:, :-1]), w[:, 1:])) for w in torch.split(self._heldout, 8)]
        return float(np.mean(parts))


def prepare(folder: Path, repositories: Sequence[Path], tokenizer: Tokenizer) -> tuple[Shard, Shard]:
    """The run's tokens, training and held out: encoded on the first call, read from the folder afterwards."""
    stored = open_shard(folder / "training", tokenizer), open_shard(folder / "heldout", tokenizer)
    if stored[0] is not None and stored[1] is not None:
        _require_screened(folder)
        return stored[0], stored[1]
    if not repositories:
        raise UsageError("a new run needs at least one repository", hint="--repo DIR")
    training, heldout = split_heldout(read_repositories(repositories), HELDOUT_SHARE)
    write_file(folder / SCREENED, json.dumps({"secret_rules": RULES_VERSION}).encode(), secret=True)
    encode_shard(_documents(training), tokenizer, folder / "training")
    encode_shard(_documents(heldout), tokenizer, folder / "heldout")
    return prepare(folder, repositories, tokenizer)


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


def _fresh(settings: StandaloneSettings) -> Decoder:
    if settings.start == "scratch":
        return Decoder(SIZES[settings.size])
    config, _, parameters = base.load()
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
    # A trained model forgets at the rates that a fresh one needs.
    return Rates(matrix=full.matrix / 4, other=full.other / 4)


def _windows(shard: Shard, context: int) -> torch.Tensor:
    length = min(context + 1, len(shard.tokens))
    if length < 2:
        raise DataError("the held-out files are empty", hint="name more repositories with --repo")
    starts = np.unique(np.linspace(0, len(shard.tokens) - length, HELDOUT_WINDOWS).astype(np.int64))
    return torch.from_numpy(np.stack([shard.tokens[s : s + length].astype(np.int64) for s in starts]))


def _agree(path: Path, settings: StandaloneSettings) -> None:
    text = json.dumps(asdict(settings), indent=1) + "\n"
    if path.is_file() and path.read_text() != text:
        raise ConfigurationError(
            f"{path.parent} holds a run with other settings", hint="use its settings, or another --run folder"
        )
    write_file(path, text.encode(), secret=True)
