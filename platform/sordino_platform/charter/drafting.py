"""Makes charters on the machine that holds the root: a draft is changed step by step and then signed as one epoch.

The root folder:

    root.key                 Ed25519, 0600; read only to sign a charter, and may live on another medium
    tls-authority.key/.pem   ECDSA P-256; read only to issue certificates
    draft.json               the next epoch in the making
    charters/                every epoch that was signed
    invitations/, issued.jsonl   see `sordino_platform.identity`

Every change to the draft is a pure function on `Draft`; `change` applies one under a lock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sordino_platform.canonical import decode, encode, first_problem, moment
from sordino_platform.charter.document import MAX_CHARTER_BYTES, VERSION, Charter, Draft, shareable_honest
from sordino_platform.charter.model_terms import HuggingFaceTerms, ModelTerms
from sordino_platform.charter.parties import CharterCoordinator, CharterMember, RetiredKey, TlsAuthority
from sordino_platform.charter.policies import FloorTerms, TrainingPolicy
from sordino_platform.charter.signed import SignedCharter
from sordino_platform.charter.store import CharterStore
from sordino_platform.durable import locked, read_file, write_file
from sordino_platform.keys import fingerprint
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg.encoding import SUITE
from sordino_privacy.signing import Signer

DRAFT = "draft.json"
CHARTERS = "charters"
VALIDITY = timedelta(days=366)


def first_draft(
    *,
    federation: str,
    model: ModelTerms | HuggingFaceTerms,
    tls_authority: TlsAuthority,
    now: datetime | None = None,
    validity: timedelta = VALIDITY,
    **terms: Any,
) -> Draft:
    """The draft of epoch 1. `terms` are `floors`, `privacy` and `training`; what is left out has its default."""
    issued = moment(now or datetime.now(UTC))
    return _checked(
        federation=federation,
        epoch=1,
        issued_at=issued,
        expires_at=issued + validity,
        model=model,
        tls_authority=tls_authority,
        **{"training": TrainingPolicy()} | terms,
    )


def next_draft(
    charter: Charter, *, now: datetime | None = None, validity: timedelta = VALIDITY, **terms: Any
) -> Draft:
    """The draft of the epoch after `charter`, for the suite that this version uses. It keeps every term that `terms`
    does not replace. Raises ConfigurationError when the terms contradict each other."""
    issued = moment(now or datetime.now(UTC))
    present = dict(charter) | {"version": VERSION, "training": charter.training_policy(), "suite": SUITE}
    return _checked(
        **present
        | {
            "epoch": charter.epoch + 1,
            "previous": charter.hash(),
            "issued_at": issued,
            "expires_at": issued + validity,
        }
        | terms
    )


def floors_for(members: int, *, noise: str = "local") -> FloorTerms:
    """The default floors for this number of expected members (0: not known). The smallest cohort has room for every
    colluder and the honest floor, and is no larger than the membership. With noise = distributed the honest floor is
    the smallest that this noise allows."""
    floors = FloorTerms()
    if not members:
        return floors
    if noise == "distributed":
        honest = max(floors.honest, shareable_honest(floors, members))
        cohort = floors.as_secagg().corrupt(members) + honest
        floors = FloorTerms(cohort=max(floors.cohort, cohort), honest=honest)
    needed = floors.as_secagg().smallest_cohort(members)
    return floors.model_copy(update={"cohort": max(needed, min(floors.cohort, members))})


def revised(draft: Draft, **terms: Any) -> Draft:
    """`draft` with some terms replaced. Raises ConfigurationError when the resulting terms contradict each other."""
    return _checked(**(dict(draft) | terms))


def with_member(draft: Draft, member: CharterMember) -> Draft:
    """`draft` with one more member."""
    return revised(draft, members=tuple(sorted((*draft.members, member), key=lambda m: m.name)))


def with_coordinator(draft: Draft, coordinator: CharterCoordinator) -> Draft:
    """`draft` with this coordinator. When it replaces one that has another key, that key is retired."""
    old = draft.coordinator
    if old is None or old.identity_key == coordinator.identity_key or draft.epoch == 1:
        return revised(draft, coordinator=coordinator)
    gone = RetiredKey(name=old.name, identity_key=old.identity_key, epoch=draft.epoch)
    return revised(draft, coordinator=coordinator, retired=(*draft.retired, gone))


def without_member(draft: Draft, name: str) -> Draft:
    """`draft` without the member `name`, whose key is retired for ever."""
    leaving = [member for member in draft.members if member.name == name]
    if not leaving:
        raise ConfigurationError(f"{name!r} is not a member", hint="`sordino charter show` lists the members")
    gone = RetiredKey(name=name, identity_key=leaving[0].identity_key, epoch=draft.epoch)
    staying = tuple(member for member in draft.members if member.name != name)
    return revised(draft, members=staying, retired=(*draft.retired, gone))


def complete(draft: Draft) -> Charter:
    """The finished charter of a draft. Raises ConfigurationError that names what is still missing."""
    if draft.coordinator is None:
        raise ConfigurationError(
            "the draft has no coordinator yet", hint="`sordino charter add` its enrolment request"
        )
    try:
        return Charter(**dict(draft))
    except ValidationError as error:
        raise ConfigurationError(
            f"the draft is not complete: {first_problem(error)}",
            hint="`sordino charter add` more members, or change the floors with `sordino charter new --replace`",
        ) from None


def read_draft(root_folder: Path) -> Draft:
    """The draft in a root folder."""
    path = root_folder / DRAFT
    if not path.exists():
        raise ConfigurationError(
            f"{root_folder} holds no draft", hint="`sordino charter new` begins the next epoch"
        )
    return decode(Draft, read_file(path, limit=MAX_CHARTER_BYTES), limit=MAX_CHARTER_BYTES, what=str(path))


def write_draft(root_folder: Path, draft: Draft, *, replace: bool = False) -> None:
    """Keeps a draft in a root folder. An existing draft is replaced only on request."""
    write_file(root_folder / DRAFT, encode(draft), replace=replace)


def change(root_folder: Path, step: Callable[[Draft], Draft]) -> Draft:
    """Applies one change to the draft, under the folder's lock."""
    with locked(root_folder):
        draft = step(read_draft(root_folder))
        write_draft(root_folder, draft, replace=True)
    return draft


def sign_draft(root_folder: Path, root: Signer) -> SignedCharter:
    """Signs the draft as the next epoch, keeps it under `charters/`, and removes the draft.

    Raises ConfigurationError when the draft is incomplete or does not follow the last signed epoch.
    """
    with locked(root_folder):
        signed = SignedCharter.sign(complete(read_draft(root_folder)), root)
        store = CharterStore(root_folder / CHARTERS, root=fingerprint(root.public_key))
        store.accept(signed.to_bytes())
        (root_folder / DRAFT).unlink()
    return signed


def _checked(**terms: Any) -> Draft:
    try:
        return Draft(**terms)
    except ValidationError as error:
        raise ConfigurationError(f"the charter cannot be: {first_problem(error)}") from None
