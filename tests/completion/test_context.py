"""What an editor sends beside the open file is recalled from, within bounds, in every dialect, and never a secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.completion.api.sentinels import split
from sordino_client.completion.context import MAX_BYTES, MAX_PIECES, Snippet, admitted, around
from sordino_client.completion.names import may_hold_secrets
from sordino_client.laboratory.completion_benchmark.typing.beside import beginnings, nearest
from sordino_client.training.stream import SourceDocument

PATHS = st.sampled_from(["", "a.py", "src/B.java", "file:///home/x/.env", "C:\\keys\\id_rsa", "notes"])
LINES = "zebra quokka possum okapi numbat bilby dingo quoll cuscus potoroo"
OTHER = "".join(f"{word}_handler = register({word!r})\n" for word in LINES.split())
# The lines of OTHER stand in order: behind this one the next is recalled.
PREFIX = "".join(f"{word}_handler = register({word!r})\n" for word in LINES.split()[:4])
EXPECTED = "numbat_handler = register('numbat')"
TOKEN = "ghp_" + "q7Wz3Kd9Xv2Rb8Tn4Lm6Yc1Hs5Jf0Pg7Ua3E"


def of(path: str, text: str) -> Snippet:
    return Snippet(path=path, text=text)


SNIPPETS = st.lists(
    st.builds(
        of,
        PATHS,
        st.one_of(
            st.text(max_size=200),
            st.text(alphabet="aé😀\r\n", max_size=40).map(lambda text: text * 400),
            st.just(f'token = "{TOKEN}"\r\n'),
        ),
    ),
    max_size=20,
)


@given(SNIPPETS)
def test_what_is_admitted_keeps_its_bounds_its_order_and_no_secret_whatever_was_sent(
    sent: list[Snippet],
) -> None:
    taken = admitted(sent)
    assert len(taken) <= MAX_PIECES
    assert sum(len(snippet.text.encode()) for snippet in taken) <= MAX_BYTES
    assert not any(may_hold_secrets(snippet.path) for snippet in taken)
    assert not any("\r" in snippet.text or TOKEN in snippet.text for snippet in taken)
    rest = iter(sent)
    assert all(any(snippet.path == one.path for one in rest) for snippet in taken)
    assert admitted(taken) == taken


def test_a_piece_is_taken_whole_or_not_at_all() -> None:
    line = "value = compute()\n"
    half, whole = line * (MAX_BYTES // len(line) // 2), line * (MAX_BYTES // len(line) + 1)
    assert admitted([of("a.py", whole), of("b.py", half)]) == (of("b.py", half),)
    assert [s.path for s in admitted([of("a.py", half), of("b.py", half), of("c.py", half)])] == [
        "a.py",
        "b.py",
    ]


@given(st.text(alphabet="aé😀\r\n", max_size=60), st.integers(0, 70), st.integers(0, 90))
def test_a_piece_around_a_place_is_whole_lines_within_its_bytes(text: str, place: int, limit: int) -> None:
    piece = around(text, place, limit)
    assert len(piece.encode()) <= limit
    lines, taken = text.split("\n"), piece.split("\n")
    whole = [line + "\n" for line in lines[:-1]] + [lines[-1]] * bool(lines[-1])
    kept = [line + "\n" for line in taken[:-1]] + [taken[-1]] * bool(taken[-1])
    assert any(whole[n : n + len(kept)] == kept for n in range(len(whole) + 1))
    assert piece == text or len(text.encode()) > limit


def test_the_nearest_files_share_most_folders_and_their_beginnings_fit_a_request() -> None:
    def document(path: str) -> SourceDocument:
        return SourceDocument(project="p", path=path, language="java", text="int value = 1;\n" * 4000)

    documents = [
        document(path) for path in ("z/Z.java", "a/b/C.java", "a/D.java", "a/b/E.java", "a/b/c/F.java")
    ]
    found = nearest("a/b/E.java", documents, 4)
    assert [one.path for one in found] == ["a/b/C.java", "a/b/c/F.java", "a/D.java", "z/Z.java"]
    assert admitted(beginnings(found)) == beginnings(found)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Any], release: Callable[..., Path]
) -> Any:
    """An endpoint with a model that knows nothing and no repository: what is not in the request cannot be recalled."""
    state = tmp_path_factory.mktemp("context")
    release(state / "serving")
    return start(state)


def openai(path: str, text: str) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {
        "prompt": PREFIX, "suffix": "\n", "max_tokens": 40, "context": [{"path": path, "text": text}],
    }  # fmt: skip


def tabby(field: str) -> Callable[[str, str], tuple[str, dict[str, Any]]]:
    def body(path: str, text: str) -> tuple[str, dict[str, Any]]:
        piece = {"filepath": path, "body": text, "score": 0.5}
        return "/v1/completions", {
            "language": "python",
            "segments": {"prefix": PREFIX, "suffix": "\n", "filepath": "open.py", field: [piece]},
        }

    return body


def llamacpp(path: str, text: str) -> tuple[str, dict[str, Any]]:
    return "/infill", {
        "input_prefix": PREFIX, "input_suffix": "\n", "n_predict": 40,
        "input_extra": [{"filename": path, "text": text, "time": 7}],
    }  # fmt: skip


def qwen(path: str, text: str) -> tuple[str, dict[str, Any]]:
    others = f"<|repo_name|>r\n<|file_sep|>{path}\n{text}\n<|file_sep|>open.py\n"
    return "/v1/completions", {
        "prompt": f"{others}<|fim_prefix|>{PREFIX}<|fim_suffix|>\n<|fim_middle|>", "max_tokens": 40,
    }  # fmt: skip


def ollama(path: str, text: str) -> tuple[str, dict[str, Any]]:
    return "/api/generate", {
        "model": "sordino", "prompt": qwen(path, text)[1]["prompt"], "raw": True, "stream": False,
        "options": {"num_predict": 40, "temperature": 0},
    }  # fmt: skip


DIALECTS = {
    "openai": openai,
    "tabby declarations": tabby("declarations"),
    "tabby changed files": tabby("relevant_snippets_from_changed_files"),
    "tabby code": tabby("relevant_code_snippets"),
    "tabby opened files": tabby("relevant_snippets_from_recently_opened_files"),
    "llama.cpp": llamacpp,
    "sentinels": qwen,
    "ollama": ollama,
}


def asked(running: Any, dialect: str, path: str, text: str) -> str:
    answer = running.endpoint.ask("POST", *DIALECTS[dialect](path, text))
    if "choices" in answer:
        return str(answer["choices"][0]["text"]) if answer["choices"] else ""
    return str(answer.get("content", answer.get("response")))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_piece_of_another_file_is_recalled_for_that_request_only(running: Any, dialect: str) -> None:
    assert asked(running, dialect, "other.py", OTHER).startswith(EXPECTED)
    assert EXPECTED not in asked(running, dialect, "other.py", "")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_is_recalled_from_a_file_that_may_hold_secrets(running: Any, dialect: str) -> None:
    assert EXPECTED not in asked(running, dialect, "conf/.env", OTHER)


# In the others one text holds all files.
@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name not in {"sentinels", "ollama"}])
def test_line_endings_of_another_file_are_its_own(running: Any, dialect: str) -> None:
    assert asked(running, dialect, "other.py", OTHER.replace("\n", "\r\n")).startswith(EXPECTED)


def test_the_nearest_pieces_are_taken_where_there_are_more(running: Any) -> None:
    filler = [{"path": f"{n}.py", "text": f"filler_{n} = {n}\n"} for n in range(MAX_PIECES)]
    other = {"path": "other.py", "text": OTHER}
    body = {"prompt": PREFIX, "suffix": "\n", "max_tokens": 40}
    first = running.endpoint.ask("POST", "/v1/completions", body | {"context": [other, *filler]})
    last = running.endpoint.ask("POST", "/v1/completions", body | {"context": [*filler, other]})
    assert first["choices"][0]["text"].startswith(EXPECTED)
    assert EXPECTED not in last["choices"][0]["text"]
    newest_last = [{"filename": one["path"], "text": one["text"]} for one in (*filler, other)]
    infill = {"input_prefix": PREFIX, "input_suffix": "\n", "n_predict": 40, "input_extra": newest_last}
    assert running.endpoint.ask("POST", "/infill", infill)["content"].startswith(EXPECTED)


def test_a_credential_in_an_open_tab_is_masked_before_anything_can_recall_it(running: Any) -> None:
    # Not a suggestion that is cut: the text around the literal is recalled, the literal was never there.
    other = OTHER.replace("'numbat'", f"'numbat', secret_key='{TOKEN}'")
    text = asked(running, "openai", "other.py", other)
    assert text.startswith("numbat_handler = register('numbat'")
    assert TOKEN[:12] not in text
    assert TOKEN not in admitted([of("other.py", other)])[0].text


def test_files_in_a_prompt_are_told_apart_by_their_separators() -> None:
    others = "<|repo_name|>r\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b.py\ny = 2\n<|file_sep|>open.py\n"
    filled = split(f"{others}<|fim_prefix|>before<|fim_suffix|>behind<|fim_middle|>", "")
    assert filled[:3] == ("before", "behind", "open.py")
    assert filled.others == (of("b.py", "y = 2\n"), of("a.py", "x = 1\n"))
