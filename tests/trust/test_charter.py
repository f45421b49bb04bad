"""The charter: one byte form, nothing unsigned, nothing impossible, and epochs that only go forward."""

from __future__ import annotations

import base64
import json
import operator
import random
import shutil
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_platform.architecture import HuggingFaceConfig
from sordino_platform.canonical import encode
from sordino_platform.charter import (
    Charter,
    CharterStore,
    FloorTerms,
    ModelTerms,
    PrivacyPolicy,
    SignedCharter,
    drafting,
    require_successor,
)
from sordino_platform.charter.document import MAX_CHARTER_BYTES
from sordino_platform.identity import authority
from sordino_platform.identity.ceremony import Foundation
from sordino_platform.keys import fingerprint, load_identity_key, parse_fingerprint
from sordino_privacy.errors import ConfigurationError, SordinoError, UsageError
from sordino_privacy.secagg import refusals
from sordino_privacy.secagg.refusals import IdentityError, PolicyError
from sordino_privacy.signing import KeySigner


@pytest.fixture(scope="session")
def signed(founded: Foundation) -> SignedCharter:
    return authority.charters_of(founded.root).head()


def test_a_charter_reads_back_as_it_was_signed(signed: SignedCharter) -> None:
    assert SignedCharter.parse(signed.to_bytes(), root=signed.root_fingerprint) == signed


def test_a_charter_of_the_suite_before_is_read_but_no_round_is_held_under_it(signed: SignedCharter) -> None:
    older = Charter(**dict(signed.charter) | {"suite": "sordino-secagg/1"})
    with pytest.raises(
        ConfigurationError, match=r"sordino-secagg/1.*speaks sordino-secagg/2 only"
    ) as refused:
        older.membership()
    assert "charter new" in refused.value.hint
    assert drafting.complete(drafting.next_draft(older)).membership().epoch == older.epoch + 1


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value in a JSON document."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [path]


def altered(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1") if value else "x"
    return [*value, "x"] if isinstance(value, list) else value + 1


def canonical(document: Any) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=1) + "\n").encode()


def test_every_single_value_is_under_the_signature(signed: SignedCharter) -> None:
    """Each value changed, the bytes canonical again: what an attacker without the root key can do best."""
    paths = leaves(json.loads(signed.to_bytes()))
    assert len(paths) > 40
    for path in paths:
        document = json.loads(signed.to_bytes())
        place = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = altered(place[path[-1]])
        with pytest.raises(ConfigurationError):
            SignedCharter.parse(canonical(document), root=signed.root_fingerprint)


def test_adding_removing_and_reordering_are_refused(signed: SignedCharter) -> None:
    def attempt(change: Callable[[Any], object]) -> None:
        document = json.loads(signed.to_bytes())
        change(document["charter"])
        with pytest.raises(ConfigurationError):
            SignedCharter.parse(canonical(document), root=signed.root_fingerprint)

    attempt(lambda charter: charter.update(extra=1))
    attempt(lambda charter: charter["floors"].update(extra=1))
    attempt(lambda charter: charter["members"].reverse())
    attempt(lambda charter: charter["members"].append(charter["members"][0]))
    absent = {"renewals", "shared_memory"}
    for field in absent:
        attempt(operator.methodcaller("update", {field: None}))  # absent has one form
    for field in Charter.model_fields.keys() - absent:  # also the ones that have a default
        attempt(operator.methodcaller("pop", field))


@pytest.mark.parametrize(
    "respell",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b"\n ", b"\n  ", 1),
        lambda data: data.replace(b'"epoch": 1,', b'"epoch": 1,\n  "epoch": 1,'),
        lambda data: data.replace(b"8.0", b"8.00"),
        lambda data: data.replace(b"8.0", b"8"),
        lambda data: data.replace(b"1e-05", b"0.00001"),
        lambda data: data.replace(b'"demo"', b'"d\\u0065mo"'),
        lambda data: data.replace(b"Z", b"+00:00", 1),
        lambda data: data.replace(b"Z", b".000Z", 1),
        lambda data: b"\xef\xbb\xbf" + data,
    ],
)
def test_a_second_spelling_of_the_same_charter_is_refused(
    signed: SignedCharter, respell: Callable[[bytes], bytes]
) -> None:
    data = respell(signed.to_bytes())
    assert data != signed.to_bytes()
    with pytest.raises(ConfigurationError):
        SignedCharter.parse(data, root=signed.root_fingerprint)


