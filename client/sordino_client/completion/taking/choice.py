"""How much a member takes of its federation, chosen by code of its own that nobody trained on.

    share           how much of the release's adapters is taken, from 0 (the model that releases begin with) to 1
    own             whether the developer's own adapters lie on it
    shared_memory   whether the federation's shared memory is read

Between two models lie others: with a share of s every weight is `(1 - s) alone + s federated`, each with the own
adapter that was trained on it. Such means are often better than either end (Wortsman et al. 2022, "Robust fine-tuning
of zero-shot models"), and here they keep more of what was learnt than of the noise of privacy.

Which share is right depends on how much the member has in common with the others and on what its own memory already
knows. So files of its own decide, with its own memory on, as when it is served. Nobody else has a say: no value from
the coordinator is read. Until there is a choice, everything is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """One way to be served."""

    share: float
    own: bool
    shared_memory: bool


EVERYTHING = Taking(share=1.0, own=True, shared_memory=True)


def candidates(*, shares: Sequence[float], own: bool, shared_memory: bool) -> list[Taking]:
    """The ways to try, from the least of the federation to the most. `own` and `shared_memory`: whether there is one;
    leaving out what is not there is not tried."""
    return [
        Taking(share=share, own=with_own, shared_memory=with_memory)
        for share in sorted(shares)
        for with_memory in ((False, True) if shared_memory else (True,))
        for with_own in ((True, False) if own else (True,))
    ]


def best_of(bits: Mapping[Taking, float]) -> Taking:
    """The way under which the choosing files have the fewest bits. `bits` is in the order of `candidates`: of equals,
    less of the federation is taken. Raises ValueError where nothing was tried."""
    return min(bits, key=lambda one: bits[one])


def taking_in_words(taking: Taking, *, own: bool = True, shared_memory: bool = True) -> str:
    """Says for a person what is taken. `own` and `shared_memory`: whether there is one to take or to leave."""
    how_much = {0.0: "none", 1.0: "all"}.get(taking.share, f"{taking.share:.0%}")
    said = [f"{how_much} of the federation's adapters"]
    if shared_memory:
        said.append("its shared memory" if taking.shared_memory else "not its shared memory")
    if own:
        said.append("your own adapter" if taking.own else "not your own adapter")
    return ", ".join(said)
