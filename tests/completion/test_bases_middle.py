"""Filling in the middle with a base, through the endpoint: the engine reads the prompt of that base's own family."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.bases.test_door import FAMILIES
from tests.completion import foreign_bases

from sordino_client.completion.api import app
from sordino_client.completion.bases.vocabulary import BaseVocabulary
from sordino_client.completion.cache import Network
from sordino_client.completion.engine import Engine
from sordino_client.completion.memory.upkeep import Upkeep
from sordino_client.completion.statistics import EndpointStatistics
from sordino_platform import bases
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_platform.release import write_base_bundle

TOKEN = "t" * 43
BEFORE = "class Order:\n    total = 0\n\n\ndef add(left, right):\n"
AFTER = "\n\ndef sub(left, right):\n    return left - right\n"
# What each family's publisher shows as the prompt: the marks before, between and behind the two texts, and which comes
# first.
FORMS: dict[str, tuple[str, str, str, str]] = {
    "qwen2.5-coder": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "PS"),
    "codegemma": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "PS"),
    "granite": ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "PS"),
    "granite 4": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "PS"),
    "starcoder2": ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "PS"),
    "deepseek-coder": ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "PS"),
    "codestral": ("[SUFFIX]", "[PREFIX]", "", "SP"),
}
# A token after which nothing of the middle follows, in each family.
ENDS = {
    "qwen2.5-coder": "<|file_sep|>",
    "codegemma": "<|file_separator|>",
    "granite": "<filename>",
    "granite 4": "<|filename|>",
    "starcoder2": "<file_sep>",
    "deepseek-coder": "<|EOT|>",
    "codestral": "[MIDDLE]",
}


@dataclass
class Recorded:
    """A network that notes what it is given to read, and can be made to want one token behind so many others."""

    inner: Network
    read_tokens: list[int] = field(default_factory=list)
    wants: int | None = None

    def read(self, cache: Any, tokens: Any, positions: Any, mask: Any, wanted: Any) -> Any:
        del self.read_tokens[cache.length :]
        self.read_tokens += [int(token) for token in tokens]
        logits = self.inner.read(cache, tokens, positions, mask, wanted)
        if self.wants is not None:
            logits = logits.copy()
            logits[:, self.wants] += 1e4
        return logits

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@dataclass
class Served:
    """An endpoint on a base of one family."""

    network: Recorded
    words: HuggingFaceTokenizer
    vocabulary: BaseVocabulary
    ask: Callable[..., Any]

    def number(self, text: str) -> int:
        """A control token's number, as the engine has it."""
        return self.vocabulary.base_tokenizer.exchanged([self.words.controls[text]])[0]

    def prompt(self, count: int) -> str:
        """The first tokens that the engine read, as text, control tokens included."""
        ids = self.vocabulary.base_tokenizer.exchanged(self.network.read_tokens[:count])
        return str(self.words.inner.decode(ids, skip_special_tokens=False))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    engines: list[Engine] = []

    def begin(*controls: str, begins: str | None = None) -> Served:
        folder = foreign_bases.write(tmp_path / "base", "llama", controls=controls, begins=begins)
        write_base_bundle(tmp_path / "state" / "serving", bases.find_base(str(folder)), {}, release=0)
        engine = Engine(tmp_path / "state" / "serving", show="all")
        engines.append(engine)
        engine.refresh(wait=True)
        generator = engine._generator
        assert generator is not None, engine.state
        assert isinstance(generator.vocabulary, BaseVocabulary)
        network = generator.network = Recorded(generator.network)
        service = app.build(
            engine, Upkeep(tmp_path / "state", []), EndpointStatistics(tmp_path / "s.json"), token=TOKEN
        )

        def ask(path: str, **body: Any) -> Any:
            async def sent() -> httpx.Response:
                transport = httpx.ASGITransport(app=service)
                headers = {"Authorization": f"Bearer {TOKEN}"}
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost", headers=headers
                ) as client:
                    return await client.post(path, json=body)

            answer = asyncio.run(sent())
            assert answer.status_code == 200, answer.text
            return answer.json()

        return Served(network, HuggingFaceTokenizer.load(folder), generator.vocabulary, ask)

    yield begin
    for engine in engines:
        engine.close()


