"""Archives are read, never unpacked: nothing they say can reach the disk."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from sordino_client.laboratory.pretrain.archive import MAX_FILE_BYTES, decode_source, read_archive
from sordino_privacy.errors import DataError

SOURCE = b"class A {}\n"


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        for member, content in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def test_source_files_are_read_in_the_order_of_the_archive(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.xz", (entry("p/B.java"), b"class B {}"), (entry("p/a.py"), b"x = 1"))
    assert list(read_archive(path, Counter())) == [
        ("p/B.java", "java", "class B {}"),
        ("p/a.py", "python", "x = 1"),
    ]


def test_of_go_and_scripts_nothing_is_read_that_the_project_carries_along_or_that_a_tool_wrote(
    tmp_path: Path,
) -> None:
    names = (
        "p/a.go", "p/vendor/x/b.go", "p/testdata/c.go", "p/src/d.ts", "p/src/d.d.ts", "p/e.tsx", "p/f.mjs",
        "p/node_modules/g.js", "p/dist/h.js", "p/i.min.js", "p/j.jsx",
    )  # fmt: skip
    path = tar(tmp_path / "a.tar.xz", *((entry(name), b"x") for name in names))
    assert [(name, language) for name, language, _ in read_archive(path, Counter())] == [
        ("p/a.go", "go"), ("p/src/d.ts", "typescript"), ("p/e.tsx", "typescript"), ("p/f.mjs", "javascript"),
        ("p/j.jsx", "javascript"),
    ]  # fmt: skip
    assert [n for n, _, _ in read_archive(path, Counter(), frozenset({"go"}))] == ["p/a.go"]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (entry("../../etc/A.java"), "unsafe name"),
        (entry("/etc/A.java"), "unsafe name"),
        (entry("A.java", tarfile.SYMTYPE, "/etc/passwd"), "not a regular file"),
        (entry("A.java", tarfile.LNKTYPE, "/etc/passwd"), "not a regular file"),
        (entry("A.java", tarfile.FIFOTYPE), "not a regular file"),
        (entry("A.java", tarfile.CHRTYPE), "not a regular file"),
    ],
)
def test_a_member_that_would_escape_is_skipped_and_counted(
    tmp_path: Path, member: tarfile.TarInfo, reason: str
) -> None:
    path = tar(tmp_path / "a.tar.xz", (member, SOURCE), (entry("Good.java"), SOURCE))
    skipped: Counter[str] = Counter()
    assert [name for name, _, _ in read_archive(path, skipped)] == ["Good.java"]
    assert skipped == {reason: 1}


def test_a_file_over_the_bound_is_skipped_in_both_kinds_of_archive(tmp_path: Path) -> None:
    large = b"x" * (MAX_FILE_BYTES + 1)
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/large.py", large)
        archive.writestr("a/small.py", "x = 1\n")
    for path in (wheel, tar(tmp_path / "a.tar.xz", (entry("large.py"), large), (entry("small.py"), b"x"))):
        skipped: Counter[str] = Counter()
        assert len(list(read_archive(path, skipped))) == 1
        assert skipped == {"too large": 1}


def test_a_zip_member_that_is_a_link_or_climbs_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    link = zipfile.ZipInfo("a/link.py")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../climb.py", "x = 1\n")
    skipped: Counter[str] = Counter()
    assert not list(read_archive(path, skipped))
    assert skipped == {"not a regular file": 1, "unsafe name": 1}


@pytest.mark.parametrize("name", ["a.tar.xz", "a.whl"])
def test_an_archive_cut_short_is_one_clear_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".whl"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.py", "x = 1\n" * 999)
    else:
        tar(path, (entry("A.java"), bytes(range(1, 256)) * 400))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_archive(path, Counter()))


def test_text_is_utf8_with_unix_line_ends_and_nothing_else_is_text() -> None:
    assert decode_source("\ufeffä\r\nb\rc".encode()) == "ä\nb\nc"
    assert decode_source(b"a\0b") is None
    assert decode_source("ä".encode("latin-1")) is None
