"""A pretraining run on disk: safetensors and JSON, whole or not there.

run/settings.json                the settings of the run (a resume with others is refused)
run/checkpoint-<steps>/          model.safetensors, optimiser.safetensors, state.json
run/CURRENT                      the newest whole checkpoint's folder name
run/tokenizer.json               the run's tokenizer, if it is not the one that ships
run/before.json                  of a run that went on from a base: which base, and what it had read
run/log.jsonl, run/loss.png      the curve
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sordino_client.training import curve
from sordino_client.training.muon import Muon, Rates
from sordino_client.training.stream import Position
from sordino_platform import base
from sordino_platform.durable import write_file
from sordino_platform.machine.files import sync
from sordino_platform.model import build_decoder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import StorageError

KEEP = 2
_FRESH_EPOCH = 1000


@dataclass(slots=True, kw_only=True)
class RunCounters:
    """The counters of a run. Seconds are summed over all its processes."""

    steps: int = 0
    tokens: int = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0


class Trained(Protocol):
    """The part that a run trains: a whole model, or the adapters on one."""

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Every parameter that is trained, by name."""
        ...


class Optimiser(Protocol):
    """The optimiser, with a state of named tensors."""

    def state(self) -> dict[str, Tensor]:
        """The tensors to write to a checkpoint."""
        ...

    def load_state(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Restores `state()` as it was after so many steps. Raises StorageError for another model's."""
        ...


def save(
    folder: Path, model: Trained, optimiser: Optimiser, position: Position, progress: RunCounters
) -> None:
    """Writes a checkpoint and then makes it current. Raises StorageError; the previous one stays usable then.

    A process may be killed anywhere in here: what CURRENT names is whole at every moment. Nothing random is stored,
    since every draw follows from the settings' seed and the position.
    """
    name = f"checkpoint-{progress.steps:08d}"
    if _current_name(folder) == name:  # nothing is new, and writing it again would first remove it
        return
    temporary = folder / f".{name}.part"
    state = {"format": "sordino-pretrain/1", "position": asdict(position), "progress": asdict(progress)}
    try:
        for left in folder.glob(".checkpoint-*.part"):  # of a process that was killed
            shutil.rmtree(left)
        temporary.mkdir(parents=True)
        save_file(
            {n: p.detach().contiguous() for n, p in model.named_parameters()}, temporary / "model.safetensors"
        )
        save_file(optimiser.state(), temporary / "optimiser.safetensors")
        (temporary / "state.json").write_text(json.dumps(state) + "\n")
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        shutil.rmtree(folder / name, ignore_errors=True)
        temporary.rename(folder / name)
        _sync(folder)
        (folder / "CURRENT.part").write_text(name + "\n")
        _sync(folder / "CURRENT.part")
        (folder / "CURRENT.part").replace(folder / "CURRENT")
        _sync(folder)
        others = sorted(path for path in folder.glob("checkpoint-*") if path.name != name)
        for old in others[: len(others) - KEEP + 1]:
            shutil.rmtree(old)
    except OSError as error:
        raise StorageError(
            f"the checkpoint could not be written to {folder}", hint="free some disk space"
        ) from error


def _current_name(folder: Path) -> str | None:
    pointer = folder / "CURRENT"
    return pointer.read_text().strip() if pointer.is_file() else None


def load(
    folder: Path, model: Trained, optimiser: Optimiser | None = None
) -> tuple[Position, RunCounters] | None:
    """Restores the current checkpoint into `model` and `optimiser`; None when there is none.

    Raises StorageError for a checkpoint that is damaged or belongs to another architecture.
    """
    pointer = folder / "CURRENT"
    if not pointer.is_file():
        return None
    current = folder / pointer.read_text().strip()
    try:
        state = json.loads((current / "state.json").read_text())
        position, progress = Position(**state["position"]), RunCounters(**state["progress"])
        _put(dict(model.named_parameters()), load_file(current / "model.safetensors"))
        if optimiser is not None:
            optimiser.load_state(load_file(current / "optimiser.safetensors"), progress.steps)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        hint = "point CURRENT at the previous checkpoint, or choose another folder"
        raise StorageError(f"the checkpoint {current} cannot be resumed", hint=hint) from error
    return position, progress


@torch.no_grad()
def _put(parameters: dict[str, nn.Parameter], stored: dict[str, Tensor]) -> None:
    """Raises ValueError for tensors of another model."""
    if {n: t.shape for n, t in stored.items()} != {n: p.shape for n, p in parameters.items()}:
        raise ValueError("another model")
    for name, tensor in stored.items():
        parameters[name].copy_(tensor)  # to the model's device


def start_from_base(folder: Path, base_folder: Path | None) -> None:
    """A new run in `folder` that goes on from an exported base (None: the one that ships).

    The weights, the counts of tokens and CPU time and the curve carry over. The optimiser starts afresh, and the
    windows come from an epoch that the earlier run did not reach. Raises ConfigurationError for a base that does not
    fit its card.
    """
    config, _, parameters = base.load(base_folder)
    about = base.card(base_folder)
    model = build_decoder(config, parameters)
    progress = RunCounters(tokens=int(about["tokens_seen"]), cpu_seconds=float(about["cpu_hours"]) * 3600)
    folder.mkdir(parents=True, exist_ok=True)
    before = {key: about[key] for key in ("sha256", "tokens_seen", "corpus")}
    (folder / "before.json").write_text(json.dumps(before) + "\n")
    for entry in about["curve"]:
        curve.append(folder / "log.jsonl", {"steps": 0, "cpu_seconds": 0.0, **entry})
    save(folder, model, Muon(model.named_parameters(), Rates()), Position(epoch=_FRESH_EPOCH), progress)


def keep_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Keeps the run's tokenizer beside it, unless that is the one that ships. Raises StorageError if another one is
    there."""
    if tokenizer_of(folder).digest == tokenizer.digest:
        return
    if (folder / "tokenizer.json").is_file():
        raise StorageError(f"{folder} was started with another vocabulary", hint="choose another folder")
    write_file(folder / "tokenizer.json", tokenizer.to_json().encode())


def tokenizer_of(folder: Path) -> Tokenizer:
    """The tokenizer of the run in `folder`."""
    path = folder / "tokenizer.json"
    return Tokenizer.load(path) if path.is_file() else Tokenizer.shipped()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def copy_current(source: Path, target: Path) -> None:
    """Starts the run in `target` as a copy of the newest checkpoint, settings and curve of `source`.

    Raises StorageError when `source` has no checkpoint.
    """
    current_progress(source)
    name = (source / "CURRENT").read_text().strip()
    shutil.copytree(source / name, target / name)
    for file in ("settings.json", "tokenizer.json", "before.json", "log.jsonl", "CURRENT"):
        if (source / file).is_file():
            shutil.copyfile(source / file, target / file)


def current_progress(folder: Path) -> RunCounters:
    """The counters of the current checkpoint. Raises StorageError when there is none."""
    try:
        name = (folder / "CURRENT").read_text().strip()
        return RunCounters(**json.loads((folder / name / "state.json").read_text())["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"there is no checkpoint in {folder}", hint="run: sordino pretrain") from error
