"""Makes a `Base` from a configuration in Hugging Face's form and a tokenizer. Every source of bases is read here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sordino_platform.bases.base import Base, Kind
from sordino_platform.bases.memory import MemoryShape
from sordino_platform.bases.middle import convention
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_privacy.errors import ConfigurationError

MAX_CONTEXT = 1 << 16
UNTOLD_CONTEXT = 2048
# A vocabulary is padded to a round number. More padding than this plus a twentieth means another model's tokenizer.
PADDING_WORDS = 1024
# The separator of documents that base models are trained with. Chat models name the end of a turn instead.
_END_OF_TEXT = "<|endoftext|>"


def described(
    config: Mapping[str, Any],
    tokenizer: HuggingFaceTokenizer,
    *,
    name: str,
    kind: Kind,
    digest: str,
    licence: str,
    parameters: int,
    place: Path,
) -> Base:
    """Raises ConfigurationError when a size is missing or no token ends a text."""
    vocabulary = required(config, "vocab_size", what=place)
    return Base(
        name=name,
        kind=kind,
        architecture=str(config.get("model_type", "")),
        digest=digest,
        licence=licence,
        context=context_of(config),
        vocabulary=vocabulary,
        end=end_of_text(tokenizer, config, what=place),
        begin=tokenizer.begin,
        middle=convention(tokenizer.controls),
        shape=memory_shape_of(config, parameters, what=place),
        place=place,
    )


def memory_shape_of(config: Mapping[str, Any], parameters: int, *, what: object) -> MemoryShape:
    """The sizes that decide the memory of a base with this many stored numbers. Raises ConfigurationError."""
    width = required(config, "hidden_size", "n_embd", what=what)
    heads = required(config, "num_attention_heads", "n_head", what=what)
    head = whole(config.get("head_dim")) or width // heads
    return MemoryShape(
        parameters=parameters,
        vocabulary=required(config, "vocab_size", what=what),
        layers=required(config, "num_hidden_layers", "n_layer", what=what),
        width=width,
        hidden=whole(config.get("intermediate_size")) or whole(config.get("n_inner")) or 4 * width,
        key_values=head * (whole(config.get("num_key_value_heads")) or heads),
    )


def context_of(config: Mapping[str, Any]) -> int:
    """The context that the base was made for, in tokens, at most 65,536."""
    said = whole(config.get("max_position_embeddings")) or whole(config.get("n_positions"))
    return min(said or UNTOLD_CONTEXT, MAX_CONTEXT)


def require_own_tokenizer(tokenizer: HuggingFaceTokenizer, vocabulary: int, *, what: object) -> None:
    """Raises ConfigurationError unless the tokenizer's words fill the model's vocabulary, except for padding."""
    words = tokenizer.size
    if words > vocabulary or vocabulary - words > max(PADDING_WORDS, vocabulary // 20):
        raise ConfigurationError(
            f"{what} has a tokenizer of {words} words and a model of {vocabulary}: they do not belong together",
            hint="fetch both from one place",
        )


def end_of_text(tokenizer: HuggingFaceTokenizer, config: Mapping[str, Any], *, what: object) -> int:
    """The token that closes a document. Raises ConfigurationError when there is none."""
    end = tokenizer.controls.get(_END_OF_TEXT, config.get("eos_token_id"))
    if isinstance(end, list):
        end = end[0] if end else None
    if not isinstance(end, int) or isinstance(end, bool) or not 0 <= end < whole(config.get("vocab_size")):
        raise ConfigurationError(f"{what} names no end-of-text token")
    return end


def required(config: Mapping[str, Any], *names: str, what: object) -> int:
    """The first of these settings that is a size. Raises ConfigurationError when none is."""
    for name in names:
        if size := whole(config.get(name)):
            return size
    raise ConfigurationError(f"{what} has a config.json without {names[0]}")


def whole(value: object) -> int:
    """`value` if it is a size from 1 to 2^24, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 24 else 0
