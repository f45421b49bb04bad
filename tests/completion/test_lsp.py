"""The language server: driven by pygls' own client over stdio, and message by message."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types
from pygls.lsp.client import LanguageClient
from tests.loaded import loaded_by

from sordino_client.completion.context import PIECE_BYTES
from sordino_client.completion.lsp.baseline import Edit
from sordino_client.completion.lsp.documents import Documents
from sordino_client.completion.lsp.outcomes import Outcomes
from sordino_client.completion.names import may_hold_secrets
from sordino_client.completion.reasons import EXPLANATION
from sordino_client.completion.text.positions import ENCODINGS, Encoding, Lines, units

COMMAND = (sys.executable, "-m", "sordino_platform.cli", "lsp", "--state")
TEXT = "def area(width, height):\n    return \n\nprint(area(2, 3))\n"
URI = "file:///a.py"


async def converse(state: Path) -> tuple[types.InitializeResult, list[str], list[str]]:
    """Opens a document and asks for both kinds of completion at the end of its second line."""
    client = LanguageClient("test", "1")
    await client.start_io(*COMMAND, str(state))
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


class Editor:
    """An editor that speaks raw messages."""

    def __init__(self, state: Path, *encodings: str, options: Any = None) -> None:
        self.process = subprocess.Popen([*COMMAND, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.count = 0
        self.notices: list[dict[str, Any]] = []
        general = {"general": {"positionEncodings": list(encodings)}} if encodings else {}
        begin = {"capabilities": general, "initializationOptions": options}
        self.capabilities = self.ask("initialize", begin)["capabilities"]
        self.tell("initialized", {})

    def write(self, message: Any) -> None:
        body = json.dumps(message).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Type: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def tell(self, method: str, parameters: Any, **more: Any) -> None:
        self.write({"jsonrpc": "2.0", "method": method, "params": parameters, **more})

    def begin(self, method: str, parameters: Any) -> int:
        self.count += 1
        self.tell(method, parameters, id=self.count)
        return self.count

    def ask(self, method: str, parameters: Any) -> Any:
        answer = self.answer(self.begin(method, parameters))
        assert "result" in answer, answer
        return answer["result"]

    def answer(self, number: int | None) -> dict[str, Any]:
        while True:
            message = self.read()
            if "id" in message and message["id"] == number:
                return message
            self.notices.append(message)

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            length = int(line.split(b":")[1])
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        return message

    def open(self, uri: str, text: str) -> None:
        document = {"uri": uri, "languageId": "x", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})

    def type(self, uri: str, line: int, column: int, text: str) -> None:
        at = {"line": line, "character": column}
        change = {"range": {"start": at, "end": at}, "text": text}
        document = {"uri": uri, "version": 2}
        self.tell("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})

    def inline(self, uri: str, line: int, column: int, *, by_hand: bool = True) -> list[dict[str, Any]]:
        where = {"textDocument": {"uri": uri}, "position": {"line": line, "character": column}}
        found = self.ask(
            "textDocument/inlineCompletion", {**where, "context": {"triggerKind": 1 if by_hand else 2}}
        )
        items: list[dict[str, Any]] = found["items"]
        return items

    def end(self) -> int:
        if self.process.poll() is None:
            self.ask("shutdown", None)
            self.tell("exit", None)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(20)


@pytest.fixture
def editor(serving: Any) -> Iterator[Editor]:
    made = Editor(serving.state)
    yield made
    assert made.end() == 0


def figures(serving: Any) -> dict[str, Any]:
    found: dict[str, Any] = serving.endpoint.ask("GET", "/v1/statistics")
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_both_kinds_give_the_endpoints_completion(serving: Any) -> None:
    before, after = TEXT[: TEXT.index("return ") + 7], TEXT[TEXT.index("return ") + 7 :]
    answer = serving.endpoint.ask(
        "POST", "/v1/completions", {"prompt": before, "suffix": after, "max_tokens": 64}
    )
    expected = [choice["text"] for choice in answer["choices"]]
    initialized, inline, plain = asyncio.run(converse(serving.state))
    assert inline == plain == expected
    assert initialized.capabilities.inline_completion_provider
    assert initialized.capabilities.completion_provider


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_an_endpoint_it_is_silent_and_says_why(tmp_path: Path) -> None:
    _, inline, plain = asyncio.run(converse(tmp_path))
    assert inline == plain == []
    editor = Editor(tmp_path)
    editor.open(URI, TEXT)
    assert editor.inline(URI, 1, 11) == []
    assert "no completion endpoint runs" in editor.ask("workspace/executeCommand", {"command": "sordino.why"})
    assert {notice["method"] for notice in editor.notices} == {"window/logMessage", "window/showMessage"}
    assert editor.end() == 0


def test_typing_along_a_suggestion_asks_nobody(editor: Editor, serving: Any) -> None:
    editor.open("file:///typed.py", TEXT)
    first = editor.inline("file:///typed.py", 1, 11)[0]["insertText"]
    asked = figures(serving)["requests"]
    for size in range(1, len(first)):
        editor.type("file:///typed.py", 1, 10 + size, first[size - 1])
        assert editor.inline("file:///typed.py", 1, 11 + size)[0]["insertText"] == first[size:]
    # What would follow was asked for ahead, once, where the suggestion stood long enough.
    assert figures(serving)["requests"] - asked <= 1


@pytest.mark.parametrize("show", ["quiet", "balanced", "eager", "all", None, "loud"])
def test_the_editors_setting_decides_as_one_types_and_all_is_shown_to_who_asks_by_hand(
    serving: Any, show: str | None
) -> None:
    before, after = TEXT[: TEXT.index("return ") + 7], TEXT[TEXT.index("return ") + 7 :]
    request = {"prompt": before, "suffix": after, "max_tokens": 64, "path": URI}

    def told(**more: Any) -> list[str]:
        answer = serving.endpoint.ask("POST", "/v1/completions", request | more)
        return [choice["text"] for choice in answer["choices"] if choice["text"].strip()]

    editor = Editor(serving.state, options={"show": show})
    editor.open(URI, TEXT)
    typing = [item["insertText"] for item in editor.inline(URI, 1, 11, by_hand=False)]
    assert typing == told(**({"show": show} if show not in {None, "loud"} else {}))
    if not typing:
        why = editor.ask("workspace/executeCommand", {"command": "sordino.why"})
        assert why == EXPLANATION["unsure"]
    assert [item["insertText"] for item in editor.inline(URI, 1, 11)] == told(show="all") != []
    warned = [notice for notice in editor.notices if "show is none of" in notice["params"]["message"]]
    assert bool(warned) == (show == "loud")
    assert told(show="quiet") == []
    assert editor.end() == 0


@pytest.mark.parametrize(("name", "recalled"), [("other.py", True), (".env", False)])
def test_what_another_open_document_holds_is_recalled_unless_it_may_hold_secrets(
    editor: Editor, name: str, recalled: bool
) -> None:
    words = ["zebra", "quokka", "wombat", "okapi", "numbat", "bilby", "dingo"]
    lines = [f"{word}_handler = register({word!r}, by=moloch)\n" for word in words]
    editor.open(f"file:///w/{name}", "# handlers\n\n")
    for number, line in enumerate(lines):
        editor.type(f"file:///w/{name}", 1 + number, 0, line)  # it was never saved
    editor.open("file:///w/open.py", "".join(lines[:4]) + "\n")
    offered = [item["insertText"] for item in editor.inline("file:///w/open.py", 4, 0)]
    assert any(text.startswith(lines[4].strip()) for text in offered) == recalled


class Recording(BaseHTTPRequestHandler):
    """An endpoint that keeps what it is sent."""

    sent: ClassVar[list[tuple[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.sent.append((self.path, body))
        answers: dict[str, Any] = {
            "/v1/secret-name": {"secret": may_hold_secrets(body.get("path", ""))},
            "/infill": {},
            "/v1/completions": {"id": "1", "model": "m", "choices": [], "sordino": {"reason": "none"}},
        }
        answer = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None: ...


def test_other_open_documents_are_sent_the_one_edited_last_first_and_secret_ones_stay(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recording)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "completion.json").write_text(json.dumps({"port": server.server_port}))
    (tmp_path / "token").write_text("t")
    (tmp_path / "token").chmod(0o600)
    editor = Editor(tmp_path)
    for name in ("a.py", ".env", "b.py", "c.py"):
        editor.open(f"file:///{name}", f"text of {name}\n" + "padding = 1\n" * 2000)
    editor.type("file:///a.py", 0, 0, "new ")
    assert editor.inline("file:///c.py", 0, 0, by_hand=False) == []
    until(lambda: sum(path == "/infill" for path, _ in Recording.sent) == 3)
    assert editor.end() == 0
    server.shutdown()
    server.server_close()
    (asked,) = [body for path, body in Recording.sent if path == "/v1/completions"]
    assert [piece["path"] for piece in asked["context"]] == ["file:///a.py", "file:///b.py"]
    assert asked["context"][0]["text"].startswith("new text of a.py\n")
    assert all(len(piece["text"]) <= PIECE_BYTES for piece in asked["context"])
    assert "text of .env" not in json.dumps(Recording.sent)
    # What is opened is read ahead of the first key, unless it may hold secrets.
    opened = [body for path, body in Recording.sent if path == "/infill"]
    assert {body["path"] for body in opened} == {"file:///a.py", "file:///b.py", "file:///c.py"}
    assert all(body["n_predict"] == 0 and len(body["input_prefix"]) == 4_000 for body in opened)
    assert asked["path"] == "file:///c.py"


def test_what_became_of_a_suggestion_is_counted(editor: Editor, serving: Any) -> None:
    before = figures(serving)
    editor.open("file:///counted.py", TEXT)
    item = editor.inline("file:///counted.py", 1, 11)[0]
    until(lambda: figures(serving)["shown"] == before["shown"] + 1)
    editor.type("file:///counted.py", 1, 11, item["insertText"])
    editor.ask("workspace/executeCommand", item["command"])
    until(lambda: figures(serving)["accepted"] == before["accepted"] + 1)
    assert figures(serving)["dismissed"] == before["dismissed"]


def test_a_file_that_may_hold_secrets_gets_nothing_and_its_text_stays(editor: Editor, serving: Any) -> None:
    asked = figures(serving)["requests"]
    editor.open("file:///home/x/.env", TEXT)
    assert editor.inline("file:///home/x/.env", 1, 11) == []
    assert "may hold secrets" in editor.ask("workspace/executeCommand", {"command": "sordino.why"})
    assert figures(serving)["requests"] == asked


def test_a_withdrawn_request_is_answered_as_cancelled(editor: Editor) -> None:
    editor.open("file:///gone.py", TEXT * 200)
    where = {"textDocument": {"uri": "file:///gone.py"}, "position": {"line": 600, "character": 0}}
    number = editor.begin("textDocument/inlineCompletion", {**where, "context": {"triggerKind": 1}})
    editor.tell("$/cancelRequest", {"id": number})
    assert editor.answer(number)["error"]["code"] == -32800


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_a_document_gets_its_own_line_endings(editor: Editor, end: str) -> None:
    text = "class A {\n    void deposit(int amount) {\n        \n    }\n}\n".replace("\n", end)
    editor.open(f"file:///{len(end)}.java", text)
    offered = editor.inline(f"file:///{len(end)}.java", 2, 8)[0]["insertText"]
    assert end in offered
    assert not {"\r", "\n"} & set(offered.replace(end, ""))


@pytest.mark.parametrize(
    ("encoding", "column"), [("utf-8", 12), ("utf-16", 10), ("utf-32", 9), ("utf-7", 10)]
)
def test_columns_are_counted_as_was_agreed(serving: Any, encoding: str, column: int) -> None:
    editor = Editor(serving.state, encoding)
    assert editor.capabilities["positionEncoding"] == (encoding if encoding != "utf-7" else "utf-16")
    before = "a\x0cb\u2028c\x85d\n'😀' + re"
    editor.open("file:///wide.py", before + "\n")
    answer = serving.endpoint.ask(
        "POST", "/v1/completions", {"prompt": before, "suffix": "\n", "max_tokens": 64}
    )
    expected = [choice["text"] for choice in answer["choices"] if choice["text"].strip()]
    assert [item["insertText"] for item in editor.inline("file:///wide.py", 1, column - 1)] == expected
    assert editor.end() == 0


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"method": "textDocument/nothing", "id": 90}, -32601),
        ({"method": "textDocument/completion", "id": 90, "params": {"textDocument": 3}}, -32602),
        ({"method": "textDocument/completion", "id": 90, "params": [1]}, -32602),
        ({"method": "workspace/executeCommand", "id": 90, "params": {"command": "rm"}}, -32602),
        ([1, 2], -32600),
    ],
)
def test_what_is_not_the_protocols_is_refused_and_ends_nothing(
    editor: Editor, message: Any, code: int
) -> None:
    editor.write(message)
    assert editor.answer(90 if isinstance(message, dict) else None)["error"]["code"] == code
    editor.tell(
        "textDocument/didChange", {"textDocument": {"uri": "file:///unknown"}, "contentChanges": [{}]}
    )
    editor.open(URI, TEXT)
    assert editor.inline(URI, 1, 11)


def test_it_needs_no_protocol_library() -> None:
    """None can be installed beside what training needs: a plain wheel must do."""
    modules = loaded_by("sordino_client.completion.lsp.server")
    assert not modules & {"pygls", "lsprotocol", "cattrs", "torch", "onnxruntime"}


def test_the_end_of_the_pipe_ends_it(serving: Any) -> None:
    editor = Editor(serving.state)
    assert editor.process.stdin is not None
    assert editor.process.stdout is not None
    editor.process.stdin.close()
    assert editor.process.wait(20) == 1
    editor.process.stdout.close()


CHARS = st.characters(exclude_categories=["Cs"])
ODD = st.text(st.sampled_from([*"aé文😀\n\r\x0c\x0b\x85\u2028\x1c"]), max_size=20)


class TestPositions:
    @given(st.one_of(ODD, st.text(CHARS)), st.sampled_from(ENCODINGS), st.data())
    def test_a_place_and_back(self, text: str, encoding: Encoding, data: st.DataObject) -> None:
        lines = Lines(text)
        at = data.draw(st.integers(0, len(text)))
        back = lines.offset(*lines.position(at, encoding), encoding)
        # Within a line ending there is no position: it is the line's end.
        assert back == at or (text[at - 1 : at + 1] == "\r\n" and back == at - 1)

    @given(ODD)
    def test_lines_end_where_the_protocol_says(self, text: str) -> None:
        normal = text.replace("\r\n", "\n").replace("\r", "\n")
        assert len(Lines(text).starts) == normal.count("\n") + 1

    @given(ODD, st.sampled_from(ENCODINGS), st.integers(0, 9), st.integers(0, 60))
    def test_any_position_is_a_place_between_whole_characters(
        self, text: str, encoding: Encoding, line: int, column: int
    ) -> None:
        lines = Lines(text)
        at = lines.offset(line, column, encoding)
        assert 0 <= at <= len(text)
        if line < len(lines.starts):
            assert units(text[lines.starts[line] : at], encoding) <= column

    @given(ODD, ODD, st.sampled_from(ENCODINGS), st.data())
    def test_a_change_is_what_the_editor_did(
        self, text: str, added: str, encoding: Encoding, data: st.DataObject
    ) -> None:
        documents, lines = Documents(encoding), Lines(text)
        documents.opened({"textDocument": {"uri": URI, "text": text}})
        first = data.draw(st.integers(0, len(text)))
        last = data.draw(st.integers(first, len(text)))
        places = []
        for at in (first, last):
            line, column = lines.position(at, encoding)
            places.append({"line": line, "character": column})
        start, end = (documents.offset(lines, place) for place in places)
        change = {"range": {"start": places[0], "end": places[1]}, "text": added}
        uri, edits = documents.changed({"textDocument": {"uri": URI}, "contentChanges": [change]})
        assert (uri, edits) == (URI, [Edit(start, end - start, added)])
        assert documents.size(URI) == len(text) - (end - start) + len(added)


def test_what_flickers_by_was_not_seen_and_what_stood_is_dismissed() -> None:
    told: list[tuple[str, str, int]] = []
    waiting: list[Callable[[], None]] = []

    def later(_: float, act: Callable[[], None]) -> Callable[[], None]:
        waiting.append(act)
        return lambda: None

    outcomes = Outcomes(lambda what, name, size: told.append((what, name, size)), later)
    outcomes.offered("d", 3, "one", "abc")
    outcomes.edited("d", Edit(3, 0, "x"))
    assert told == []
    outcomes.offered("d", 4, "two", "abc def")
    waiting.pop()()
    outcomes.edited("d", Edit(4, 0, "a"))
    outcomes.edited("d", Edit(5, 0, "bc"))
    outcomes.edited("d", Edit(7, 0, "?"))
    assert told == [("view", "two", 0), ("partial", "two", 2), ("typed", "", 3), ("dismiss", "two", 0)]
