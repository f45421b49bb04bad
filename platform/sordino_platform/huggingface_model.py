"""Loading a Hugging Face model with adapters on it (see huggingface.py). Imports torch; transformers when it is used.

config = describe(place, rank=8)         # once, when the charter is drafted: loads no weights
model = load(place, config, adapters)    # in the trainer: tokens (batch, time) -> logits

A place is a folder in Hugging Face's form or a .gguf file.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sordino_platform.architecture import HuggingFaceConfig, Parameters, check
from sordino_platform.bases import digest_at, folder_at
from sordino_platform.bases.describing import context_of, end_of_text
from sordino_platform.huggingface import HuggingFaceTokenizer, read_object
from sordino_privacy.dpsgd.watching import watched_again
from sordino_privacy.errors import ConfigurationError

# PEFT's names for the two factors. Ours are `down` and `up`, as in our own model.
_DOWN, _UP = ".lora_A.default.weight", ".lora_B.default.weight"
_PREFIX = "inner.base_model.model."


class Logits(nn.Module):
    """Tokens in, logits out: the interface of our own decoder."""

    def __init__(self, inner: nn.Module, config: HuggingFaceConfig) -> None:
        super().__init__()
        self.inner, self.config = inner, config

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.inner(input_ids=tokens.long(), use_cache=False).logits
        return logits


def describe(place: Path, *, rank: int) -> HuggingFaceConfig:
    """The base in a folder or a .gguf file with adapters of `rank` on all its linear layers but the output. Loads no
    weights; reads every byte for the digest.

    Raises ConfigurationError for anything that is not such a base, or that would run foreign code.
    """
    base, folder = digest_at(place), folder_at(place)
    config = _transformers_config(folder)
    transformers = _transformers()
    with torch.device("meta"):
        try:
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        except ValueError as error:
            raise ConfigurationError(f"{folder} is not a causal language model") from error
    output = model.get_output_embeddings()
    targets = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if module is output or weight is None:
            continue
        if isinstance(module, torch.nn.Linear):
            targets.append((name, int(weight.shape[0]), int(weight.shape[1])))
        elif type(module).__name__ == "Conv1D":  # GPT-2's linear layer has its weight transposed
            targets.append((name, int(weight.shape[1]), int(weight.shape[0])))
    if not targets:
        raise ConfigurationError(f"{folder} has no linear layer that an adapter could change")
    raw = read_object(folder, "config.json")
    tokenizer = HuggingFaceTokenizer.load(folder)  # refuses now what members would refuse later
    return HuggingFaceConfig(
        base_sha256=base,
        vocabulary=int(config.vocab_size),
        context=context_of(raw),
        end=end_of_text(tokenizer, raw, what=place),
        adapter_rank=rank,
        targets=tuple(sorted(targets)),
    )


def require_base(place: Path, config: HuggingFaceConfig) -> None:
    """Reads the whole base. Raises ConfigurationError when it is not the base of `config`, or no installed library can
    load it."""
    if digest_at(place) != config.base_sha256:
        raise ConfigurationError(
            f"the base model in {place} is not the one that the charter names",
            hint="fetch the very files that the federation was founded with",
        )
    _transformers()


def load_base_model(
    place: Path,
    config: HuggingFaceConfig,
    adapters: Parameters,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    checkpointing: bool = False,
    merged: Parameters | None = None,
) -> Logits:
    """The base with these adapters, tokens `(batch, time)` to logits; only adapters are trainable, in float32.

    `dtype` is the type of the base's own weights and products. With `checkpointing` each layer's activations are
    computed again in the backward pass instead of being kept. `merged` are adapters of any rank that are first added to
    the base's weights and then not trained. Raises ConfigurationError when the base is not the base of `config`, or the
    adapters do not fit it.
    """
    require_base(place, config)
    check(config, adapters)
    folder = folder_at(place)
    _transformers()
    import peft

    found = _transformers_config(folder)
    # Dropout would add noise that nobody accounts for, and training would differ from its check.
    for name, value in found.to_dict().items():
        if "drop" in name and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(found, name, 0.0)
    # Added in float32, because a less precise type would lose a small change.
    inner = _from_folder(folder, found, torch.float32 if merged else dtype)
    merge(inner, merged or {})
    inner = inner.to(device=device, dtype=dtype)
    lora = peft.LoraConfig(
        r=config.adapter_rank,
        lora_alpha=config.adapter_rank,  # a scale of 1: the update is `up @ down`, as in our own model
        lora_dropout=0.0,
        bias="none",
        target_modules=[name for name, _, _ in config.targets],
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in inner.modules()),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft still uses a property that transformers renamed.
        warnings.simplefilter("ignore", FutureWarning)
        model = Logits(peft.get_peft_model(inner, lora), config)
    if checkpointing:
        if not inner.supports_gradient_checkpointing:
            raise ConfigurationError(
                f"{place} has an architecture whose layers cannot be computed again on the way back",
                hint="give the trainer more memory",
            )
        inner.activation_checkpointing_enable({"use_reentrant": False, "context_fn": watched_again})
    put(model, adapters)
    return model


def merge(inner: nn.Module, factors: Parameters) -> None:
    """Adds `up @ down` to the weight of each module that `factors` name (`<module>.down`, `<module>.up`).

    Raises ConfigurationError when one belongs to no weight of the base, or does not fit it.
    """
    for module in sorted({name.rsplit(".", 1)[0] for name in factors}):
        try:
            target: Any = inner.get_submodule(module)
            change = torch.from_numpy(np.asarray(factors[f"{module}.up"] @ factors[f"{module}.down"]))
            with torch.no_grad():
                # GPT-2's linear layer has its weight transposed.
                target.weight += change.T if type(target).__name__ == "Conv1D" else change
        except (AttributeError, KeyError, RuntimeError, ValueError) as error:
            raise ConfigurationError(f"the adapter of {module} does not fit the base") from error


def put(model: nn.Module, adapters: Parameters) -> None:
    """Replaces the adapters of a model of `load_base_model`. Raises ConfigurationError when they belong to other
    layers."""
    factors = factors_of(model)
    if set(factors) != set(adapters):
        raise ConfigurationError("the base model's layers are not those that the charter lists")
    with torch.no_grad():
        for name, parameter in factors.items():
            parameter.copy_(torch.from_numpy(np.array(adapters[name])))


def load_plain(folder: Path) -> Any:
    """The base without adapters, as transformers loads it: float32 on the CPU, nothing trainable.

    Raises ConfigurationError when transformers is missing or does not know the architecture, or when the files lack
    weights.
    """
    return _from_folder(folder, _transformers_config(folder), torch.float32).eval().requires_grad_(False)


def _from_folder(folder: Path, config: Any, dtype: torch.dtype) -> Any:
    """The model with the folder's weights. Raises ConfigurationError when weights are missing or do not belong to
    it."""
    try:
        model, said = _transformers().AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{folder} holds weights that its configuration cannot take",
            hint="fetch all files from one place",
        ) from error
    # transformers initialises missing weights at random: a base with a random layer would train and be worthless.
    if said["missing_keys"] or said["mismatched_keys"]:
        raise ConfigurationError(f"{folder} lacks weights of its own model", hint="fetch all its files again")
    return model


def adapters_of(model: nn.Module) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """A copy of the adapters of a model that `load_base_model` made, by our names."""
    return {
        name: p.detach().cpu().numpy().astype(np.float32, copy=True) for name, p in factors_of(model).items()
    }


def factors_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by our names. Raises ConfigurationError for a parameter that is not an adapter's."""
    found: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = name.removeprefix(_PREFIX)
        if layer.endswith(_DOWN):
            found[layer.removesuffix(_DOWN) + ".down"] = parameter
        elif layer.endswith(_UP):
            found[layer.removesuffix(_UP) + ".up"] = parameter
        else:
            raise ConfigurationError("the base model has a trainable parameter that is no adapter")
    return found


def _transformers() -> Any:
    # Set before the first import, because the library reads these only once.
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import peft  # noqa: F401
        import transformers
    except ImportError as error:
        raise ConfigurationError(
            "this installation cannot load models of Hugging Face's format",
            hint="pip install 'sordino[huggingface]'",
        ) from error
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers


def _transformers_config(folder: Path) -> Any:
    transformers = _transformers()
    try:
        return transformers.AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{folder} has an architecture that transformers does not know") from error
