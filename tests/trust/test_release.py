"""Releases: signed, chained, whole or absent, and refused when anything about them was changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from sordino_client.completion import bundle
from sordino_platform.architecture import ModelConfig, Vector, shapes
from sordino_platform.canonical import encode
from sordino_platform.charter import CharterStore
from sordino_platform.identity import Identity, authority
from sordino_platform.identity.ceremony import Foundation
from sordino_platform.release import (
    Manifest,
    ReleaseStore,
    ServerOptimiser,
    SignedManifest,
    dimension_of,
    parse_weights,
    vector_hash,
    write_serving_bundle,
)
from sordino_platform.release.manifest import MemoryMark
from sordino_platform.release.weights import file_sha256, file_size, header
from sordino_privacy.errors import ConfigurationError, StorageError

Federation = Callable[..., Foundation]
NAMES = tuple(f"member-{index}" for index in range(5))
ROUND: dict[str, Any] = {"run": "r1", "round": 9, "members": NAMES[:4]}


@pytest.fixture
def hub(founded: Foundation) -> Identity:
    return Identity.load(founded.coordinator)


@pytest.fixture
def store(hub: Identity, tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases", hub.charters)


def vector_of(hub: Identity, value: float) -> Vector:
    return np.linspace(-value, value, dimension_of(hub.charter), dtype=np.float32)


@pytest.fixture
def filled(store: ReleaseStore, hub: Identity) -> ReleaseStore:
    store.add(vector_of(hub, 1.0), key=hub.signing_key, run="r1")
    for number in (1, 2):
        store.add(
            vector_of(hub, 1.0 + number),
            key=hub.signing_key,
            run="r1",
            round=number,
            members=NAMES[:4],
            heldout_loss=3.0 - number,
        )
    return store


def mirror(filled: ReleaseStore, folder: Path) -> ReleaseStore:
    return ReleaseStore(folder, filled.charters)


def test_a_release_comes_back_as_it_was_signed(filled: ReleaseStore, hub: Identity) -> None:
    again = ReleaseStore(filled.folder, hub.charters)
    assert [signed.manifest.number for signed in again.verify(weights=True)] == [0, 1, 2]
    assert np.array_equal(again.vector(), vector_of(hub, 3.0))
    assert np.array_equal(again.vector(0), vector_of(hub, 1.0))
    assert again.head().members == NAMES[:4]
    assert again.head().heldout_loss == 1.0
    assert not again.vector().flags.writeable


def test_any_safetensors_library_reads_the_weights(filled: ReleaseStore, hub: Identity) -> None:
    tensors = load_file(filled.weights_path(2))
    assert list(tensors) == ["vector"]
    assert np.array_equal(tensors["vector"], vector_of(hub, 3.0))


def test_a_member_that_computes_the_new_model_itself_holds_the_same_file(
    filled: ReleaseStore, hub: Identity, tmp_path: Path
) -> None:
    mine = mirror(filled, tmp_path / "mine")
    for number in range(3):
        mine.accept(filled.manifest_bytes(number), vector_of(hub, 1.0 + number))
    assert mine.weights_path(2).read_bytes() == filled.weights_path(2).read_bytes()
    assert mine.accept(filled.manifest_bytes(1), None).number == 1


def test_a_late_member_walks_the_manifests_and_fetches_only_the_newest_weights(
    filled: ReleaseStore, tmp_path: Path
) -> None:
    mine = mirror(filled, tmp_path / "mine")
    for number in range(3):
        mine.accept(filled.manifest_bytes(number), None)
    with pytest.raises(ConfigurationError, match="not kept here"):
        mine.vector()
    data, head = filled.weights_path(2).read_bytes(), mine.head()
    vector = parse_weights(data, dimension=head.dimension, sha256=head.weights_sha256)
    mine.accept(filled.manifest_bytes(2), vector)
    assert np.array_equal(mine.vector(), vector)


def test_a_gap_a_fork_and_another_vector_are_refused(
    filled: ReleaseStore, hub: Identity, tmp_path: Path
) -> None:
    mine = mirror(filled, tmp_path / "mine")
    with pytest.raises(ConfigurationError, match="release 1 was offered where release 0 is next"):
        mine.accept(filled.manifest_bytes(1), None)
    mine.accept(filled.manifest_bytes(0), vector_of(hub, 1.0))
    with pytest.raises(ConfigurationError, match="not the one of release 1"):
        mine.accept(filled.manifest_bytes(1), vector_of(hub, 9.0))
    fork = mirror(filled, tmp_path / "fork")
    fork.add(vector_of(hub, 7.0), key=hub.signing_key, run="r1")
    fork.add(vector_of(hub, 8.0), key=hub.signing_key, **ROUND)
    with pytest.raises(ConfigurationError, match="two different releases 0"):
        mine.accept(fork.manifest_bytes(0), None)
    with pytest.raises(ConfigurationError, match="does not follow the release"):
        mine.accept(fork.manifest_bytes(1), None)
    assert mine.head().number == 0


def forged(manifest: Manifest, hub: Identity, **fields: object) -> bytes:
    """What a malicious coordinator would sign: a valid signature over other facts."""
    return SignedManifest.sign(manifest.model_copy(update=fields), hub.signing_key).to_bytes()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"number": 4}, "release 4 was offered where release 2 is next"),
        ({"parent": bytes(32)}, "does not follow"),
        ({"federation": "other"}, "another federation"),
        ({"charter_hash": b"x" * 32}, "no charter that is held here"),
        ({"dimension": 3}, "another length"),
        ({"members": (*NAMES[:2], "stranger", "zed")}, "'stranger', who is not a member"),
        ({"members": NAMES[:3]}, "fewer than the floor of 4"),
        ({"members": NAMES[:4][::-1]}, "sorted"),
        ({"members": (*NAMES[:4], "member-3")}, "once each"),
        ({"round": None, "members": ()}, "of no round, restores no release and is not the base"),
        ({"round": None}, "members or moments but no round"),
        ({"round": None, "members": (), "moments": (b"x" * 32,)}, "members or moments but no round"),
        ({"moments": (b"x" * 32,)}, "does not name the moments of its optimiser"),
        ({"restores": 0}, "cannot restore"),
        ({"round": None, "members": (), "restores": 2}, "cannot restore"),
        ({"round": None, "members": (), "restores": 0}, "says that it restores release 0, and does not"),
    ],
)
def test_a_dishonest_coordinator_cannot_sign_its_way_around_a_rule(
    filled: ReleaseStore, hub: Identity, tmp_path: Path, fields: dict[str, object], complaint: str
) -> None:
    mine = mirror(filled, tmp_path / "mine")
    for number in range(2):
        mine.accept(filled.manifest_bytes(number), None)
    with pytest.raises(ConfigurationError, match=complaint):
        mine.accept(forged(filled.manifest(2), hub, **fields), None)
    assert mine.head().number == 1


def test_a_release_with_another_model_than_the_charters_is_refused(
    filled: ReleaseStore, hub: Identity, tmp_path: Path
) -> None:
    mine = mirror(filled, tmp_path / "mine")
    manifest = filled.manifest(0)
    other = manifest.model.model_copy(update={"tokenizer_sha256": b"z" * 32})
    with pytest.raises(ConfigurationError, match="another model"):
        mine.accept(forged(manifest, hub, model=other), None)


def test_every_field_of_a_manifest_is_under_the_signature(filled: ReleaseStore, tmp_path: Path) -> None:
    signed = SignedManifest.parse(filled.manifest_bytes(0))
    mine = mirror(filled, tmp_path / "mine")
    changed = {
        "federation": "demo2",
        "run": "r2",
        "number": 1,
        "parent": b"x" * 32,
        "dimension": 5,
        "weights_sha256": b"x" * 32,
        "vector_hash": b"x" * 32,
        "round": 1,
        "members": NAMES,
        "heldout_loss": 0.1,
        "transcript_head": b"x" * 32,
        "optimiser": ServerOptimiser(name="fedavgm"),
        "moments": (b"x" * 32,),
        "restores": 0,
        "shared_memory": MemoryMark(sha256=b"x" * 32, release=1),
        "made_at": signed.manifest.made_at.replace(year=2001),
    }
    # The three that are missing are refused before the signature is looked at: see the tests above.
    assert changed.keys() | {"version", "charter_hash", "model"} == set(Manifest.model_fields)
    for field, value in changed.items():
        change = {field: value}
        if field == "shared_memory":
            change["version"] = "sordino-release/2"  # no other has one
        altered = signed.model_copy(update={"manifest": signed.manifest.model_copy(update=change)})
        with pytest.raises(ConfigurationError, match=r"signature|another federation"):
            mine.accept(altered.to_bytes(), None)


def test_a_release_signed_by_a_member_is_refused(
    filled: ReleaseStore, founded: Foundation, tmp_path: Path
) -> None:
    member = Identity.load(founded.members["member-0"])
    data = SignedManifest.sign(filled.manifest(0), member.signing_key).to_bytes()
    with pytest.raises(ConfigurationError, match="signature of release 0 is wrong"):
        mirror(filled, tmp_path / "mine").accept(data, None)


@pytest.mark.parametrize("damage", ["truncate", "extend", "flip"])
def test_damaged_weights_are_never_returned(filled: ReleaseStore, damage: str) -> None:
    path = filled.weights_path(1)
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        data = data[:-4]
    elif damage == "extend":
        data += b"\0" * 4
    else:
        data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError):
        filled.vector(1)
    with pytest.raises(StorageError):
        filled.verify(weights=True)


def test_a_weights_file_with_a_header_of_its_own_is_refused_even_when_its_hash_is_signed() -> None:
    import hashlib

    plain = header(4)
    crooked = plain.replace(b'"vector"', b'"__rce_"'[:8]) + np.zeros(4, dtype=np.float32).tobytes()
    with pytest.raises(StorageError, match="header"):
        parse_weights(crooked, dimension=4, sha256=hashlib.sha256(crooked).digest())
    infinite = plain + np.array([0, 1, np.inf, 2], dtype=np.float32).tobytes()
    with pytest.raises(StorageError, match="not finite"):
        parse_weights(infinite, dimension=4, sha256=hashlib.sha256(infinite).digest())


def test_a_release_that_is_not_finite_or_not_a_float32_vector_is_never_signed(
    store: ReleaseStore, hub: Identity
) -> None:
    good = vector_of(hub, 1.0)
    bad = good.copy()
    bad[3] = np.nan
    for vector in (bad, good.astype(np.float64), good.reshape(1, -1), good[:0]):
        with pytest.raises(StorageError):
            store.add(vector, key=hub.signing_key, run="r1")  # type: ignore[arg-type]
    assert store.chain() == ()
    assert list(store.folder.glob("0*")) == []


def test_missing_and_swapped_releases_are_found(filled: ReleaseStore, hub: Identity, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped"
    shutil.copytree(filled.folder, swapped)
    (swapped / "000001").rename(swapped / "x")
    (swapped / "000002").rename(swapped / "000001")
    (swapped / "x").rename(swapped / "000002")
    with pytest.raises(ConfigurationError, match="release 2 was offered where release 1 is next"):
        ReleaseStore(swapped, hub.charters).chain()
    shutil.rmtree(filled.folder / "000001")
    with pytest.raises(StorageError, match="release 1 is missing"):
        filled.verify()


def test_a_release_that_was_cut_short_leaves_nothing(
    filled: ReleaseStore, hub: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(StorageError, match="disk is full"):
            filled.add(vector_of(hub, 5.0), key=hub.signing_key, **ROUND)
    (filled.folder / ".adding-died").mkdir()  # as a killed process leaves it
    assert filled.verify()[-1].manifest.number == 2
    assert filled.add(vector_of(hub, 5.0), key=hub.signing_key, **ROUND).number == 3
    assert list(filled.folder.glob(".adding-*")) == []


def test_a_rollback_is_a_new_release_that_members_can_verify(
    filled: ReleaseStore, hub: Identity, tmp_path: Path
) -> None:
    back = filled.rollback(1, key=hub.signing_key, run="r1")
    assert (back.number, back.restores) == (3, 1)
    assert np.array_equal(filled.vector(), vector_of(hub, 2.0))
    mine = mirror(filled, tmp_path / "mine")
    for number in range(4):
        mine.accept(filled.manifest_bytes(number), None)
    assert mine.head().restores == 1
    with pytest.raises(ConfigurationError, match="newest already"):
        filled.rollback(3, key=hub.signing_key, run="r1")
    with pytest.raises(ConfigurationError, match="no release 9"):
        filled.rollback(9, key=hub.signing_key, run="r1")


def test_an_uncommitted_release_can_be_discarded_at_start(filled: ReleaseStore, hub: Identity) -> None:
    assert filled.discard_after(1) == 1
    assert filled.verify()[-1].manifest.number == 1
    assert filled.discard_after(1) == 0
    assert filled.add(vector_of(hub, 4.0), key=hub.signing_key, **ROUND).number == 2


def test_a_rollback_outlives_the_start_of_the_coordinator(filled: ReleaseStore, hub: Identity) -> None:
    filled.rollback(1, key=hub.signing_key, run="r1")
    assert filled.discard_after(2) == 0
    assert filled.head().restores == 1


def test_pruning_keeps_the_manifests_the_base_and_the_newest(filled: ReleaseStore, hub: Identity) -> None:
    filled.add(vector_of(hub, 4.0), key=hub.signing_key, **ROUND)
    filled.prune(keep=2)
    assert [filled.holds(number) for number in range(4)] == [True, False, True, True]
    assert len(filled.verify(weights=True)) == 4


def test_a_release_under_an_older_epoch_than_the_last_one_is_refused(
    federation: Federation, tmp_path: Path
) -> None:
    foundation = federation(members=6)
    hub = Identity.load(foundation.coordinator)
    store = ReleaseStore(tmp_path / "releases", hub.charters)
    old = store.add(vector_of(hub, 1.0), key=hub.signing_key, run="r1")
    authority.retire(foundation.root, "member-5")
    hub.charters.accept(authority.sign_epoch(foundation.root).to_bytes())
    new = store.add(vector_of(hub, 2.0), key=hub.signing_key, **ROUND)
    assert new.charter_hash != old.charter_hash
    back = forged(new, hub, number=2, parent=new.hash(), charter_hash=old.charter_hash)
    with pytest.raises(ConfigurationError, match="went back to epoch 1"):
        store.accept(back, None)


def test_a_second_process_sees_what_the_first_adds(filled: ReleaseStore, hub: Identity) -> None:
    other = ReleaseStore(filled.folder, CharterStore(hub.charters.folder, root=hub.charters.root))
    assert other.head().number == 2
    filled.add(vector_of(hub, 4.0), key=hub.signing_key, **ROUND)
    assert other.head().number == 3


@given(data=st.binary(max_size=300))
def test_no_bytes_but_a_manifest_parse_as_one(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        SignedManifest.parse(data)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_the_file_of_a_vector_reads_back_bit_for_bit(values: list[float]) -> None:
    vector = np.array(values, dtype=np.float32)
    data = header(vector.size) + vector.tobytes()
    assert len(data) == file_size(vector.size)
    back = parse_weights(data, dimension=vector.size, sha256=file_sha256(vector))
    assert back.tobytes() == vector.tobytes()
    assert vector_hash(back) == vector_hash(vector)


def test_a_serving_bundle_is_what_the_completion_process_loads(filled: ReleaseStore, tmp_path: Path) -> None:
    config = ModelConfig(vocabulary=64, context=16, layers=1, heads=2, width=8, hidden=16)
    weights = {name: np.ones(shape, dtype=np.float32) for name, shape in shapes(config).items()}
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    folder = tmp_path / "serving"
    for number in range(3):
        target = write_serving_bundle(folder, config, weights, tokenizer, release=number)
        assert bundle.current(folder) == target
        assert bundle.load(target).release == number
    kept = sorted(path.name[:14] for path in folder.glob("release-*"))
    assert kept == ["release-000001", "release-000002"]
    assert json.loads((target / "config.json").read_text())["width"] == 8


def test_the_hash_of_a_manifest_is_that_of_its_canonical_bytes(filled: ReleaseStore) -> None:
    manifest = filled.manifest(1)
    assert SignedManifest.parse(filled.manifest_bytes(1)).manifest == manifest
    assert filled.manifest(2).parent == manifest.hash()
    assert encode(manifest).endswith(b"}\n")
