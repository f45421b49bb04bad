"""The engine: one worker thread, one model at a time, the newest request of each editor first.

A request of an editor withdraws the one before it, queued or running: nobody waits for a completion of text that
has changed since. A new release is loaded and tested beside the running model, and swapped in between two
requests; one that fails its self-test is refused and the old model stays.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sordino_client.completion import bundle as bundles
from sordino_client.completion import personal
from sordino_client.completion.bases import served
from sordino_client.completion.cache import Precision
from sordino_client.completion.generation import Generator
from sordino_client.completion.loading import load_generator, load_release
from sordino_client.completion.presence import Presence
from sordino_client.completion.presence import place as presence_lock
from sordino_client.completion.prompt import Prompt
from sordino_client.completion.query import Answer, Cancelled, OnText, Query, Recall, nothing
from sordino_client.completion.showing.worth import Show
from sordino_client.completion.taking import record
from sordino_client.completion.taking.choice import EVERYTHING, Taking, taking_in_words
from sordino_client.completion.vocabulary import Vocabulary
from sordino_platform import telemetry
from sordino_privacy.counts import SharedMemory
from sordino_privacy.errors import SordinoError, StorageError

MAX_WAITING = 16

State = Literal["no model yet", "loading", "ready", "refused"]


class Busy(Exception):  # noqa: N818 - an answer (429), not a fault
    """More requests wait than can be answered in useful time."""


class NoModel(Exception):  # noqa: N818 - an answer (503), not a fault
    """There is no model to answer with; the message says why."""


@dataclass(slots=True)
class Job:
    """One submitted query. `cancel` withdraws it; a running one ends within one token."""

    query: Query
    editor: str
    on_text: OnText | None
    warm: bool
    future: Future[Answer] = field(default_factory=Future)
    withdrawn: threading.Event = field(default_factory=threading.Event)
    submitted: float = field(default_factory=time.perf_counter)
    queued_seconds: float = 0.0

    def cancel(self) -> None:
        """Withdraws the query."""
        self.withdrawn.set()


class Engine:
    """Answers queries with the newest released model in `folder`.

    >>> engine = Engine(folder)
    >>> engine.refresh(wait=True)
    >>> engine.submit(Query(prefix="def add(a, b):\\n    return a +"), editor="vim").future.result().completions
    """

    def __init__(
        self,
        folder: Path,
        *,
        recall: Callable[[Prompt, Vocabulary, SharedMemory | None], Recall | None] | None = None,
        precision: Precision = "int8",
        show: Show = "all",
    ) -> None:
        self.folder = folder
        self._show: Show = show
        self._presence = Presence(presence_lock(folder.parent))
        self._precision: Precision = precision
        self._recall = recall
        self._generator: Generator | None = None
        self._state: State = "no model yet"
        self._reason = "no model was released to this machine yet"
        self._loaded_from: tuple[Path, tuple[int, int], Taking] | None = None
        self._taken: tuple[int, Taking] = (0, EVERYTHING)
        self._lock = threading.Lock()
        self._loading: threading.Thread | None = None
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._open: dict[str, Job] = {}
        self._count = 0
        self.answered = 0
        self._worker: threading.Thread | None = None

    @property
    def model(self) -> str | None:
        """The name of the model that answers now."""
        generator = self._generator
        return generator.name if generator else None

    @property
    def state(self) -> tuple[State, str]:
        """The engine's state, and the reason in words that a developer understands."""
        return self._state, self._reason

    @property
    def in_flight(self) -> int:
        """Queries that were accepted and are not answered yet."""
        return self._count

    @property
    def context(self) -> int:
        """The model's window in tokens; 0 without a model."""
        generator = self._generator
        return generator.context if generator else 0

    def refresh(self, *, wait: bool = False) -> None:
        """Looks for a newer release (one `stat`), and loads it beside the running model."""
        try:
            folder = bundles.current(self.folder)
        except SordinoError as error:
            self._refuse(error)
            return
        if folder is not None and folder.is_symlink():
            folder = folder.resolve()
        with self._lock:
            taking = self._taking()
            found = None if folder is None else (folder, personal.stamps(self.folder.parent), taking)
            if folder is not None and found != self._loaded_from and self._loading is None:
                self._loaded_from = found
                if self._generator is None:
                    self._state, self._reason = "loading", "the model is being loaded"
                self._loading = threading.Thread(
                    target=self._load, args=(folder, taking), name="load", daemon=True
                )
                self._loading.start()
            loading = self._loading
        if wait and loading is not None:
            loading.join()

    def _taking(self) -> Taking:
        """What this member takes of its federation; costs one `stat` while the choice is the same."""
        state = self.folder.parent
        if (stamp := record.stamp(state)) != self._taken[0]:
            self._taken = (stamp, record.taken(state))
        return self._taken[1]

    def _load(self, folder: Path, taking: Taking) -> None:
        try:
            generator = load_release(
                folder, state=self.folder.parent, taking=taking, precision=self._precision
            )
        except SordinoError as error:
            self._refuse(error)
            if self._generator is None and served.of_base(folder):
                self._stand_in(error)
        except Exception as error:  # noqa: BLE001 - whatever a model does, the one before it stays
            self._refuse(StorageError(f"the model could not be loaded ({type(error).__name__})"))
        else:
            # The worker takes the generator at the start of each job: this is the swap.
            self._generator = generator
            precision = generator.network.precision
            taken = "" if taking == EVERYTHING else f"; it takes {taking_in_words(taking)}"
            self._state, self._reason = "ready", f"{generator.name} answers, in {precision}{taken}"
            telemetry.log().info("model_loaded", release=generator.name, precision=precision)
        finally:
            with self._lock:
                self._loading = None

    def _refuse(self, error: SordinoError) -> None:
        telemetry.log().error("model_refused", error=type(error).__name__, reason=error.message)
        self._state = "refused" if self._generator is None else "ready"
        kept = f"; {self._generator.name} stays" if self._generator else ""
        self._reason = f"{error.message}{kept}"

    def _stand_in(self, error: SordinoError) -> None:
        """If a base cannot be served, the one that ships answers, and the health endpoint keeps the reason."""
        with contextlib.suppress(SordinoError):
            self._generator = load_generator(bundles.shipped(), self._precision)
            told = f"{error.message} ({error.hint})" if error.hint else error.message
            self._state, self._reason = "ready", f"{told}; {self._generator.name} answers meanwhile"

    def submit(self, query: Query, *, editor: str, on_text: OnText | None = None, warm: bool = False) -> Job:
        """Queues a query and withdraws the same editor's earlier one. Raises NoModel or Busy."""
        self.refresh(wait=self._generator is None)
        if self._generator is None:
            raise NoModel(self._reason)
        with self._lock:
            earlier = self._open.get(editor)
            for other in self._open.values():
                # Nobody waits for a request that only reads ahead; what it has read stays in the cache.
                if other is earlier or (other.warm and not warm):
                    other.cancel()
            if self._count >= MAX_WAITING:
                raise Busy
            job = Job(query=query, editor=editor, on_text=on_text, warm=warm)
            self._open[editor] = job
            self._count += 1
            if self._count == 1:
                self._presence.enter()
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="completion", daemon=True)
                self._worker.start()
        self._waiting.put(job)
        return job

    def close(self) -> None:
        """Withdraws everything and ends the worker."""
        with self._lock:
            for job in self._open.values():
                job.cancel()
            worker, loading = self._worker, self._loading
        if worker is not None:
            self._waiting.put(None)
            worker.join()
        if loading is not None:
            loading.join()  # an interpreter that ends within the runtime's own code is aborted

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            try:
                self._answer(job)
            except Cancelled:
                with contextlib.suppress(Exception):
                    job.future.cancel()
            except Exception as error:  # noqa: BLE001 - the worker must outlive any one request
                telemetry.log().error("completion_failed", error=type(error).__name__)
                job.future.set_exception(error)
            finally:
                with self._lock:
                    self._count -= 1
                    if not self._count:
                        self._presence.leave()
                    if self._open.get(job.editor) is job:
                        del self._open[job.editor]

    def _answer(self, job: Job) -> None:
        if job.withdrawn.is_set():
            raise Cancelled
        generator = self._generator
        assert generator is not None, "queries are only taken once there is a model"
        job.queued_seconds = time.perf_counter() - job.submitted
        if job.warm:
            started = time.perf_counter()
            count = generator.warm(job.query, job.withdrawn)
            seconds = time.perf_counter() - started
            job.future.set_result(nothing(generator.name, read=count, seconds=seconds))
            return
        recall = self._recall
        vocabulary = generator.vocabulary

        def remember(prompt: Prompt) -> Recall | None:
            return recall(prompt, vocabulary, generator.shared) if recall is not None else None

        query = job.query if job.query.show is not None else replace(job.query, show=self._show)
        answer = generator.answer(query, recall=remember, on_text=job.on_text, cancelled=job.withdrawn)
        self.answered += 1
        job.future.set_result(answer)
