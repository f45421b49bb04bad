"""The training child: `python -m sordino_client.training.child`.

It reads one job folder per line from stdin and answers with JSON lines on stdout: `{"step": ...}` while training, then
`{"finished": true}` or `{"error": CLASS, "message": ..., "hint": ...}`. When stdin ends, because the parent closed it
or died, the child ends too, in the middle of a step if need be: nothing is released by an unfinished job.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sordino_client.training.job import TrainingError, TrainingJob
from sordino_platform.machine import processes
from sordino_platform.machine.memory import return_freed
from sordino_privacy.errors import SordinoError

if TYPE_CHECKING:
    from sordino_privacy.dpsgd.engine import StepRecord

OUT_OF_MEMORY = "training ran out of the memory it may use"
SMALLER = "raise the trainer's memory limit, or train a smaller model or adapters"


def main() -> None:
    settle()
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    # Imported late: these seconds pass while the parent prepares the first job.
    import torch

    from sordino_client.training.loop import Trainer

    torch.set_num_threads(1)
    memory = int(os.environ["SORDINO_TRAINER_MEMORY"])
    trainer = Trainer(
        workers=int(os.environ["SORDINO_TRAINER_PROCESSORS"]),
        memory=memory,
        device=bound_process(memory, os.environ["SORDINO_TRAINER_DEVICE"]),
    )
    while True:
        give_memory_back()
        folder = Path(jobs.get())
        try:
            job = TrainingJob.read(folder)
            started = time.monotonic()
            tokens = 0

            def report(record: StepRecord, job: TrainingJob = job, started: float = started) -> None:
                nonlocal tokens
                tokens += record.windows * job.plan.window
                elapsed = max(time.monotonic() - started, 1e-9)
                losses = record.clipped.losses
                say(
                    step=record.step,
                    steps=job.plan.steps,
                    tokens_per_second=tokens / elapsed,
                    seconds_left=elapsed / record.step * (job.plan.steps - record.step),
                    loss=sum(losses) / len(losses) if losses else None,
                )

            trainer.run(job, report)
            say(finished=True)
        except SordinoError as error:
            say(error=type(error).__name__, message=error.message, hint=error.hint)
        except (MemoryError, RuntimeError) as error:
            # torch reports a failed allocation as a RuntimeError. The text of others may quote values: only its class
            # is told.
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                say(error=TrainingError.__name__, message=OUT_OF_MEMORY, hint=SMALLER)
            else:
                raise


def settle() -> None:
    """Makes this process give way to all others: lowest priority, and first to be killed when memory runs out."""
    processes.give_way()
    processes.end_first()
    processes.leave_no_dump()  # a core dump would hold code and updates


def give_memory_back() -> None:
    """Called between two jobs: gives back the memory that the C library kept for the next step (see
    worker.ENVIRONMENT).

    An idle trainer would hold a gigabyte for hours otherwise. Only glibc has this.
    """
    gc.collect()
    return_freed()


def bound_process(memory: int, device: str) -> str:
    """Holds this process to `memory` bytes, unless it will compute on a GPU: a GPU's driver reserves far more addresses
    than it uses. Returns the device; one that is not there is refused when a job needs it."""
    import torch

    elsewhere = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if not elsewhere:
        processes.hold_to(memory, _out_of_memory)
    return device


def _out_of_memory() -> None:
    """For systems that cannot refuse an allocation: reports the same error as a refused one, and ends."""
    say(error=TrainingError.__name__, message=OUT_OF_MEMORY, hint=SMALLER)
    os._exit(1)


def say(**fields: object) -> None:
    """One JSON line to the parent."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _listen(jobs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line.rstrip("\n"))
    os._exit(0)


if __name__ == "__main__":
    main()
