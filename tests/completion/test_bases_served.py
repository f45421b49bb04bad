"""A base behind the engine: the greedy text is transformers', with everything that the small base has around it."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.completion import foreign_bases
from tests.completion.foreign_bases import END, FIVE

from sordino_client.completion import bundle, personal
from sordino_client.completion.bases import served
from sordino_client.completion.bases.evaluation import BaseReader, evaluate_base
from sordino_client.completion.bases.fallback import TransformersNetwork
from sordino_client.completion.bases.vocabulary import BaseTokenizer, BaseVocabulary
from sordino_client.completion.engine import Engine
from sordino_client.completion.generation import Generator
from sordino_client.completion.memory.recall import LocalMemory
from sordino_client.completion.memory.store import Store
from sordino_client.completion.query import Cancelled, Query
from sordino_client.completion.vocabulary import split_lines
from sordino_platform.architecture import add_adapters, shapes
from sordino_platform.bases import Base
from sordino_platform.bases.registry import describe_place
from sordino_platform.evaluation import Plan
from sordino_platform.huggingface_model import describe, load_base_model
from sordino_platform.release import write_base_bundle
from sordino_privacy.errors import ConfigurationError, StorageError

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
PROMPTS = [
    "def add(left, right):\n    return ",
    "class Order:\n    total = 0\n\n\n    items = ",
    "public int size() {\n    return ",
    "x",
    "a = b +\n\n\n\n   c",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return foreign_bases.write_each(tmp_path_factory.mktemp("bases"), FIVE)


def base_at(folder: Path) -> Base:
    return describe_place(folder, name=folder.name)


def written(state: Path, base: Base, factors: Any = None, *, release: int = 0) -> Path:
    write_base_bundle(state / "serving", base, factors or {}, release=release)
    current = bundle.current(state / "serving")
    assert current is not None
    return current


def greedy(model: Any, vocabulary: BaseVocabulary, text: str, count: int) -> bytes:
    """What transformers writes, a token at a time from the whole text, among tokens that are text."""
    inner = vocabulary.base_tokenizer
    (ids,) = inner.encode_many([text])
    tokens = inner.exchanged([0, *ids])  # the end of the document before
    found: list[int] = []
    allowed = torch.from_numpy(np.array(vocabulary.continuations.allowed[0]))
    order = torch.tensor(inner.exchanged(range(len(allowed))))
    state = 0
    for _ in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([tokens + inner.exchanged(found)])).logits[0, -1][order]
        allowed = torch.from_numpy(np.array(vocabulary.continuations.allowed[state]))
        token = int(torch.where(allowed, logits, -torch.inf).argmax())
        if token == 0:
            break
        state = int(vocabulary.continuations.after[state, token])
        found.append(token)
    return b"".join(vocabulary.pieces[token] for token in found)


def ask(generator: Generator, text: str, count: int = 12, **terms: Any) -> str:
    query = Query(prefix=text, max_tokens=count, multiline=True, heal=False, show="all", **terms)
    return "".join(token.text for token in generator.answer(query).completions[0].tokens)


def assert_same_text(generator: Generator, model: Any) -> None:
    vocabulary = generator.vocabulary
    assert isinstance(vocabulary, BaseVocabulary)
    compared = 0
    for prompt in PROMPTS:
        expected = greedy(model, vocabulary, prompt, 12).decode(errors="ignore")
        found = ask(generator, prompt)
        # What is offered may end sooner (a loop, a bracket that was never opened), never differ.
        assert expected.startswith(found)
        compared += len(found)
    assert compared > 20


@pytest.mark.parametrize("name", FIVE)
def test_a_release_on_a_base_writes_what_transformers_writes(
    made: dict[str, Path], tmp_path: Path, name: str
) -> None:
    folder = made[name]
    config = describe(folder, rank=2)
    rng = np.random.default_rng(1)
    factors = {n: (rng.standard_normal(s) * 0.2).astype(np.float32) for n, s in shapes(config).items()}
    generator = served.load(written(tmp_path, base_at(folder), factors, release=3), precision="float32")
    assert generator.name == f"{name}-3"
    assert generator.network.precision == "float32"
    judge = load_base_model(folder, config, factors).eval()

    class Judge:
        def __call__(self, tokens: torch.Tensor) -> Any:
            return transformers.modeling_outputs.CausalLMOutput(logits=judge(tokens))

    assert_same_text(generator, Judge())
    plain = served.load(written(tmp_path, base_at(folder)), precision="float32")
    assert plain.name == name
    assert_same_text(plain, foreign_bases.loaded(folder))
    assert any(ask(plain, prompt) != ask(generator, prompt) for prompt in PROMPTS)


def test_an_architecture_that_the_graph_does_not_know_is_served_by_transformers(tmp_path: Path) -> None:
    foreign_bases.CONFIGS.setdefault(
        "qwen3",
        lambda: transformers.Qwen3Config(**foreign_bases._COMMON, head_dim=16, tie_word_embeddings=True),
    )
    folder = foreign_bases.write(tmp_path / "qwen3", "qwen3")
    generator = served.load(written(tmp_path, base_at(folder)))
    assert isinstance(generator.network, TransformersNetwork)
    assert_same_text(generator, foreign_bases.loaded(folder))
    one = generator.answer(Query(prefix=PROMPTS[0], alternatives=3, show="all"))
    assert len(one.completions) >= 1


@pytest.mark.parametrize("name", ["llama", "gpt2"])
class TestWhatTheSmallBaseHas:
    def test_what_was_read_is_not_read_again(self, made: dict[str, Path], tmp_path: Path, name: str) -> None:
        generator = served.load(written(tmp_path, base_at(made[name])))
        text = "def add(left, right):\n    return left + right\n\n\ndef sub(left):\n    ret"
        first = generator.answer(Query(prefix=text, max_tokens=4))
        second = generator.answer(Query(prefix=text + "u", max_tokens=4))
        assert first.reused_tokens == 0
        assert second.reused_tokens > second.prompt_tokens - 8
        fresh = served.load(written(tmp_path, base_at(made[name])))
        assert fresh.answer(Query(prefix=text + "u", max_tokens=4)).completions == second.completions

    def test_drafts_of_the_memory_change_no_text(
        self, made: dict[str, Path], tmp_path: Path, name: str
    ) -> None:
        generator = served.load(written(tmp_path, base_at(made[name])))
        text = "def add(left, right):\n    return left + right\n" * 3
        store = Store(tmp_path / "memory")
        store.refresh({"a.py": text}, generator.vocabulary.tokenizer)
        memory = LocalMemory(store)

        class Undrafted:
            def __init__(self, inner: Any) -> None:
                self.mix = inner.mix

            def draft(self, *_: object) -> list[int]:
                return []

        query = Query(prefix=text + "def add(left, ", max_tokens=20, multiline=True, show="all")
        drafted = generator.answer(query, recall=lambda prompt: memory(prompt, generator.vocabulary))
        plain = generator.answer(query, recall=lambda prompt: Undrafted(memory(prompt, generator.vocabulary)))
        assert drafted.drafted_tokens > 0
        assert [c.text for c in drafted.completions] == [c.text for c in plain.completions]
        assert "right" in drafted.completions[0].text

    def test_the_unfinished_piece_is_written_again(
        self, made: dict[str, Path], tmp_path: Path, name: str
    ) -> None:
        generator = served.load(written(tmp_path, base_at(made[name])))
        for text in ("def add(left, ri", "x = [\n\n\n      ", "retu", "é"):
            prompt_tokens = generator.answer(Query(prefix=text, max_tokens=3, top_logprobs=2)).completions
            assert all(completion.confidence >= 0 for completion in prompt_tokens)

    def test_a_withdrawn_query_ends(self, made: dict[str, Path], tmp_path: Path, name: str) -> None:
        generator = served.load(written(tmp_path, base_at(made[name])))
        withdrawn = threading.Event()
        withdrawn.set()
        with pytest.raises(Cancelled):
            generator.answer(Query(prefix="x = "), cancelled=withdrawn)


@pytest.fixture(scope="module")
def vocabulary(made: dict[str, Path]) -> BaseVocabulary:
    words = BaseTokenizer.load(made["llama"], size=foreign_bases.VOCABULARY, end=END)
    return BaseVocabulary(words, begin=None, middle=None)


class TestTheVocabulary:
    def test_stretches_of_lines_are_encoded_as_the_whole(self, vocabulary: BaseVocabulary) -> None:
        text = Path(served.__file__).read_text("utf-8") + "\n\n\n\tx = 'é→😀'\n   "
        rng = random.Random(0)
        for _ in range(40):
            end = rng.randrange(len(text))
            lines = split_lines(text[:end])
            found = vocabulary.encode_lines(lines)
            assert len(found) == len(lines)
            (whole,) = vocabulary.tokenizer.encode_many([text[:end]])
            assert [token for line in found for token in line] == whole

    def test_a_key_changes_one_stretch(self, vocabulary: BaseVocabulary) -> None:
        text = Path(served.__file__).read_text("utf-8")
        vocabulary.encode_lines(split_lines(text))
        before = len(vocabulary._stretches)
        vocabulary.encode_lines(split_lines(text + "x"))
        assert len(vocabulary._stretches) <= before + 1

    def test_the_end_of_a_document_is_token_nought(self, vocabulary: BaseVocabulary) -> None:
        assert vocabulary.pieces[0] == b""
        assert vocabulary.continuations.allowed[0, 0]
        assert END in vocabulary.forbidden.tolist()  # where the base has its padding
        (ids,) = vocabulary.tokenizer.encode_many(["a <|endoftext|> b"])
        assert 0 not in ids

    def test_a_tokenizer_that_changes_text_is_refused(self, made: dict[str, Path], tmp_path: Path) -> None:
        document = json.loads((made["llama"] / "tokenizer.json").read_text())
        document["normalizer"] = {"type": "Lowercase"}
        (tmp_path / "tokenizer.json").write_text(json.dumps(document).replace("def", "def"))
        document["normalizer"] = {"type": "Strip", "strip_left": True, "strip_right": True}
        (tmp_path / "tokenizer.json").write_text(json.dumps(document))
        with pytest.raises(ConfigurationError, match="changes the text"):
            BaseTokenizer.load(tmp_path, size=foreign_bases.VOCABULARY, end=END)


class TestTheEngine:
    def test_a_release_is_swapped_in_and_a_bad_one_is_refused(
        self, made: dict[str, Path], tmp_path: Path
    ) -> None:
        folder = made["llama"]
        config = describe(folder, rank=2)
        factors = {n: np.full(s, 0.05, np.float32) for n, s in shapes(config).items()}
        written(tmp_path, base_at(folder))
        engine = Engine(tmp_path / "serving")
        engine.refresh(wait=True)
        assert engine.model == "llama", engine.state
        written(tmp_path, base_at(folder), factors, release=1)
        engine.refresh(wait=True)
        assert engine.model == "llama-1"
        name = next(iter(factors))
        written(tmp_path, base_at(folder), {**factors, name: factors[name] * np.float32(np.inf)}, release=2)
        engine.refresh(wait=True)
        assert engine.model == "llama-1"
        assert "llama-1 stays" in engine.state[1]
        answer = engine.submit(Query(prefix="def add(", show="all"), editor="vim").future.result(60)
        assert answer.model == "llama-1"
        engine.close()

    def test_where_a_base_cannot_be_read_the_one_that_ships_answers_and_says_why(
        self, made: dict[str, Path], tmp_path: Path
    ) -> None:
        folder = written(tmp_path, base_at(made["llama"]))
        _replace(folder, "place", "/nowhere")
        engine = Engine(tmp_path / "serving")
        engine.refresh(wait=True)
        assert engine.model == "sordino-base"
        state, reason = engine.state
        assert state == "ready"
        assert "not at /nowhere any more" in reason
        assert "base_model" in reason
        engine.close()

    def test_the_personal_adapter_lies_on_top(self, made: dict[str, Path], tmp_path: Path) -> None:
        folder = made["gpt2"]
        config = describe(folder, rank=2)
        state = tmp_path / "completion"
        rng = np.random.default_rng(3)
        factors = {n: (rng.standard_normal(s) * 0.1).astype(np.float32) for n, s in shapes(config).items()}
        written(state, base_at(folder), factors, release=1)
        personal.store(personal.place(state), factors)
        engine = Engine(state / "serving", precision="float32")
        engine.refresh(wait=True)
        assert engine.model == "gpt2-1-personal", engine.state
        doubled = {n: v * np.float32(2 if n.endswith(".up") else 1) for n, v in factors.items()}
        judge = load_base_model(folder, config, doubled).eval()
        generator = engine._generator
        assert generator is not None

        class Judge:
            def __call__(self, tokens: torch.Tensor) -> Any:
                return transformers.modeling_outputs.CausalLMOutput(logits=judge(tokens))

        assert_same_text(generator, Judge())
        fresh = add_adapters(describe(made["llama"], rank=2), {})
        personal.store(personal.place(state), fresh)
        engine.refresh(wait=True)
        assert engine.model == "gpt2-1"
        engine.close()


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda folder: (folder / "manifest.json").write_text('{"base": 1}'), StorageError),
        (lambda folder: (folder / "adapters.safetensors").write_bytes(b"x"), StorageError),
        (lambda folder: _replace(folder, "place", "/nowhere"), ConfigurationError),
        (lambda folder: _replace(folder, "digest", "00" * 32), ConfigurationError),
    ],
)
def test_a_damaged_bundle_or_another_base_is_refused(
    made: dict[str, Path], tmp_path: Path, damage: Any, kind: type[Exception]
) -> None:
    config = describe(made["llama"], rank=2)
    folder = written(tmp_path, base_at(made["llama"]), add_adapters(config, {}), release=1)
    damage(folder)
    with pytest.raises(kind):
        served.load(folder)


def _replace(folder: Path, name: str, value: str) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    document["base"][name] = value
    path.write_text(json.dumps(document))


def test_an_evaluation_reads_a_base_as_transformers_does(made: dict[str, Path]) -> None:
    generator = served.generator(base_at(made["llama"]), [], name="llama", precision="float32")
    vocabulary = generator.vocabulary
    assert isinstance(vocabulary, BaseVocabulary)
    text = Path(served.__file__).read_text("utf-8")
    ids = vocabulary.base_tokenizer.encode(text)[:300]
    (scores,) = BaseReader(generator).score([ids], overlap=0.5)
    model = foreign_bases.loaded(made["llama"])
    inputs = vocabulary.base_tokenizer.exchanged([0, *ids[: foreign_bases.CONTEXT - 1]])
    with torch.no_grad():
        logits = model(torch.tensor([inputs])).logits[0].double().log_softmax(-1)
    right = vocabulary.base_tokenizer.exchanged(ids[: foreign_bases.CONTEXT])
    expected = -logits[np.arange(foreign_bases.CONTEXT), right].numpy()
    np.testing.assert_allclose(scores.nats[: foreign_bases.CONTEXT], expected, atol=1e-3)
    assert np.isfinite(scores.nats).all()


def test_the_report_on_a_base_has_the_model_the_memory_and_both(made: dict[str, Path]) -> None:
    texts = [path.read_text("utf-8") for path in sorted(Path(served.__file__).parent.glob("*.py"))]
    plan = Plan(tokens=500, tokens_per_file=250, lines=2, prompt_tokens=40, line_tokens=8)
    report = evaluate_base(str(made["llama"]), {"bases": texts}, plan=plan)
    layers = report["layers"]
    assert set(layers) == {"model", "memory", "both"}
    # A random model knows nothing; the other files of the project do.
    assert layers["both"]["bits_per_byte"] < layers["model"]["bits_per_byte"]
    assert report["bits_per_byte"] == layers["model"]["bits_per_byte"]
    assert report["model"]["base"] == "llama"
