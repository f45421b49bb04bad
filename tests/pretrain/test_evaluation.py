"""The figures mean what they say: checked on models whose answers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_platform.architecture import ModelConfig
from sordino_platform.evaluation import Measurement, Plan, evaluate, heldout_loss, measured_texts, score
from sordino_platform.evaluation.baselines import NGram, ppmd_bits_per_byte, xz_bits_per_byte
from sordino_platform.evaluation.greedy import complete
from sordino_platform.evaluation.lines import cursors, rest_of_line
from sordino_platform.evaluation.memory import complete_alone, mixing, score_alone
from sordino_platform.evaluation.statistics import edit_similarity, ratio_interval
from sordino_platform.model import Decoder
from sordino_platform.tokenizer import END, Tokenizer
from sordino_privacy.errors import DataError

TOKENIZER = Tokenizer.shipped()
PIECES = TOKENIZER.token_bytes()
CONFIG = ModelConfig(context=64, layers=2, heads=2, width=32, hidden=64)
SOURCE = "".join(f"    private int balance{n} = compute({n}, {n * 7 % 13});\n" for n in range(60))


def model(seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(CONFIG)


class Copycat(Decoder):
    """Knows one text by heart: after the last token it was shown, the token that follows it there."""

    def __init__(self, ids: list[int]) -> None:
        super().__init__(CONFIG)
        self.following = dict(zip([END, *ids], ids, strict=False))

    def forward(self, tokens: Tensor) -> Tensor:
        guesses = torch.tensor([[self.following.get(int(t), END) for t in row] for row in tokens])
        return torch.nn.functional.one_hot(guesses, self.config.vocabulary).float() * 30


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary() -> None:
    blank = model()
    with torch.no_grad():
        for parameter in blank.parameters():
            parameter.zero_()
    assert heldout_loss(blank, TOKENIZER, [SOURCE], max_tokens=300) == pytest.approx(math.log(4096), abs=1e-4)


def test_a_model_that_knows_the_text_pays_nothing_and_is_always_right() -> None:
    ids = list(range(100, 300))
    (scores,) = score(Copycat(ids), [ids])
    assert scores.correct.all()
    assert scores.nats.max() < 1e-3
    assert scores.confidence.min() > 0.99


@pytest.mark.parametrize("length", [1, 63, 64, 65, 96, 200])
def test_every_token_is_scored_once_with_what_stands_before_it(length: int) -> None:
    ids = [int(t) for t in np.random.default_rng(length).integers(4, 4096, length)]
    decoder = model()
    (scores,) = score(decoder, [ids])
    assert len(scores.nats) == length
    with torch.no_grad():
        window = torch.tensor([[END, *ids[: min(length, 64) - 1]]])
        logits = torch.log_softmax(decoder(window)[0], dim=-1)
    expected = [-float(logits[at, token]) for at, token in enumerate(ids[:64])]
    np.testing.assert_allclose(scores.nats[:64], expected, atol=1e-4)
    assert (scores.nats > 0).all()


def test_documents_of_different_lengths_do_not_disturb_each_other() -> None:
    documents = [TOKENIZER.encode(SOURCE)[:length] for length in (10, 150, 33, 64)]
    together = score(model(), documents)
    for ids, scores in zip(documents, together, strict=True):
        (alone,) = score(model(), [ids])
        np.testing.assert_allclose(scores.nats, alone.nats, atol=1e-4)


def test_heldout_loss_is_deterministic_bounded_and_nan_on_nothing() -> None:
    first = heldout_loss(model(), TOKENIZER, [SOURCE], max_tokens=100)
    assert first == heldout_loss(model(), TOKENIZER, [SOURCE], max_tokens=100)
    assert first != heldout_loss(model(), TOKENIZER, [SOURCE], max_tokens=101)
    assert math.isnan(heldout_loss(model(), TOKENIZER, ["", ""], max_tokens=200))


def test_every_text_has_the_same_share_of_the_heldout_loss() -> None:
    other = SOURCE[len(SOURCE) // 2 :]
    alone = [heldout_loss(model(), TOKENIZER, [text], max_tokens=100) for text in (SOURCE, other)]
    both = heldout_loss(model(), TOKENIZER, [SOURCE, other], max_tokens=200)
    assert alone[0] != alone[1]
    assert both == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_the_cached_completion_is_the_greedy_path_of_the_plain_model() -> None:
    decoder = model(3)
    prompts = [TOKENIZER.encode(SOURCE)[at : at + 20] for at in (0, 50, 90)]
    answers = complete(decoder, prompts, PIECES, [b""] * 3, max_tokens=12, finished=lambda written: False)
    for prompt, (written, probability) in zip(prompts, answers, strict=True):
        ids, expected, logarithm = list(prompt), b"", 0.0
        for _ in range(12):
            with torch.no_grad():
                logits = decoder(torch.tensor([ids]))[0, -1]
            logits[1:4] = -torch.inf
            token = int(logits.argmax())
            logarithm += float(logits.log_softmax(dim=-1)[token])
            if token == END:
                break
            expected += PIECES[token]
            ids.append(token)
        assert written == expected
        assert probability == pytest.approx(math.exp(logarithm), rel=1e-3)


def test_a_completion_agrees_with_the_bytes_that_were_taken_back() -> None:
    prompts = [TOKENIZER.encode(SOURCE)[:20]] * 2
    answers = complete(
        model(), prompts, PIECES, [b"re", b".get"], max_tokens=1, finished=lambda written: False
    )
    assert answers[0][0].startswith(b"re")
    assert answers[1][0].startswith(b".get")


def test_a_cursor_stands_inside_a_line_and_its_truth_is_the_rest_of_it() -> None:
    found = cursors([SOURCE, SOURCE[100:]], TOKENIZER, count=20, prompt_tokens=30, pieces=PIECES)
    assert len(found) == 20
    assert found == cursors([SOURCE, SOURCE[100:]], TOKENIZER, count=20, prompt_tokens=30, pieces=PIECES)
    for cursor in found:
        before = b"".join(PIECES[t] for t in cursor.prompt) + cursor.heal
        assert len(cursor.prompt) == 30
        assert (before.decode() + cursor.truth + "\n") in SOURCE
        assert before.split(b"\n")[-1].strip()


def test_the_rest_of_a_line_leaves_out_what_was_taken_back_and_the_next_line() -> None:
    assert rest_of_line(b".getName();  \n    return", b".get") == "Name();"


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_edit_similarity_is_symmetric_and_one_only_for_equals(left: str, right: str) -> None:
    value = edit_similarity(left, right)
    assert value == edit_similarity(right, left)
    assert 0 <= value <= 1
    assert (value == 1) == (left == right)


def test_edit_similarity_counts_single_edits() -> None:
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)


def test_the_interval_holds_the_ratio_and_narrows_with_more_files() -> None:
    draw = np.random.default_rng(1)
    widths = []
    for files in (10, 1000):
        sizes = draw.integers(50, 150, files).astype(float)
        value, (low, high) = ratio_interval(list(sizes * draw.normal(1, 0.2, files)), list(sizes))
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_compression_of_a_repeated_text_is_nearly_free_and_of_noise_is_not() -> None:
    noise = "".join(map(chr, np.random.default_rng(1).integers(33, 127, 4000)))
    assert xz_bits_per_byte([SOURCE] * 40) < 0.2
    assert xz_bits_per_byte([noise]) > 6


def test_ppmd_beats_xz_on_code_and_a_prime_makes_the_same_text_nearly_free() -> None:
    alone = ppmd_bits_per_byte([SOURCE])
    primed = ppmd_bits_per_byte([SOURCE], prime=[SOURCE])
    assert alone is not None
    assert primed is not None
    assert primed < 0.5 * alone
    assert alone < xz_bits_per_byte([SOURCE])


def test_the_ngram_probabilities_of_all_tokens_sum_to_one() -> None:
    prime = np.random.default_rng(2).integers(0, 12, 500).astype(np.uint16)
    baseline = NGram(prime, vocabulary=12, order=4)
    history = [int(t) for t in np.random.default_rng(3).integers(0, 12, 40)]
    total = sum(math.exp(-float(baseline.score([*history, token]).nats[-1])) for token in range(12))
    assert total == pytest.approx(1, abs=1e-4)


def test_the_ngram_remembers_what_the_file_just_said() -> None:
    baseline = NGram(np.zeros(0, dtype=np.uint16), vocabulary=4096)
    ids = TOKENIZER.encode("    LedgerEntry entry = open(account);\n" * 6)
    scores = baseline.score(ids)
    half = len(ids) // 2
    assert scores.correct[half:].mean() > 0.9
    assert scores.nats[half:].mean() < 0.25 * scores.nats[:10].mean()
    ids = TOKENIZER.encode("    LedgerEntry entry = open(account);\n    Ledger")
    line = baseline.complete(ids[:-1], PIECES[ids[-1]], PIECES, max_tokens=20)
    assert rest_of_line(line, PIECES[ids[-1]]) == "Entry entry = open(account);"


def test_the_ngram_learns_from_its_training_text() -> None:
    ids = TOKENIZER.encode(SOURCE)
    primed = NGram(np.array(ids, dtype=np.uint16), vocabulary=4096)
    blank = NGram(np.zeros(0, dtype=np.uint16), vocabulary=4096)
    assert primed.score(ids[:80]).nats.mean() < 0.2 * blank.score(ids[:80]).nats.mean()


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    projects = {
        "one": [SOURCE, SOURCE.replace("balance", "rate")],
        "two": [SOURCE.replace("int", "long")],
        "none": [],
    }
    return evaluate(
        model(), TOKENIZER, projects, plan=Plan(tokens=600, tokens_per_file=400, lines=6, prompt_tokens=16)
    )


def test_the_report_has_the_documented_keys_per_project_and_over_all(report: dict[str, Any]) -> None:
    for figures in (report, *report["per_project"].values(), report["baselines"]["ngram_cache"]):
        for name in ("bits_per_byte", "next_token_accuracy", "line_exact_match", "line_edit_similarity"):
            low, high = figures[f"{name}_ci"]
            assert low <= figures[name] <= high
    assert set(report["per_project"]) == {"one", "two"}
    assert report["baselines"]["xz"]["bits_per_byte"] > 0
    json.dumps(report, allow_nan=False)


def test_the_overall_figure_is_the_sum_over_projects_not_the_mean_of_ratios(report: dict[str, Any]) -> None:
    tokens = [figures["tokens"] for figures in report["per_project"].values()]
    shares = [figures["next_token_accuracy"] for figures in report["per_project"].values()]
    hits = [share * n for share, n in zip(shares, tokens, strict=True)]
    assert report["tokens"] == sum(tokens)
    assert report["next_token_accuracy"] == pytest.approx(sum(hits) / sum(tokens), abs=1e-4)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> MeasuredMemory:
    return MeasuredMemory(tmp_path_factory.mktemp("memory"), {"Balance.java": SOURCE}, TOKENIZER)


def test_a_memory_that_holds_the_text_knows_it_without_a_model(memory: MeasuredMemory) -> None:
    ids = TOKENIZER.encode(SOURCE)[:200]
    (known,) = score_alone(memory, [ids], vocabulary=4096)
    (unknown,) = score_alone(memory, [ids[::-1]], vocabulary=4096)
    assert known.correct[20:].mean() > 0.8
    assert known.nats.mean() < 0.4 * unknown.nats.mean()


def test_the_memory_helps_a_model_that_knows_nothing_and_costs_nothing_where_it_remembers_nothing(
    memory: MeasuredMemory,
) -> None:
    ids = TOKENIZER.encode(SOURCE)[:150]
    foreign = [int(t) for t in np.random.default_rng(5).integers(300, 4096, 100)]
    with_memory = score(model(), [ids, foreign], mix=mixing(memory))
    alone = score(model(), [ids, foreign])
    assert with_memory[0].nats.mean() < 0.5 * alone[0].nats.mean()
    np.testing.assert_allclose(with_memory[1].nats[:2], alone[1].nats[:2], atol=1e-3)


def test_a_line_is_completed_from_memory_and_from_a_model_with_memory(memory: MeasuredMemory) -> None:
    found = cursors([SOURCE], TOKENIZER, count=10, prompt_tokens=30, pieces=PIECES)
    alone = [complete_alone(memory, c.before, c.heal, PIECES, max_tokens=30) for c in found]
    both = complete(
        model(),
        [c.prompt for c in found],
        PIECES,
        [c.heal for c in found],
        max_tokens=30,
        finished=lambda text: b"\n" in text,
        recalls=[memory(c.before) for c in found],
    )
    for answers in (alone, both):
        exact = [rest_of_line(text, c.heal) == c.truth for (text, _), c in zip(answers, found, strict=True)]
        assert sum(exact) >= 8
    assert all(0 < certainty <= 1 for _, certainty in alone)


def test_a_memory_without_a_match_completes_nothing(tmp_path: Path) -> None:
    empty = MeasuredMemory(tmp_path, {}, TOKENIZER)
    assert complete_alone(empty, [], b"", PIECES, max_tokens=5) == (b"", 1.0)


def test_the_layers_are_measured_on_the_same_tokens_and_the_memory_never_holds_them(tmp_path: Path) -> None:
    texts = [SOURCE.replace("balance", name) for name in ("rate", "limit", "total", "share")]
    plan = Plan(tokens=500, tokens_per_file=250, lines=4, prompt_tokens=16)
    measured = measured_texts(texts, TOKENIZER, plan)
    assert len(measured) == 2
    shown = Measurement(TOKENIZER, {"one": texts}, plan).texts
    assert all(any(whole.startswith(text) for whole in measured) for text in shown)
    others = {str(at): text for at, text in enumerate(texts) if text not in measured}
    memories = {"one": MeasuredMemory(tmp_path, others, TOKENIZER)}
    layers = evaluate(model(), TOKENIZER, {"one": texts}, plan=plan, memories=memories)["layers"]
    assert layers["model"]["tokens"] == layers["memory"]["tokens"] == layers["both"]["tokens"]
    assert layers["both"]["bits_per_byte"] < layers["model"]["bits_per_byte"]
    assert set(layers) == {"model", "memory", "both"}


def test_a_folder_without_source_code_is_refused() -> None:
    with pytest.raises(DataError, match="no source code"):
        evaluate(model(), TOKENIZER, {"empty": []})
