"""The service that every dialect calls: a query goes in, an answer comes out. It is counted, and has a reason if there
is nothing to show."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sordino_client.completion.api.metrics import CompletionMetrics
from sordino_client.completion.context import admitted
from sordino_client.completion.engine import Busy, Engine, Job, NoModel
from sordino_client.completion.names import may_hold_secrets
from sordino_client.completion.query import Answer, Cancelled, Query, WrittenToken, nothing
from sordino_client.completion.reasons import Reason, why
from sordino_client.completion.statistics import EndpointStatistics, Event

MAX_EDITORS = 64
MAX_ISSUED = 4096


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed completion."""

    text: str = field(repr=False)
    tokens: Sequence[WrittenToken] = ()


class Service:
    """One engine behind all dialects."""

    def __init__(self, engine: Engine, metrics: CompletionMetrics, statistics: EndpointStatistics) -> None:
        self.engine = engine
        self.metrics = metrics
        self.statistics = statistics
        # The lengths of recent texts by name, to count the characters of an accepted one. Never the texts.
        self._issued: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        # The last outcome of each editor: for "why no suggestion". Holds reasons, never text.
        self.outcomes: dict[str, deque[Reason]] = {}

    async def complete(self, query: Query, *, editor: str, warm: bool = False) -> Answer:
        """Answers a query. Raises NoModel, Busy, or Cancelled when a newer request of the editor came."""
        if (refused := self._refused(query, editor)) is not None:
            return refused
        job = await self._submit(query, editor, None, warm)
        return await self._finish(job)

    async def stream(self, query: Query, *, editor: str) -> tuple[AsyncIterator[Delta], Callable[[], Any]]:
        """The pieces of the first completion as they come, and an awaitable for the whole answer after them.

        Raises NoModel or Busy before the first piece, so that a dialect can still answer with a status.
        """
        if (refused := self._refused(query, editor)) is not None:

            async def silent() -> AsyncIterator[Delta]:
                for _ in ():
                    yield Delta("")

            async def answered() -> Answer:
                return refused

            return silent(), answered
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Delta | None] = asyncio.Queue()

        def on_text(_: int, text: str, tokens: Sequence[WrittenToken]) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, Delta(text, tuple(tokens)))

        job = await self._submit(query, editor, on_text, warm=False)
        job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(pieces.put_nowait, None))

        async def iterate() -> AsyncIterator[Delta]:
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
            finally:
                # Reached early only when the client went away; a finished job does not mind.
                job.cancel()

        return iterate(), lambda: self._finish(job)

    def issue(self, answer: Answer) -> str:
        """A name for an answer; the editor uses it to report whether the answer was shown or accepted."""
        name = f"cmpl-{secrets.token_hex(12)}"
        self._issued[name] = tuple(len(completion.text) for completion in answer.completions)
        if len(self._issued) > MAX_ISSUED:
            self._issued.popitem(last=False)
        return name

    def report(self, event: Event, name: str, choice: int = 0, *, rest: int = 0) -> None:
        """Counts what a developer did with an answer; nobody else is told. `rest`: how many characters an acceptance
        added, if words of the text had been accepted or typed before; never more than the text has."""
        lengths = self._issued.get(name, ())
        whole = lengths[choice] if 0 <= choice < len(lengths) else 0
        self.metrics.events.labels(event).inc()
        self.statistics.event(event, min(rest, whole) or whole)

    def _refused(self, query: Query, editor: str) -> Answer | None:
        """The empty answer to a request in a file that may hold secrets, in every dialect."""
        if query.path is None or not may_hold_secrets(query.path):
            return None
        self._note(editor, "secret_file", "ok")
        return nothing(self.engine.model or "", silence="secret_file")

    async def _submit(self, query: Query, editor: str, on_text: Any, warm: bool) -> Job:
        # Off the event loop: the first request may wait for the model to load, and its texts are searched for
        # credentials.
        submitting = asyncio.ensure_future(asyncio.to_thread(self._take, query, editor, on_text, warm))
        try:
            job = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            # The client went away while the job was queued: nobody waits for it, so it is withdrawn.
            submitting.add_done_callback(_withdraw)
            self._note(editor, "withdrawn", "cancelled")
            raise
        except NoModel:
            self._note(editor, "no_model", "rejected")
            raise
        except Busy:
            self._note(editor, "busy", "rejected")
            raise
        self.metrics.in_flight.set(self.engine.in_flight)
        return job

    def _take(self, query: Query, editor: str, on_text: Any, warm: bool) -> Job:
        """The one door for pieces of other files, for every dialect."""
        query = replace(query, context=admitted(query.context))
        return self.engine.submit(query, editor=editor, on_text=on_text, warm=warm)

    async def _finish(self, job: Job) -> Answer:
        try:
            answer = await asyncio.shield(asyncio.wrap_future(job.future))
        except asyncio.CancelledError:
            job.cancel()
            self._note(job.editor, "withdrawn", "cancelled")
            if job.future.cancelled():
                raise Cancelled from None
            raise  # the client went away, and this task with it
        except Exception:
            self._note(job.editor, "error", "error")
            raise
        finally:
            self.metrics.in_flight.set(self.engine.in_flight)
        self._count(job, answer)
        return answer

    def _count(self, job: Job, answer: Answer) -> None:
        metrics = self.metrics
        if job.warm:  # nobody waited for it
            metrics.tokens.labels("prompt").inc(answer.prompt_tokens)
            self._note(job.editor, why(answer), "ok")
            return
        metrics.queue.observe(job.queued_seconds)
        metrics.first_token.observe(answer.first_token_seconds)
        metrics.duration.observe(job.queued_seconds + answer.seconds)
        metrics.tokens.labels("prompt").inc(answer.prompt_tokens - answer.reused_tokens)
        metrics.tokens.labels("generated").inc(answer.generated_tokens)
        self.statistics.latency(job.queued_seconds + answer.seconds)
        self._note(job.editor, why(answer), "ok")

    def _note(self, editor: str, reason: Reason, outcome: str) -> None:
        self.metrics.requests.labels(outcome).inc()
        self.statistics.outcome(reason)
        if editor not in self.outcomes and len(self.outcomes) >= MAX_EDITORS:
            del self.outcomes[next(iter(self.outcomes))]
        self.outcomes.setdefault(editor, deque(maxlen=20)).append(reason)


def _withdraw(submitting: asyncio.Future[Job]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
