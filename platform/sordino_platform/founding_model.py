"""The parameters that a federation starts from: the public base that its charter pins, and fresh adapters on it.

Members and coordinator derive the same from the charter and their own installation; release 0 carries the trained part,
and a member refuses any other.
"""

from __future__ import annotations

from sordino_platform import base
from sordino_platform.architecture import (
    Architecture,
    Parameters,
    Vector,
    add_adapters,
    flatten,
    without_adapters,
)
from sordino_platform.charter import HuggingFaceTerms, ModelTerms
from sordino_platform.release import Manifest, vector_hash
from sordino_privacy.errors import ConfigurationError


def founding_parameters(terms: ModelTerms | HuggingFaceTerms) -> dict[str, Vector]:
    """Every parameter by name, float32; of a Hugging Face base the adapters only, which change nothing yet.

    Raises ConfigurationError when the base that is installed here is not the one the charter names.
    """
    if isinstance(terms, HuggingFaceTerms):
        return add_adapters(terms.config(), {})
    shipped, tokenizer, parameters = base.load()
    if (base.card()["sha256"], tokenizer.digest) != (terms.base_sha256.hex(), terms.tokenizer_sha256):
        raise ConfigurationError(
            "the base model that is installed here is not the one that the charter names",
            hint="install the version of sordino that the federation was founded with",
        )
    config = terms.config()
    if without_adapters(config) != shipped:
        raise ConfigurationError("the charter's model is not of the architecture of the base that it names")
    return add_adapters(config, parameters, directions=base.directions())


def require_founding(manifest: Manifest, config: Architecture, parameters: Parameters) -> None:
    """Raises ConfigurationError when `manifest` is of release 0 and its vector is not the one that is derived here.

    A coordinator has no say in where training begins: whoever chose the start of the adapters could make members spend
    privacy on directions of its own choice.
    """
    if manifest.number == 0 and manifest.vector_hash != vector_hash(flatten(config, parameters)):
        raise ConfigurationError(
            "release 0 is not the model that follows from the charter",
            hint="install the version of sordino that the federation was founded with",
        )
