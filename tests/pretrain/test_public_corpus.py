"""The roles never mix: what is measured on is not trained on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.laboratory.pretrain import fetch as fetching
from sordino_client.laboratory.pretrain.corpus import FetchedProject, build_corpus, read_corpus
from sordino_client.laboratory.pretrain.field import MEMBERS, NEWCOMERS, PROXIES, Pinned
from sordino_client.laboratory.pretrain.overlap import SeenRuns, runs
from sordino_client.laboratory.pretrain.sources import (
    ROLES,
    SMALL,
    SOURCES,
    Source,
    earlier_roles,
    sources_of,
)
from sordino_privacy.errors import DataError, UsageError


def words(seed: int, count: int = 400) -> str:
    names = np.random.default_rng(seed).choice(list("abcdefghij"), (count, 5))
    return "\n".join(f"    {''.join(name)} = read{''.join(name[:2])}();" for name in names) + "\n"


def project(name: str, *texts: str) -> FetchedProject:
    def files(skipped: Counter[str]) -> Iterator[tuple[str, str, str]]:
        for number, text in enumerate(texts):
            yield f"{name}/{number}.java", "java", text

    return FetchedProject(name=name, version="1", sha256="00", licence="Apache-2.0", files=files)


def test_no_project_has_two_roles_and_every_small_one_exists() -> None:
    names = Counter(source.name for source in SOURCES)
    assert max(names.values()) == 1
    assert set(SMALL.split()) <= set(names)
    assert all(sources_of(role, small=True) for role in ROLES)


def test_an_unknown_role_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no corpus named 'all'"):
        sources_of("all")


def test_a_document_of_an_earlier_role_is_kept_out_of_the_later_ones(tmp_path: Path) -> None:
    build_corpus(tmp_path, "heldout", [project("measured", words(1), words(2))])
    build_corpus(tmp_path, "heldout-python", [project("measured-too", words(7))])
    build_corpus(tmp_path, "tuning", [project("fitted", words(8))])
    build_corpus(tmp_path, "members", [project("member", words(3))])
    build_corpus(tmp_path, "field", [project("service", words(9))])
    build_corpus(tmp_path, "field-tuning", [project("proxy", words(10))])
    build_corpus(tmp_path, "heldout-go", [project("measured-go", words(11))])
    build_corpus(tmp_path, "heldout-typescript", [project("measured-script", words(12))])
    build_corpus(tmp_path, "tuning-base", [project("fitted-too", words(13))])
    copied = words(1) + words(4, count=100)
    manifest = build_corpus(
        tmp_path,
        "public",
        [project("open", words(5), copied, words(3), *(words(n) for n in range(7, 14)), words(6))],
    )
    assert [d.text for d in read_corpus(tmp_path, "public")] == [words(5), words(6)]
    (entry,) = json.loads((tmp_path / "public.json").read_text())["projects"]
    assert entry["excluded"] == {"overlaps another role": 9}
    assert manifest["overlap_left"] == 0


def test_a_near_copy_within_a_role_is_one_document(tmp_path: Path) -> None:
    near = words(1) + "    int added = 1;\n"
    manifest = build_corpus(
        tmp_path, "heldout", [project("one", words(1), near), project("two", words(1), words(2))]
    )
    assert manifest["files"] == 2


def test_in_a_field_what_was_copied_from_another_project_is_left_out(tmp_path: Path) -> None:
    shared = words(1, count=220) + words(
        2, count=180
    )  # 55 % of it: a duplicate in no role, a copy in a field
    manifest = build_corpus(tmp_path, "field", [project("one", words(1)), project("two", shared, words(3))])
    assert [d.text for d in read_corpus(tmp_path, "field")] == [words(1), words(3)]
    assert manifest["projects"][1]["excluded"] == {"copied from another project": 1}  # type: ignore[index]
    within = build_corpus(tmp_path, "field", [project("one", words(1), shared)])
    assert within["files"] == 2


def test_the_projects_on_which_plans_are_searched_are_kept_apart_from_the_field(tmp_path: Path) -> None:
    build_corpus(tmp_path, "field", [project("measured", words(1))])
    build_corpus(tmp_path, "field-tuning", [project("searched", words(1), words(2))])
    assert [d.text for d in read_corpus(tmp_path, "field-tuning")] == [words(2)]
    assert {"field", "field-tuning"} < set(earlier_roles("public"))
    assert earlier_roles("field") == ()


def test_members_newcomers_and_proxies_are_pinned_and_apart() -> None:
    groups = [{one.name for one in group} for group in (MEMBERS, NEWCOMERS, PROXIES)]
    assert [len(group) for group in groups[:2]] == [18, 12]
    assert len(set.union(*groups)) == sum(map(len, groups))
    pins = [one.sha256 for group in (MEMBERS, NEWCOMERS, PROXIES) for one in group]
    assert len(set(pins)) == len(pins)
    assert all(len(bytes.fromhex(pin)) == 32 for pin in pins)


def test_a_pinned_wheel_of_an_older_pin_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    source = sources_of("field")[0]
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "old.whl").write_bytes(b"older")
    lock = {source.name: {"file": "old.whl", "version": "1", "sha256": hashlib.sha256(b"older").hexdigest()}}
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(DataError, match="only 0 of 30 projects"):
        fetching.fetch(tmp_path, "field", offline=True)


def test_a_wheel_with_another_hash_than_its_pin_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "index" / "aodh-23.0.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with ZipFile(wheel, "w") as archive:
        archive.writestr(
            "aodh-23.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: aodh\nVersion: 23.0.0\n"
        )
        archive.writestr("aodh-23.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("aodh-23.0.0.dist-info/RECORD", "")
        archive.writestr("aodh/part.py", words(1))
    # The real pip, and an index of one folder.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    wanted: list[Source] = []
    monkeypatch.setattr(fetching, "sources_of", lambda role, small: wanted)

    def pin(digest: str) -> Source:
        pinned = Pinned(name="aodh", version="23.0.0", sha256=digest)
        return Source(name="aodh", kind="wheel", role="field", pinned=pinned)

    wanted[:] = [pin("00" * 32)]
    with pytest.raises(DataError, match="only 0 of 1"):
        fetching.fetch(tmp_path / "cache", "field")
    wanted[:] = [pin(hashlib.sha256(wheel.read_bytes()).hexdigest())]
    (found,) = fetching.fetch(tmp_path / "cache", "field")
    assert [name for name, _, _ in found.files(Counter())] == ["aodh/part.py"]


def test_the_same_input_gives_the_same_manifest(tmp_path: Path) -> None:
    first = build_corpus(tmp_path, "heldout", [project("one", words(1), words(2))])
    assert build_corpus(tmp_path, "heldout", [project("one", words(1), words(2))]) == first


def test_a_corpus_that_was_not_fetched_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(read_corpus(tmp_path, "public"))
    assert caught.value.hint == "run: sordino corpus fetch public"


def test_a_role_without_a_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source file"):
        build_corpus(tmp_path, "heldout", [project("empty", "x")])
    assert not list(tmp_path.iterdir())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1001, 2000), st.floats(0, 1))
def test_overlap_is_the_share_that_was_seen_before(left: int, right: int, share: float) -> None:
    cut = int(share * 600)
    seen = SeenRuns()
    seen.add(runs(words(left, 600)))
    mixed = "".join(words(left, 600).splitlines(keepends=True)[:cut]) + words(right, 600 - cut)
    assert abs(seen.overlap(runs(mixed)) - share) < 0.12


def test_imports_do_not_count_as_overlap() -> None:
    seen = SeenRuns()
    imports = "".join(f"import java.util.Thing{n};\n" for n in range(200))
    seen.add(runs(imports + words(1)))
    assert seen.overlap(runs(imports + words(2))) == 0


def test_offline_with_an_empty_cache_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 0 of 4 projects"):
        fetching.fetch(tmp_path, "heldout", offline=True)


def test_a_cached_archive_that_was_changed_is_refused(tmp_path: Path) -> None:
    lock = {
        s.name: {"file": f"{s.name}.tar.xz", "version": "1", "sha256": "00" * 32}
        for s in sources_of("heldout")
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
