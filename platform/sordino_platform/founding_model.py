"""The parameters that a federation starts from: the public base that its charter pins, and fresh adapters on it.

Members and coordinator derive the same parameters from the charter and their own installation. Release 0 carries the
trained part, and a member refuses any other.
"""

from __future__ import annotations

from sordino_platform import base
from sordino_platform.architecture import Vector, add_adapters, without_adapters
from sordino_platform.charter import HuggingFaceTerms, ModelTerms
from sordino_privacy.errors import ConfigurationError


def founding_parameters(terms: ModelTerms | HuggingFaceTerms) -> dict[str, Vector]:
    """Every parameter by name, float32. For a Hugging Face base only the adapters, which change nothing yet.

    Raises ConfigurationError when the base installed here is not the one that the charter names.
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
