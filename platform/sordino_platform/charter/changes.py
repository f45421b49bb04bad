"""What changed between two charters, for the person who decides whether to accept the new one.

A change that can only weaken protection is marked, because that is the line a reviewer looks for. Every other change
has one kind. A member's own policy may accept some kinds without asking a person. A change that weakens has no kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sordino_platform.charter.document import CharterTerms

# Fields where a *higher* number protects less, and fields where a *lower* one does.
_WEAKER_WHEN_HIGHER = {
    "floors.organisation_share_permille",
    "privacy.largest_epsilon",
    "privacy.largest_delta",
    "privacy.largest_clip_norm",
    "privacy.largest_sampling_rate",
    "privacy.largest_steps",
    "training.largest_move_permille",
    "training.largest_learning_rate",
    "training.largest_noise_multiplier",
    "training.largest_windows_per_unit",
    "shared_memory.largest_bits",
    "shared_memory.largest_expected_units",
    "shared_memory.largest_length",
    "shared_memory.largest_phrases",
    "training.largest_server_rate",
    "training.largest_momentum",
    "training.largest_second_momentum",
    "renewals.validity_days",
}
_WEAKER_WHEN_LOWER = {
    "floors.cohort",
    "floors.organisations",
    "floors.gamma_permille",
    "floors.honest",
    "privacy.smallest_noise_multiplier",
    "shared_memory.smallest_deviations",
    "shared_memory.smallest_surprise",
    "shared_memory.smallest_witnesses",
    "training.smallest_expected_units",
    "training.smallest_tau",
}


class ChangeKind(StrEnum):
    """What a change is about, so that a person can decide beforehand which kinds to accept. TERMS is all the rest:
    everything that this version does not know to be harmless."""

    RENEWAL = "renewal"
    STRICTER = "stricter"
    MEMBERS_ADDED = "members_added"
    MEMBERS_REMOVED = "members_removed"
    MEMBERS_CHANGED = "members_changed"
    COORDINATOR = "coordinator"
    TLS_AUTHORITY = "tls_authority"
    TERMS = "terms"


ALWAYS = frozenset({ChangeKind.RENEWAL, ChangeKind.STRICTER})
"""Changes that need no person: a later expiry, and changes that can only protect more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of a comparison. `before` is empty when something was added, `after` when it was removed."""

    field: str
    before: str
    after: str
    kind: ChangeKind = ChangeKind.TERMS
    weaker: bool = False


def changes(old: CharterTerms, new: CharterTerms) -> tuple[Change, ...]:
    """Every difference, in a stable order. Epoch, previous hash and issue date always differ and are left out."""
    found: list[Change] = []
    before, after = _flat(old), _flat(new)
    for field in sorted(before.keys() | after.keys()):
        a, b = before.get(field), after.get(field)
        if a != b:
            found.append(
                Change(
                    field=field,
                    before=_text(a),
                    after=_text(b),
                    kind=_kind(field, a, b),
                    weaker=_weaker(field, a, b),
                ),
            )
    return tuple(found)


def _kind(field: str, before: object, after: object) -> ChangeKind:
    section, _, name = field.partition(".")
    match section:
        case "expires_at":
            # Dates are text in one format, so the later one compares greater.
            return ChangeKind.RENEWAL if str(after) > str(before) else ChangeKind.STRICTER
        case "members" if name:
            if before is None:
                return ChangeKind.MEMBERS_ADDED
            return ChangeKind.MEMBERS_REMOVED if after is None else ChangeKind.MEMBERS_CHANGED
        case "retired":  # says which key; that a member left or has another key is a separate line
            return ChangeKind.STRICTER if before is None else ChangeKind.TERMS
        case "coordinator":
            return ChangeKind.COORDINATOR
        case "tls_authority":
            return ChangeKind.TLS_AUTHORITY
        case _:
            return ChangeKind.STRICTER if _weaker(field, after, before) else ChangeKind.TERMS


def _weaker(field: str, before: object, after: object) -> bool:
    if field == "privacy.noise":
        return after == "distributed"  # each member adds less noise of its own
    if field == "privacy.update_check":
        return True  # "sum" limits a liar less, "norm" shows more of each update: a person decides
    if field.startswith("shared_memory.") and before is None:
        return True  # phrases of very many clusters are then shown to all members, word for word
    if field == "renewals.authority":
        return after is not None  # one more key, on a machine with a network, can extend certificates
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return False
    return (field in _WEAKER_WHEN_HIGHER and after > before) or (
        field in _WEAKER_WHEN_LOWER and after < before
    )


def _flat(terms: CharterTerms) -> dict[str, object]:
    data = terms.model_dump(mode="json", exclude={"version", "epoch", "previous", "issued_at"})
    data["privacy"]["noise"] = terms.privacy.noise
    data["training"] = terms.training_policy().model_dump(mode="json")  # in force, written down or not
    flat: dict[str, object] = {}
    for member in data.pop("members"):
        flat[f"members.{member['name']}"] = f"{member['organisation']}, {member['identity_key']}"
    for key in data.pop("retired"):
        flat[f"retired.{key['name']}.{key['identity_key'][:16]}"] = f"since epoch {key['epoch']}"
    for section, value in data.items():
        if isinstance(value, dict):
            flat |= {f"{section}.{name}": _plain(item) for name, item in value.items()}
        else:
            flat[section] = value
    return flat


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return value["fingerprint"]  # of an authority; its certificate is not shown
    if not isinstance(value, list):
        return value
    return ", ".join(item["name"] if isinstance(item, dict) else str(item) for item in value)


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
