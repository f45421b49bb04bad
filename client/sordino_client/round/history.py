"""Answers a coordinator that lost part of the federation's history: with what is public, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sordino_client.round.member import Member
from sordino_platform.flower.phases import Scalar, Vector
from sordino_platform.history import Question, Want, batch
from sordino_privacy.errors import LinkError


def answer(member: Member, question: Question) -> tuple[Mapping[str, Scalar], Mapping[str, Vector]]:
    """The fields and vectors of the answer. Raises LinkError for a vector that is not held."""
    first = question.first
    if question.want is Want.CHARTERS:
        chain = member.identity.charters.chain()
        return {"items": batch(signed.to_bytes() for signed in chain[max(0, first - 1) :])}, {}
    if question.want is Want.MANIFESTS:
        return {"items": batch(_manifests(member, first))}, {}
    if not 0 <= first <= member.newest_release() or not member.releases.holds(first):
        raise LinkError(f"release {first} is not held here")
    return {}, {"weights": member.releases.vector(first)}


def _manifests(member: Member, first: int) -> Iterator[bytes]:
    for number in range(first, member.newest_release() + 1):
        yield member.releases.manifest_bytes(number)
