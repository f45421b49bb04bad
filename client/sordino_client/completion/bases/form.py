"""Reads a base's decoder from its configuration, if our graph can compute it; everything else raises UnknownFormError.

Known are llama, mistral, qwen2, gemma, gpt2 and starcoder2, which differ in the norm (root mean square or layer norm),
in how a token's place is told (turned queries and keys, or a table), in the network (gated or not, its activation) and
in biases. Another architecture, or a known one with a setting that this module does not name, is read by transformers
itself (fallback.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import MAX_BRANCHES, DecoderShape
from sordino_platform import durable
from sordino_platform.bases.base import SERVED_CONTEXT
from sordino_privacy.errors import ConfigurationError

Norm = Literal["rms", "layer"]
Activation = Literal["silu", "gelu", "gelu_tanh"]

MAX_CONFIG_BYTES = 1 << 20
# Spare rows behind a cache, so that a part of a prompt near its end has room for all its rows (graph.py).
SPREAD_ROWS = 16
MAX_SIZE = 1 << 24
ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}


class UnknownFormError(ConfigurationError):
    """A decoder that our graph does not compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a family keeps its matrices: module names, as transformers has them, of each of our parts."""

    layers: str
    embed: str
    norm_out: str
    query_key_value: tuple[str, ...]
    attention_out: str
    expand: tuple[str, ...]
    contract: str
    norm_attention: str = "input_layernorm"
    norm_network: str = "post_attention_layernorm"
    position: str | None = None
    transposed: bool = False


_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_LLAMA = Layout(
    layers="model.layers.{}.",
    embed="model.embed_tokens",
    norm_out="model.norm",
    query_key_value=_ATTENTION,
    attention_out="self_attn.o_proj",
    expand=("mlp.gate_proj", "mlp.up_proj"),
    contract="mlp.down_proj",
)
_STARCODER = Layout(
    layers="model.layers.{}.",
    embed="model.embed_tokens",
    norm_out="model.norm",
    query_key_value=_ATTENTION,
    attention_out="self_attn.o_proj",
    expand=("mlp.c_fc",),
    contract="mlp.c_proj",
)
_GPT2 = Layout(
    layers="transformer.h.{}.",
    embed="transformer.wte",
    position="transformer.wpe",
    norm_out="transformer.ln_f",
    query_key_value=("attn.c_attn",),
    attention_out="attn.c_proj",
    expand=("mlp.c_fc",),
    contract="mlp.c_proj",
    norm_attention="ln_1",
    norm_network="ln_2",
    transposed=True,
)
LAYOUTS: Final[Mapping[str, Layout]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "gemma": _LLAMA,
    "starcoder2": _STARCODER,
    "gpt2": _GPT2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A decoder. `frequencies` `(size / 2,)` turn queries and keys by radians a position; None: places have a table.

    `shape.context` is the window that is served. `hidden` is the inner width of the network, `norm_offset` is added to
    each norm's weight.
    """

    family: str
    shape: DecoderShape
    width: int
    hidden: int
    query_heads: int
    norm: Norm
    epsilon: float
    norm_offset: float
    frequencies: Array | None
    gated: bool
    activation: Activation
    embedding_scale: float
    tied: bool

    @property
    def sharing(self) -> int:
        """How many heads of queries look at the same keys."""
        return self.query_heads // self.shape.heads

    @property
    def layout(self) -> Layout:
        """The names of its tensors."""
        return LAYOUTS[self.family]

    def rotary(self) -> tuple[Array, Array] | None:
        """Cosines and sines for every row that a cache may hold, each `(rows, size / 2)`."""
        if self.frequencies is None:
            return None
        angle = np.outer(np.arange(self.shape.context * MAX_BRANCHES), self.frequencies.astype(np.float64))
        return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def read_config(folder: Path) -> Mapping[str, Any]:
    """The folder's config.json. Raises ConfigurationError or StorageError."""
    try:
        found = json.loads(durable.read_file(folder / "config.json", limit=MAX_CONFIG_BYTES))
    except ValueError as error:
        raise ConfigurationError(f"{folder} has a config.json that is not JSON") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{folder} has a config.json that is not an object")
    return found


