"""Uploads are masked slice by slice while they are sent, and added on arrival: memory follows the model, never the
number of members, and on a member not even the model."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.secagg.federation import Federation, membership, quantiser

from sordino_platform.durable import map_file, write_file
from sordino_platform.uploads import UploadFolder
from sordino_privacy.errors import StorageError
from sordino_privacy.secagg import CoordinatorSession, MalformedError, OrderError, Quantised, ReplayError
from sordino_privacy.secagg.upload import SLICE_BYTES

NAME = "member-0001"
LARGE = 12_000_000  # coordinates: 24 MB in the small ring


def test_a_member_that_uploads_holds_a_few_slices_and_neither_its_update_nor_its_masked_form(
    tmp_path: Path,
) -> None:
    federation = Federation(membership(3), quantiser=quantiser(LARGE))
    deliveries, _ = federation.until("upload")
    assert isinstance(deliveries, Mapping)
    write_file(tmp_path / "quantised.bin", federation.updates[NAME].encode(), secret=True)
    session = federation.members[NAME]
    tracemalloc.start()
    try:
        update = Quantised.decode(map_file(tmp_path / "quantised.bin", limit=1 << 30))
        session.upload(deliveries[NAME], update)
        tracemalloc.reset_peak()
        sent = sum(len(frame) for frame in session.upload_again(update, threads=2))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == session.upload_bytes > 2 * LARGE
    assert peak < 8 * SLICE_BYTES < sent / 2


def test_frames_made_again_are_the_same_and_only_for_the_same_update_in_the_same_phase() -> None:
    federation = Federation(membership(3))
    session = federation.members[NAME]
    with pytest.raises(OrderError):
        session.upload_again(federation.updates[NAME])
    with pytest.raises(OrderError):
        _ = session.upload_bytes
    deliveries, _ = federation.until("upload")
    assert isinstance(deliveries, Mapping)
    first = b"".join(session.upload(deliveries[NAME], federation.updates[NAME]))
    assert b"".join(session.upload_again(federation.updates[NAME], threads=2)) == first
    assert len(first) == session.upload_bytes
    with pytest.raises(ReplayError):
        session.upload_again(federation.updates["member-0002"])


def test_an_upload_that_is_checked_now_and_sent_later_is_in_the_sum_like_any_other() -> None:
    federation = Federation(membership(4))
    deliveries, present = federation.until("upload")
    assert isinstance(deliveries, Mapping)
    for name in present:
        federation.members[name].upload(deliveries[name], federation.updates[name])  # nothing is sent yet
    for name in present:
        frames = federation.members[name].upload_again(federation.updates[name])
        federation.coordinator.accept_upload(name, frames)
    opened = federation.finish("survivors", federation.coordinator.close_uploads())
    assert np.array_equal(opened.vector, federation.expected(federation.names))


def test_the_coordinators_memory_is_one_sum_and_its_staging_buffers_whatever_the_number_of_members(
    tmp_path: Path,
) -> None:
    def grown(members: int) -> int:
        federation = Federation(membership(members), quantiser=quantiser(1_000_000, 64))
        federation.coordinator = CoordinatorSession(
            federation.membership, federation.context, keeper=UploadFolder(tmp_path / str(members))
        )
        deliveries, present = federation.until("upload")
        assert isinstance(deliveries, Mapping)
        tracemalloc.start()
        try:
            for name in present:
                frames = federation.members[name].upload(deliveries[name], federation.updates[name])
                federation.coordinator.accept_upload(name, frames)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = grown(4), grown(16)
    assert few > 2_000_000
    assert many < 1.2 * few


def test_a_stored_update_of_another_length_than_it_says_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    update = Federation(membership(3)).updates[NAME].encode()
    for damaged in (update[:-1], update + b"\0", update[:40]):
        with pytest.raises(MalformedError):
            Quantised.decode(memoryview(damaged))
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", tmp_path / "absent", tmp_path):
        with pytest.raises(StorageError):
            map_file(path, limit=100)
