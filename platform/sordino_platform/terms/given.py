"""Turns all options of `sordino charter new` into the terms of a first epoch or of the next one.

    given.first()            the terms to found a federation with
    given.following(held)    what changes of the terms that are in force, or of an open draft

Every option that was left out is None: its term does not change, or has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sordino_platform.charter import Charter, Draft, PrivacyPolicy, TrainingPolicy, drafting
from sordino_platform.terms.revising import (
    chosen_model,
    kept_adapters,
    revised_renewals,
    revised_section,
    revised_shared_memory,
)
from sordino_privacy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTerms:
    """The options. `floors`, `privacy` and `training` map names of terms to values, None for an option that was left
    out; `adapters` has only the given options. `members` is the number of expected members, for the smallest cohort."""

    floors: Mapping[str, Any]
    privacy: Mapping[str, Any]
    training: Mapping[str, Any]
    adapters: Mapping[str, Any]
    base: str | None = None
    shared_memory: bool | None = None
    members: int = 0
    renewal_authority: Path | None = None
    renewal_days: int | None = None

    def first(self) -> dict[str, Any]:
        """The terms of epoch 1, for `authority.found_root`.

        Raises UsageError for impossible terms, and for an authority for renewals: the coordinator makes its key, and
        the coordinator only joins the charter with epoch 1. Raises ConfigurationError for a base that cannot be read.
        """
        if self.renewal_authority is not None or self.renewal_days is not None:
            raise UsageError(
                "an authority for renewals needs a coordinator",
                hint="found the federation first, then a new epoch",
            )
        floors = drafting.floors_for(self.members, noise=self.privacy.get("noise") or "local")
        return {
            "model": chosen_model(self.base, self.adapters),
            "floors": revised_section(floors, dict(self.floors)),
            "privacy": revised_section(PrivacyPolicy(), dict(self.privacy)),
            "training": revised_section(TrainingPolicy(), dict(self.training)),
            "shared_memory": revised_shared_memory(None, self.shared_memory),
        }

    def following(self, present: Draft | Charter) -> dict[str, Any]:
        """The terms that come after `present`, for `authority.begin_epoch` or `drafting.revised`.

        Raises UsageError for impossible terms, ConfigurationError for a file that cannot be read.
        """
        terms: dict[str, Any] = {
            "floors": revised_section(present.floors, dict(self.floors)),
            "privacy": revised_section(present.privacy, dict(self.privacy)),
            "training": revised_section(present.training_policy(), dict(self.training)),
            "shared_memory": revised_shared_memory(present.shared_memory, self.shared_memory),
            "renewals": revised_renewals(present, self.renewal_authority, self.renewal_days),
        }
        if self.base is not None or self.adapters:
            kept = kept_adapters(present, self.base, self.adapters)
            terms["model"] = chosen_model(self.base, {**kept, **self.adapters})
        return terms