def asked(served: Served, dialect: str, suffix: str = AFTER) -> int:
    """Asks in one dialect; how many tokens the prompt had."""
    if dialect == "openai":
        answer = served.ask("/v1/completions", prompt=BEFORE, suffix=suffix, max_tokens=4)
        return int(answer["usage"]["prompt_tokens"])
    answer = served.ask("/infill", input_prefix=BEFORE, input_suffix=suffix, n_predict=4)
    return int(answer["tokens_evaluated"])


@pytest.mark.parametrize("dialect", ["openai", "llama.cpp"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_engine_reads_the_prompt_of_the_bases_own_family(
    family: str, dialect: str, serve: Callable[..., Served]
) -> None:
    served = serve(*FAMILIES[family])
    first, between, last, order = FORMS[family]
    prompt = served.prompt(asked(served, dialect))
    assert prompt.startswith(first)
    assert prompt.endswith(last)
    one, two = prompt.removeprefix(first).removesuffix(last).split(between)
    before, after = (one, two) if order == "PS" else (two, one)
    # All that was typed, but for a last piece that the model writes again; of the text behind, what has room.
    assert BEFORE.startswith(before)
    assert len(BEFORE) - len(before) <= 2
    assert after
    assert AFTER.startswith(after)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_text_ends_where_the_base_says_that_its_middle_ends_and_no_mark_is_shown(
    family: str, serve: Callable[..., Served]
) -> None:
    served = serve(*FAMILIES[family])
    served.network.wants = served.number(ENDS[family])
    answer = served.ask("/v1/completions", prompt=BEFORE + "    return left", suffix=AFTER, max_tokens=16)
    assert [choice["text"] for choice in answer["choices"]] in ([], [""])
    # A mark that ends nothing is no text either: with it out of question, the model writes what it writes.
    served.network.wants = None
    answer = served.ask(
        "/v1/completions", prompt=BEFORE + "    x = left", suffix=AFTER, max_tokens=16, show="all"
    )
    for choice in answer["choices"]:
        assert not any(mark in choice["text"] for mark in FAMILIES[family])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_code_that_spells_a_mark_stays_text_and_moves_no_cursor(
    family: str, serve: Callable[..., Served]
) -> None:
    served = serve(*FAMILIES[family])
    first, between, last, _ = FORMS[family]
    marks = [served.number(mark) for mark in (first, between, last) if mark]
    text = f"# {first} {between} {last}\n" + BEFORE
    count = served.ask("/v1/completions", prompt=text, suffix=AFTER, max_tokens=2)["usage"]["prompt_tokens"]
    read = served.network.read_tokens[:count]
    assert [read.count(mark) for mark in marks] == [1] * len(marks)


def test_where_nothing_stands_behind_the_cursor_the_text_is_plain(serve: Callable[..., Served]) -> None:
    served = serve(*FAMILIES["starcoder2"])
    prompt = served.prompt(asked(served, "openai", suffix=""))
    assert "<fim" not in prompt
    assert BEFORE.startswith(prompt.removeprefix("<|endoftext|>"))


def test_a_base_that_begins_every_text_with_a_token_begins_this_one_with_it(
    serve: Callable[..., Served],
) -> None:
    served = serve(*FAMILIES["codestral"], "<s>", begins="<s>")
    prompt = served.prompt(asked(served, "openai"))
    assert prompt.startswith("<s>[SUFFIX]")
    assert "[PREFIX]" in prompt


def test_a_base_without_marks_is_given_the_text_before_the_cursor_alone(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    prompt = served.prompt(asked(served, "openai"))
    assert BEFORE.startswith(prompt.removeprefix("<|endoftext|>"))
