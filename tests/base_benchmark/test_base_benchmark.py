"""Candidates are compared at equal arithmetic, on the same files, and what is measured is not measured again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from sordino_client.laboratory.base_benchmark.candidates import (
    CANDIDATES,
    PRE_TOKENIZATIONS,
    REFERENCE,
    BaseCandidate,
    multiply_adds,
    tokens_for,
)
from sordino_client.laboratory.base_benchmark.comparison import (
    CONTEXT,
    Sample,
    measure_candidate,
    require_tokens,
    summarise_candidates,
)
from sordino_client.laboratory.pretrain.compute import blocked_attention
from sordino_client.training.stream import SourceDocument, is_validation
from sordino_platform.architecture import SIZES
from sordino_platform.cli import run
from sordino_platform.model import Decoder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError, SordinoError

LINES = "".join(f"    int getField{n % 7}() {{ return field.value{n % 7}; }}\n" for n in range(60))


def write_corpus(cache: Path, count: int = 600) -> list[SourceDocument]:
    draw = random.Random(7)  # of made-up words there are enough for every vocabulary
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(5000)]
    texts = (
        "class Book {\n"
        + "".join(f"    int {draw.choice(words)} = {draw.choice(words)};\n" for _ in range(60))
        for _ in range(count)
    )
    documents = [
        SourceDocument(project="p", path=f"{n}.java", language="java", text=text)
        for n, text in enumerate(texts)
    ]
    lines = (json.dumps({field: getattr(d, field) for field in d.__slots__}) for d in documents)
    (cache / "public.jsonl").write_text("\n".join(lines) + "\n")
    return documents


@pytest.mark.parametrize("size", sorted(SIZES))
def test_the_multiply_adds_are_those_that_torch_counts(size: str) -> None:
    """torch counts two operations a multiply-add, and the half of the attention that causality hides too.

    With the attention written out: it knows none of the fused one's cost on a processor.
    """
    config = BaseCandidate(size=size, vocabulary=512).config(32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Decoder(config, blocked_attention)(torch.zeros(1, 32, dtype=torch.int64))
    hidden = config.layers * config.context * config.width
    assert counter.get_total_flops() == 2 * 32 * (multiply_adds(config) + hidden)


def test_every_candidate_gets_the_arithmetic_of_the_reference() -> None:
    budget = 3_000_000 * multiply_adds(REFERENCE.config(CONTEXT))
    for candidate in CANDIDATES:
        cost = multiply_adds(candidate.config(CONTEXT))
        assert tokens_for(candidate, 3_000_000, CONTEXT) * cost == pytest.approx(budget, abs=cost)
    assert len({candidate.name for candidate in CANDIDATES}) == len(CANDIDATES)


LEARNT = {
    name: Tokenizer.train([LINES, "def f(a):\n\n\treturn a\n"], vocabulary=320, pieces=pieces)
    for name, pieces in PRE_TOKENIZATIONS.items()
}


@given(st.text(alphabet="aZ \n\t.(_'9é", max_size=60))
def test_every_pre_tokenization_keeps_the_text_and_all_but_the_foreign_one_the_newline_rule(
    text: str,
) -> None:
    for name, tokenizer in LEARNT.items():
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        if name != "gpt-2":
            assert all(b"\n" not in tokenizer.token_bytes()[token][1:] for token in ids)


def test_pre_tokenizations_differ_in_what_they_keep_apart() -> None:
    text = "read.nextValue();\n" * 50
    for name, longest in (("shipped", ".next"), ("whole-names", ".nextValue"), ("marks-apart", "Value")):
        learnt = Tokenizer.train([text], vocabulary=400, pieces=PRE_TOKENIZATIONS[name])
        assert longest in [learnt.decode([token]) for token in learnt.encode(text)]


def test_the_sample_keeps_what_is_measured_out_of_training(tmp_path: Path) -> None:
    documents = write_corpus(tmp_path, 3000)
    sample = Sample.of_public_corpus(tmp_path)
    assert sample.training
    assert sample.measured
    assert not any(is_validation(document) for document in sample.training)
    assert not {d.text for d in sample.training} & set(sample.measured)
    assert set(sample.measured) <= {d.text[:4000] for d in documents}
    assert Sample.of_public_corpus(tmp_path) == sample


def test_without_the_public_corpus_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in the cache"):
        Sample.of_public_corpus(tmp_path)


def test_a_trainer_that_fails_is_named_with_its_log_and_leaves_no_result(tmp_path: Path) -> None:
    document = SourceDocument(project="p", path="a.java", language="java", text="int ledger = account;\n")
    sample = Sample(training=[document], measured=["int y;\n"])  # smaller than one window
    with pytest.raises(DataError, match="too little text"):
        measure_candidate(
            REFERENCE, sample, tmp_path, reference_tokens=4096, threads=1, say=lambda line: None
        )
    with pytest.raises(SordinoError, match="exit code 1") as caught:
        measure_candidate(
            BaseCandidate(vocabulary=262),
            sample,
            tmp_path,
            reference_tokens=4096,
            threads=1,
            say=lambda line: None,
        )
    log = next(tmp_path.glob("3.4m-262-*/trainer.log"))
    assert str(log) in str(caught.value.hint)
    assert "smaller than one window" in log.read_text()
    assert not list(tmp_path.glob("*/result.json"))


def test_a_trainer_that_was_stopped_early_is_not_measured(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint-00000002"
    place.mkdir()
    (place / "state.json").write_text(json.dumps({"progress": {"steps": 2, "tokens": 4096}}))
    (tmp_path / "CURRENT").write_text(place.name)
    require_tokens(tmp_path, 4096)
    with pytest.raises(SordinoError, match="after 4,096 of 5,000 tokens"):
        require_tokens(tmp_path, 5000)


def test_candidates_are_compared_on_the_same_files() -> None:
    own = {"bits": [10.0, 40.0], "bytes": [10, 20], "vocabulary": 4096}
    other = {"bits": [13.0, 46.0], "bytes": [10, 20], "vocabulary": 512}
    rows = summarise_candidates({"own": own, "other": other}, "own")
    assert rows["own"]["bits_per_byte"] == pytest.approx(50 / 30)
    assert rows["own"]["difference"] == 0
    assert rows["other"]["difference"] == pytest.approx(9 / 30)
    low, high = rows["other"]["difference_ci"]
    assert (low, high) == pytest.approx((0.3, 0.3))  # every file differs by as much per byte
    assert rows["other"]["vocabulary"] == 512
    assert "bits" not in rows["other"]


def test_a_candidate_that_is_not_known_is_refused_with_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "base", "--only", "gigantic"]) == 2
    shown = capsys.readouterr().err
    assert "gigantic" in shown
    assert "3.4m-8192-shipped" in shown


@pytest.mark.slow
def test_the_comparison_runs_and_finds_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path, 3000)
    arguments = ["bench", "base", "--run", str(tmp_path / "run"), "--cache", str(tmp_path), "--json"]
    arguments += ["--tokens", "20000", "--only", "3.4m-2048-shipped"]
    assert run(arguments) == 0
    first = capsys.readouterr()
    report = json.loads(first.out)
    assert set(report["candidates"]) == {"3.4m-4096-shipped", "3.4m-2048-shipped"}
    assert all(0 < row["bits_per_byte"] < 8 for row in report["candidates"].values())
    assert "trains" in first.err
    assert run(arguments) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == report
    assert "trains" not in again.err
