"""Trains and measures one candidate (tokenizer to bits per byte), with the base's own trainer, in a separate process.

FOLDER/NAME/tokenizer.json         learnt from the sample
FOLDER/NAME/training, validation   the sample, encoded
FOLDER/NAME/stable, decayed        the two halves of the training run, both resumable
FOLDER/NAME/result.json            written last: if it exists, the candidate is measured
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sordino_client.laboratory.base_benchmark.candidates import (
    PRE_TOKENIZATIONS,
    BaseCandidate,
    multiply_adds,
    tokens_for,
)
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_client.laboratory.pretrain.launch import TRAINER_ENVIRONMENT
from sordino_client.laboratory.pretrain.plan import PretrainingSettings
from sordino_client.laboratory.pretrain.sources import JAVA_AND_PYTHON
from sordino_client.training import checkpoint
from sordino_client.training.stream import SourceDocument, encode_shard, is_validation, open_shard
from sordino_platform.durable import make_folder, write_file
from sordino_platform.evaluation.loss import score
from sordino_platform.evaluation.statistics import ratio_interval
from sordino_platform.model import Decoder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError, SordinoError

SAMPLE_ONE_IN = 24  # public documents on which vocabularies are learnt and candidates trained
FILE_CHARACTERS, MEASURED_FILES = 4_000, 120
DECAY_SHARE = 0.3
CONTEXT = PretrainingSettings().stages[0][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The part of the public corpus that the comparison uses: no held-out projects and no members' projects."""

    training: Sequence[SourceDocument]
    measured: Sequence[str]

    @classmethod
    def of_public_corpus(cls, cache: Path) -> Sample:
        """Draws one in SAMPLE_ONE_IN training documents, and the beginnings of MEASURED_FILES held-out documents.

        Raises DataError when the public corpus was never fetched.
        """
        training: list[SourceDocument] = []
        kept_back: list[tuple[bytes, str]] = []
        for document in read_corpus(cache, "public"):
            if document.language not in JAVA_AND_PYTHON:  # as for the base's vocabulary
                continue
            place = hashlib.sha256(f"{document.path}\n{document.project}".encode()).digest()
            if is_validation(document):
                kept_back.append((place, document.text[:FILE_CHARACTERS]))
            elif int.from_bytes(place[:4], "big") % SAMPLE_ONE_IN == 0:
                training.append(document)
        return cls(training=training, measured=[text for _, text in sorted(kept_back)[:MEASURED_FILES]])


def measure_candidate(
    candidate: BaseCandidate,
    sample: Sample,
    folder: Path,
    *,
    reference_tokens: int,
    threads: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The candidate's figures, read from `folder` if they were measured before. Bits and bytes are per file."""
    place = folder / f"{candidate.name}-{reference_tokens}"
    result_path = place / "result.json"
    if not result_path.is_file():
        make_folder(place)
        say(f"{candidate.name}: learns its vocabulary")
        tokenizer = _tokenizer(candidate, sample, place)
        say(f"{candidate.name}: trains")
        tokens = tokens_for(candidate, reference_tokens, CONTEXT)
        decay = round(tokens * DECAY_SHARE)
        train = [*_trainer(candidate, place, threads), "--run", str(place / "stable")]
        _run([*train, "--stop-tokens", str(tokens - decay)], place / "trainer.log")
        require_tokens(place / "stable", tokens - decay)
        branch = ["--branch", str(place / "decayed"), "--branch-tokens", str(decay)]
        _run([*train, *branch], place / "trainer.log")
        require_tokens(place / "decayed", tokens)
        say(f"{candidate.name}: is measured")
        write_file(result_path, json.dumps(_result(candidate, tokenizer, sample, place), indent=1).encode())
    found: dict[str, Any] = json.loads(result_path.read_text())
    return found


def _tokenizer(candidate: BaseCandidate, sample: Sample, place: Path) -> Tokenizer:
    path = place / "tokenizer.json"
    if not path.is_file():
        texts = (document.text for document in sample.training)
        pieces = PRE_TOKENIZATIONS[candidate.pieces]
        learnt = Tokenizer.train(texts, vocabulary=candidate.vocabulary, pieces=pieces)
        if learnt.size < candidate.vocabulary:
            raise DataError(
                f"the sample holds too little text for a vocabulary of {candidate.vocabulary} tokens",
                hint="fetch the whole public corpus: sordino corpus fetch public",
            )
        write_file(path, learnt.to_json().encode())
    tokenizer = Tokenizer.load(path)
    measured = [SourceDocument(project="", path="", language="java", text=text) for text in sample.measured]
    for name, documents in (("validation", measured), ("training", sample.training)):
        if open_shard(place / name, tokenizer) is None:
            encode_shard(documents, tokenizer, place / name)
    return tokenizer


def _trainer(candidate: BaseCandidate, place: Path, threads: int) -> list[str]:
    command = [sys.executable, "-m", "sordino_client.laboratory.pretrain.trainer", "--data", str(place)]
    command += ["--tokenizer", str(place / "tokenizer.json"), "--size", candidate.size]
    return [*command, "--threads", str(threads), "--seed", str(PretrainingSettings().seed + candidate.repeat)]


def _run(command: Sequence[str], log: Path) -> None:
    with log.open("ab") as out:
        code = subprocess.run(command, env={**os.environ, **TRAINER_ENVIRONMENT}, stderr=out).returncode
    if code:
        raise SordinoError(f"the trainer ended with exit code {code}", hint=f"read {log}")


def require_tokens(run: Path, tokens: int) -> None:
    """Raises SordinoError when the trainer was asked to stop and stopped before it had read that many tokens."""
    read = checkpoint.current_progress(run).tokens
    if read < tokens:
        raise SordinoError(
            f"the trainer was stopped after {read:,} of {tokens:,} tokens",
            hint="run the same command to go on",
        )


def _result(candidate: BaseCandidate, tokenizer: Tokenizer, sample: Sample, place: Path) -> dict[str, Any]:
    config = candidate.config(CONTEXT)
    model = Decoder(config)
    checkpoint.load(place / "decayed", model)
    progress = checkpoint.current_progress(place / "decayed")
    documents = tokenizer.encode_many(list(sample.measured))
    scores = score(model, documents)
    tokens = sum(map(len, documents))
    sizes = [len(text.encode()) for text in sample.measured]
    return {
        **asdict(candidate),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": progress.tokens,
        "cpu_seconds": round(progress.cpu_seconds),
        "bytes_per_token": sum(sizes) / tokens,
        "multiply_adds_per_byte": multiply_adds(config) * tokens / sum(sizes),
        "bits": [float(s.nats.astype(np.float64).sum()) / math.log(2) for s in scores],
        "bytes": sizes,
    }


def summarise_candidates(results: dict[str, dict[str, Any]], reference: str) -> dict[str, dict[str, Any]]:
    """Bits per byte of each candidate, and its difference from the reference on the same files.

    95 % intervals over files; `difference` is in bits per byte, below 0 where the candidate is better.
    """
    base = results[reference]
    rows: dict[str, dict[str, Any]] = {}
    for name, result in results.items():
        value, interval = ratio_interval(result["bits"], result["bytes"])
        apart = [own - other for own, other in zip(result["bits"], base["bits"], strict=True)]
        difference, around = ratio_interval(apart, result["bytes"])
        rows[name] = {
            **{key: figure for key, figure in result.items() if key not in ("bits", "bytes")},
            "bits_per_byte": value,
            "bits_per_byte_ci": interval,
            "difference": difference,
            "difference_ci": around,
        }
    return rows
