"""Applies the options of `sordino charter new` to the terms of a charter: given options change their terms, all others
stay.

Every option that was left out is None. Each function raises UsageError for impossible terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from sordino_platform.bases.base import SHIPPED
from sordino_platform.canonical import first_problem
from sordino_platform.charter import (
    Charter,
    Draft,
    FloorTerms,
    HuggingFaceTerms,
    ModelTerms,
    PrivacyPolicy,
    RenewalTerms,
    SharedMemoryPolicy,
    TrainingPolicy,
)
from sordino_platform.durable import read_file
from sordino_platform.identity.renewal import renewal_authority
from sordino_privacy.errors import UsageError

MAX_AUTHORITY_BYTES: Final = 16 << 10
Section = TypeVar("Section", FloorTerms, PrivacyPolicy, TrainingPolicy)


def noise_term(noise: str | None) -> str | None:
    """Raises UsageError for a value that the option took before noise could be shared."""
    if noise not in (None, "local", "distributed"):
        raise UsageError(
            f"--noise {noise!r} is neither local nor distributed",
            hint="the smallest noise multiplier is --smallest-noise",
        )
    return noise


def revised_section(terms: Section, options: dict[str, Any]) -> Section:
    """`terms` with the options that were given. Raises UsageError for one out of its bounds."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return type(terms)(**(terms.model_dump() | given))
    except ValidationError as error:
        raise UsageError(f"the terms cannot be: {first_problem(error)}") from None


def revised_shared_memory(
    present: SharedMemoryPolicy | None, wanted: bool | None
) -> SharedMemoryPolicy | None:
    """The terms of a count: the present ones, with the given changes."""
    if wanted is None:
        return present
    return (present or SharedMemoryPolicy()) if wanted else None


def revised_renewals(present: Draft | Charter, file: Path | None, days: int | None) -> RenewalTerms | None:
    """The present authority for renewals, with what the options change. Raises UsageError, ConfigurationError."""
    held = present.renewals
    if days == 0:
        return None
    if file is None:
        if days is None or held is None:
            if days is not None:
                raise UsageError(
                    "there is no authority for renewals", hint="name one with --renewal-authority"
                )
            return held
        return RenewalTerms(authority=held.authority, validity_days=days)
    named = renewal_authority(read_file(file, limit=MAX_AUTHORITY_BYTES))
    return RenewalTerms(authority=named, validity_days=days or (held.validity_days if held else 30))


def chosen_model(base: str | None, adapters: Mapping[str, Any]) -> ModelTerms | HuggingFaceTerms:
    """The terms of the options that were given. Raises UsageError or ConfigurationError."""
    from sordino_platform.terms.chosen import model_of

    return model_of(base or SHIPPED, adapters)


def kept_adapters(draft: Draft | Charter, base: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The draft's adapter terms that do not change when others are given."""
    if base is not None or not isinstance(draft.model, ModelTerms):
        return {}
    if not draft.model.adapter_rank or given.get("adapter_rank") == 0:
        return {}
    return {name: getattr(draft.model, name) for name in ("adapter_rank", "embedding_rank", "adapter_scale")}
