"""What is learnt from has a permissive licence by name: of the whole, and of each file."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from sordino_client.laboratory.pretrain import fetch as fetching
from sordino_client.laboratory.pretrain.copyright import is_permissive, parse_copyright
from sordino_client.laboratory.pretrain.debian import SourcePackages, _copyright_of
from sordino_client.laboratory.pretrain.sources import SOURCES, sources_of
from sordino_platform.durable import sha256_of_file
from sordino_privacy.errors import DataError

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nSource: somewhere\n\n"
WHOLE = HEAD + "Files: *\nCopyright: 2020, The Authors\nLicense: Expat\n Permission is hereby granted ...\n\n"


@pytest.mark.parametrize(
    "licence",
    [
        "Expat", "MIT", "ISC", "BSD-3-clause", "BSD-2-Clause", "BSD-3-clause~Google", "Apache-2.0", "Apache-2", "Go",
        "CC0-1.0", "Expat or GPL-2+", "GPL-2 or Apache-2.0", "Expat and BSD-3-clause", "public-domain", "Zlib",
    ],
)  # fmt: skip
def test_a_licence_that_lets_code_be_learnt_from_and_passed_on_is_known_by_its_name(licence: str) -> None:
    assert is_permissive(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "", "GPL-2+", "LGPL-2.1", "AGPL-3", "MPL-2.0", "EPL-1.0", "CC-BY-SA-3.0", "CC-BY-3.0", "Expat and GPL-2+",
        "BSD-4-clause", "Artistic-2.0 or GPL-1+",
        "custom", "proprietary", "apache-2.0 with a-further-condition", "SSPL", "BUSL-1.1",
    ],
)  # fmt: skip
def test_every_other_name_is_refused(licence: str) -> None:
    assert not is_permissive(licence)


def test_the_last_paragraph_that_names_a_file_decides_about_it() -> None:
    rules = parse_copyright(
        WHOLE + "Files: lib/*\n third/?.js\nCopyright: 2021, B\nLicense: GPL-3+\n\n"
        "Files: lib/own/*\nCopyright: 2021, C\nLicense: ISC\n\nLicense: GPL-3+\n The text.\n"
    )
    assert rules.licence == "Expat"
    assert rules.allows("main.go")
    assert rules.allows("lib/own/deep/a.go")
    assert not rules.allows("lib/deep/a.go")
    assert not rules.allows("third/a.js")
    assert rules.allows("third/ab.js")


def test_a_whole_that_is_not_permissive_or_not_named_is_refused() -> None:
    for text in (WHOLE.replace("Expat", "GPL-2"), "This package is by A. You may copy it.\n", HEAD, ""):
        with pytest.raises(DataError, match="no permissive licence"):
            parse_copyright(text)
    with pytest.raises(DataError, match="larger than a megabyte"):
        parse_copyright("x" * ((1 << 20) + 1))


MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy of this software\n"
APACHE = "                 Apache License\n           Version 2.0, January 2004\n"


def test_a_projects_own_licence_file_is_known_by_the_sentence_that_grants_the_rights() -> None:
    assert parse_copyright(MIT).licence == "MIT"
    assert parse_copyright(APACHE).allows("deep/a.go")
    assert parse_copyright(MIT + APACHE).licence == "MIT and Apache-2.0"
    for beside in ("GNU General Public License", "Commons Clause", "All advertising materials must display"):
        with pytest.raises(DataError, match="no permissive licence"):
            parse_copyright(MIT + beside)


def test_where_the_distribution_has_no_copyright_file_the_projects_own_decides(tmp_path: Path) -> None:
    source = next(s for s in sources_of("public") if s.name == "golang-testify")
    locked = {"file": "a.tar.gz"}
    archive(tmp_path / "a.tar.gz", {"top/LICENSE": MIT, "top/vendor/LICENSE": "GPL", "top/a.go": BODY})
    allowed = fetching._allowed(source, tmp_path, Packages(None), locked)
    assert allowed is not None
    assert (locked["licence"], allowed.allows("a.go")) == ("MIT", True)
    archive(
        tmp_path / "a.tar.gz",
        {"top/LICENSE": MIT, "top/COPYING.GPL": "General Public License", "top/a.go": BODY},
    )
    assert fetching._allowed(source, tmp_path, Packages(None), {"file": "a.tar.gz"}) is None
    archive(tmp_path / "a.tar.gz", {"top/a.go": BODY})
    assert fetching._allowed(source, tmp_path, Packages(None), {"file": "a.tar.gz"}) is None


def test_where_no_paragraph_is_for_all_files_what_none_names_is_not_used() -> None:
    rules = parse_copyright(HEAD + "Files: src/*\nCopyright: A\nLicense: Apache-2.0\n")
    assert rules.allows("src/a.go")
    assert not rules.allows("vendor/a.go")


def test_public_code_of_go_and_typescript_must_name_its_licence() -> None:
    without_header = [s for s in sources_of("public") if s.languages & {"go", "javascript", "typescript"}]
    assert len(without_header) > 100
    assert all(source.licensed for source in without_header)
    assert {s.role for s in SOURCES if "go" in s.languages} == {"heldout-go", "tuning-base", "public"}
    assert {s.role for s in SOURCES if "typescript" in s.languages} == {
        "heldout-typescript",
        "tuning-base",
        "public",
    }


def archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            out.addfile(member, io.BytesIO(text.encode()))
    return path


class Packages(SourcePackages):
    """apt's view of one package whose archive is already here, with the copyright file of its packaging."""

    def __init__(self, text: str | None) -> None:
        self.suites, self.text = ("stable",), text

    def copyright(self, name: str, suite: str) -> str | None:
        return self.text


