"""The parent's side of training: one child process, kept warm between rounds because importing torch takes seconds.

    with TrainingWorker() as worker:
        update = worker.train(job, print)

The child has the lowest priority, one thread and a memory limit, so that completions and the editor stay quick. If it
dies, the agent lives: the next `train` starts another.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import sordino_privacy.errors as errors
from sordino_client.training.job import TrainedUpdate, TrainingError, TrainingJob, finished
from sordino_platform.machine import processes
from sordino_privacy.errors import SordinoError, UsageError

DEFAULT_MEMORY = 6 << 30
# One thread; no spinning while it waits; and glibc keeps freed memory instead of returning it to the kernel and
# faulting it in again at every step (17 % faster when it was measured).
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}
_LINE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a job is. For the member's own screen: `loss` (nats per token, NaN for an empty step) is data."""

    step: int
    steps: int
    tokens_per_second: float
    seconds_left: float
    loss: float


class TrainingWorker:
    """One training child. Use from one thread at a time; `pause`, `resume` and `close` may come from another.

    Raises UsageError for less memory than a trainer needs, or more processors than the machine has.
    """

    def __init__(self, *, memory: int = DEFAULT_MEMORY, processors: int = 1, device: str = "auto") -> None:
        """`memory` bounds the child's data segment, in bytes; torch itself takes about 0.5 GB of it. Of a larger base,
        as many units are read in one pass as fit into it.

        `processors` is how many processors training may use, with one worker pinned to each. `device` is where larger
        bases are trained: auto, cpu, cuda or mps.
        """
        if memory < 1 << 30:
            raise UsageError("the trainer needs at least 1 GiB of memory")
        if not 1 <= processors <= (os.cpu_count() or 1):
            raise UsageError("the trainer cannot use more processors than this machine has")
        self._memory = memory
        self._processors = processors
        self._device = device
        self._child: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()

    def __enter__(self) -> TrainingWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm(self) -> None:
        """Starts the child ahead of the first job, so that it imports torch while something else is awaited."""
        self._start()

    def train(
        self, job: TrainingJob, on_progress: Callable[[TrainingProgress], None] | None = None
    ) -> TrainedUpdate:
        """Trains `job`, or returns the update that an earlier try left in its folder.

        Raises TrainingError when the child stopped without an update, and what the child found wrong with the job.
        """
        known = finished(job)
        if known is not None:
            return known
        job.write()
        child = self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # the child died: told below
                os.write(child.stdin.fileno(), f"{job.folder.resolve()}\n".encode())
            while line := child.stdout.readline(_LINE):
                message = json.loads(line)
                if "step" not in message:
                    break
                if on_progress is not None:
                    on_progress(_progress(message))
            else:
                message = {}
        except BaseException:
            # An interrupt, or an error in the caller's callback: nobody will read what the child still writes.
            self.close()
            raise
        if "error" in message:
            raise _error(message)
        update = finished(job)
        if update is None:
            raise self._obituary()
        if job.base is not None:
            # An idle child would keep the base's gigabytes, and loading a base takes longer than starting a child.
            self.close()
        return update

    def pause(self) -> None:
        """Suspends the child (for a completion, or on battery). It keeps its memory and uses no processor."""
        self._tell(processes.pause)

    def resume(self) -> None:
        """Lets a paused child go on."""
        self._tell(processes.resume)

    def close(self) -> None:
        """Ends the child at once. An unfinished job leaves no update."""
        with self._guard:
            self._discard()

    def _discard(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._guard:
            if self._child is not None and self._child.poll() is None:
                return self._child
            self._discard()
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "sordino_client.training.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={
                    **os.environ,
                    **ENVIRONMENT,
                    "SORDINO_TRAINER_MEMORY": str(self._memory),
                    "SORDINO_TRAINER_PROCESSORS": str(self._processors),
                    "SORDINO_TRAINER_DEVICE": self._device,
                },
            )
            return self._child

    def _tell(self, order: Callable[[int], None]) -> None:
        with self._guard:
            if self._child is not None and self._child.poll() is None:
                order(self._child.pid)

    def _obituary(self) -> TrainingError:
        child = self._child
        code = None if child is None else child.wait()
        self.close()
        if code is not None and (name := processes.ending(code)):
            return TrainingError(
                f"the trainer was ended by {name} before it had an update",
                hint="if the machine ran out of memory, train a smaller model or adapters; nothing was released",
            )
        return TrainingError(
            "the trainer stopped before it had an update", hint="its message is on stderr above"
        )


def train(job: TrainingJob, on_progress: Callable[[TrainingProgress], None] | None = None) -> TrainedUpdate:
    """`TrainingWorker.train` in a child of its own, for a single job."""
    with TrainingWorker() as worker:
        return worker.train(job, on_progress)


def _progress(message: dict[str, float | None]) -> TrainingProgress:
    loss = message["loss"]
    return TrainingProgress(
        step=int(message["step"] or 0),
        steps=int(message["steps"] or 0),
        tokens_per_second=float(message["tokens_per_second"] or 0.0),
        seconds_left=float(message["seconds_left"] or 0.0),
        loss=math.nan if loss is None else float(loss),
    )


def _error(message: dict[str, str]) -> SordinoError:
    kind = getattr(errors, message["error"], TrainingError)
    if not (isinstance(kind, type) and issubclass(kind, SordinoError)):
        kind = TrainingError
    return kind(message["message"], hint=message["hint"])
