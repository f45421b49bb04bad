"""Large pages: what fills them is put into them, and nothing else costs memory."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from sordino_platform.machine import large_pages
from sordino_platform.machine.memory import resident

pytestmark = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE"), reason="large pages are asked for on Linux"
)
MEGABYTE = 1 << 20


def test_what_fills_large_pages_is_gathered_and_what_does_not_stays_out_of_memory() -> None:
    full, sparse = (
        mmap.mmap(-1, 64 * MEGABYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(2)
    )
    for pages in (full, sparse):
        pages.madvise(mmap.MADV_NOHUGEPAGE)  # or the system may have done it already
    for at in range(0, len(full), 4096):
        full[at] = 7
    for at in range(0, len(sparse), large_pages.SIZE):
        sparse[at] = 7
    for pages in (full, sparse):
        pages.madvise(mmap.MADV_HUGEPAGE)
    before = resident()
    gathered = large_pages.gather()
    if not gathered:
        pytest.skip("this system gives no large pages on demand")
    assert gathered >= 60 * MEGABYTE
    assert resident() - before < 8 * MEGABYTE
    assert set(full[:: large_pages.SMALL]) == {7}


def test_a_system_without_them_is_left_as_it_is(tmp_path: Path) -> None:
    assert large_pages.gather(tmp_path / "maps") == 0
