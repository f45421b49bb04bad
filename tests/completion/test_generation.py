"""Generation: what was read before never changes what is written now; and it ends where it should."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.completion import bundle, prompt
from sordino_client.completion.cache import Indices, KeyValueCache, Mask, Network, decoder_shape_of
from sordino_client.completion.generation import Generator
from sordino_client.completion.loading import load_generator
from sordino_client.completion.memory.recall import LocalRecall
from sordino_client.completion.memory.store import Store
from sordino_client.completion.query import Cancelled, Probabilities, Query, WrittenToken
from sordino_client.completion.stopping import Stops, judge_stop
from sordino_client.completion.vocabulary import Vocabulary, split_lines
from sordino_client.completion.writing import Slot
from sordino_platform.architecture import ModelConfig
from sordino_platform.tokenizer import MIDDLE, PREFIX, SUFFIX

CONFIG = ModelConfig(vocabulary=700, context=160, layers=2, heads=2, width=32, hidden=64)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, release: Callable[..., Path]) -> Callable[[], Generator]:
    loaded = bundle.load(release(tmp_path_factory.mktemp("serving")))
    return lambda: load_generator(loaded)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory, release: Callable[..., Path]) -> Callable[[], Generator]:
    """In float32, whose sums depend a little on what is read together."""
    loaded = bundle.load(release(tmp_path_factory.mktemp("serving")))
    return lambda: load_generator(loaded, "float32")


@pytest.fixture(scope="module")
def generator(make: Callable[[], Generator]) -> Generator:
    return make()


@pytest.fixture(scope="module")
def vocabulary(generator: Generator) -> Vocabulary:
    return generator.vocabulary


class Drafts:
    """A memory that mixes nothing and drafts a given text."""

    def __init__(self, tokens: Sequence[int], *, offset: int) -> None:
        self.tokens, self.offset, self.asked = list(tokens), offset, 0

    def mix(self, probabilities: Probabilities, written: Sequence[int]) -> Probabilities:
        return probabilities

    def draft(self, written: Sequence[int], count: int) -> list[int]:
        self.asked += 1
        return self.tokens[len(written) + self.offset :][:count]


class Undrafted:
    """A memory that is mixed in as it is and drafts nothing."""

    def __init__(self, memory: LocalRecall) -> None:
        self.mix = memory.mix

    def draft(self, written: Sequence[int], count: int) -> list[int]:
        return []


class Counting:
    """A network that counts its reads and calls back before each."""

    def __init__(self, network: Network, before: Callable[[int], None] = lambda _: None) -> None:
        self.network, self.shape, self.before = network, network.shape, before
        self.precision = network.precision
        self.reads: list[int] = []

    def read(
        self, cache: KeyValueCache, tokens: Indices, positions: Indices, mask: Mask, wanted: Indices
    ) -> np.ndarray:
        self.before(len(self.reads))
        self.reads.append(len(tokens))
        return self.network.read(cache, tokens, positions, mask, wanted)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_typing_on_gives_what_a_fresh_engine_gives(
    exact: Callable[[], Generator], sources: str, data: st.DataObject
) -> None:
    typing, start = exact(), data.draw(st.integers(0, len(sources) - 3000))
    length = data.draw(st.integers(1, 2500))
    suffix = sources[start + length : start + length + data.draw(st.sampled_from([0, 300]))]
    for _ in range(4):
        query = Query(prefix=sources[start : start + length], suffix=suffix, max_tokens=8)
        fresh = exact()
        # The same window, and nothing read: what differs is only what the other has in its cache.
        fresh._slots = [
            Slot(KeyValueCache(decoder_shape_of(CONFIG), 800), opening=slot.opening) for slot in typing._slots
        ]
        assert _texts(typing, query) == _texts(fresh, query)
        length += data.draw(st.integers(0, 9))


def test_a_keystroke_reads_only_its_own_tokens(make: Callable[[], Generator]) -> None:
    generator = make()
    before, line, behind = (
        "import os\nimport sys\n",
        "    value = compute(first_argument, second",
        "\n" + "done()\n" * 10,
    )
    generator.answer(Query(prefix=before, suffix=behind, max_tokens=4))
    for typed in range(1, len(line) + 1):
        answer = generator.answer(Query(prefix=before + line[:typed], suffix=behind, max_tokens=4))
        # The marker behind the prefix, and what a finished word is made of: random tokens are a few bytes each.
        assert answer.prompt_tokens - answer.reused_tokens <= 8


def test_the_window_keeps_its_first_line_until_it_overflows(vocabulary: Vocabulary, sources: str) -> None:
    openings: list[tuple[str, ...]] = []
    for at in range(6000, 7000, 7):
        built = prompt.build(vocabulary, sources[:at], "", budget=400, openings=openings[-1:])
        openings.append(built.opening)
        assert len(built.tokens) <= 400
    assert (
        len(set(openings)) <= 8
    )  # a thousand characters are about 400 tokens: four moves of a quarter, twice over


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), wrong=st.integers(0, 30))
def test_drafts_change_nothing_but_the_time(
    make: Callable[[], Generator], sources: str, seed: int, wrong: int
) -> None:
    at = np.random.default_rng(seed).integers(100, len(sources) - 100)
    query = Query(prefix=sources[at - 100 : at], max_tokens=30, multiline=True, heal=False)
    plain = make().answer(query)
    tokens = _tokens_of(make(), query)
    drafts = Drafts([*tokens[:wrong], 300, *tokens[wrong + 1 :]], offset=0)
    drafted = make().answer(query, recall=lambda _: drafts)
    assert drafted.completions[0].text == plain.completions[0].text
    if len(tokens) > 3 and wrong > 3:
        assert drafted.drafted_tokens >= 2


def test_drafts_of_a_real_memory_change_nothing_in_the_model_that_ships(tmp_path: Path, sources: str) -> None:
    """In the precision in which it is served, with the memory mixed in: lines that it knows, half of them altered."""
    shipped = load_generator(bundle.shipped())
    tokenizer = shipped.vocabulary.tokenizer
    store = Store(tmp_path / "memory")
    store.refresh({"known": sources, "altered": sources.replace("self.", "this.")}, tokenizer)
    drafted = 0
    for at in np.random.default_rng(5).integers(2000, len(sources) - 500, 25).tolist():
        query = Query(prefix=sources[at - 1500 : at].replace("self.", "that."), max_tokens=24, multiline=True)
        recalled = shipped.answer(query, recall=lambda given: LocalRecall(store.read(tokenizer), given))
        plain = shipped.answer(
            query, recall=lambda given: Undrafted(LocalRecall(store.read(tokenizer), given))
        )
        assert recalled.completions[0].text == plain.completions[0].text
        assert plain.drafted_tokens == 0
        drafted += recalled.drafted_tokens
    assert drafted >= 100


def test_a_right_draft_saves_reads(make: Callable[[], Generator], sources: str) -> None:
    query = Query(prefix=sources[500:900], max_tokens=24, multiline=True, heal=False)
    tokens = _tokens_of(make(), query)
    generator = make()
    counting = Counting(generator.network)
    generator.network = counting
    generator.answer(query, recall=lambda _: Drafts(tokens, offset=0))
    assert len([n for n in counting.reads if n > 1]) <= 4 + len(tokens) // 8


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_healing_takes_back_is_written_again(
    generator: Generator, vocabulary: Vocabulary, sources: str, data: st.DataObject
) -> None:
    end = data.draw(st.integers(1, len(sources)))
    text = sources[max(0, end - 60) : end]
    lines = split_lines(text)
    built = prompt.build(vocabulary, text, "", budget=120)
    kept = b"".join(vocabulary.pieces[t] for t in built.before)
    assert kept + built.typed == text.encode()
    assert "".join(lines) == text
    answer = generator.answer(Query(prefix=text, max_tokens=6))
    assert len(answer.completions) == 1


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_line_by_line_encoding_is_the_encoding_of_the_whole(vocabulary: Vocabulary, text: str) -> None:
    parts = vocabulary.encode_lines(split_lines(text))
    assert [t for line in parts for t in line] == vocabulary.tokenizer.encode_many([text])[0]


def test_agreeing_tokens_extend_what_is_typed_or_begin_it(vocabulary: Vocabulary) -> None:
    for typed in (b" re", b"\n    ", b"x", "é".encode()):
        found = set(vocabulary.agreeing(typed).tolist())
        expected = {
            n for n, p in enumerate(vocabulary.pieces) if p and (p.startswith(typed) or typed.startswith(p))
        }
        assert found == expected


def test_the_order_is_suffix_prefix_middle_and_text_cannot_forge_it(vocabulary: Vocabulary) -> None:
    built = prompt.build(vocabulary, "a <|middle|> b <fim_prefix>", "c <|prefix|>", budget=120, heal=False)
    specials = [t for t in built.tokens if t < 4]
    assert specials == [SUFFIX, PREFIX, MIDDLE]
    assert built.tokens[0] == SUFFIX
    assert built.tokens[-1] == MIDDLE


def test_alternatives_differ_and_the_first_is_the_greedy_one(generator: Generator, sources: str) -> None:
    prefix = sources[:700]
    alone = generator.answer(Query(prefix=prefix, max_tokens=8, heal=False))
    several = generator.answer(Query(prefix=prefix, max_tokens=8, alternatives=4, heal=False))
    texts = [completion.text for completion in several.completions]
    assert texts[0] == alone.completions[0].text
    assert len(set(texts)) == len(texts) > 1


def test_sampling_with_a_seed_repeats_itself(generator: Generator, sources: str) -> None:
    query = Query(prefix=sources[:300], temperature=0.9, top_p=0.9, seed=7, alternatives=3, max_tokens=8)
    assert _texts(generator, query) == _texts(generator, query)
    assert len(_texts(generator, query)) == 3


def test_a_stream_joins_to_the_whole_completion(generator: Generator, sources: str) -> None:
    for at in range(200, 2000, 150):
        pieces: list[str] = []
        tokens: list[WrittenToken] = []

        def take(_: int, text: str, fresh: Sequence[WrittenToken]) -> None:
            pieces.append(text)  # noqa: B023 - called only within this turn of the loop
            tokens.extend(fresh)  # noqa: B023

        query = Query(prefix=sources[:at], max_tokens=20, multiline=at % 300 == 0, stop=("self", "e"))
        answer = generator.answer(query, on_text=take)
        assert "".join(pieces) == answer.completions[0].text
        assert len(tokens) == len(answer.completions[0].tokens)


def test_logprobs_are_those_of_a_distribution(generator: Generator, sources: str) -> None:
    answer = generator.answer(Query(prefix=sources[:400], top_logprobs=3, max_tokens=10, heal=False))
    for token in answer.completions[0].tokens:
        assert token.logprob <= 0
        assert len(token.top) <= 3
        assert token.logprob == pytest.approx(max(token.top.values()))
        assert sum(np.exp(list(token.top.values()))) <= 1 + 1e-9


@pytest.mark.parametrize("reads", [1, 2, 4])
def test_a_withdrawn_query_ends_within_one_read(
    make: Callable[[], Generator], sources: str, reads: int
) -> None:
    def asked(at: int) -> Query:
        return Query(prefix=sources[:at], max_tokens=30, multiline=True)

    def needed(at: int) -> int:
        whole = make()
        whole.network = all_reads = Counting(whole.network, lambda read: None)
        whole.answer(asked(at))
        return len(all_reads.reads)

    # What a model of random weights writes may end at once: one place at which it goes on for long enough.
    query = asked(next(at for at in range(2000, 8000, 100) if needed(at) > reads + 1))
    generator, withdrawn = make(), threading.Event()

    def before(read: int) -> None:
        if read == reads:
            withdrawn.set()

    counting = Counting(generator.network, before)
    generator.network = counting
    with pytest.raises(Cancelled):
        generator.answer(query, cancelled=withdrawn)
    assert len(counting.reads) == reads + 1
    withdrawn.clear()
    again = make()
    _texts(again, query)
    assert _texts(generator, query) == _texts(again, query), "as if it had been answered to its end"


@pytest.mark.parametrize("size", [0, 1, 100_000, 300_000])
def test_any_length_of_text_fits(generator: Generator, size: int) -> None:
    text = ("x = call(y)\n" * (size // 12 + 1))[:size]
    one_line = "y" * size
    for prefix, suffix in ((text, ""), (text, text), (one_line, one_line), ("", text)):
        answer = generator.answer(Query(prefix=prefix, suffix=suffix, max_tokens=200, alternatives=8))
        assert answer.prompt_tokens < generator.context


class TestStops:
    def end(self, text: str, **stops: object) -> tuple[str, str | None]:
        where = Stops(prefix="", **stops)  # type: ignore[arg-type]
        verdict = judge_stop(text, where, where.block())
        return text[: verdict.end], verdict.finish

    def test_a_line_ends_at_its_end(self) -> None:
        assert self.end("a + b\nc") == ("a + b", "line")
        assert self.end("a + b") == ("a + b", None)

    def test_a_stop_string_ends_before_itself(self) -> None:
        assert self.end("a; b; c", strings=(";",)) == ("a", "stop")
        assert self.end("a\nb;", strings=(";",)) == ("a", "line")

    @pytest.mark.parametrize("prefix", ["def f():\n    ", "if (x) {\n", "call(\n        ", "fn = () =>\n"])
    def test_a_block_begins_below_an_opener(self, prefix: str) -> None:
        assert Stops(prefix=prefix).block() is not None
        assert Stops(prefix=prefix + "x").block() is None
        assert Stops(prefix=prefix, suffix=" rest of line\n").block() is None
        assert Stops(prefix=prefix, multiline=False).block() is None

    @pytest.mark.parametrize(
        ("prefix", "suffix", "text", "expected"),
        [
            ("def f():\n    ", "", "a = 1\n    return a\n\n\ndef g():", "a = 1\n    return a\n\n"),
            ("def f():\n    ", "", "return 1\nx = 2", "return 1"),
            ("if (x) {\n    ", "", "go();\n}\nmore();", "go();\n}"),
            ("if (x) {\n    ", "\n}\n", "go();\n}\nmore();", "go();"),
            ("f(\n    ", "", "1,\n    2,\n)\nnext", "1,\n    2,\n)"),
        ],
    )
    def test_a_block_ends_where_the_indentation_falls_back(
        self, prefix: str, suffix: str, text: str, expected: str
    ) -> None:
        stops = Stops(prefix=prefix, suffix=suffix)
        verdict = judge_stop(text, stops, stops.block())
        assert text[: verdict.end].rstrip() == expected.rstrip()
        assert verdict.finish == "block"

    @given(
        st.text(alphabet="ab;\n {}", max_size=40),
        st.lists(st.text("ab;\n", min_size=1, max_size=3), max_size=3),
    )
    def test_what_a_stream_has_sent_is_never_taken_back(self, text: str, strings: list[str]) -> None:
        for multiline in (True, False):
            stops = Stops(prefix="f {\n  ", strings=tuple(strings), multiline=multiline)
            sent = ""
            for n in range(len(text) + 1):
                verdict = judge_stop(text[:n], stops, stops.block())
                assert text[: verdict.safe].startswith(sent)
                sent = text[: max(verdict.safe, len(sent))]
                if verdict.finish is not None:
                    assert text[: verdict.end].startswith(sent)
                    break


def _texts(generator: Generator, query: Query) -> list[str]:
    return [completion.text for completion in generator.answer(query).completions]


def _tokens_of(generator: Generator, query: Query) -> list[int]:
    """What a greedy run wrote, by its recorded cache."""
    answer = generator.answer(query)
    slot = generator._slots[0]
    return slot.tokens[answer.prompt_tokens :]
