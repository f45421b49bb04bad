"""The shape of the model and the vector that a federation trains, without torch.

The agent, the coordinator's strategy and the completion engine handle parameters as numpy arrays by name; only the
trainer and the evaluator need torch (see model.py, whose modules carry exactly these names).

`ModelConfig.trainable` names the subset that a federation trains. `flatten` and `unflatten` carry exactly that subset,
in sorted name order, as one float32 vector: the only form in which parameters meet the aggregation protocol.

    >>> vector = flatten(config, parameters)                 # float32, shape (n,)
    >>> parameters = unflatten(config, parameters, vector)   # a new mapping; what is not trained is shared
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from sordino_privacy.errors import ConfigurationError

Vector = npt.NDArray[np.float32]
Parameters = Mapping[str, Vector]

Trainable = Literal["full", "adapter"]
MAX_PARAMETERS = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The architecture: everything that fixes the shapes of the parameters.

    `width` must be `heads` times an even head size. `context` is in tokens. `adapter_rank` 0 means no adapters,
    `embedding_rank` 0 none on the tied embedding. `adapter_scale` multiplies the `down` of fresh adapters, and so, by
    its square, how much a step of plain SGD changes through an adapter compared with norms and biases.
    """

    vocabulary: int = 4096
    context: int = 512
    layers: int = 6
    heads: int = 6
    width: int = 192
    hidden: int = 768
    rope_base: float = 10_000.0
    adapter_rank: int = 0
    embedding_rank: int = 0
    adapter_scale: float = 1.0
    trainable: Trainable = "full"

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.context, self.layers, self.heads, self.width, self.hidden)
        if any(size < 1 or size > 1 << 20 for size in sizes) or self.width % (2 * self.heads):
            raise ConfigurationError("the model configuration has impossible sizes", hint="use one of SIZES")
        if (
            self.vocabulary * self.width + self.layers * self.width * (self.width + self.hidden)
            > MAX_PARAMETERS
        ):
            raise ConfigurationError("the model configuration is larger than 2^30 parameters")
        if not 0 <= self.embedding_rank <= self.width or not 0 <= self.adapter_rank <= self.width:
            raise ConfigurationError("adapter_rank and embedding_rank must lie between 0 and the width")
        if (self.embedding_rank or self.adapter_scale != 1) and not self.adapter_rank:
            raise ConfigurationError("embedding_rank and adapter_scale need an adapter_rank above 0")
        if not 0 < self.adapter_scale <= 100:
            raise ConfigurationError("adapter_scale must be above 0 and at most 100")
        if self.trainable not in ("full", "adapter"):
            raise ConfigurationError("trainable must be 'full' or 'adapter'")

    @property
    def end(self) -> int:
        """The token that closes a document."""
        return 0

    def digest(self) -> bytes:
        """SHA-256 of the canonical form. Two configurations with the same digest have the same parameter layout."""
        return _digest(b"sordino-model/1\n", asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFaceConfig:
    """A base in Hugging Face's format, which is not changed, and the adapters that are trained on it. `base_sha256` is
    the digest of its files (huggingface.py). `targets` are the adapted layers: name, outputs, inputs, sorted. `end` is
    the token that closes a document.
    """

    base_sha256: str
    vocabulary: int
    context: int
    end: int
    adapter_rank: int
    targets: tuple[tuple[str, int, int], ...]

    def __post_init__(self) -> None:
        sizes = [
            self.vocabulary,
            self.context,
            self.adapter_rank,
            *(n for _, *two in self.targets for n in two),
        ]
        if any(size < 1 or size > 1 << 24 for size in sizes) or not 0 <= self.end < self.vocabulary:
            raise ConfigurationError("the adapter configuration has impossible sizes")
        names = [name for name, _, _ in self.targets]
        if not names or names != sorted(set(names)) or len(names) > 1 << 14:
            raise ConfigurationError("the adapted layers must be sorted by name, each once")
        if self.adapter_rank * sum(a + b for _, a, b in self.targets) > MAX_PARAMETERS:
            raise ConfigurationError("the adapters are larger than 2^30 parameters")

    def digest(self) -> bytes:
        """SHA-256 of the canonical form. Two configurations with the same digest have the same base and the same
        layout."""
        return _digest(b"sordino-huggingface-model/1\n", asdict(self))


# What a federation can train.
Architecture = ModelConfig | HuggingFaceConfig


def _digest(label: bytes, raw: dict[str, object]) -> bytes:
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(label + text.encode()).digest()


# The prototype's two sizes, the base that ships, and what an accelerator trains in its place (ADR 37): 2,267,008 /
# 3,447,424 / 10,006,912 / 13,695,232 / 22,032,256 parameters without adapters (a test checks them).
SIZES: dict[str, ModelConfig] = {
    "2.3m": ModelConfig(layers=4, hidden=576),
    "3.4m": ModelConfig(),
    "10m": ModelConfig(vocabulary=8192, layers=6, heads=5, width=320, hidden=1280),
    "13m": ModelConfig(vocabulary=8192, layers=9, heads=5, width=320, hidden=1280),
    "22m": ModelConfig(layers=8, heads=7, width=448, hidden=1920),
}


def with_adapters(
    config: ModelConfig, rank: int, *, embedding_rank: int = 0, scale: float = 1.0
) -> ModelConfig:
    """The same architecture with adapters of `rank` as the trained subset (rank 0: the full model)."""
    return replace(
        config,
        adapter_rank=rank,
        embedding_rank=embedding_rank,
        adapter_scale=scale,
        trainable="adapter" if rank else "full",
    )


def without_adapters(config: ModelConfig) -> ModelConfig:
    """The configuration that describes parameters with the adapters folded in (`merged`)."""
    return with_adapters(config, 0)


def shapes(config: Architecture) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape, sorted by name: exactly these must be in a file of parameters.

    For a Hugging Face base these are only the adapters: the base itself never leaves its folder.
    """
    if isinstance(config, HuggingFaceConfig):
        rank = config.adapter_rank
        both = [
            ((f"{n}.down", (rank, inputs)), (f"{n}.up", (outputs, rank)))
            for n, outputs, inputs in config.targets
        ]
        return dict(sorted(pair for pairs in both for pair in pairs))
    width, rank = config.width, config.adapter_rank
    found: dict[str, tuple[int, ...]] = {
        "embed.weight": (config.vocabulary, width),
        "embed.bias": (config.vocabulary,),
        "norm_in.weight": (width,),
        "norm_out.weight": (width,),
    }
    if config.embedding_rank:
        found["embed.down"] = (config.embedding_rank, width)
        found["embed.up"] = (config.vocabulary, config.embedding_rank)
    for block in range(config.layers):
        at = f"blocks.{block}"
        found |= {f"{at}.norm_attention.weight": (width,), f"{at}.norm_network.weight": (width,)}
        for name, inputs, outputs in (
            ("query_key_value", width, 3 * width),
            ("attention_out", width, width),
            ("expand", width, config.hidden),
            ("contract", config.hidden, width),
        ):
            found[f"{at}.{name}.weight"] = (outputs, inputs)
            if rank:
                found |= {f"{at}.{name}.down": (rank, inputs), f"{at}.{name}.up": (outputs, rank)}
    return dict(sorted(found.items()))


def trainable_names(config: Architecture, names: Iterable[str]) -> list[str]:
    """The names that a federation with this configuration trains, sorted: the order of the vector.

    `full`: every parameter. `adapter`: the adapters' factors, the norms and the output bias. In measurements this
    subset kept most of the gain under noise.
    """
    ordered = sorted(names)
    if isinstance(config, HuggingFaceConfig) or config.trainable == "full":
        return ordered
    return [n for n in ordered if n.endswith((".down", ".up", ".bias")) or ".norm_" in f".{n}"]


def trainable_shapes(config: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of each trained parameter, in the order of the vector."""
    every = shapes(config)
    return {name: every[name] for name in trainable_names(config, every)}


def check(config: Architecture, parameters: Parameters) -> None:
    """Raises ConfigurationError unless `parameters` are exactly this configuration's, float32 and finite."""
    expected = shapes(config)
    if set(parameters) != set(expected):
        raise ConfigurationError("the model file does not hold the parameters of its configuration")
    for name, shape in expected.items():
        value = parameters[name]
        if value.shape != shape or value.dtype != np.float32 or not np.isfinite(value).all():
            raise ConfigurationError(f"the model file's {name} has another shape or type, or is not finite")


def flatten(config: Architecture, parameters: Parameters) -> Vector:
    """The trained subset as one float32 vector."""
    return np.concatenate([parameters[name].reshape(-1) for name in trainable_names(config, parameters)])


def unflatten(config: Architecture, parameters: Parameters, vector: Vector) -> dict[str, Vector]:
    """`parameters` with the trained subset taken from `vector`. Raises ConfigurationError when the vector does not
    fit."""
    layout = trainable_shapes(config)
    if vector.dtype != np.float32 or vector.shape != (sum(int(np.prod(shape)) for shape in layout.values()),):
        raise ConfigurationError("the parameter vector does not fit this model's configuration")
    if not np.isfinite(vector).all():
        raise ConfigurationError("the parameter vector holds a value that is not finite")
    result, start = dict(parameters), 0
    for name, shape in layout.items():
        stop = start + int(np.prod(shape))
        result[name] = vector[start:stop].reshape(shape)
        start = stop
    return result


def merged(parameters: Parameters) -> dict[str, Vector]:
    """Effective weights with the adapters folded in (`weight + up @ down`): what the completion engine loads."""
    plain = {name: value for name, value in parameters.items() if not name.endswith((".down", ".up"))}
    for name in [n.removesuffix(".up") for n in parameters if n.endswith(".up")]:
        plain[f"{name}.weight"] = (
            parameters[f"{name}.weight"] + parameters[f"{name}.up"] @ parameters[f"{name}.down"]
        )
    return plain


def add_adapters(
    config: Architecture, parameters: Parameters, *, directions: Parameters | None = None, seed: int = 0
) -> dict[str, Vector]:
    """The base's parameters plus fresh adapters: `up` zero (no change), `down` from `directions` or a fixed seed.

    `directions` maps the name of a `down` to a matrix `(rows, inputs)`, the most useful row first: its first rows,
    times the adapter scale, are taken. A `down` that it lacks is Gaussian of unit length, times the adapter scale.
    """
    result, generator = dict(parameters), np.random.default_rng(seed)
    scale = 1.0 if isinstance(config, HuggingFaceConfig) else config.adapter_scale
    for name, shape in shapes(config).items():
        if name.endswith(".down"):
            drawn = generator.standard_normal(shape) / np.sqrt(shape[1])
            known = (directions or {}).get(name, drawn)[: shape[0]]
            drawn[: len(known)] = known
            result[name] = (scale * drawn).astype(np.float32)
        elif name.endswith(".up"):
            result[name] = np.zeros(shape, dtype=np.float32)
    return result
