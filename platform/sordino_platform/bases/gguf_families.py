"""How a GGUF file of each known architecture becomes Hugging Face's form: its configuration, its tensors' names, and
the converter's changes (llama.cpp's `convert_hf_to_gguf.py`), which are undone here.

    llama, granite    rows of queries and keys were reordered within a head: put back
    gemma             1 was added to the weights of its norms: taken off
    gpt2              its linear layers were transposed: transposed back

Every name is listed. A file with a missing or an unknown tensor is refused, so that no part of a model is ever made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sordino_platform.bases.gguf_file import GgufFile
from sordino_privacy.errors import ConfigurationError

Array = npt.NDArray[np.float32]
Change = Callable[[str, Array, Mapping[str, Any]], Array]
MAX_LAYERS = 1 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`once` and `layers` map GGUF names to Hugging Face names (`{}`: the layer's number). `optional` names of both may
    be missing. A matrix whose name ends with one of `turned` is transposed. After that, `change` undoes the converter's
    other changes."""

    config: Callable[[GgufFile], dict[str, Any]]
    once: Mapping[str, str]
    layers: Mapping[str, str]
    optional: frozenset[str]
    change: Change
    turned: tuple[str, ...] = ()

    def shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in Hugging Face's form of a tensor with this GGUF shape."""
        return shape[::-1] if name.endswith(self.turned or ("/",)) else shape

    def value(self, name: str, value: Array, config: Mapping[str, Any]) -> Array:
        """The tensor in Hugging Face's form for the GGUF tensor `value`."""
        return self.change(name, value.T if name.endswith(self.turned or ("/",)) else value, config)

    def names(self, file: GgufFile, config: Mapping[str, Any]) -> dict[str, str]:
        """The file's tensors and their names in Hugging Face's form. Raises ConfigurationError for a missing or unknown
        tensor."""
        layers = int(config.get("num_hidden_layers", config.get("n_layer", 0)))
        wanted = dict(self.once) | {
            there.format(layer): here.format(layer)
            for layer in range(layers)
            for there, here in self.layers.items()
        }
        unknown = sorted(file.tensors.keys() - wanted.keys())
        if unknown:
            raise ConfigurationError(f"{file.path} has a tensor that is unknown here: {unknown[0]}")
        may_lack = self.optional | {
            name.format(layer) for name in self.optional if "{}" in name for layer in range(layers)
        }
        if missing := sorted(wanted.keys() - file.tensors.keys() - may_lack):
            raise ConfigurationError(f"{file.path} lacks the tensor {missing[0]}", hint="fetch it again")
        return {there: wanted[there] for there in file.tensors}


def family_of(file: GgufFile) -> Family:
    """Raises ConfigurationError for an architecture that is not in the table."""
    known = FAMILIES.get(file.architecture)
    if known is None:
        raise ConfigurationError(
            f"{file.path} is of the architecture {file.architecture[:40]!r}, which cannot be read",
            hint=f"known: {', '.join(FAMILIES)}; others are added as a folder in Hugging Face's form",
        )
    return known


