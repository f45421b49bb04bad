"""The language-server dialect, over stdio: `sordino lsp`, for VS Code's language client, Neovim, Emacs and Helix.

`textDocument/inlineCompletion` (LSP 3.18) where the editor knows it, `textDocument/completion` for the others. The
server is a thin process that asks the endpoint; a request that the editor cancels hangs up, which withdraws it. The
only text it keeps is the open documents, as every language server does.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.workspace import TextDocument

from sordino_client.completion import asking
from sordino_platform import telemetry
from sordino_privacy.errors import LinkError, SordinoError

MAX_SIDE = 200_000
WAIT_SECONDS = 10.0
SHOWN_CHARACTERS = 60


def server(state: Path) -> LanguageServer:
    """A language server that asks the endpoint of a state folder."""
    lsp = LanguageServer("sordino", "1")
    editor = f"lsp-{os.getpid()}"

    async def texts(document: TextDocument, position: types.Position) -> list[str]:
        offset = document.offset_at_position(position)
        source = document.source
        before, after = source[max(0, offset - MAX_SIDE) : offset], source[offset : offset + MAX_SIDE]
        # Found anew each time: the endpoint may have been restarted on another port.
        endpoint = await asyncio.to_thread(asking.find, state)
        if endpoint is None:
            return []
        request: dict[str, Any] = {"prompt": before, "suffix": after, "max_tokens": 64}
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                answer = await endpoint.ask_async("/v1/completions", request, editor=editor)
        except (LinkError, TimeoutError):
            return []  # withdrawn, busy, or no model: silence is the answer, /v1/why has the reason
        return [choice["text"] for choice in answer["choices"] if choice["text"].strip()]

    @lsp.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline(params: types.InlineCompletionParams) -> types.InlineCompletionList:
        document = lsp.workspace.get_text_document(params.text_document.uri)
        here = types.Range(params.position, params.position)
        found = await texts(document, params.position)
        return types.InlineCompletionList([types.InlineCompletionItem(text, range=here) for text in found])

    @lsp.feature(types.TEXT_DOCUMENT_COMPLETION)
    async def completion(params: types.CompletionParams) -> types.CompletionList:
        document = lsp.workspace.get_text_document(params.text_document.uri)
        here = types.Range(params.position, params.position)
        items = [
            types.CompletionItem(
                label=text.strip().split("\n", 1)[0][:SHOWN_CHARACTERS],
                detail="sordino",
                kind=types.CompletionItemKind.Text,
                filter_text="",
                sort_text="\uffff",  # behind what the language's own server knows for certain
                text_edit=types.TextEdit(here, text),
            )
            for text in await texts(document, params.position)
        ]
        return types.CompletionList(is_incomplete=True, items=items)

    return lsp


def run(state: Path) -> None:
    """Serves one editor until it closes its pipe. Raises SordinoError when the pipe breaks."""
    telemetry.configure_logging(console=False)
    try:
        server(state).start_io()
    except OSError as error:
        raise SordinoError("the language server lost its editor") from error
