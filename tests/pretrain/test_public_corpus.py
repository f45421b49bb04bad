"""The roles never mix: what is measured on is not trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.pretrain import fetch as fetching
from sordino_client.pretrain.corpus import Project, build, read_corpus
from sordino_client.pretrain.overlap import Seen, runs
from sordino_client.pretrain.sources import ROLES, SMALL, SOURCES, sources
from sordino_privacy.errors import DataError, UsageError


def words(seed: int, count: int = 400) -> str:
    names = np.random.default_rng(seed).choice(list("abcdefghij"), (count, 5))
    return "\n".join(f"    {''.join(name)} = read{''.join(name[:2])}();" for name in names) + "\n"


def project(name: str, *texts: str) -> Project:
    def files(skipped: Counter[str]) -> Iterator[tuple[str, str, str]]:
        for number, text in enumerate(texts):
            yield f"{name}/{number}.java", "java", text

    return Project(name=name, version="1", sha256="00", licence="Apache-2.0", files=files)


def test_no_project_has_two_roles_and_every_small_one_exists() -> None:
    names = Counter(source.name for source in SOURCES)
    assert max(names.values()) == 1
    assert set(SMALL.split()) <= set(names)
    assert all(sources(role, small=True) for role in ROLES)


def test_an_unknown_role_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no corpus named 'all'"):
        sources("all")


def test_a_document_of_an_earlier_role_is_kept_out_of_the_later_ones(tmp_path: Path) -> None:
    build(tmp_path, "heldout", [project("measured", words(1), words(2))])
    build(tmp_path, "heldout-python", [project("measured-too", words(7))])
    build(tmp_path, "tuning", [project("fitted", words(8))])
    build(tmp_path, "members", [project("member", words(3))])
    copied = words(1) + words(4, count=100)
    manifest = build(
        tmp_path, "public", [project("open", words(5), copied, words(3), words(7), words(8), words(6))]
    )
    assert [d.text for d in read_corpus(tmp_path, "public")] == [words(5), words(6)]
    (entry,) = json.loads((tmp_path / "public.json").read_text())["projects"]
    assert entry["excluded"] == {"overlaps another role": 4}
    assert manifest["overlap_left"] == 0


def test_a_near_copy_within_a_role_is_one_document(tmp_path: Path) -> None:
    near = words(1) + "    int added = 1;\n"
    manifest = build(
        tmp_path, "heldout", [project("one", words(1), near), project("two", words(1), words(2))]
    )
    assert manifest["files"] == 2


def test_the_same_input_gives_the_same_manifest(tmp_path: Path) -> None:
    first = build(tmp_path, "heldout", [project("one", words(1), words(2))])
    assert build(tmp_path, "heldout", [project("one", words(1), words(2))]) == first


def test_a_corpus_that_was_not_fetched_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(read_corpus(tmp_path, "public"))
    assert caught.value.hint == "run: sordino corpus fetch public"


def test_a_role_without_a_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source file"):
        build(tmp_path, "heldout", [project("empty", "x")])
    assert not list(tmp_path.iterdir())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1001, 2000), st.floats(0, 1))
def test_overlap_is_the_share_that_was_seen_before(left: int, right: int, share: float) -> None:
    cut = int(share * 600)
    seen = Seen()
    seen.add(runs(words(left, 600)))
    mixed = "".join(words(left, 600).splitlines(keepends=True)[:cut]) + words(right, 600 - cut)
    assert abs(seen.overlap(runs(mixed)) - share) < 0.12


def test_imports_do_not_count_as_overlap() -> None:
    seen = Seen()
    imports = "".join(f"import java.util.Thing{n};\n" for n in range(200))
    seen.add(runs(imports + words(1)))
    assert seen.overlap(runs(imports + words(2))) == 0


def test_offline_with_an_empty_cache_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 0 of 4 projects"):
        fetching.fetch(tmp_path, "heldout", offline=True)


def test_a_cached_archive_that_was_changed_is_refused(tmp_path: Path) -> None:
    lock = {
        s.name: {"file": f"{s.name}.tar.xz", "version": "1", "sha256": "00" * 32} for s in sources("heldout")
    }
    (tmp_path / "archives").mkdir()
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    for entry in lock.values():
        (tmp_path / "archives" / entry["file"]).write_bytes(b"another archive")
    with pytest.raises(DataError, match="not the file that was fetched"):
        fetching.fetch(tmp_path, "heldout", offline=True)


def test_the_standard_library_is_read_without_its_tests() -> None:
    found = fetching.standard_library("python-standard-library")
    names = [name for name, _, _ in found.files(Counter())]
    assert "json/decoder.py" in names
    assert not [name for name in names if name.startswith(("test/", "site-packages/", "idlelib/"))]
