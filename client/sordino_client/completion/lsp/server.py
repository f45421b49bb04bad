"""The conversation with one editor.

`textDocument/inlineCompletion` (LSP 3.18) where the editor knows it, `textDocument/completion` for the others. A
request that the editor cancels hangs up, which withdraws it; so does a newer one. `initializationOptions` may hold
`show`: quiet, balanced, eager or all; a suggestion that is asked for by hand is shown in any case. The reason for no
suggestion is logged in the editor, and the command `sordino.why` tells it. The change that was just made is offered at
the next place where it applies: as a code action, and on the command `sordino.nextEdit` with the document's URI, which
gives its `range` and `text`, or null. The server ends on `exit`, at the end of the editor's pipe, or on bytes that are
not messages; nothing else that an editor sends ends it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, get_args

from sordino_client.completion.lsp import wire
from sordino_client.completion.lsp.desk import SuggestionDesk
from sordino_client.completion.lsp.documents import MAX_CHARACTERS, Documents
from sordino_client.completion.lsp.suggestions import Suggestion
from sordino_client.completion.showing.worth import Show
from sordino_client.completion.text.positions import ENCODINGS, Encoding
from sordino_platform import telemetry
from sordino_privacy.errors import LinkError, SordinoError

ACCEPTED, WHY, NEXT_EDIT = "sordino.accepted", "sordino.why", "sordino.nextEdit"
# What a code action of ours is (CodeActionKind).
REWRITE: Final = "refactor.rewrite"
SHOWN_CHARACTERS: Final = 60
WARNING, INFORMATION, LOG = 2, 3, 4
# Of an inline completion (InlineCompletionTriggerKind.Invoked).
INVOKED: Final = 1
SHOWS: Final = get_args(Show)
INCREMENTAL: Final = 2
PLAIN_TEXT: Final = 1
TEXT_KIND: Final = 1


class Conversation:
    """`send` writes one message."""

    def __init__(self, state: Path, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._documents = Documents()
        self._desk = SuggestionDesk(state, self._silent, self._documents.beside)
        self._running: dict[Any, asyncio.Task[None]] = {}
        self._initialized = self._ended = False
        self.exit_code = 1
        self._requests: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "initialize": self._initialize,
            "shutdown": self._shutdown,
            "textDocument/inlineCompletion": self._inline,
            "textDocument/completion": self._plain,
            "textDocument/codeAction": self._actions,
            "workspace/executeCommand": self._command,
        }
        self._notifications: dict[str, Callable[[Any], None]] = {
            "textDocument/didOpen": self._opened,
            "textDocument/didClose": self._documents.closed,
            "textDocument/didChange": self._changed,
            "$/cancelRequest": self._cancel,
        }

    def take(self, message: Any) -> bool:
        """Acts on one message; False after `exit`."""
        if not isinstance(message, dict) or not isinstance(method := message.get("method", ""), str):
            self._fail(None, wire.INVALID_REQUEST, "not a message")
            return True
        if method == "exit":
            self.exit_code = 0 if self._ended else 1
            return False
        parameters, name = message.get("params") or {}, message.get("id")
        if "id" not in message:
            act = self._notifications.get(method)
            if act is not None:
                try:
                    act(parameters)
                except (KeyError, TypeError, ValueError, AttributeError):
                    telemetry.log().warning("notification_malformed")
        elif not isinstance(name, (str, int)):
            self._fail(None, wire.INVALID_REQUEST, "a request's id is a number or a string")
        elif method:
            task = asyncio.create_task(self._answer(name, method, parameters))
            self._running[name] = task
            task.add_done_callback(lambda done: self._done(name, done))
        return True

    async def end(self) -> None:
        """Withdraws what is under way."""
        for task in self._running.values():
            task.cancel()
        self._desk.close()
        await self._desk.settle()

    async def _answer(self, name: str | int, method: str, parameters: Any) -> None:
        act = self._requests.get(method)
        if act is None:
            self._fail(name, wire.NO_SUCH_METHOD, f"{method[:100]} is not offered")
        elif not self._initialized and method != "initialize":
            self._fail(name, wire.NOT_INITIALIZED, "initialize comes first")
        else:
            try:
                result = await act(parameters)
            except (KeyError, TypeError, ValueError, AttributeError):
                self._fail(name, wire.INVALID_PARAMETERS, "the parameters are not the protocol's")
            except SordinoError as error:
                self._fail(name, wire.INTERNAL_ERROR, error.message)
            else:
                self._send({"id": name, "result": result})

    def _done(self, name: str | int, task: asyncio.Task[None]) -> None:
        """Cancelled requests are answered here: one may be cancelled before it even began."""
        self._running.pop(name, None)
        if task.cancelled():
            self._fail(name, wire.CANCELLED, "cancelled")

    def _fail(self, name: str | int | None, code: int, message: str) -> None:
        self._send({"id": name, "error": {"code": code, "message": message}})

    def _opened(self, parameters: Any) -> None:
        self._documents.opened(parameters)
        document = parameters["textDocument"]
        self._desk.warm(str(document["uri"]), str(document["text"]))

    async def _initialize(self, parameters: Any) -> dict[str, Any]:
        general = (parameters.get("capabilities") or {}).get("general") or {}
        offered = general.get("positionEncodings") or ["utf-16"]
        self._desk.show = self._wished(parameters.get("initializationOptions"))
        encoding: Encoding = next((one for one in offered if one in ENCODINGS), "utf-16")
        self._documents.encoding = encoding
        self._initialized = True
        capabilities = {
            "positionEncoding": encoding,
            "textDocumentSync": {"openClose": True, "change": INCREMENTAL},
            "inlineCompletionProvider": {},
            "completionProvider": {},
            "codeActionProvider": {"codeActionKinds": [REWRITE]},
            "executeCommandProvider": {"commands": [WHY, ACCEPTED, NEXT_EDIT]},
        }
        return {
            "capabilities": capabilities,
            "serverInfo": {"name": "sordino", "version": version("sordino")},
        }

    def _wished(self, options: Any) -> Show | None:
        """The editor's setting. An unknown value is reported and left to the endpoint, since a server that ends helps
        nobody."""
        given = options.get("show") if isinstance(options, dict) else None
        known = next((show for show in SHOWS if show == given), None)
        if given is not None and known is None:
            self._notify("window/logMessage", WARNING, f"show is none of {', '.join(SHOWS)}: left as it is")
        return known

    async def _shutdown(self, _: Any) -> None:
        self._ended = True

    def _cancel(self, parameters: Any) -> None:
        task = self._running.get(parameters["id"])
        if task is not None:
            task.cancel()

    def _changed(self, parameters: Any) -> None:
        uri, edits = self._documents.changed(parameters)
        for edit in edits:
            self._desk.outcomes.edited(uri, edit)

    async def _found(
        self, parameters: Any, start: Any, chosen: str, *, by_hand: bool = False
    ) -> Suggestion | None:
        uri = str(parameters["textDocument"]["uri"])
        if self._documents.size(uri) > MAX_CHARACTERS:
            self._desk.silent("this file is larger than 2 million characters")
            return None
        cursor = self._documents.cursor(uri, start, parameters["position"], chosen)
        return await self._desk.suggestion(cursor, by_hand=by_hand)

    async def _inline(self, parameters: Any) -> dict[str, Any]:
        position = parameters["position"]
        context = parameters.get("context") or {}
        selected = context.get("selectedCompletionInfo")
        where = selected["range"] if selected else {"start": position, "end": position}
        chosen = str(selected["text"]) if selected else ""
        by_hand = context.get("triggerKind") == INVOKED
        found = await self._found(parameters, where["start"], chosen, by_hand=by_hand)
        if found is None:
            return {"items": []}
        item = {"insertText": chosen + found.text, "range": where, "command": _accepted(found)}
        return {"items": [item]}

    async def _plain(self, parameters: Any) -> dict[str, Any]:
        position = parameters["position"]
        found = await self._found(parameters, position, "")
        items = []
        if found is not None:
            label = found.text.strip().splitlines()[0][:SHOWN_CHARACTERS]
            items.append(
                {
                    "label": label,
                    "detail": "sordino",
                    "kind": TEXT_KIND,
                    "filterText": "",
                    "insertTextFormat": PLAIN_TEXT,
                    "sortText": "\uffff",  # after what the language's own server suggests, which is certain
                    "textEdit": {"range": {"start": position, "end": position}, "newText": found.text},
                    "command": _accepted(found),
                }
            )
        return {"isIncomplete": True, "items": items}

    async def _actions(self, parameters: Any) -> list[dict[str, Any]]:
        """The change that was just made, at the next place where it applies, as a code action."""
        only = (parameters.get("context") or {}).get("only")
        if only is not None and not any(f"{REWRITE}.".startswith(f"{kind}.") for kind in only):
            return []
        uri = str(parameters["textDocument"]["uri"])
        place = await self._next_edit(uri)
        if place is None:
            return []
        line = place["range"]["start"]["line"] + 1
        edit = {"changes": {uri: [{"range": place["range"], "newText": place["text"]}]}}
        return [{"title": f"Make the same change in line {line}", "kind": REWRITE, "edit": edit}]

    async def _next_edit(self, uri: str) -> Any:
        before, after = self._documents.change(uri)
        return await self._desk.next_edit(uri, before, after, self._documents.encoding)

    async def _command(self, parameters: Any) -> Any:
        if parameters["command"] == ACCEPTED:
            name, size = parameters["arguments"]
            self._desk.outcomes.accepted(str(name)[:128], int(size))
            return None
        if parameters["command"] == WHY:
            self._notify("window/showMessage", INFORMATION, f"sordino: {self._desk.reason}")
            return self._desk.reason
        if parameters["command"] == NEXT_EDIT:
            (uri,) = parameters["arguments"]
            return await self._next_edit(str(uri))
        raise ValueError

    def _silent(self, reason: str) -> None:
        self._notify("window/logMessage", LOG, f"no suggestion: {reason}")

    def _notify(self, method: str, kind: int, message: str) -> None:
        self._send({"method": method, "params": {"type": kind, "message": message}})


def _accepted(found: Suggestion) -> dict[str, Any]:
    return {"title": "Accepted", "command": ACCEPTED, "arguments": [found.id, len(found.text)]}


async def converse(state: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Serves one editor until it says `exit` or closes its pipe; gives the exit code. Raises LinkError."""
    conversation = Conversation(state, lambda message: writer.write(wire.frame(message)))
    try:
        while True:
            try:
                message = await wire.read(reader)
            except ValueError:
                writer.write(
                    wire.frame({"id": None, "error": {"code": wire.PARSE_ERROR, "message": "no JSON"}})
                )
                continue
            if message is None or not conversation.take(message):
                return conversation.exit_code
            await writer.drain()
    finally:
        await conversation.end()


async def _on_pipes(state: Path) -> int:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=wire.MAX_HEADER_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    return await converse(state, reader, asyncio.StreamWriter(transport, protocol, None, loop))


def run(state: Path) -> int:
    """Serves the editor on stdin and stdout; gives the exit code. Raises SordinoError when the pipe breaks."""
    telemetry.configure_logging(console=False)
    try:
        return asyncio.run(_on_pipes(state))
    except OSError as error:
        raise LinkError("the language server lost its editor") from error
