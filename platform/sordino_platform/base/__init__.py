"""The base model that ships: where every federation starts, and what completes code from the first minute.

Trained by `sordino pretrain` on public, permissively licensed code only; `card()` names every project. Nothing in it
comes from a member. Needs no torch.

    >>> config, tokenizer, parameters = load()
    >>> model = sordino_platform.model.build_decoder(config, parameters)
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors

from sordino_platform.architecture import ModelConfig, Vector, check
from sordino_platform.base.rows import expand
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import ConfigurationError

MAX_BASE_BYTES = 16 << 20
# 1: weights in float16. 2: matrices as bytes by rows (rows.py). A format from a newer version is refused with its
# number.
FORMATS = ("sordino-base/1", "sordino-base/2")
_INSTALL_AGAIN = "install sordino again"


def card(folder: Path | None = None) -> dict[str, Any]:
    """The model card: configuration, digests, corpus list with licences, tokens seen, measured figures.

    Of the base that ships, or of one that `sordino pretrain --export` wrote into `folder`.
    """
    try:
        return dict(json.loads(_file(folder, "card.json")))
    except (OSError, ValueError) as error:
        raise ConfigurationError("the base model's card cannot be read", hint=_INSTALL_AGAIN) from error


def load(folder: Path | None = None) -> tuple[ModelConfig, Tokenizer, dict[str, Vector]]:
    """Configuration, tokenizer and float32 parameters by the names of architecture.py.

    Of the base that ships, or of one that `sordino pretrain --export` wrote into `folder`. Raises ConfigurationError
    when a file is missing or its digest is not the card's.
    """
    about = card(folder)
    if about.get("format") not in FORMATS:
        raise ConfigurationError(
            f"this version of sordino reads no base of the format {about.get('format')!r}",
            hint="install the version of sordino that the base came with",
        )
    try:
        raw = _file(folder, "base.safetensors")
        tensors = read_tensors(raw)
    except (OSError, SafetensorError) as error:
        raise ConfigurationError("the base model's weights cannot be read", hint=_INSTALL_AGAIN) from error
    if len(raw) > MAX_BASE_BYTES or hashlib.sha256(raw).hexdigest() != about["sha256"]:
        raise ConfigurationError("the base model's weights are not those of its card", hint=_INSTALL_AGAIN)
    config = ModelConfig(**about["config"])
    tokenizer = Tokenizer.shipped() if folder is None else Tokenizer.load(folder / "tokenizer.json")
    if tokenizer.digest.hex() != about["tokenizer_sha256"]:
        raise ConfigurationError("the base model was trained with another tokenizer", hint=_INSTALL_AGAIN)
    parameters = expand(tensors)
    check(config, parameters)
    return config, tokenizer, parameters


def directions() -> dict[str, Vector]:
    """The initial values for adapters on the base that ships: float32 matrices by the name of an adapter's `down`.

    Measured on the public corpus by `sordino pretrain --export`
    (client/sordino_client/laboratory/pretrain/directions.py). Raises ConfigurationError when the file is missing or is
    not the one that the card names.
    """
    try:
        raw = _file(None, "directions.safetensors")
    except OSError as error:
        raise ConfigurationError("the base model's directions cannot be read", hint=_INSTALL_AGAIN) from error
    if hashlib.sha256(raw).hexdigest() != card()["directions_sha256"]:
        raise ConfigurationError("the base model's directions are not those of its card", hint=_INSTALL_AGAIN)
    return {name: tensor.astype(np.float32) for name, tensor in read_tensors(raw).items()}


def _file(folder: Path | None, name: str) -> bytes:
    return (files(__name__) / name).read_bytes() if folder is None else (folder / name).read_bytes()
