"""A base as one GGUF file: dequantised for training, kept as it is for serving. Described from its header alone."""

from __future__ import annotations

from math import prod
from pathlib import Path

from sordino_platform.bases.base import Base, Kind
from sordino_platform.bases.describing import described
from sordino_platform.bases.gguf_families import family_of
from sordino_platform.bases.gguf_file import GgufFile
from sordino_platform.bases.gguf_tokenizer import tokenizer_json
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_privacy.errors import ConfigurationError

_NO_LICENCE = ("", "other", "unknown", "none")


def describe_gguf(
    path: Path, *, name: str, kind: Kind = "gguf", licence: str | None = None, digest: str | None = None
) -> Base:
    """The base in the file. `digest` is its digest when that is known; otherwise the whole file is read to compute it.

    Raises ConfigurationError: no GGUF file, a damaged one, an unknown architecture or tokenizer, no licence.
    """
    file = GgufFile.open(path)
    family = family_of(file)
    config = family.config(file)
    family.names(file, config)
    tokenizer = HuggingFaceTokenizer.parse(tokenizer_json(file), what=f"{path} has a tokenizer")
    rows = file.tensors["token_embd.weight"].shape
    if rows[0] != config["vocab_size"]:
        raise ConfigurationError(
            f"{path} has a tokenizer of {config['vocab_size']} words and an embedding of {rows[0]}",
            hint="fetch it again",
        )
    said = file.setting("general.license", str, "").strip().lower()
    if licence is None and said in _NO_LICENCE:
        raise ConfigurationError(
            f"{path} names no licence",
            hint="read the model's licence, then add it with --licence, for example --licence apache-2.0",
        )
    return described(
        config,
        tokenizer,
        name=name,
        kind=kind,
        digest=file.digest() if digest is None else digest,
        licence=licence or said,
        parameters=stored_numbers(file),
        place=path,
    )


def stored_numbers(file: GgufFile) -> int:
    """How many numbers the file's tensors hold."""
    return sum(prod(row.shape) for row in file.tensors.values())