def test_upper_case_keys_are_refused(signed: SignedCharter) -> None:
    document = json.loads(signed.to_bytes())
    document["root_key"] = document["root_key"].upper()
    with pytest.raises(ConfigurationError, match="canonical"):
        SignedCharter.parse(canonical(document), root=signed.root_fingerprint)


def test_another_root_is_refused_and_named(signed: SignedCharter) -> None:
    other = KeySigner.generate()
    forged = SignedCharter.sign(signed.charter, other)
    with pytest.raises(ConfigurationError, match="another root key") as refused:
        SignedCharter.parse(forged.to_bytes(), root=signed.root_fingerprint)
    assert fingerprint(other.public_key) in refused.value.hint
    swapped = forged.model_copy(update={"root_key": signed.root_key})
    with pytest.raises(ConfigurationError, match="signature"):
        SignedCharter.parse(swapped.to_bytes(), root=signed.root_fingerprint)


def test_a_charter_larger_than_its_limit_is_refused_unread() -> None:
    with pytest.raises(ConfigurationError, match="larger than"):
        SignedCharter.parse_unverified(b"[" * (MAX_CHARTER_BYTES + 1))


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"", b"null", b"\xff"])
def test_hostile_json_ends_in_one_clear_error(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match="the charter cannot be used"):
        SignedCharter.parse_unverified(data)


@given(data=st.binary(max_size=400))
def test_no_random_bytes_are_a_charter(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        SignedCharter.parse_unverified(data)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=200)
def test_no_damaged_charter_is_accepted(signed: SignedCharter, seed: int) -> None:
    generator, data = random.Random(seed), bytearray(signed.to_bytes())
    for _ in range(generator.randint(1, 3)):
        index = generator.randrange(len(data))
        match generator.randrange(3):
            case 0:
                data[index] ^= 1 << generator.randrange(8)
            case 1:
                del data[index]
            case _:
                data.insert(index, generator.randrange(256))
    if bytes(data) != signed.to_bytes():
        with pytest.raises(ConfigurationError):
            SignedCharter.parse(bytes(data), root=signed.root_fingerprint)


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_an_authority_whose_serial_number_is_not_positive_is_refused(
    signed: SignedCharter, action: Literal["error", "ignore"]
) -> None:
    """The library warns, and may be told to be silent: it is refused either way."""
    certificate = signed.charter.tls_authority.x509()
    number = certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")  # as DER has it: the first bit is the sign
    der = certificate.public_bytes(Encoding.DER)
    assert der.count(serial) == 1
    negative = x509_pem(der.replace(serial, bytes([serial[0] | 0x80]) + serial[1:]))
    authority = signed.charter.tls_authority.model_copy(update={"certificate": negative})
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ValueError, match=r"serial number|cannot be read"):
            authority.x509()


def x509_pem(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


def with_terms(charter: Charter, **terms: object) -> None:
    drafting.complete(drafting.revised(drafting.next_draft(charter), **terms))


def test_impossible_charters_cannot_be_made(signed: SignedCharter) -> None:
    charter = signed.charter
    members = charter.members
    attempts: list[tuple[dict[str, object], str]] = [
        ({"members": members[:4]}, "4 members are fewer than the smallest cohort, 5"),
        ({"members": members[::-1]}, "sorted by name"),
        ({"members": (*members, members[4])}, "sorted by name"),
        (
            {
                "members": (
                    *members[:4],
                    members[4].model_copy(update={"identity_key": members[0].identity_key}),
                )
            },
            "two members have one identity key",
        ),
        (
            {"members": tuple(m.model_copy(update={"organisation": "One"}) for m in members)},
            "as few as 1 of 1 organisations are left, and the floor is 3",
        ),
        (
            {"members": (*members[:4], members[4].model_copy(update={"organisation": "ORGANISATION 0"}))},
            "spelt in two ways",
        ),
        ({"coordinator": charter.coordinator.model_copy(update={"name": "member-0"})}, "name of a member"),
        (
            {"coordinator": charter.coordinator.model_copy(update={"identity_key": members[0].identity_key})},
            "key of a member",
        ),
        ({"previous": bytes(32)}, "first epoch"),
        ({"expires_at": charter.issued_at - timedelta(days=1)}, "expire after"),
    ]
    for terms, complaint in attempts:
        with pytest.raises(ConfigurationError, match=complaint):
            with_terms(charter, **terms)


@pytest.mark.parametrize(
    "fields",
    [
        {"cohort": 2},
        {"cohort": 10_001},
        {"organisations": 0},
        {"organisations": 6},
        {"gamma_permille": 334},
        {"gamma_permille": -1},
        {"honest": 1},
        {"organisation_share_permille": 0},
        {"cohort": 5.0},
        {"cohort": True},
    ],
)
def test_floors_have_floors_of_their_own(fields: dict[str, Any]) -> None:
    with pytest.raises((ValueError, ConfigurationError)):
        FloorTerms(**fields)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, "8"])
