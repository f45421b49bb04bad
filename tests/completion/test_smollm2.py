"""SmolLM2-135M as a package ships it: in float32 the greedy text is transformers', and eight bits cost little."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sordino_client.completion.bases import served
from sordino_client.completion.bases.vocabulary import BaseVocabulary
from sordino_client.completion.query import Query
from sordino_client.completion.text.utf8 import START
from sordino_client.laboratory.completion_benchmark.base import losses
from sordino_platform import bases
from sordino_platform.bases.package import PACKAGES
from sordino_platform.huggingface_model import load_plain
from sordino_platform.tokenizer import END

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(PACKAGES["smollm2"].find() is None, reason=PACKAGES["smollm2"].command),
]
PROMPTS, TOKENS, CHARACTERS = 50, 10, 500


def prompts() -> Iterator[str]:
    paths = [
        path for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) if path.stat().st_size > 9000
    ]
    for number, path in enumerate(paths[:: len(paths) // PROMPTS][:PROMPTS]):
        text = path.read_text("utf-8")
        start = text.index("\n", 1500 + 40 * number) + 1
        yield text[start : start + CHARACTERS]


def greedy(model: Any, vocabulary: BaseVocabulary, text: str) -> bytes:
    """transformers, with its own cache, from the end of a document and the tokens of the whole text."""
    words = vocabulary.base_tokenizer
    tokens = torch.tensor([words.exchanged([END, *words.encode(text)])])
    order = torch.tensor(words.exchanged(range(words.size)))
    found, cache, state = b"", None, START
    for _ in range(TOKENS):
        with torch.no_grad():
            out = model(tokens, cache=cache, use_cache=True)
        cache = out.cache if hasattr(out, "cache") else out.past_key_values
        allowed = torch.from_numpy(vocabulary.continuations.allowed[state])
        token = int(torch.where(allowed, out.logits[0, -1][order], -torch.inf).argmax())
        if token == END:
            break
        found += vocabulary.pieces[token]
        state = int(vocabulary.continuations.after[state, token])
        tokens = torch.tensor([words.exchanged([token])])
    return found


def test_fifty_prompts_are_continued_as_transformers_continues_them() -> None:
    torch.set_num_threads(1)
    base = bases.find_base("smollm2")
    generator = served.generator(base, [], name=base.name, precision="float32")
    vocabulary = generator.vocabulary
    assert isinstance(vocabulary, BaseVocabulary)
    model = load_plain(bases.open_folder(base))
    same = 0
    for text in prompts():
        query = Query(prefix=text, max_tokens=TOKENS, multiline=True, heal=False, show="all")
        found = "".join(token.text for token in generator.answer(query).completions[0].tokens)
        expected = greedy(model, vocabulary, text).decode(errors="ignore")
        assert expected.startswith(found), (expected, found)
        same += bool(found)
    assert same >= PROMPTS // 2


def test_eight_bits_cost_under_a_hundredth_of_a_nat() -> None:
    found = losses(bases.find_base("smollm2"))
    assert found["served_in"] == "int8"
    assert abs(found["quantised_loss_nats"] - found["float32_loss_nats"]) < 0.01
