"""Larger bases: any causal language model of Hugging Face's transformers in a local folder, trained by adapters.

The base stays unchanged on every member's disk. Low-rank adapters (Hu et al. 2021) of its linear layers are trained and
sent. A charter names the base by the digest of its files and lists the adapted layers with their shapes, so the
coordinator needs neither the base nor transformers.

This module reads the folder's files; huggingface_model.py, which needs torch and transformers, makes the model.
`sordino_platform.bases` describes it to people.

A folder must not run code (`auto_map`, Python files and pickles are refused, trust_remote_code is off, weights are
safetensors only), or reach the network (transformers is offline and looks only in the folder).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from safetensors.numpy import save

from sordino_platform.architecture import HuggingFaceConfig, Parameters
from sordino_platform.durable import make_folder, sha256_of_file, write_file
from sordino_platform.tokenizer import TextCodec
from sordino_privacy.errors import ConfigurationError

MAX_JSON_BYTES = 64 << 20  # a tokenizer of 200,000 words with its merges
_LABEL = b"sordino-huggingface-base/1\n"
_DESCRIBED_BY = ("config.json", "tokenizer.json", "model.safetensors.index.json")
_INDEX = "model.safetensors.index.json"
# Formats of weights that are Python pickles: reading one can run code.
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")
# The form of a control token. Other added words, such as runs of blanks, are ordinary text.
_CONTROL = re.compile(r"<[^\s<>]+>|\[[A-Z_/]+\]")


@dataclass(frozen=True, slots=True)
class HuggingFaceTokenizer(TextCodec):
    """The folder's tokenizer.json, read by the tokenizers library. No code of the folder runs."""

    digest: bytes
    # Control tokens, by their text.
    controls: Mapping[str, int] = field(repr=False)
    # The token that the base expects before every text, if any.
    begin: int | None

    @classmethod
    def load(cls, folder: Path) -> HuggingFaceTokenizer:
        """Raises ConfigurationError when the folder has none."""
        return cls.parse(_read(folder, "tokenizer.json"), what=f"{folder} has a tokenizer.json")

    @classmethod
    def parse(cls, text: str, *, what: str) -> HuggingFaceTokenizer:
        """The tokenizer of this JSON. Raises ConfigurationError when it cannot be read; `what` names it in the
        message."""
        try:
            raw = json.loads(text)
            # Some bases do not mark their control tokens as special. Then source text that spells one would become that
            # token.
            for token in raw.get("added_tokens") or []:
                token["special"] = bool(token["special"]) or _CONTROL.fullmatch(token["content"]) is not None
            inner = tokenizers.Tokenizer.from_str(json.dumps(raw))
        except Exception as error:  # the library raises the bare Exception class
            raise ConfigurationError(f"{what} that cannot be read") from error
        # Source text that spells a special token stays plain text.
        inner.encode_special_tokens = True
        added = inner.get_added_tokens_decoder()
        controls = {token.content: number for number, token in added.items() if token.special}
        framed = inner.encode("a", add_special_tokens=True).ids
        bare = inner.encode("a", add_special_tokens=False).ids
        begin = framed[0] if len(framed) > len(bare) and framed[1 : 1 + len(bare)] == bare else None
        return cls(inner, hashlib.sha256(_LABEL + text.encode()).digest(), controls, begin)

    @property
    def inner(self) -> tokenizers.Tokenizer:
        """The library's own object, for callers that need more than text."""
        return self._inner

    @property
    def size(self) -> int:
        """The largest token number plus one."""
        return max(self._inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def folder_digest(folder: Path) -> bytes:
    """SHA-256 of everything that decides what the base computes: configuration, tokenizer, weights.

    Raises ConfigurationError for a folder that is not a base, or one that would run foreign code.
    """
    require_plain(folder)
    weights = sorted(folder.glob("*.safetensors"))
    described = [folder / name for name in _DESCRIBED_BY if (folder / name).exists()]
    whole = hashlib.sha256(_LABEL)
    for path in [*described, *weights]:
        whole.update(len(path.name).to_bytes(4) + path.name.encode() + sha256_of_file(path))
    return whole.digest()


def require_plain(folder: Path) -> Mapping[str, Any]:
    """The configuration of a folder that holds a whole base and no code.

    Raises ConfigurationError for code of its own, pickles, an adapter, no weights, or a missing shard.
    """
    config = read_object(folder, "config.json")
    optional = [name for name in ("tokenizer_config.json",) if (folder / name).exists()]
    said = [config, *(read_object(folder, name) for name in optional)]
    code = sorted(path.name for path in folder.glob("*.py"))
    if code or any("auto_map" in each or each.get("trust_remote_code") for each in said):
        raise ConfigurationError(
            f"{folder} brings its own code, which is never run",
            hint="use a base of an architecture that transformers itself has",
        )
    if (folder / "adapter_config.json").exists():
        raise ConfigurationError(f"{folder} holds an adapter", hint="merge it into its base first")
    names = {path.name for path in folder.iterdir()}
    if pickles := sorted(name for name in names if Path(name).suffix in _PICKLES):
        raise ConfigurationError(
            f"{folder} holds {pickles[0]}, in a format that can run code: weights are read from safetensors only",
            hint="remove it where the same weights lie beside it as safetensors; otherwise convert them first",
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise ConfigurationError(f"{folder} has no weights in the safetensors format")
    if missing := sorted(_shards(folder, names) - names):
        raise ConfigurationError(f"{folder} lacks {missing[0]}, a part of the weights", hint="fetch it too")
    return config


def _shards(folder: Path, names: Collection[str]) -> set[str]:
    """The weight files that must exist, according to the index or to the numbered file names."""
    promised: set[str] = set()
    if _INDEX in names:
        listed = read_object(folder, _INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise ConfigurationError(f"{folder} has a {_INDEX} that lists no files")
        promised |= set(listed.values())
    for name in names:
        if (found := _SHARD.search(name)) is not None:
            stem, count = name[: found.start()], int(found[2])
            promised |= {f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)}
    return promised


def write_adapter(folder: Path, config: HuggingFaceConfig, adapters: Parameters) -> None:
    """Writes the adapters as PEFT reads them (`PeftModel.from_pretrained(base, folder)`), for other software."""
    make_folder(folder)
    tensors = {}
    for layer, _, _ in config.targets:
        for ours, theirs in (("down", "lora_A"), ("up", "lora_B")):
            factor = np.ascontiguousarray(adapters[f"{layer}.{ours}"])
            tensors[f"base_model.model.{layer}.{theirs}.weight"] = factor
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": config.adapter_rank,
        "lora_alpha": config.adapter_rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [name for name, _, _ in config.targets],
        "inference_mode": True,
    }
    write_file(folder / "adapter_model.safetensors", save(tensors), secret=True)
    write_file(folder / "adapter_config.json", json.dumps(described, indent=1).encode(), secret=True)


def read_object(folder: Path, name: str) -> Mapping[str, Any]:
    """A JSON object of the folder. Raises ConfigurationError for anything else."""
    try:
        raw = json.loads(_read(folder, name))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{folder} has a {name} that is not JSON") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{folder} has a {name} that is not an object")
    return raw


def _read(folder: Path, name: str) -> str:
    path = folder / name
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ConfigurationError(f"{path} is larger than 64 MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{folder} has no {name} that can be read") from error
