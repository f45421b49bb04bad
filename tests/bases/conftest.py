"""Small random bases, made by the tests: a folder in Hugging Face's form, and the same as a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors.numpy import load_file
from tokenizers import models, pre_tokenizers, trainers

WORDS, END = 300, "<|endoftext|>"
SIZES: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "tie_word_embeddings": True,
}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES)),
    "granite": lambda: transformers.GraniteForCausalLM(
        transformers.GraniteConfig(
            **SIZES,
            embedding_multiplier=2.0,
            logits_scaling=3.0,
            residual_multiplier=0.5,
            attention_multiplier=0.2,
        )
    ),
    "gemma": lambda: transformers.GemmaForCausalLM(transformers.GemmaConfig(**SIZES, head_dim=8)),
    "starcoder2": lambda: transformers.Starcoder2ForCausalLM(
        transformers.Starcoder2Config(**SIZES, use_bias=True, sliding_window=None)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=WORDS,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=128,
            n_inner=48,
            bos_token_id=0,
            eos_token_id=0,
        )
    ),
}
TEXT = [
    "def add(left, right):\n    return left + right  # 12 and 345\n",
    "class Account:\n    total = 0\n",
] * 4


def write_tokenizer(folder: Path, *controls: str) -> None:
    """A byte-level tokenizer of WORDS words, with these control tokens behind `<|endoftext|>`."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=[END, *controls],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_base(folder: Path, architecture: str = "llama", *controls: str, licence: str = "mit") -> Path:
    """A small model with random weights, as such folders are published."""
    torch.manual_seed(0)
    model = MODELS[architecture]()
    with torch.no_grad():
        for parameter in model.parameters():
            # Random everywhere: a norm of ones or a bias of zeros would hide what was not carried over.
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, safe_serialization=True)
    write_tokenizer(folder, *controls)
    if licence:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n# A small base\n")
    return folder


def _reordered(value: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    # llama.cpp's convert_hf_to_gguf.py, LlamaModel.permute.
    split = value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(value.shape))


def write_gguf(path: Path, base: Path, architecture: str, *, licence: str = "mit") -> Path:
    """The folder's model as llama.cpp's converter writes it, in float32."""
    tensors, config = load_file(base / "model.safetensors"), transformers.AutoConfig.from_pretrained(base)
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    writer = gguf.GGUFWriter(path, architecture)
    if licence:
        writer.add_string("general.license", licence)
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48 if architecture != "gpt2" else config.n_inner)
    writer.add_head_count(4)
    if architecture != "gpt2":
        writer.add_head_count_kv(2)
        writer.add_rope_freq_base(10_000.0)
    if architecture in ("gpt2", "starcoder2"):
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    if architecture == "gemma":
        writer.add_key_length(8)
    if architecture == "granite":
        writer.add_attention_scale(0.2)
        writer.add_embedding_scale(2.0)
        writer.add_residual_scale(0.5)
        writer.add_logit_scale(3.0)
    words = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda pair: pair[1])
    listed = [word for word, _ in words]
    listed += [f"[PAD{number}]" for number in range(len(listed), WORDS)]
    controls = {number for number, _ in tokenizer.get_added_tokens_decoder().items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(listed)
    writer.add_token_types([3 if number in controls else 1 for number in range(WORDS)])
    merges = json.loads((base / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    names = gguf.get_tensor_name_map(
        {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[architecture], 2
    )
    for name, value in tensors.items():
        there = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert there is not None, name
        if architecture in ("llama", "granite") and ".q_proj." in name:
            value = _reordered(value, 4)
        elif architecture in ("llama", "granite") and ".k_proj." in name:
            value = _reordered(value, 2)
        elif architecture == "gemma" and name.endswith("norm.weight"):
            value = value + np.float32(1)
        elif architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            value = np.ascontiguousarray(value.T)
        writer.add_tensor(there, value.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(autouse=True)
def own_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "sordino" / "bases"


@pytest.fixture
def make_base() -> Callable[..., Path]:
    return write_base


@pytest.fixture
def make_gguf() -> Callable[..., Path]:
    return write_gguf


@pytest.fixture
def make_tokenizer() -> Callable[..., None]:
    return write_tokenizer
