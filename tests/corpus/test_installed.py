"""The members of the demonstration: installed packages, no file in two of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.corpus import Corpus, SourceFile, read_repositories
from sordino_client.corpus.installed import (
    InstalledPackage,
    assign_disjoint,
    installed_packages,
    make_disjoint,
)
from sordino_privacy.errors import DataError, UsageError

FOUND = installed_packages(200_000)


def test_packages_of_this_environment_are_found_with_their_sizes() -> None:
    assert {"rich", "sqlalchemy"} <= {package.name for package in FOUND}
    assert [package.bytes for package in FOUND] == sorted((package.bytes for package in FOUND), reverse=True)
    assert all(package.bytes >= 200_000 and package.python_files > 0 for package in FOUND)
    rich = next(package for package in FOUND if package.name == "rich")
    files = [path for path in rich.folder.rglob("*.py") if "__pycache__" not in path.parts]
    assert (rich.python_files, rich.bytes) == (len(files), sum(path.stat().st_size for path in files))


def test_sordino_itself_is_left_out_and_no_folder_is_there_twice() -> None:
    assert not any("sordino" in package.name or "sordino" in package.folder.name for package in FOUND)
    folders = [package.folder for package in FOUND]
    assert len(folders) == len(set(folders))


def test_a_folder_that_two_distributions_share_is_left_out(tmp_path: Path) -> None:
    for name, files in {"one": ["shared/a.py", "mine/b.py"], "two": ["shared/c.py"]}.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(
            "".join(f"{file},,\n" for file in [*files, "gone/x.py", "../outside.py", "top.py"])
        )
        for file in files:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text("x = 1\n" * 10)
    assert [package.folder.name for package in installed_packages(1, paths=[str(tmp_path)])] == ["mine"]


PACKAGES = st.lists(st.integers(1, 10_000), min_size=1, max_size=30).map(
    lambda sizes: [
        InstalledPackage(name=f"p{i}", version="1", folder=Path(f"/site/p{i}"), bytes=size, python_files=1)
        for i, size in enumerate(sizes)
    ]
)


@settings(max_examples=50)
@given(packages=PACKAGES, count=st.integers(1, 8))
def test_every_package_goes_to_exactly_one_member_and_none_is_empty_handed(
    packages: list[InstalledPackage], count: int
) -> None:
    members = [f"m{i}" for i in range(count)]
    if len(packages) < count:
        with pytest.raises(DataError, match="cannot be split over"):
            assign_disjoint(packages, members)
        return
    shares = assign_disjoint(packages, members)
    assert sorted(package for share in shares.values() for package in share) == sorted(packages)
    assert list(shares) == members
    assert all(shares.values())
    sizes = [sum(package.bytes for package in share) for share in shares.values()]
    # Graham's bound for giving the largest first.
    best = max(sum(sizes) / count, max(package.bytes for package in packages))
    assert max(sizes) <= best + max(package.bytes for package in packages)
    assert assign_disjoint(packages[::-1], members) == shares


def test_a_package_inside_another_is_refused() -> None:
    nested = [
        InstalledPackage(name=name, version="1", folder=Path(folder), bytes=1, python_files=1)
        for name, folder in (("a", "/site/a"), ("b", "/site/a/b"))
    ]
    with pytest.raises(DataError, match="inside another"):
        assign_disjoint(nested, ["m"])


@pytest.mark.parametrize("members", [[], ["a", "a"]])
def test_members_must_be_named_each_once(members: list[str]) -> None:
    with pytest.raises(UsageError):
        assign_disjoint(FOUND, members)


def test_a_text_in_two_members_stays_with_the_first() -> None:
    def corpus(*texts: str) -> Corpus:
        files = tuple(SourceFile.of("r", f"{i}.py", "Python", text) for i, text in enumerate(texts))
        return Corpus(files=files, excluded={})

    parted = make_disjoint({"first": corpus("a", "b"), "second": corpus("b", "c"), "third": corpus("c", "a")})
    assert {name: [file.text for file in part.files] for name, part in parted.items()} == {
        "first": ["a", "b"],
        "second": ["c"],
        "third": [],
    }


def test_real_packages_are_read_without_their_vendored_and_generated_parts() -> None:
    (folder,) = (package.folder for package in FOUND if package.name == "rich")
    corpus = read_repositories([folder])
    assert len(corpus.files) > 50
    assert not any("_vendor/" in file.path or "__pycache__" in file.path for file in corpus.files)
    assert set(corpus.languages) >= {"Python"}
    assert all(file.text.strip() for file in corpus.files)
