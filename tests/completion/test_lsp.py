"""The language server, driven by pygls' own client over stdio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.lsp.client import LanguageClient

TEXT = "def area(width, height):\n    return \n\nprint(area(2, 3))\n"
URI = "file:///a.py"


async def converse(state: Path) -> tuple[types.InitializeResult, list[str], list[str]]:
    """Opens a document and asks for both kinds of completion at the end of its second line."""
    client = LanguageClient("test", "1")
    await client.start_io(sys.executable, "-m", "sordino_platform.cli", "lsp", "--state", str(state))
    try:
        initialized = await client.initialize_async(
            types.InitializeParams(capabilities=types.ClientCapabilities(), root_uri=None)
        )
        client.initialized(types.InitializedParams())
        client.text_document_did_open(
            types.DidOpenTextDocumentParams(types.TextDocumentItem(URI, "python", 1, TEXT))
        )
        where: dict[str, Any] = {
            "text_document": types.TextDocumentIdentifier(URI),
            "position": types.Position(1, 11),
        }
        inline = await client.text_document_inline_completion_async(
            types.InlineCompletionParams(
                context=types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic), **where
            )
        )
        plain = await client.text_document_completion_async(types.CompletionParams(**where))
        assert isinstance(inline, types.InlineCompletionList)
        assert isinstance(plain, types.CompletionList)
        edits = [item.text_edit for item in plain.items]
        await client.shutdown_async(None)
        client.exit(None)
        texts = [str(item.insert_text) for item in inline.items]
        return initialized, texts, [edit.new_text for edit in edits if isinstance(edit, types.TextEdit)]
    finally:
        await client.stop()  # type: ignore[no-untyped-call]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_both_kinds_give_the_endpoints_completion(
    tmp_path: Path, start: Callable[..., Any], release: Callable[..., Path]
) -> None:
    release(tmp_path / "serving")
    running = start(tmp_path)
    before, after = TEXT[: TEXT.index("return ") + 7], TEXT[TEXT.index("return ") + 7 :]
    answer = running.endpoint.ask(
        "POST", "/v1/completions", {"prompt": before, "suffix": after, "max_tokens": 64}
    )
    expected = [choice["text"] for choice in answer["choices"]]
    initialized, inline, plain = asyncio.run(converse(tmp_path))
    assert inline == plain == expected
    assert initialized.capabilities.inline_completion_provider
    assert initialized.capabilities.completion_provider


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_an_endpoint_it_is_silent(tmp_path: Path) -> None:
    _, inline, plain = asyncio.run(converse(tmp_path))
    assert inline == plain == []