@pytest.mark.parametrize("field", sorted(PrivacyPolicy.model_fields))
def test_terms_of_privacy_are_positive_and_finite(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        PrivacyPolicy(**{field: value})


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "a/b", "a" * 64, "a\n", "é", ".."])
def test_names_need_no_escaping_anywhere(signed: SignedCharter, name: str) -> None:
    with pytest.raises(ConfigurationError):
        with_terms(signed.charter, federation=name)


def test_the_privacy_policy_refuses_what_lies_outside() -> None:
    policy = PrivacyPolicy()
    inside: dict[str, Any] = {
        "noise_multiplier": policy.smallest_noise_multiplier,
        "clip_norm": policy.largest_clip_norm,
        "sampling_rate": policy.largest_sampling_rate,
        "steps": policy.largest_steps,
        "delta": policy.largest_delta,
    }
    policy.require(**inside)
    outside: dict[str, tuple[float, ...]] = {
        "noise_multiplier": (0.49, 0.0, -1.0),
        "clip_norm": (1.01, 0.0),
        "sampling_rate": (0.26, 0.0),
        "steps": (201, 0),
        "delta": (1.1e-5, 0.0),
    }
    assert outside.keys() == inside.keys()
    for field, values in outside.items():
        for value in (*values, float("nan")):
            with pytest.raises(PolicyError):
                policy.require(**(inside | {field: value}))


def test_the_membership_says_what_the_charter_says(signed: SignedCharter) -> None:
    membership = signed.charter.membership()
    assert membership.charter_hash == signed.charter.hash()
    assert [m.name for m in membership.members] == [m.name for m in signed.charter.members]
    assert [m.public_key for m in membership.members] == [m.identity_key for m in signed.charter.members]
    for field in FloorTerms.model_fields:
        assert getattr(membership.floors, field) == getattr(signed.charter.floors, field)
    with pytest.raises(refusals.IdentityError):
        membership.member("nobody")


def test_the_model_terms_are_the_architecture(signed: SignedCharter, terms: ModelTerms) -> None:
    config = signed.charter.model.config()
    assert not isinstance(config, HuggingFaceConfig)
    again = ModelTerms.of(config, base_sha256=terms.base_sha256, tokenizer_sha256=terms.tokenizer_sha256)
    assert again == terms
    with pytest.raises(ConfigurationError, match="impossible sizes"):
        terms.model_validate(dict(terms) | {"heads": 3})


def test_an_expired_charter_is_refused(signed: SignedCharter) -> None:
    charter = signed.charter
    charter.require_current(charter.expires_at - timedelta(seconds=1))
    with pytest.raises(ConfigurationError, match="expired"):
        charter.require_current(charter.expires_at)


# Succession


