"""Loading a Hugging Face model with adapters on it (see huggingface.py). Imports torch; transformers when it is used.

config = describe(folder, rank=8)         # once, when the charter is drafted: reads no weights
model = load(folder, config, adapters)    # in the trainer: tokens (batch, time) -> logits
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
from sordino_platform.huggingface import HuggingFaceTokenizer, digest
from sordino_privacy.errors import ConfigurationError

MAX_CONTEXT = 1 << 16
# Names that PEFT gives to the two factors; ours are `down` and `up`, as in our own model.
_DOWN, _UP = ".lora_A.default.weight", ".lora_B.default.weight"
_PREFIX = "inner.base_model.model."


class Logits(nn.Module):
    """Tokens in, logits out: the interface of our own decoder."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.inner(input_ids=tokens.long(), use_cache=False).logits
        return logits


def describe(folder: Path, *, rank: int) -> HuggingFaceConfig:
    """The base in `folder` with adapters of `rank` on all its linear layers but the output. Reads no weights."""
    base = digest(folder)
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
        elif type(module).__name__ == "Conv1D":  # GPT-2's linear layer, its weight the other way round
            targets.append((name, int(weight.shape[1]), int(weight.shape[0])))
    end = config.eos_token_id
    if isinstance(end, list):
        end = end[0] if end else None
    context = next(
        (
            int(value)
            for name in ("max_position_embeddings", "n_positions")
            if (value := getattr(config, name, None))
        ),
        2048,
    )
    if not isinstance(end, int) or not targets:
        raise ConfigurationError(
            f"{folder} names no end-of-text token, or has no linear layer that an adapter could change"
        )
    HuggingFaceTokenizer.load(folder)  # refuses now what a member would refuse later
    return HuggingFaceConfig(
        base_sha256=base.hex(),
        vocabulary=int(config.vocab_size),
        context=min(context, MAX_CONTEXT),
        end=end,
        adapter_rank=rank,
        targets=tuple(sorted(targets)),
    )


def require_base(folder: Path, config: HuggingFaceConfig) -> None:
    """Reads the whole base. Raises ConfigurationError when it is not the one of `config`, or nothing here can load
    it."""
    if digest(folder).hex() != config.base_sha256:
        raise ConfigurationError(
            f"the base model in {folder} is not the one that the charter names",
            hint="fetch the very files that the federation was founded with",
        )
    _transformers()


def load(folder: Path, config: HuggingFaceConfig, adapters: Parameters) -> nn.Module:
    """The base with these adapters, float32 on the CPU, tokens `(batch, time)` to logits; only adapters are trainable.

    Raises ConfigurationError when the folder's base is not the one of `config`, or the adapters are others.
    """
    require_base(folder, config)
    check(config, adapters)
    _transformers()
    import peft

    found = _transformers_config(folder)
    # A dropped activation would be noise that nobody accounts for, and would make training differ from its check.
    for name, value in found.to_dict().items():
        if "drop" in name and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(found, name, 0.0)
    inner = _from_folder(folder, found)
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
        # peft still asks for a property that transformers renamed.
        warnings.simplefilter("ignore", FutureWarning)
        model = Logits(peft.get_peft_model(inner, lora))
    factors = _factors(model)
    if set(factors) != set(adapters):
        raise ConfigurationError("the base model's layers are not those that the charter lists")
    with torch.no_grad():
        for name, parameter in factors.items():
            parameter.copy_(torch.from_numpy(np.array(adapters[name])))
    return model


def load_plain(folder: Path) -> Any:
    """The base without adapters, as transformers has it: float32 on the CPU, nothing trainable.

    Raises ConfigurationError where transformers is missing, or does not know the architecture.
    """
    return _from_folder(folder, _transformers_config(folder)).eval().requires_grad_(False)


def _from_folder(folder: Path, config: Any) -> Any:
    return _transformers().AutoModelForCausalLM.from_pretrained(
        str(folder),
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )


def adapters_of(model: nn.Module) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """A copy of the adapters of a model that `load` made, by our names."""
    return {name: p.detach().numpy().astype(np.float32, copy=True) for name, p in _factors(model).items()}


def _factors(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by our names. Raises ConfigurationError for one that is no adapter."""
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
    # Before the first import: the library reads these once.
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
