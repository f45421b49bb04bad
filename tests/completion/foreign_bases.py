"""Small random bases of each architecture, as such folders are published: config.json, tokenizer.json, safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, processors, trainers

VOCABULARY, END, CONTEXT = 320, 1, 128
CODE = [
    "def add(left, right):\n    return left + right\n\n\nclass Order:\n    total = 0\n",
    "public int size() {\n    return items.size();\n}\n",
]
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": END,
    "bos_token_id": END,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**_COMMON, tie_word_embeddings=True),
    "llama-biased": lambda: transformers.LlamaConfig(
        **_COMMON, attention_bias=True, mlp_bias=True, tie_word_embeddings=False
    ),
    "llama-stretched": lambda: transformers.LlamaConfig(
        **_COMMON, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    ),
    "llama-3": lambda: transformers.LlamaConfig(
        **_COMMON,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "qwen2": lambda: transformers.Qwen2Config(**_COMMON, tie_word_embeddings=False),
    "gemma": lambda: transformers.GemmaConfig(**_COMMON, head_dim=16),
    "starcoder2": lambda: transformers.Starcoder2Config(**_COMMON),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=CONTEXT,
        eos_token_id=END,
        bos_token_id=END,
    ),
}
FIVE = ("llama", "qwen2", "gpt2", "starcoder2", "gemma")


def write(
    folder: Path,
    architecture: str,
    *,
    bfloat16: bool = False,
    controls: Sequence[str] = (),
    begins: str | None = None,
) -> Path:
    """Every parameter random, norms and biases included, and spread so that predictions differ from each other.

    The tokenizer has `controls` behind padding and end of text; `begins`, one of them, stands before every text.
    """
    torch.manual_seed(0)
    maker: Any = transformers.AutoModelForCausalLM
    model = maker.from_config(CONFIGS[architecture]())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    if bfloat16:
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<|endoftext|>", *controls],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CODE * 8, trainer)
    if begins is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begins} $A", special_tokens=[(begins, tokenizer.token_to_id(begins))]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


def write_each(place: Path, names: Sequence[str]) -> dict[str, Path]:
    """A folder for each of these architectures, by name."""
    return {name: write(place / name, name) for name in names}


def loaded(folder: Path) -> Any:
    """The same base in transformers, float32: the judge."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()
