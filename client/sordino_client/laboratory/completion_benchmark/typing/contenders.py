"""The contenders: the endpoint, called over HTTP as an editor does, and an editor's word completion without a model."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path, PurePosixPath
from typing import Protocol

from sordino_client.completion import asking
from sordino_client.completion.asking import Endpoint
from sordino_client.completion.context import Snippet
from sordino_client.completion.memory.store import Store
from sordino_client.completion.server import Layers
from sordino_client.completion.showing.worth import Show
from sordino_client.laboratory.completion_benchmark.endpoint import START_SECONDS
from sordino_client.laboratory.completion_benchmark.typing.replay import Suggest, TypedSuggestion
from sordino_client.training.stream import SourceDocument
from sordino_platform import base
from sordino_platform.release import write_serving_bundle
from sordino_privacy.errors import LinkError, StorageError

MEMORY_SECONDS = 300.0
BUSY_SECONDS = 0.3
MIN_WORD_PREFIX = 2
IDENTIFIER = re.compile(r"[^\W\d]\w*")


class Asking(Protocol):
    """The suggester for the file at this path, with this setting of `show` and these snippets of other files."""

    def __call__(self, path: str | None, show: Show, context: Sequence[Snippet] = ()) -> Suggest: ...


@contextlib.contextmanager
def endpoint(
    documents: Sequence[SourceDocument], layers: Layers, *, model: Path | None = None
) -> Iterator[Asking]:
    """An endpoint process whose memory holds `documents` (possibly none) and the open file.

    Without a path the endpoint does not know the language, so it checks no syntax.

    `model` is a folder of `sordino pretrain --export`; None is the base that ships.
    """
    with tempfile.TemporaryDirectory(prefix="sordino-bench-") as folder:
        state, repository = Path(folder) / "state", Path(folder) / "repository"
        _write_repository(repository, documents)
        config, _, parameters = base.load(model)
        with as_file(files("sordino_platform") / "base" / "tokenizer.json") as tokenizer:
            write_serving_bundle(state / "serving", config, parameters, tokenizer, release=0)
        command = [
            sys.executable,
            "-m",
            "sordino_client.completion",
            "--state",
            str(state),
            "--layers",
            layers,
        ]
        remembers = bool(documents) and layers != "model"
        if remembers:
            command += ["--repo", str(repository)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            server = _ready(process, state, remembers=remembers)
            yield lambda path, show, context=(): _asking(server, path, show, context)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def word_completion(prefix: str, suffix: str) -> TypedSuggestion | None:
    """An editor's own word completion: the nearest identifier in the open file with the prefix at the cursor."""
    started = time.perf_counter()
    line = prefix.rsplit("\n", 1)[-1]
    typed = re.search(r"[^\W\d]\w*\Z", line)
    if typed is None or len(typed[0]) < MIN_WORD_PREFIX:
        return None
    begun = typed[0]
    above = [w for w in IDENTIFIER.findall(prefix[: -len(begun)]) if w.startswith(begun) and w != begun]
    below = [w for w in IDENTIFIER.findall(suffix) if w.startswith(begun) and w != begun]
    found = above[-1] if above else next(iter(below), None)
    if found is None:
        return None
    return TypedSuggestion(text=found[len(begun) :], milliseconds=1000 * (time.perf_counter() - started))


def _write_repository(folder: Path, documents: Sequence[SourceDocument]) -> None:
    for document in documents:
        parts = PurePosixPath(document.path).parts
        target = folder.joinpath(*(part for part in parts if part not in {"..", "/"}))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(document.text, encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)


def _ready(process: subprocess.Popen[bytes], state: Path, *, remembers: bool) -> Endpoint:
    """Waits until the endpoint has its model and, if it should have one, its memory. Raises StorageError."""
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS + remembers * MEMORY_SECONDS and process.poll() is None:
        server = asking.find_endpoint(state)
        answers = server is not None and server.ask("GET", "/v1/models")["data"]
        if server is not None and answers and (not remembers or Store(state / "memory").status().tokens):
            return server
        time.sleep(0.2)
    raise StorageError("the endpoint did not start", hint="run `sordino client up` by hand to see why")


def _asking(server: Endpoint, path: str | None, show: Show, context: Sequence[Snippet]) -> Suggest:
    """Asks as the editor extension does: for one line or block, with the text on both sides and the file's name."""
    pieces = [{"path": snippet.path, "text": snippet.text} for snippet in context]

    def suggest(prefix: str, suffix: str) -> TypedSuggestion | None:
        request = {"prompt": prefix, "suffix": suffix, "path": path, "show": show, "context": pieces}
        while True:
            started = time.perf_counter()
            try:
                answer = server.ask("POST", "/v1/completions", request)
            except LinkError as error:
                if "too many requests" not in error.message:
                    raise
                time.sleep(BUSY_SECONDS)  # no person types this fast, so this wait is not counted as latency
            else:
                break
        milliseconds = 1000 * (time.perf_counter() - started)
        text = answer["choices"][0]["text"] if answer["choices"] else ""
        return TypedSuggestion(text=text, milliseconds=milliseconds) if text else None

    return suggest
