"""What several threads do to an upload and to the sum is what one would do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.federation import Federation, membership, quantiser

from sordino_privacy.secagg import UploadSignatureError
from sordino_privacy.secagg.total import PASS, Total
from sordino_privacy.secagg.upload import SLICE_BYTES

DIMENSION = SLICE_BYTES + 1000  # of 16 bits: two slices and a piece


@pytest.fixture(scope="module")
def uploads() -> tuple[Federation, dict[str, bytes]]:
    federation = Federation(membership(5), quantiser=quantiser(DIMENSION, 8))
    deliveries, present = federation.until("upload")
    assert not isinstance(deliveries, bytes)
    return federation, {
        name: b"".join(
            map(bytes, federation.members[name].upload(deliveries[name], federation.updates[name]))
        )
        for name in present
    }


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    return [data[low:high] for low, high in itertools.pairwise(places)]


@pytest.mark.parametrize("threads", [1, 2])
def test_an_upload_of_several_slices_in_any_pieces_is_added_and_one_flipped_bit_in_any_slice_refused(
    uploads: tuple[Federation, dict[str, bytes]], threads: int
) -> None:
    federation, frames = uploads
    name, *_ = frames
    data = frames[name]

    @given(cuts=st.lists(st.integers(0, 1 << 24), max_size=6), at=st.integers(0, 2 * DIMENSION - 1))
    @settings(max_examples=8, deadline=None)
    def tried(cuts: list[int], at: int) -> None:
        intake = federation.coordinator._known_intake()
        intake.receipts.clear()
        before = intake.total.ring.copy()
        federation.coordinator.accept_upload(name, pieces(data, cuts), threads=threads)
        body = np.frombuffer(
            data, "<u2", count=len(before), offset=len(data) - 2 * len(before) - trailer_bytes(name)
        )
        assert np.array_equal(intake.total.ring, before + body)
        flipped = bytearray(data)
        flipped[len(data) - trailer_bytes(name) - 1 - at] ^= 1
        intake.receipts.clear()
        with pytest.raises(UploadSignatureError, match="hash that it states"):
            federation.coordinator.accept_upload(name, pieces(bytes(flipped), cuts), threads=threads)
        assert np.array_equal(intake.total.ring, before + body)

    tried()


def trailer_bytes(name: str) -> int:
    return 16 + 1 + 1 + len(name) + 32 + 32 + 64


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_a_sum_made_by_three_threads_is_the_one_made_by_one(dtype: str) -> None:
    made = np.random.default_rng(3)
    length = 2 * PASS + 37
    one, three = (Total.nothing(length, np.dtype(dtype), np.dtype(np.uint8)) for _ in range(2))
    for _ in range(5):
        upload = made.integers(0, np.iinfo(dtype).max, length, np.dtype(dtype), endpoint=True)
        one.add(upload)
        three.add(upload, threads=3)
    assert np.array_equal(one.ring, three.ring)
    assert np.array_equal(one.carries, three.carries)
    assert one.digest() == three.digest()
