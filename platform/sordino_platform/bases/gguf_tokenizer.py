"""The tokenizer that a GGUF file carries, as a tokenizer.json of Hugging Face's form.

`tokenizer.ggml.model` names the kind: `gpt2` is byte-level BPE, split first by the rule that `tokenizer.ggml.pre` names
(llama.cpp's `llm_tokenizer_bpe` has the same rules); `llama` is SentencePiece's BPE with byte fallback, whose merges
follow from the order of its pieces. Any other kind is refused: with another tokenization than the base learned,
training and completion would be bad, and nobody would see why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from sordino_platform.bases.gguf_file import GgufFile
from sordino_privacy.errors import ConfigurationError

_CONTROL, _USER_DEFINED = 3, 4
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_DIGITS = ("smollm", "starcoder", "refact", "command-r", "granite-code")
_PLAIN = ("gpt-2", "gpt2")
_SPLITS: Final[Mapping[str, Sequence[str]]] = {
    "llama-bpe": (_LLAMA3,),
    "llama3": (_LLAMA3,),
    "qwen2": (_QWEN2,),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
}


def tokenizer_json(file: GgufFile) -> str:
    """The JSON of the file's tokenizer. Raises ConfigurationError for one that cannot be rebuilt exactly."""
    words = file.setting("tokenizer.ggml.tokens", list)
    kinds = file.setting("tokenizer.ggml.token_type", np.ndarray, np.ones(len(words), np.int32))
    if not words or not all(isinstance(word, str) for word in words) or len(set(words)) != len(words):
        raise _refusal(file, "its words are not texts that differ")
    if kinds.shape != (len(words),):
        raise _refusal(file, "it has a kind for some words only")
    vocabulary = {word: number for number, word in enumerate(words)}
    model = file.setting("tokenizer.ggml.model", str)
    if model == "gpt2":
        built = _byte_level(file, vocabulary)
    elif model == "llama":
        built = _sentence_pieces(file, vocabulary)
    else:
        raise _refusal(file, f"its kind {model!r} is unknown")
    begin = file.setting("tokenizer.ggml.bos_token_id", int, -1)
    if file.setting("tokenizer.ggml.add_bos_token", bool, model == "llama") and 0 <= begin < len(words):
        word = words[begin]
        built.post_processor = processors.TemplateProcessing(
            single=[word, "$A"],
            special_tokens=[(word, begin)],
        )
    raw = json.loads(built.to_str())
    raw["added_tokens"] = [
        {
            "id": number,
            "content": words[number],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": int(kinds[number]) == _CONTROL,
        }
        for number in np.flatnonzero((kinds == _CONTROL) | (kinds == _USER_DEFINED)).tolist()
    ]
    return json.dumps(raw, ensure_ascii=False)


def _byte_level(file: GgufFile, vocabulary: Mapping[str, int]) -> tokenizers.Tokenizer:
    merges = file.setting("tokenizer.ggml.merges", list)
    pairs = []
    for merge in merges:
        left, _, right = str(merge).partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise _refusal(file, "a merge is of words that it does not have")
        pairs.append((left, right))
    built = tokenizers.Tokenizer(models.BPE(vocab=dict(vocabulary), merges=pairs))
    built.decoder = decoders.ByteLevel()
    rule = file.setting("tokenizer.ggml.pre", str, "gpt-2")
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if rule in _PLAIN:
        built.pre_tokenizer = whole
    elif rule in _DIGITS:
        built.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    elif rule in _SPLITS:
        splits: list[Any] = [pre_tokenizers.Split(Regex(text), "isolated") for text in _SPLITS[rule]]
        bare = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        built.pre_tokenizer = pre_tokenizers.Sequence([*splits, bare])
    else:
        raise _refusal(file, f"its rule {rule!r} for splitting text is unknown")
    return built


def _sentence_pieces(file: GgufFile, vocabulary: Mapping[str, int]) -> tokenizers.Tokenizer:
    # SentencePiece joins the pair whose piece has the best score. Gemma's scores carry no order, so its pieces' order
    # counts.
    scores = file.setting("tokenizer.ggml.scores", np.ndarray, np.zeros(0, np.float32))
    ranks = {word: -float(number) for word, number in vocabulary.items()}
    if file.architecture != "gemma" and scores.shape == (len(vocabulary),) and len(np.unique(scores)) > 1:
        ranks = {word: float(scores[number]) for word, number in vocabulary.items()}
    unknown = file.setting("tokenizer.ggml.unknown_token_id", int, 0)
    word = next((word for word, number in vocabulary.items() if number == unknown), None)
    model = models.BPE(
        vocab=dict(vocabulary),
        merges=_implied(vocabulary, ranks),
        unk_token=word,
        fuse_unk=True,
        byte_fallback=True,
    )
    built = tokenizers.Tokenizer(model)
    prefix = file.setting("tokenizer.ggml.add_space_prefix", bool, file.architecture != "gemma")
    blanks: list[Any] = [normalizers.Replace(" ", "▁")]
    after: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        blanks.insert(0, normalizers.Prepend("▁"))
        after.append(decoders.Strip(content=" ", left=1))
    built.normalizer = normalizers.Sequence(blanks)
    built.decoder = decoders.Sequence(after)
    return built


def _implied(vocabulary: Mapping[str, int], ranks: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merges that a vocabulary implies: every way to cut a word into two words, best word first."""
    found = []
    for word, number in vocabulary.items():
        cuts = [(word[:at], word[at:]) for at in range(1, len(word))]
        whole = [pair for pair in cuts if pair[0] in vocabulary and pair[1] in vocabulary]
        whole.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        found += [(-ranks[word], number, at, pair) for at, pair in enumerate(whole)]
    return [pair for *_, pair in sorted(found)]


def _refusal(file: GgufFile, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the tokenizer of {file.path} cannot be rebuilt: {why}",
        hint="add the model's folder in Hugging Face's form instead",
    )