@pytest.fixture(scope="session")
def three_epochs(original: Callable[..., Foundation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with three epochs; the second retires `member-6`, the third `member-5`."""
    root = tmp_path_factory.mktemp("epochs") / "root"
    shutil.copytree(original(7, 0).root, root)
    for name in ("member-6", "member-5"):
        authority.retire(root, name)
        authority.sign_epoch(root)
    return root


@pytest.fixture
def epochs(three_epochs: Path, tmp_path: Path) -> tuple[Path, list[SignedCharter]]:
    """A copy of it, and its charters."""
    root = tmp_path / "root"
    shutil.copytree(three_epochs, root)
    return root, list(authority.charters_of(root).chain())


def test_epochs_follow_each_other_and_survive_a_restart(
    epochs: tuple[Path, list[SignedCharter]], tmp_path: Path
) -> None:
    _, chain = epochs
    store = CharterStore(tmp_path / "charters", root=chain[0].root_fingerprint)
    for signed in chain:
        store.accept(signed.to_bytes())
        store.accept(signed.to_bytes())
    again = CharterStore(tmp_path / "charters", root=chain[0].root_fingerprint)
    assert [signed.charter.epoch for signed in again.chain()] == [1, 2, 3]
    assert again.head() == chain[-1]
    assert again.by_hash(chain[1].charter.hash()).epoch == 2
    with pytest.raises(ConfigurationError, match="no charter that is held here"):
        again.by_hash(bytes(32))


def test_an_epoch_that_goes_back_is_refused(epochs: tuple[Path, list[SignedCharter]]) -> None:
    root, chain = epochs
    store = authority.charters_of(root)
    with pytest.raises(IdentityError, match="went back from epoch 3 to 1"):
        store.accept(chain[0].to_bytes())
    assert store.head().charter.epoch == 3


def test_a_gap_and_a_chain_without_its_beginning_are_refused(
    epochs: tuple[Path, list[SignedCharter]], tmp_path: Path
) -> None:
    _, chain = epochs
    store = CharterStore(tmp_path / "charters", root=chain[0].root_fingerprint)
    with pytest.raises(ConfigurationError, match="begins at epoch 2"):
        store.accept(chain[1].to_bytes())
    store.accept(chain[0].to_bytes())
    with pytest.raises(ConfigurationError, match="between epoch 1 and 3 are missing"):
        store.accept(chain[2].to_bytes())


def test_two_charters_of_one_epoch_a_fork_and_an_unretired_key_are_refused(
    epochs: tuple[Path, list[SignedCharter]],
) -> None:
    root, chain = epochs
    key = load_identity_key(root / "root.key")
    second, third = chain[1].charter, chain[2].charter
    longer = third.model_copy(update={"expires_at": third.expires_at + timedelta(days=1)})
    with pytest.raises(IdentityError, match="two different charters of epoch 3"):
        require_successor(third, longer)
    with pytest.raises(ConfigurationError, match="does not follow"):
        require_successor(second, third.model_copy(update={"previous": b"x" * 32}))
    with pytest.raises(ConfigurationError, match="takes a retired key back"):
        require_successor(second, third.model_copy(update={"retired": ()}))
    with pytest.raises(ConfigurationError, match="is of other"):
        require_successor(second, third.model_copy(update={"federation": "other"}))
    require_successor(second, third)
    # Even the root's own signature does not help an attacker who got hold of a backup of it for a moment.
    store = authority.charters_of(root)
    with pytest.raises(IdentityError):
        store.accept(SignedCharter.sign(longer, key).to_bytes())


@pytest.mark.parametrize("damage", ["flip", "truncate", "swap", "remove"])
def test_a_charter_file_that_was_changed_on_disk_is_found(
    epochs: tuple[Path, list[SignedCharter]], damage: str
) -> None:
    root, _ = epochs
    first, second, third = sorted((root / "charters").glob("*.json"))
    data = bytearray(second.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        second.write_bytes(bytes(data))
    elif damage == "truncate":
        second.write_bytes(bytes(data[: len(data) // 2]))
    elif damage == "swap":
        second.write_bytes(third.read_bytes())
    else:
        second.unlink()
        third.rename(second)
    assert first.exists()
    with pytest.raises(SordinoError):
        authority.charters_of(root).chain()


@given(data=st.binary(min_size=32, max_size=32))
def test_a_fingerprint_survives_the_telephone(data: bytes) -> None:
    text = fingerprint(data)
    assert len(text.split("-")) == 13
    assert parse_fingerprint(text.upper().replace("-", "  ")) == text


@pytest.mark.parametrize("text", ["", "aaaa", "-".join(["aaaa"] * 12), "-".join(["aa0a"] * 13)])
def test_what_is_not_a_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_fingerprint(text)


def test_a_charter_of_the_largest_federation_is_bounded(signed: SignedCharter) -> None:
    """1,000 members take a megabyte at most, so the limit of 8 MiB holds the 10,000 that the protocol allows."""
    base = signed.charter.members[0]
    many = tuple(
        base.model_copy(
            update={
                "name": f"{index:04d}" + "m" * 59,
                "organisation": "O" * 80,
                "identity_key": index.to_bytes(32),
            }
        )
        for index in range(1, 1001)
    )
    assert len(encode(signed.charter.model_copy(update={"members": many}))) * 10 < MAX_CHARTER_BYTES
