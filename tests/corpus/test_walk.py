"""Nothing outside the root is ever read (fault 44)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sordino_client.corpus.policy import CorpusPolicy, ExclusionReason
from sordino_client.corpus.walk import walk
from sordino_privacy.errors import DataError

POLICY = CorpusPolicy(minimum_bytes=1)
OUTSIDE = b"OUTSIDE"


class _TakeAll:
    def directory(self, path: str) -> ExclusionReason | None:
        return None

    def file(self, path: str) -> ExclusionReason | None:
        return None


def read(root: Path, policy: CorpusPolicy = POLICY) -> tuple[dict[str, bytes], Counter[ExclusionReason]]:
    excluded: Counter[ExclusionReason] = Counter()
    return dict(walk(root, _TakeAll(), policy, excluded)), excluded


TREE = st.recursive(
    st.sampled_from(["file", "link-out", "link-in", "link-self", "fifo"]),
    lambda children: st.dictionaries(st.text("ab .é\n*", min_size=1, max_size=4), children, max_size=4),
    max_leaves=12,
)


def build(folder: Path, tree: object, outside: Path) -> None:
    folder.mkdir()
    assert isinstance(tree, dict)
    for name, kind in tree.items():
        if name in (".", ".."):
            continue
        path = folder / name
        if kind == "file":
            path.write_bytes(b"INSIDE")
        elif kind == "link-out":
            path.symlink_to(outside)
        elif kind == "link-in":
            path.symlink_to(".")
        elif kind == "link-self":
            path.symlink_to(name)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            build(path, kind, outside)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREE.filter(lambda tree: isinstance(tree, dict)))
def test_every_file_inside_is_read_and_nothing_outside(
    tmp_path_factory: pytest.TempPathFactory, tree: object
) -> None:
    base = tmp_path_factory.mktemp("tree")
    (base / "outside").mkdir()
    (base / "outside" / "secret.py").write_bytes(OUTSIDE)
    build(base / "root", tree, base / "outside")
    found, excluded = read(base / "root")
    regular = {
        str(p.relative_to(base / "root"))
        for p in (base / "root").rglob("*")
        if p.is_file() and not p.is_symlink()
    }
    # rglob follows no links to directories.
    assert set(found) == regular
    assert set(found.values()) <= {b"INSIDE"}
    assert set(excluded) <= {ExclusionReason.SYMLINK, ExclusionReason.SPECIAL}


def test_symbolic_links_are_counted_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_bytes(OUTSIDE)
    root = tmp_path / "root"
    root.mkdir()
    (root / "file.py").symlink_to("../outside.py")
    (root / "folder").symlink_to("..")
    (root / "loop").symlink_to("loop")
    assert read(root) == ({}, Counter({ExclusionReason.SYMLINK: 3}))


def test_fifos_and_sockets_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.py"))
        assert read(tmp_path) == ({}, Counter({ExclusionReason.SPECIAL: 2}))


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_an_entry_swapped_for_a_link_after_it_was_judged_leads_nowhere(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "code.py").write_bytes(OUTSIDE)
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "code.py").write_bytes(b"INSIDE")

    class Swap(_TakeAll):
        def directory(self, path: str) -> ExclusionReason | None:
            if kind == "directory":
                (root / "folder").rename(root / "moved")
                (root / "folder").symlink_to(outside)
            return None

        def file(self, path: str) -> ExclusionReason | None:
            if kind == "file":
                (root / "folder" / "code.py").unlink()
                (root / "folder" / "code.py").symlink_to(outside / "code.py")
            return None

    excluded: Counter[ExclusionReason] = Counter()
    assert list(walk(root, Swap(), POLICY, excluded)) == []
    assert excluded == {ExclusionReason.UNREADABLE: 1}


def test_a_parent_swapped_for_a_link_while_it_is_walked_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.py").write_bytes(OUTSIDE)
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    for name in ("a.py", "b.py"):
        (root / "folder" / name).write_bytes(b"INSIDE")
    found = {}
    for path, content in walk(root, _TakeAll(), POLICY, Counter()):
        found[path] = content
        if path == "folder/a.py":
            (root / "folder").rename(tmp_path / "moved")
            (root / "folder").symlink_to(tmp_path / "outside")
    assert found == {"folder/a.py": b"INSIDE", "folder/b.py": b"INSIDE"}


def test_sizes_outside_the_bounds_are_not_read(tmp_path: Path) -> None:
    for size in (0, 9, 10, 20, 21):
        (tmp_path / f"{size}.py").write_bytes(b"x" * size)
    found, excluded = read(tmp_path, CorpusPolicy(minimum_bytes=10, maximum_bytes=20))
    assert set(found) == {"10.py", "20.py"}
    assert excluded == {ExclusionReason.SIZE: 3}


def test_directories_deeper_than_the_bound_are_not_entered(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    for folder in ("a", "a/b", "a/b/c"):
        (tmp_path / folder / "x.py").write_bytes(b"x")
    found, excluded = read(tmp_path, CorpusPolicy(minimum_bytes=1, maximum_depth=3))
    assert set(found) == {"a/x.py", "a/b/x.py"}
    assert excluded == {ExclusionReason.UNREADABLE: 1}


def test_a_name_that_is_not_utf8_is_counted(tmp_path: Path) -> None:
    descriptor = os.open(os.fsencode(tmp_path) + b"/\xff.py", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    assert read(tmp_path) == ({}, Counter({ExclusionReason.UNREADABLE: 1}))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_counted(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "closed.py").write_bytes(b"x")
    (tmp_path / "closed.py").chmod(0)
    assert read(tmp_path) == ({}, Counter({ExclusionReason.UNREADABLE: 2}))


def test_a_symbolic_link_is_no_ignore_file(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("*.py\n")
    (tmp_path / ".gitignore").symlink_to("rules")
    (tmp_path / "a.py").write_bytes(b"x")
    assert read(tmp_path) == ({"a.py": b"x", "rules": b"*.py\n"}, Counter({ExclusionReason.SYMLINK: 1}))


def test_a_folder_whose_ignore_rules_cannot_be_read_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".gitignore").write_bytes(b"#" * (1 << 20) + b"\n")
    (tmp_path / "a" / "a.py").write_bytes(b"x")
    (tmp_path / "b.py").write_bytes(b"x")
    assert read(tmp_path) == ({"b.py": b"x"}, Counter({ExclusionReason.RULES: 1}))
    with pytest.raises(DataError, match="larger than 1 MiB"):
        read(tmp_path / "a")


def repository(folder: Path) -> Path:
    """What git takes for a repository, made without git."""
    for name in ("objects", "refs", "info"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    return folder


@pytest.mark.parametrize(
    "pointer",
    [
        b"gitdir: a\0b",
        b"\0",
        b"gitdir: ",
        b"gitdir: nowhere\n",
        b"gitdir: ..\n",
        b"\xff\xfe",
        b"gitdir: /dev/zero\n",
    ],
)
def test_a_pointer_that_leads_to_no_repository_begins_none(tmp_path: Path, pointer: bytes) -> None:
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".git").write_bytes(pointer)
    for name in ("a.py", "a.log"):
        (tmp_path / "a" / name).write_bytes(b"x")
    repository(tmp_path / ".git")
    found, excluded = read(tmp_path)
    assert set(found) == {".gitignore", "a/a.py"}
    assert excluded == {ExclusionReason.IGNORED: 1}
    assert set(read(tmp_path / "a")[0]) == {"a.py"}


def test_a_pointer_is_read_up_to_its_first_nul_as_git_reads_it(tmp_path: Path) -> None:
    repository(tmp_path / "elsewhere").joinpath("info", "exclude").write_text("*.log\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".git").write_bytes(b"gitdir: ../elsewhere\0junk")
    (tmp_path / "a" / "a.log").write_bytes(b"x")
    assert read(tmp_path / "a") == ({}, Counter({ExclusionReason.IGNORED: 1}))


@pytest.mark.parametrize("kind", ["fifo", "loop", "folder", "socket"])
def test_whatever_stands_in_the_place_of_git_s_own_files_is_survived(tmp_path: Path, kind: str) -> None:
    def make(place: Path) -> None:
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "loop":
            place.symlink_to(place.name)
        elif kind == "folder":
            place.mkdir()
        else:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(place))

    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_bytes(b"x")
    make(tmp_path / "a" / ".git")
    make(tmp_path / "b" / ".gitignore")
    make(repository(tmp_path / "c" / ".git") / "commondir")
    make(repository(tmp_path / "d" / ".git") / "info" / "exclude")
    found, excluded = read(tmp_path)
    assert {"a/x.py", "b/x.py"} <= set(found)
    assert excluded[ExclusionReason.UNREADABLE] == 0
    for name in ("a", "b", "c", "d"):
        with contextlib.suppress(DataError):  # one line, and no traceback
            read(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_pointer_that_may_not_be_read_leaves_its_folder_out_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_bytes(b"x")
    (tmp_path / "a" / ".git").write_text("gitdir: x")
    (tmp_path / "a" / ".git").chmod(0)
    assert read(tmp_path) == ({"b/x.py": b"x"}, Counter({ExclusionReason.RULES: 1}))


def test_a_walk_opens_no_more_descriptors_than_the_tree_is_deep(tmp_path: Path) -> None:
    for i in range(50):
        (tmp_path / f"d{i}").mkdir()
        (tmp_path / f"d{i}" / "x.py").write_bytes(b"x")
    before = open_descriptors()
    steps = walk(tmp_path, _TakeAll(), POLICY, Counter())
    assert max(open_descriptors() for _ in steps) <= before + 3
    assert open_descriptors() == before


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())