def _common(file: GgufFile, model_type: str, *, width: str = "hidden_size") -> dict[str, Any]:
    """The settings that every configuration has. Raises ConfigurationError for impossible sizes."""
    at = file.architecture
    heads = file.setting(f"{at}.attention.head_count", int)
    sizes = {
        width: file.setting(f"{at}.embedding_length", int),
        "num_hidden_layers": file.setting(f"{at}.block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": file.setting(f"{at}.attention.head_count_kv", int, heads),
        "intermediate_size": file.setting(f"{at}.feed_forward_length", int),
        "max_position_embeddings": file.setting(f"{at}.context_length", int),
        "vocab_size": len(file.setting("tokenizer.ggml.tokens", list)),
    }
    if any(not 1 <= size <= 1 << 24 for size in sizes.values()) or sizes["num_hidden_layers"] > MAX_LAYERS:
        raise ConfigurationError(f"{file.path} has impossible sizes")
    if sizes[width] % heads or heads % sizes["num_key_value_heads"]:
        raise ConfigurationError(f"{file.path} has impossible sizes")
    scaling = file.setting(f"{at}.rope.scaling.type", str, "none")
    if scaling != "none":
        raise ConfigurationError(
            f"{file.path} scales its positions by {scaling[:20]!r}, which cannot be rebuilt from it",
            hint="add the model's folder in Hugging Face's form instead",
        )
    tied = "output.weight" not in file.tensors
    ends = {
        name: file.setting(f"tokenizer.ggml.{there}", int)
        for name, there in (("bos_token_id", "bos_token_id"), ("eos_token_id", "eos_token_id"))
        if f"tokenizer.ggml.{there}" in file.settings
    }
    return {
        "model_type": model_type,
        **sizes,
        **ends,
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
    }


def _rotary(file: GgufFile) -> dict[str, Any]:
    theta = file.setting(f"{file.architecture}.rope.freq_base", float, 10_000.0)
    return {
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "rms_norm_eps": file.setting(f"{file.architecture}.attention.layer_norm_rms_epsilon", float, 1e-6),
    }


def _llama(file: GgufFile) -> dict[str, Any]:
    biased = "blk.0.attn_q.bias" in file.tensors
    return {
        **_common(file, "llama"),
        **_rotary(file),
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "attention_bias": biased,
    }


def _qwen2(file: GgufFile) -> dict[str, Any]:
    shared = {**_common(file, "qwen2"), **_rotary(file)}
    return {
        **shared,
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_act": "silu",
        "use_sliding_window": False,
    }


def _granite(file: GgufFile) -> dict[str, Any]:
    at = file.architecture
    return {
        **_llama(file),
        "model_type": "granite",
        "architectures": ["GraniteForCausalLM"],
        "attention_multiplier": file.setting(f"{at}.attention.scale", float),
        "embedding_multiplier": file.setting(f"{at}.embedding_scale", float),
        "residual_multiplier": file.setting(f"{at}.residual_scale", float),
        "logits_scaling": file.setting(f"{at}.logit_scale", float),
    }


def _gemma(file: GgufFile) -> dict[str, Any]:
    return {
        **_common(file, "gemma"),
        **_rotary(file),
        "architectures": ["GemmaForCausalLM"],
        "head_dim": file.setting(f"{file.architecture}.attention.key_length", int),
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
    }


def _starcoder2(file: GgufFile) -> dict[str, Any]:
    rotary = _rotary(file)
    del rotary["rms_norm_eps"]
    return {
        **_common(file, "starcoder2"),
        **rotary,
        "architectures": ["Starcoder2ForCausalLM"],
        "norm_epsilon": file.setting(f"{file.architecture}.attention.layer_norm_epsilon", float, 1e-5),
        "hidden_act": "gelu_pytorch_tanh",
        "use_bias": True,
        "sliding_window": None,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
    }


def _gpt2(file: GgufFile) -> dict[str, Any]:
    common = _common(file, "gpt2", width="n_embd")
    context, hidden = common.pop("max_position_embeddings"), common.pop("intermediate_size")
    return {
        **{name: value for name, value in common.items() if name != "num_key_value_heads"},
        "n_layer": common.pop("num_hidden_layers"),
        "n_head": common.pop("num_attention_heads"),
        "n_positions": context,
        "n_inner": hidden,
        "architectures": ["GPT2LMHeadModel"],
        "layer_norm_epsilon": file.setting("gpt2.attention.layer_norm_epsilon", float, 1e-5),
        "activation_function": "gelu_new",
    }


def _as_it_is(name: str, value: Array, config: Mapping[str, Any]) -> Array:
    return value


def _rows_put_back(name: str, value: Array, config: Mapping[str, Any]) -> Array:
    if ".attn_q." in name:
        heads = config["num_attention_heads"]
    elif ".attn_k." in name:
        heads = config["num_key_value_heads"]
    else:
        return value
    halves = value.reshape(heads, value.shape[0] // heads // 2, 2, *value.shape[1:])
    return halves.swapaxes(1, 2).reshape(value.shape)


def _one_taken_off(name: str, value: Array, config: Mapping[str, Any]) -> Array:
    return value - np.float32(1) if name.endswith("norm.weight") else value


def _both(there: str, here: str) -> dict[str, str]:
    return {f"{there}.weight": f"{here}.weight", f"{there}.bias": f"{here}.bias"}


_ONCE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_ATTENTION = {
    f"blk.{{}}.attn_{there}.weight": f"model.layers.{{}}.self_attn.{here}_proj.weight"
    for there, here in (("q", "q"), ("k", "k"), ("v", "v"), ("output", "o"))
}
_BIASES = {
    there.replace("weight", "bias"): here.replace("weight", "bias") for there, here in _ATTENTION.items()
}
_NORMS = {
    "blk.{}.attn_norm.weight": "model.layers.{}.input_layernorm.weight",
    "blk.{}.ffn_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
}
_GATED = {
    f"blk.{{}}.ffn_{name}.weight": f"model.layers.{{}}.mlp.{name}_proj.weight"
    for name in ("gate", "up", "down")
}
_STARCODER = {
    **_ATTENTION,
    **_BIASES,
    **_both("blk.{}.attn_norm", "model.layers.{}.input_layernorm"),
    **_both("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"),
    **_both("blk.{}.ffn_up", "model.layers.{}.mlp.c_fc"),
    **_both("blk.{}.ffn_down", "model.layers.{}.mlp.c_proj"),
}
_GPT2_LAYERS = {
    **_both("blk.{}.attn_norm", "transformer.h.{}.ln_1"),
    **_both("blk.{}.ffn_norm", "transformer.h.{}.ln_2"),
    **_both("blk.{}.attn_qkv", "transformer.h.{}.attn.c_attn"),
    **_both("blk.{}.attn_output", "transformer.h.{}.attn.c_proj"),
    **_both("blk.{}.ffn_up", "transformer.h.{}.mlp.c_fc"),
    **_both("blk.{}.ffn_down", "transformer.h.{}.mlp.c_proj"),
}
_UNTIED = frozenset({"output.weight"})
_LLAMA_LAYERS = {**_ATTENTION, **_BIASES, **_NORMS, **_GATED}
FAMILIES: Final[Mapping[str, Family]] = {
    "llama": Family(
        config=_llama,
        once=_ONCE,
        layers=_LLAMA_LAYERS,
        optional=_UNTIED | frozenset(_BIASES),
        change=_rows_put_back,
    ),
    "qwen2": Family(
        config=_qwen2,
        once=_ONCE,
        layers=_LLAMA_LAYERS,
        optional=_UNTIED | {"blk.{}.attn_output.bias"},
        change=_as_it_is,
    ),
    "granite": Family(
        config=_granite,
        once=_ONCE,
        layers=_LLAMA_LAYERS,
        optional=_UNTIED | frozenset(_BIASES),
        change=_rows_put_back,
    ),
    "gemma": Family(
        config=_gemma,
        once=_ONCE,
        layers={**_ATTENTION, **_NORMS, **_GATED},
        optional=_UNTIED,
        change=_one_taken_off,
    ),
    "starcoder2": Family(
        config=_starcoder2,
        once={**_ONCE, "output_norm.bias": "model.norm.bias"},
        layers=_STARCODER,
        optional=_UNTIED,
        change=_as_it_is,
    ),
    "gpt2": Family(
        config=_gpt2,
        once={
            "token_embd.weight": "transformer.wte.weight",
            "position_embd.weight": "transformer.wpe.weight",
            **_both("output_norm", "transformer.ln_f"),
            "output.weight": "lm_head.weight",
        },
        layers=_GPT2_LAYERS,
        optional=_UNTIED,
        change=_as_it_is,
        turned=("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight"),
    ),
}
