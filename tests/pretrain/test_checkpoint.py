"""A process that is killed while it writes a checkpoint loses nothing that was whole before."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sordino_client.training import checkpoint
from sordino_client.training.checkpoint import RunCounters
from sordino_client.training.muon import Muon, Rates
from sordino_client.training.stream import Position
from sordino_platform.architecture import ModelConfig
from sordino_platform.model import Decoder

TINY = ModelConfig(vocabulary=64, context=16, layers=1, heads=2, width=16, hidden=32)


class Killed(BaseException):
    """Stands for the end of the process at this very place."""


def made(steps: int) -> tuple[Decoder, Muon]:
    """A model and optimiser whose every number says at which step they were stored."""
    model = Decoder(TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(steps)
    optimiser = Muon(model.named_parameters(), Rates())
    for tensor in optimiser.state().values():
        tensor.fill_(steps)
    return model, optimiser


def save(folder: Path, steps: int) -> None:
    model, optimiser = made(steps)
    checkpoint.save(folder, model, optimiser, Position(epoch=1, window=steps), RunCounters(steps=steps))


def stored(folder: Path) -> int:
    """The step of the checkpoint that a resume finds; everything in it is of that step."""
    model, optimiser = made(-1)
    found = checkpoint.load(folder, model, optimiser)
    assert found is not None
    position, progress = found
    assert position.window == progress.steps == optimiser.steps
    values = [*model.parameters(), *optimiser.state().values()]
    assert all(bool((value == progress.steps).all()) for value in values)
    return progress.steps


def points(monkeypatch: pytest.MonkeyPatch, die_at: int) -> list[str]:
    """Makes the `die_at`-th change of the disk under a checkpoint's folder the process's last."""
    passed: list[str] = []

    def watch(owner: object, name: str) -> None:
        original: Callable[..., object] = getattr(owner, name)

        def watched(*arguments: object, **options: object) -> object:
            if len(passed) == die_at:
                raise Killed
            passed.append(name)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(checkpoint, "save_file")
    watch(checkpoint, "_sync")
    watch(shutil, "rmtree")
    for name in ("mkdir", "rename", "replace", "write_text"):
        watch(Path, name)
    return passed


@pytest.mark.parametrize("again", [False, True], ids=["the next step", "the same step again"])
def test_a_kill_at_any_point_leaves_the_old_checkpoint_or_the_new_one_whole(
    tmp_path: Path, again: bool
) -> None:
    for die_at in range(60):
        folder = tmp_path / str(die_at)
        for steps in (1, 2, 3):
            save(folder, steps)
        target = 3 if again else 4
        with pytest.MonkeyPatch.context() as patch:
            points(patch, die_at)
            try:
                save(folder, target)
            except Killed:
                whole = False
            else:
                whole = True
        assert stored(folder) in (3, target)
        if whole:
            break
        save(folder, 5)  # what was left half-written is in nobody's way
        assert stored(folder) == 5
        assert not list(folder.glob(".checkpoint-*"))
    assert whole
    assert die_at > (10 if not again else -1)
    assert stored(folder) == target


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_killed_with_signal_9_while_it_writes_resumes_from_what_it_had_announced(
    tmp_path: Path,
) -> None:
    announced_any = False
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            for steps in range(1, 256):
                save(folder, steps)
                os.write(send, bytes([steps]))
            os._exit(0)
        os.close(send)
        os.read(receive, 1)  # the first checkpoint is whole: from here on there is always one
        for _ in range(attempt):
            os.read(receive, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        rest = os.read(receive, 4096)
        os.close(receive)
        last = attempt + 1 + len(rest)
        assert stored(folder) in (last, last + 1)
        announced_any = True
    assert announced_any


def test_the_current_checkpoint_is_never_the_one_that_is_cleared_away(tmp_path: Path) -> None:
    for steps in (7, 8):
        save(tmp_path, steps)
    (tmp_path / "CURRENT").write_text("checkpoint-00000007\n")  # back to the one before
    save(tmp_path, 5)
    assert stored(tmp_path) == 5
