"""The boundary of text lies below the dialects: what holds for one of them holds for each. Against the real process."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.completion import bundle
from sordino_client.completion.generation import Generator
from sordino_client.completion.loading import load_generator
from sordino_client.completion.memory.recall import LocalRecall
from sordino_client.completion.memory.store import Store
from sordino_client.completion.names import may_hold_secrets
from sordino_client.completion.query import Query, WrittenToken
from sordino_client.completion.reasons import why

DIALECTS = ("openai", "tabby", "infill", "mistral", "ollama")
BEFORE, BEHIND = "class A {\n    void deposit(int amount) {\n        ", "\n    }\n}\n"


@pytest.fixture(scope="module")
def shipped() -> Generator:
    return load_generator(bundle.shipped())


def body_of(
    dialect: str, prefix: str, suffix: str, tokens: int | None, **more: Any
) -> tuple[str, dict[str, Any]]:
    match dialect:
        case "openai":
            return "/v1/completions", {"prompt": prefix, "suffix": suffix, "max_tokens": tokens, **more}
        case "tabby":
            named = {"filepath": more["path"]} if "path" in more else {}
            return "/v1/completions", {"segments": {"prefix": prefix, "suffix": suffix, **named}}
        case "infill":
            more = {"n_predict": tokens, **more}
            return "/infill", {"input_prefix": prefix, "input_suffix": suffix, "prompt": "", **more}
        case "mistral":
            return "/v1/fim/completions", {"prompt": prefix, "suffix": suffix, "max_tokens": tokens, **more}
        case _:
            more = {"stream": False, **more}
            return "/api/generate", {
                "prompt": prefix,
                "suffix": suffix,
                "options": {"num_predict": tokens},
                **more,
            }


def text_of(answer: Any) -> str:
    if "content" in answer or "response" in answer:
        return str(answer.get("content", answer.get("response")))
    choice = (answer["choices"] or [{"text": ""}])[0]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def ask(serving: Any, dialect: str, prefix: str, suffix: str, tokens: int | None = 40, **more: Any) -> str:
    return text_of(serving.endpoint.ask("POST", *body_of(dialect, prefix, suffix, tokens, **more)))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_a_document_gets_its_own_line_endings_and_the_same_text(serving: Any, dialect: str, end: str) -> None:
    expected = ask(serving, dialect, BEFORE, BEHIND)
    assert "\n" in expected
    found = ask(serving, dialect, BEFORE.replace("\n", end), BEHIND.replace("\n", end))
    assert found == expected.replace("\n", end)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_within_a_line_ending_nothing_is_offered(serving: Any, dialect: str) -> None:
    assert ask(serving, dialect, "a = 1\r", "\nb = 2") == ""


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("path", [".env", "C:\\work\\.aws\\config", "file:///home/x/my%2Ekey", "prod.tfvars"])
def test_a_file_that_may_hold_secrets_gets_nothing(serving: Any, dialect: str, path: str) -> None:
    assert ask(serving, dialect, BEFORE, BEHIND, path=path) == ""
    assert ask(serving, dialect, BEFORE, BEHIND, path="src/area.py") != ""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_half_a_character_is_replaced_and_not_refused(serving: Any, dialect: str) -> None:
    assert ask(serving, dialect, "x = '\ud83d'\ny = ", "\ude00") is not None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_large_file_of_wide_characters_is_read_as_far_as_the_engine_reads(
    serving: Any, dialect: str
) -> None:
    wide = "# 模型补全代码\n" * 23_000
    assert len(wide) > 206_000
    assert ask(serving, dialect, wide + "def area(w, h):\n    ", "\n" + wide) is not None


@pytest.mark.parametrize("dialect", ["infill", "ollama", "mistral", "openai"])
def test_null_is_no_value(serving: Any, dialect: str) -> None:
    path, body = body_of(dialect, BEFORE, BEHIND, None)
    names = {
        "infill": (
            "n_predict",
            "n_cmpl",
            "temperature",
            "top_p",
            "seed",
            "stop",
            "stream",
            "response_fields",
            "prompt",
        ),
        "ollama": ("options", "suffix", "path"),
        "mistral": ("temperature", "top_p", "random_seed", "stop", "stream"),
        "openai": ("temperature", "n", "stop", "logprobs", "seed", "stream", "segments"),
    }[dialect]
    assert text_of(serving.endpoint.ask("POST", path, body | dict.fromkeys(names)))
    if dialect == "ollama":
        options = dict.fromkeys(("num_predict", "temperature", "top_p", "seed", "stop"))
        assert text_of(serving.endpoint.ask("POST", path, body | {"options": options}))


@pytest.mark.parametrize("tokens", [0, 1, 2, 5])
def test_no_more_tokens_are_used_than_were_allowed(serving: Any, tokens: int) -> None:
    for prefix in ("import o", "x = comput", "def f():\n    retur", "😀"):
        request = {"prompt": prefix, "max_tokens": tokens, "multiline": True, "logprobs": 1}
        answer = serving.endpoint.ask("POST", "/v1/completions", request)
        assert answer["usage"]["completion_tokens"] <= tokens
        if tokens == 0:
            assert answer["choices"][0]["text"] == ""
            assert answer["choices"][0]["finish_reason"] == "length"


def test_what_is_too_large_is_refused_with_its_reason(serving: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", serving.endpoint.port, timeout=30)
    headers = {"Authorization": f"Bearer {serving.endpoint.token}", "Content-Type": "application/json"}
    body = json.dumps({"prompt": "x" * (5 << 20)})
    connection.request("POST", "/v1/completions", body, headers)
    response = connection.getresponse()
    assert (response.status, response.headers["X-Sordino-Reason"]) == (413, "size")
    assert "near the cursor" in json.loads(response.read())["error"]["message"]
    connection.close()


@given(
    prefix=st.text(st.sampled_from(["a", "é", "—", "😀", "文", " ", '"', "\n", "(", "'"]), max_size=12),
    temperature=st.sampled_from([0.0, 1.5]),
    alternatives=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_only_whole_characters_are_written(
    shipped: Generator, prefix: str, temperature: float, alternatives: int, seed: int
) -> None:
    streamed: list[str] = []
    query = Query(
        prefix=prefix,
        temperature=temperature,
        alternatives=alternatives,
        seed=seed,
        multiline=True,
        max_tokens=16,
        top_logprobs=3,
    )
    answer = shipped.answer(query, on_text=lambda _, text, __: streamed.append(text))
    for completion in answer.completions:
        for text in (completion.text, *(token.text for token in completion.tokens), *streamed):
            assert "\ufffd" not in text
            assert "\r" not in text
        assert all("\ufffd" not in name for token in completion.tokens for name in token.top)


def test_a_character_is_healed_as_a_whole(shipped: Generator) -> None:
    vocabulary = shipped.vocabulary
    for text in ("# " + "—" * 30, "x = '" + "😀" * 9, "文" * 20, "é"):
        tokens = vocabulary.tokenizer.encode_many([text])[0]
        kept, typed = vocabulary.heal(tokens, text)
        assert b"".join(vocabulary.pieces[t] for t in kept) + typed == text.encode()
        typed.decode()


@given(
    st.integers(0, 2000), st.lists(st.sampled_from(["(", "e", "self", "):", " "]), max_size=2), st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_log_probabilities_end_with_the_text(
    shipped: Generator, sources: str, at: int, stop: list[str], crlf: bool
) -> None:
    prefix = sources[max(0, at - 300) : at]
    streamed: list[WrittenToken] = []
    query = Query(
        prefix=prefix.replace("\n", "\r\n") if crlf else prefix,
        stop=tuple(stop),
        multiline=True,
        max_tokens=24,
    )
    answer = shipped.answer(query, on_text=lambda _, __, tokens: streamed.extend(tokens))
    completion = answer.completions[0]
    assert "".join(token.text for token in completion.tokens) == completion.text
    assert tuple(streamed) == completion.tokens
    if crlf and "\n" in prefix:
        assert not re.search(r"(?<!\r)\n|\r(?!\n)", completion.text)


def test_the_memory_recalls_across_the_lines_of_a_crlf_document(shipped: Generator, tmp_path: Path) -> None:
    store = Store(tmp_path / "memory")
    known = "".join(
        f"    zebra_{n} = quokka(wombat_{n}, {n * 7})\n    okapi_{n}.numbat()\n" for n in range(40)
    )
    tokenizer = shipped.vocabulary.tokenizer
    store.refresh({"known": known}, tokenizer)
    prefix = known[: known.index("    okapi_31")] + "    "

    def texts(text: str) -> str:
        query = Query(prefix=text)
        answer = shipped.answer(query, recall=lambda given: LocalRecall(store.read(tokenizer), given))
        return answer.completions[0].text

    assert texts(prefix) == texts(prefix.replace("\n", "\r\n")) == "okapi_31.numbat()"


def test_what_turns_in_circles_ends_early_and_says_so(shipped: Generator) -> None:
    query = Query(prefix="# —", max_tokens=200)
    answer = shipped.answer(query)
    assert answer.generated_tokens < 60
    assert why(answer) in {"loop", "shown", "document_complete", "line_complete"}
    assert len(answer.completions[0].text) < 40


def test_a_name_tells_in_any_system(tmp_path: Path) -> None:
    for path in (
        ".env",
        "/a/.ssh/config",
        "C:\\x\\id_rsa",
        "file:///c%3A/x/.env.local",
        "vscode-vfs://github/a/b.pem",
    ):
        assert may_hold_secrets(path)
    for path in ("a.py", "/a/secrets.py", "file:///a/b.rs", "", "://", "file://"):
        assert not may_hold_secrets(path)


def test_the_continuations_of_the_shipped_vocabulary_are_few_bytes_of_memory(shipped: Generator) -> None:
    continuations = shipped.vocabulary.continuations
    assert continuations.allowed.dtype == np.bool_
    assert continuations.allowed.nbytes + continuations.after.nbytes < 1 << 20
