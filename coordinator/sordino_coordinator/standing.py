"""What a member holds, as it said before a round."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStanding:
    """The numbers of its newest release (-1: none) and of its charter's epoch, and of how many releases, from the first
    on, it holds the manifests at least."""

    release: int
    epoch: int
    manifests: int
