"""Larger bases: any causal language model of Hugging Face's transformers in a local folder, trained by adapters.

The base stays as it is, on every member's disk; low-rank adapters (Hu et al. 2021) of its linear layers are what is
trained and what travels. A charter names the base by the digest of its files and lists the adapted layers with their
shapes, so the coordinator needs neither the base nor transformers.

This module reads the folder's files; huggingface_model.py, which needs torch and transformers, makes the model.

What a folder may not do: run code (`auto_map` is refused, trust_remote_code is off, weights are safetensors only), or
reach the network (transformers is offline, and is told to look nowhere but in the folder).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from safetensors.numpy import save

from sordino_platform.architecture import HuggingFaceConfig, Parameters
from sordino_platform.durable import make_folder, write_file
from sordino_privacy.errors import ConfigurationError, StorageError

MAX_JSON_BYTES = 64 << 20  # a tokenizer of 200,000 words with its merges
_LABEL = b"sordino-huggingface-base/1\n"
_DESCRIBED_BY = ("config.json", "tokenizer.json", "model.safetensors.index.json")


@dataclass(frozen=True, slots=True)
class HuggingFaceTokenizer:
    """The folder's tokenizer.json, read by the tokenizers library: no code of the folder runs."""

    _inner: tokenizers.Tokenizer = field(repr=False)
    digest: bytes

    @classmethod
    def load(cls, folder: Path) -> HuggingFaceTokenizer:
        """Raises ConfigurationError when the folder has none."""
        text = _read(folder, "tokenizer.json")
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises the bare Exception class
            raise ConfigurationError(f"{folder} has a tokenizer.json that cannot be read") from error
        # Source that spells a special token is plain text.
        inner.encode_special_tokens = True
        return cls(inner, hashlib.sha256(_LABEL + text.encode()).digest())

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""
        return list(self._inner.encode(text, add_special_tokens=False).ids)


def digest(folder: Path) -> bytes:
    """SHA-256 of everything that decides what the base computes: configuration, tokenizer, weights.

    Raises ConfigurationError for a folder that is no base, or one whose use would run foreign code.
    """
    config = _config(folder)
    if "auto_map" in config:
        raise ConfigurationError(
            f"{folder} brings its own code, which is never run",
            hint="use a base of an architecture that transformers itself has",
        )
    if (folder / "adapter_config.json").exists():
        raise ConfigurationError(f"{folder} holds an adapter", hint="merge it into its base first")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ConfigurationError(
            f"{folder} has no weights in the safetensors format",
            hint="convert them first; files in PyTorch's own format can run code and are never read",
        )
    described = [folder / name for name in _DESCRIBED_BY if (folder / name).exists()]
    whole = hashlib.sha256(_LABEL)
    for path in [*described, *weights]:
        try:
            with path.open("rb") as file:
                part = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        whole.update(len(path.name).to_bytes(4) + path.name.encode() + part)
    return whole.digest()


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


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        raw = json.loads(_read(folder, "config.json"))
    except ValueError as error:
        raise ConfigurationError(f"{folder} has a config.json that is not JSON") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{folder} has a config.json that is not an object")
    return raw


def _read(folder: Path, name: str) -> str:
    path = folder / name
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ConfigurationError(f"{path} is larger than 64 MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{folder} has no {name} that can be read") from error
