"""Gets an editor's suggestions: known ones at once, others from the endpoint, some ahead of the typing. Lives on one
event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from sordino_client.completion import asking
from sordino_client.completion.context import Snippet
from sordino_client.completion.edits.next import MAX_TEXT
from sordino_client.completion.lsp.documents import Cursor
from sordino_client.completion.lsp.outcomes import Happening, Outcomes
from sordino_client.completion.lsp.suggestions import Suggestion, Suggestions
from sordino_client.completion.showing.worth import Show
from sordino_client.completion.text.positions import Encoding
from sordino_privacy.errors import LinkError, SordinoError

WAIT_SECONDS: Final = 10.0
AHEAD_SECONDS: Final = 0.35
MAX_TOKENS: Final = 64
NAMES: Final = 500
# The editor does not say where the cursor will stand, so the file's beginning is read: no more of it than fits into the
# window of any larger base, because the window would otherwise begin elsewhere.
WARM_CHARACTERS: Final = 4_000

ABSENT: Final = "no completion endpoint runs on this machine"
SECRET: Final = "a file of this name may hold secrets: nothing is completed in it"  # noqa: S105 - a sentence


class SuggestionDesk:
    """`said` takes the reason for each silence, in words a developer understands; `beside` gives pieces of the
    documents that are open beside one."""

    def __init__(
        self, state: Path, said: Callable[[str], None], beside: Callable[[str], Sequence[Snippet]]
    ) -> None:
        self._state, self._said, self._beside = state, said, beside
        self.editor = f"lsp-{os.getpid()}"
        self.reason = "nothing was asked for yet"
        # How sure a text must be to be shown; None leaves it to the endpoint.
        self.show: Show | None = None
        self.known = Suggestions()
        self.outcomes = Outcomes(self._report, self._later)
        self._names: dict[str, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ahead: tuple[Cursor, asyncio.Task[Suggestion]] | None = None
        self._planned: asyncio.TimerHandle | None = None

    async def suggestion(self, cursor: Cursor, *, by_hand: bool = False) -> Suggestion | None:
        """The suggestion at a cursor, None for nothing.

        If a person asked by hand, all that was written is given. Cancelling hangs up, which withdraws the request.
        """
        self._unplan()
        found = self.known.find(cursor, by_hand=by_hand)
        if found is None:
            try:
                found = await self._asked(cursor, by_hand)
            except (LinkError, TimeoutError) as error:
                self.silent(error.message if isinstance(error, LinkError) else "the endpoint is too slow")
                return None
        if not found.text.strip():
            self.silent(found.reason)
            return None
        self.outcomes.offered(cursor.document, cursor.offset, found.id, found.text)
        self._plan(cursor, found)
        return found

    def warm(self, document: str, text: str) -> None:
        """Has the endpoint read a file that was just opened, so that the first suggestion in it need not wait."""

        async def read() -> None:
            with contextlib.suppress(SordinoError, TimeoutError):  # then it is read with the first key
                if not await self._secret(document):
                    request = {"input_prefix": text[:WARM_CHARACTERS], "n_predict": 0, "path": document}
                    await self._post("/infill", request, f"{self.editor}/opened")

        self._begin(read())

    async def next_edit(self, document: str, before: str, after: str, encoding: Encoding) -> Any:
        """Where the change from `before` to `after` applies next: its `range` and `text`, or None."""
        if before == after or max(len(before), len(after)) > MAX_TEXT:
            return None
        try:
            if await self._secret(document):
                raise LinkError(SECRET)
            body = {
                "path": document[:4096],
                "before": before,
                "after": after,
                "show": self.show or "balanced",
                "encoding": encoding,
            }
            return (await self._post("/v1/next-edit", body, self.editor))["place"]
        except (LinkError, TimeoutError) as error:
            self.silent(error.message if isinstance(error, LinkError) else "the endpoint is too slow")
            return None

    def silent(self, reason: str) -> None:
        """Notes why there is no suggestion, and tells the editor."""
        self.reason = reason
        self._said(reason)

    def close(self) -> None:
        """Gives up what is under way; reports what was typed."""
        self._unplan()
        self.outcomes.flush()

    async def settle(self) -> None:
        """Waits for reports that are on their way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    async def _asked(self, cursor: Cursor, by_hand: bool) -> Suggestion:
        if self._ahead is not None and self._ahead[0] == cursor and not by_hand:
            with contextlib.suppress(LinkError, TimeoutError):
                return await asyncio.shield(self._ahead[1])  # it is being computed already
        if self._ahead is not None:
            self._ahead[1].cancel()
        if await self._secret(cursor.document):
            raise LinkError(SECRET)
        return await self._complete(cursor, self.editor, by_hand)

    async def _complete(self, cursor: Cursor, editor: str, by_hand: bool = False) -> Suggestion:
        request = {
            "prompt": cursor.prefix,
            "suffix": cursor.suffix,
            "max_tokens": MAX_TOKENS,
            "path": cursor.document,
            "show": "all" if by_hand else self.show,
            "context": await self._context(cursor.document),
        }
        answer = await self._post("/v1/completions", request, editor)
        texts = [str(choice["text"]) for choice in answer["choices"]]
        suggestion = Suggestion(
            id=str(answer["id"]),
            model=str(answer["model"]),
            text=texts[0] if texts else "",
            reason=str(answer["sordino"]["reason"]),
            by_hand=by_hand,
        )
        self.known.put(cursor, suggestion)
        return suggestion

    async def _context(self, document: str) -> list[dict[str, str]]:
        """Pieces of the other documents, none of which may hold secrets by its name."""
        return [
            {"path": piece.path[:4096], "text": piece.text}
            for piece in self._beside(document)
            if not await self._secret(piece.path)
        ]

    async def _secret(self, document: str) -> bool:
        """Whether the file's name says that it may hold secrets: then none of its text is sent."""
        if document not in self._names:
            if len(self._names) >= NAMES:
                self._names.clear()
            answer = await self._post("/v1/secret-name", {"path": document[:4096] or "untitled"}, self.editor)
            self._names[document] = answer["secret"] is not False
        return self._names[document]

    async def _post(self, path: str, document: Any, editor: str) -> Any:
        # Read each time: the endpoint may have been restarted on another port.
        endpoint = asking.read(self._state)
        if endpoint is None:
            raise LinkError(ABSENT)
        async with asyncio.timeout(WAIT_SECONDS):
            return await endpoint.ask_async(path, document, editor=editor)

    def _plan(self, cursor: Cursor, found: Suggestion) -> None:
        """Once a suggestion has stood for a moment, computes what would follow it: the processor is idle then."""
        then = Cursor(
            cursor.document, cursor.prefix + found.text, cursor.suffix, cursor.offset + len(found.text)
        )

        def begin() -> None:
            if self.known.find(then) is not None:
                return
            task = asyncio.create_task(self._complete(then, f"{self.editor}/ahead"))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._ahead = (then, task)

        self._planned = asyncio.get_running_loop().call_later(AHEAD_SECONDS, begin)

    def _unplan(self) -> None:
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None

    def _report(self, happening: Happening, name: str, characters: int) -> None:
        body = {"type": happening, "completion_id": name, "choice_index": 0, "characters": characters}

        async def tell() -> None:
            with contextlib.suppress(SordinoError, TimeoutError):  # a count that is lost is no fault
                await self._post("/v1/events", body, self.editor)

        self._begin(tell())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _later(self, seconds: float, act: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(seconds, act).cancel
