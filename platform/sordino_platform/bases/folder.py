"""A base as a folder in Hugging Face's form: described from its small files and the headers of its weights.

Refused, before anything is loaded: code of its own, pickles, an adapter, a missing shard, weights that do not match
their headers, a tokenizer of another model, a missing licence.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sordino_platform.bases.base import Base, Kind
from sordino_platform.bases.describing import described, require_own_tokenizer, required
from sordino_platform.huggingface import HuggingFaceTokenizer, folder_digest, require_plain
from sordino_privacy.errors import ConfigurationError

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_LICENCES = (("Apache License", "apache-2.0"), ("MIT License", "mit"), ("GNU GENERAL PUBLIC LICENSE", "gpl"))
_LICENCE_LINE = re.compile(r"^license(?:_name)?:\s*['\"]?([A-Za-z0-9.+ _-]{1,60}?)['\"]?\s*$", re.MULTILINE)
MAX_CARD_BYTES = 4 << 20


def describe_folder(
    folder: Path, *, name: str, kind: Kind = "folder", licence: str | None = None, digest: str | None = None
) -> Base:
    """The base in `folder`. `digest` is its digest when that is known; otherwise every file is read to compute it.

    Raises ConfigurationError for everything that this module's docstring lists.
    """
    config = require_plain(folder)
    tokenizer, vocabulary = HuggingFaceTokenizer.load(folder), required(config, "vocab_size", what=folder)
    require_own_tokenizer(tokenizer, vocabulary, what=folder)
    return described(
        config,
        tokenizer,
        name=name,
        kind=kind,
        licence=licence or licence_of(folder),
        parameters=parameters_in(folder, vocabulary),
        digest=folder_digest(folder).hex() if digest is None else digest,
        place=folder,
    )


def licence_of(folder: Path) -> str:
    """The licence that the model card or a licence file names. Raises ConfigurationError when neither names one."""
    card = folder / "README.md"
    if card.is_file() and card.stat().st_size <= MAX_CARD_BYTES:
        text = card.read_text(encoding="utf-8", errors="replace")
        if text.startswith("---"):
            named = _LICENCE_LINE.findall(text.split("\n---", 1)[0])
            if named:
                return str(named[-1]).strip().lower()
    for path in sorted(folder.glob("LICEN[CS]E*")):
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                head = file.read(2000)
            return next((known for words, known in _LICENCES if words in head), f"see {path.name}")
    raise ConfigurationError(
        f"{folder} names no licence",
        hint="read the model's licence, then add it with --licence, for example --licence apache-2.0",
    )


def parameters_in(folder: Path, vocabulary: int) -> int:
    """How many numbers are stored, from the headers of the weights. Raises ConfigurationError for a file of another
    format."""
    count = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ConfigurationError(
                f"{path} is not a whole safetensors file", hint="fetch it again"
            ) from error
        count += sum(prod(shape) for shape in shapes.values())
        for name, shape in shapes.items():
            if name.endswith(_EMBEDDINGS) and shape[0] != vocabulary:
                raise ConfigurationError(
                    f"{folder} has an embedding of {shape[0]} words and a config.json of {vocabulary}",
                    hint="fetch all files from one place",
                )
    return count