BODY = "package a\n\nfunc Add(left, right int) int {\n" + "\tleft += right\n" * 30 + "\treturn left\n}\n"


def read(
    cache: Path, text: str | None, *, offline: bool = False
) -> tuple[list[str], Counter[str], str] | None:
    """What is read of a package of Go whose copyright file is `text`: names, what was skipped, the licence."""
    source = next(s for s in sources_of("public") if s.name == "golang-testify")
    (cache / "archives").mkdir(exist_ok=True)
    files = {
        "top-1/a.go": BODY, "top-1/vendor/b.go": BODY, "top-1/copied/c.go": BODY, "top-1/assets/d.js": BODY,
        "top-1/e.java": BODY,
    }  # fmt: skip
    path = archive(cache / "archives" / "a.tar.gz", files)
    lock = {
        source.name: {
            "file": path.name,
            "version": "1",
            "sha256": sha256_of_file(path).hex(),
            "suite": "stable",
        }
    }
    packages = None if offline else Packages(text)
    project = fetching._fetch_one(source, cache / "archives", packages, lock, offline=offline)
    if project is None:
        return None
    skipped: Counter[str] = Counter()
    return [name for name, _, _ in project.files(skipped)], skipped, project.licence


def test_of_a_package_only_the_files_in_its_language_with_a_permissive_licence_are_read(
    tmp_path: Path,
) -> None:
    copied = WHOLE + "Files: copied/*\nCopyright: B\nLicense: MPL-2.0\n"
    assert read(tmp_path, copied) == (["top-1/a.go"], Counter({"licence": 1}), "Expat")


def test_a_package_without_a_copyright_file_or_with_another_licence_is_not_used(tmp_path: Path) -> None:
    assert read(tmp_path, None) is None
    assert read(tmp_path, WHOLE.replace("Expat", "AGPL-3")) is None
    assert read(tmp_path, WHOLE, offline=True) is None


def test_the_copyright_file_is_kept_beside_the_archive_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    source = next(s for s in sources_of("public") if s.name == "golang-testify")
    locked: dict[str, str] = {}
    assert fetching._allowed(source, tmp_path, Packages(WHOLE), locked) is not None
    assert (
        fetching._allowed(source, tmp_path, None, locked) is not None
    )  # offline: what was read before counts
    (tmp_path / "golang-testify.copyright").write_text(WHOLE.replace("Expat", "ISC"))
    with pytest.raises(DataError, match="not the file that was fetched"):
        fetching._allowed(source, tmp_path, None, locked)


def test_the_copyright_file_is_read_out_of_the_packaging_archive_in_memory(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.debian.tar.gz", {"debian/control": "x", "debian/copyright": WHOLE})
    assert _copyright_of(path) == WHOLE
    assert _copyright_of(archive(tmp_path / "b.tar.gz", {"debian/control": "x"})) is None
    (tmp_path / "c.tar.gz").write_bytes(b"no archive")
    assert _copyright_of(tmp_path / "c.tar.gz") is None