def form_of(config: Mapping[str, Any], *, context: int = SERVED_CONTEXT) -> Form:
    """The decoder of a config.json, in a window of at most `context`. Raises UnknownFormError."""
    family = config.get("model_type")
    if not isinstance(family, str) or family not in LAYOUTS:
        raise UnknownFormError(f"an architecture of the kind {str(family)[:40]!r} is not computed here")
    if family == "gpt2":
        return _gpt2(config, context)
    width, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    head = _size(config, "head_dim", width // heads)
    if family == "gemma" and config.get("head_dim") is None:
        head = 256
    groups = _size(config, "num_key_value_heads", heads)
    if heads % groups:
        raise UnknownFormError(f"{heads} heads over {groups} of keys are not computed here")
    layer = family == "starcoder2"
    activation = config.get("hidden_activation") or config.get("hidden_act")
    windows = [_size(config, "max_position_embeddings", 2048), context]
    if config.get("use_sliding_window", True) and config.get("sliding_window"):
        windows.append(_size(config, "sliding_window"))
    return Form(
        family=family,
        shape=DecoderShape(
            layers=_size(config, "num_hidden_layers"),
            heads=groups,
            size=head,
            context=min(windows),
            vocabulary=_size(config, "vocab_size"),
            spare=(heads // groups - 1) * SPREAD_ROWS + 1,
        ),
        width=width,
        hidden=_size(config, "intermediate_size"),
        query_heads=heads,
        norm="layer" if layer else "rms",
        epsilon=_number(config, "norm_epsilon" if layer else "rms_norm_eps", 1e-5 if layer else 1e-6),
        norm_offset=1.0 if family == "gemma" else 0.0,
        frequencies=_frequencies(config, head),
        gated=not layer,
        # Gemma's first configurations name the exact function and mean the approximation.
        activation="gelu_tanh" if family == "gemma" else _activation(activation),
        embedding_scale=float(np.float32(width**0.5)) if family == "gemma" else 1.0,
        tied=_tied(config, default=family in ("gemma", "starcoder2")),
    )


def _gpt2(config: Mapping[str, Any], context: int) -> Form:
    width, heads = _size(config, "n_embd"), _size(config, "n_head")
    if not config.get("scale_attn_weights", True) or config.get("scale_attn_by_inverse_layer_idx"):
        raise UnknownFormError("a gpt2 that scales its attention in its own way is not computed here")
    return Form(
        family="gpt2",
        shape=DecoderShape(
            layers=_size(config, "n_layer"),
            heads=heads,
            size=width // heads,
            context=min(_size(config, "n_positions"), context),
            vocabulary=_size(config, "vocab_size"),
        ),
        width=width,
        hidden=_size(config, "n_inner", 4 * width),
        query_heads=heads,
        norm="layer",
        epsilon=_number(config, "layer_norm_epsilon", 1e-5),
        norm_offset=0.0,
        frequencies=None,
        gated=False,
        activation=_activation(config.get("activation_function", "gelu_new")),
        embedding_scale=1.0,
        tied=_tied(config, default=True),
    )


def _frequencies(config: Mapping[str, Any], size: int) -> Array:
    """Radians a position: plain, stretched evenly, or by llama 3's rule (transformers, modeling_rope_utils)."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise UnknownFormError("the turning of positions is not described as it should be")
    base = given.get("rope_theta", config.get("rope_theta", 10000.0))
    if not isinstance(base, int | float) or base <= 1 or given.get("partial_rotary_factor", 1) != 1:
        raise UnknownFormError("positions are turned in a way that is not computed here")
    if size % 16:  # the kernel's own condition
        raise UnknownFormError(f"heads of {size} numbers are not turned here")
    plain = float(base) ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    match given.get("rope_type", given.get("type", "default")):
        case "default":
            return plain.astype(np.float32)
        case "linear":
            return (plain / _number(given, "factor", 1.0)).astype(np.float32)
        case "llama3":
            factor, low = _number(given, "factor", 8.0), _number(given, "low_freq_factor", 1.0)
            high = _number(given, "high_freq_factor", 4.0)
            trained = _number(given, "original_max_position_embeddings", 8192.0)
            smooth = np.clip((trained * plain / (2 * np.pi) - low) / (high - low), 0, 1)
            return ((1 - smooth) * plain / factor + smooth * plain).astype(np.float32)
        case other:
            raise UnknownFormError(f"positions stretched by {str(other)[:40]!r} are not computed here")


def _activation(name: object) -> Activation:
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnknownFormError(f"the activation {str(name)[:40]!r} is not computed here")
    return ACTIVATIONS[name]


def _tied(config: Mapping[str, Any], *, default: bool) -> bool:
    return bool(config.get("tie_word_embeddings", default))


def _size(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MAX_SIZE:
        raise UnknownFormError(f"the base's config.json has no {name} that could be")
    return value


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e9:
        raise UnknownFormError(f"the base's config.json has a {name} that cannot be")
    return float(value)
