"""A member keeps its upload as it was sent and says of that copy what it uploaded; another copy is as good as none."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.secagg.federation import Federation, membership, quantiser

from sordino_platform.uploads import SentUpload
from sordino_privacy.secagg import Quantised
from sordino_privacy.secagg.coordinator import mustering
from sordino_privacy.secagg.upload import SLICE_BYTES

NAME = "member-0001"
LENGTH = SLICE_BYTES  # two bytes each: two slices and the limbs


class Rehearsal:
    """A federation up to the phase in which a member says what it uploaded, and that member's frames."""

    def __init__(self, phase: str, length: int = LENGTH) -> None:
        members = 12 if phase == "sound" else 3
        self.federation = Federation(membership(members), quantiser=quantiser(length, members))
        federation = self.federation
        deliveries, _ = federation.until("upload")
        self.sent = b"".join(federation.members[NAME].upload(deliveries[NAME], federation.updates[NAME]))
        federation.coordinator.accept_upload(NAME, [self.sent])
        claim = federation.upload(deliveries, [name for name in federation.names if name != NAME])
        if phase == "sound":
            federation.coordinator.begin_muster()
            for name in federation.names:
                federation.coordinator.accept_presence(name, federation.members[name].muster(claim))
            self.message = federation.coordinator.close_muster()
        else:
            self.message = federation.survivors(claim, federation.names)[NAME]
        self._phase, self._kept = phase, federation.members[NAME].snapshot_with_secrets()
        self._steps = list(federation.journals[NAME].rows)

    def said(self, sent: bytes | memoryview, update: Quantised | None = None) -> bytes:
        """What the member answers with this copy, and with its stored update unless another is given."""
        federation = self.federation
        federation.journals[NAME].rows[:] = self._steps
        session = federation.restored(NAME, self._kept, 1)
        answer: bytes = getattr(session, self._phase)(
            self.message, update or federation.updates[NAME], sent=sent
        )
        return answer

    @property
    def emptied(self) -> Quantised:
        """The update with nothing in it: whoever masks it says something else."""
        mine = self.federation.updates[NAME]
        return replace(mine, vector=np.zeros_like(mine.vector))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mustering, "SILENT_LIMIT", 2)
    monkeypatch.setattr(mustering, "MUSTERED_ABOVE", 6)


@pytest.mark.parametrize("phase", ["sound", "unmask"])
def test_a_member_says_the_same_of_the_copy_that_it_kept_and_masks_nothing_for_it(phase: str) -> None:
    rehearsal = Rehearsal(phase)
    masked_again = rehearsal.said(b"")
    assert rehearsal.said(memoryview(rehearsal.sent), rehearsal.emptied) == masked_again
    assert rehearsal.said(b"", rehearsal.emptied) != masked_again


@pytest.mark.parametrize("phase", ["sound", "unmask"])
def test_a_copy_that_is_torn_or_of_another_attempt_is_not_looked_at(phase: str) -> None:
    rehearsal = Rehearsal(phase)
    true, sent = rehearsal.said(b""), rehearsal.sent
    other = Federation(rehearsal.federation.membership, quantiser=rehearsal.federation.quantiser, attempt=1)
    deliveries, _ = other.until("upload")
    of_another = b"".join(other.members[NAME].upload(deliveries[NAME], other.updates[NAME]))
    assert len(of_another) == len(sent)
    for copy in (sent[:-1], sent[: len(sent) // 2], sent + b"\0", of_another, bytes(len(sent))):
        assert rehearsal.said(copy) == true


@given(st.data())
def test_whichever_byte_of_its_vector_a_disk_changed_what_is_said_is_true(data: st.DataObject) -> None:
    rehearsal = REHEARSED
    at = data.draw(st.integers(0, len(rehearsal.sent) - 1))
    changed = bytearray(rehearsal.sent)
    changed[at] ^= data.draw(st.integers(1, 255))
    assert rehearsal.said(bytes(changed)) == REHEARSED_SAYS


REHEARSED = Rehearsal("unmask", 37)
REHEARSED_SAYS = REHEARSED.said(b"")


FRAMES = (b"head", b"slice" * 1000, memoryview(b"trailer"))


def test_what_all_went_out_is_kept_for_its_owner_alone_and_what_did_not_is_not(tmp_path: Path) -> None:
    kept = SentUpload(tmp_path / "sent.bin")
    assert kept.read() == b""
    begun = kept.keeping(iter(FRAMES))
    next(begun)
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    assert kept.read() == b""
    assert list(tmp_path.iterdir()) == []
    assert list(kept.keeping(iter(FRAMES))) == list(FRAMES)
    assert kept.read() == b"".join(FRAMES)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    kept.forget()
    assert kept.read() == b""
    kept.forget()


def test_who_reads_a_copy_reads_it_to_its_end_while_another_takes_its_place(tmp_path: Path) -> None:
    kept = SentUpload(tmp_path / "sent.bin")
    list(kept.keeping(iter(FRAMES)))
    first = kept.read()
    list(kept.keeping(iter([b"of another attempt"])))
    assert (first, kept.read()) == (b"".join(FRAMES), b"of another attempt")


def test_a_disk_that_takes_nothing_or_no_more_stops_no_upload(tmp_path: Path) -> None:
    nowhere = SentUpload(tmp_path / "absent" / "sent.bin")
    assert list(nowhere.keeping(iter(FRAMES))) == list(FRAMES)
    assert nowhere.read() == b""
    kept, before = SentUpload(tmp_path / "sent.bin"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # the second frame is written in part
    try:
        assert list(kept.keeping(iter(FRAMES))) == list(FRAMES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kept.read() == b""
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_breaks_leaves_no_copy(tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"head"
        raise ConnectionError

    kept = SentUpload(tmp_path / "sent.bin")
    with pytest.raises(ConnectionError):
        list(kept.keeping(breaking()))
    assert list(tmp_path.iterdir()) == []
