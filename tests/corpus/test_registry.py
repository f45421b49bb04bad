"""A file keeps its unit: the laws of the registry."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sordino_client.corpus import registry as registry_module
from sordino_client.corpus.corpus import SourceFile
from sordino_client.corpus.registry import UnitRegistry
from sordino_privacy.errors import StorageError


def program(seed: int, words: int = 120) -> str:
    """A text that shares no shingle with that of another seed."""
    return " ".join(f"w{seed}x{i}" for i in range(words))


def file(path: str, text: str, copies: tuple[str, ...] = ()) -> SourceFile:
    made = SourceFile.of("repo", path, "Python", text)
    return SourceFile(
        repository="repo", path=path, language="Python", text=text, digest=made.digest, copies=copies
    )


def slightly_edited(text: str) -> str:
    return text.replace("x7 ", "y7 ")


class Member(RuleBasedStateMachine):
    """A repository whose files are edited, renamed, copied and deleted between reads."""

    @initialize()
    def start(self) -> None:
        self.registry = UnitRegistry()
        self.files: dict[str, str] = {}
        self.unit: dict[str, str] = {}  # by name, as of the last read
        self.identities: set[str] = set()
        self.fresh = 0

    def teardown(self) -> None:
        self.registry.close()

    def read(self) -> None:
        by_text: dict[str, list[str]] = {}
        for name in sorted(self.files):
            by_text.setdefault(self.files[name], []).append(name)
        taken = [
            file(names[0], text, tuple(f"repo/{name}" for name in names[1:]))
            for text, names in by_text.items()
        ]
        found = self.registry.assign(taken)
        assert self.registry.assign(taken) == found  # reading twice changes nothing
        before = dict(self.unit)
        for source, identity in zip(taken, found, strict=True):
            for name in source.names:
                self.unit[name.removeprefix("repo/")] = identity
        together: dict[str, set[str]] = {}
        for name, identity in before.items():
            if name in self.files:
                together.setdefault(identity, set()).add(self.unit[name])
                # A unit that was merged took over an identity that was there already.
                assert self.unit[name] in self.identities
        assert all(len(units) == 1 for units in together.values())  # once together, always together
        self.identities |= set(found)

    def new_text(self) -> str:
        self.fresh += 1
        return program(self.fresh)

    @rule(slot=st.integers(0, 5))
    def write(self, slot: int) -> None:
        """A new file, or a version of an old one that has nothing in common with it."""
        self.files[f"f{slot}.py"] = self.new_text()
        self.read()

    @rule(slot=st.integers(0, 5))
    def edit(self, slot: int) -> None:
        name = f"f{slot}.py"
        if name in self.files:
            self.files[name] = slightly_edited(self.files[name])
            self.read()

    @rule(slot=st.integers(0, 5), change=st.booleans())
    def rename(self, slot: int, change: bool) -> None:
        old = f"f{slot}.py"
        if old in self.files:
            self.fresh += 1
            new = f"renamed{self.fresh}.py"
            text = self.files.pop(old)
            self.files[new] = slightly_edited(text) if change else text
            unit = self.unit[old]
            self.read()
            assert self.unit[new] == unit

    @rule(slot=st.integers(0, 5))
    def copy(self, slot: int) -> None:
        if f"f{slot}.py" in self.files:
            self.files[f"copy{slot}.py"] = self.files[f"f{slot}.py"]
            self.read()
            assert self.unit[f"copy{slot}.py"] == self.unit[f"f{slot}.py"]

    @rule(first=st.integers(0, 5), second=st.integers(0, 5))
    def swap(self, first: int, second: int) -> None:
        a, b = f"f{first}.py", f"f{second}.py"
        if a in self.files and b in self.files:
            self.files[a], self.files[b] = self.files[b], self.files[a]
            self.read()
            assert self.unit[a] == self.unit[b]  # each name has stood for both texts

    @rule(slot=st.integers(0, 5))
    def delete(self, slot: int) -> None:
        self.files.pop(f"f{slot}.py", None)


TestMember = Member.TestCase
TestMember.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


def test_unrelated_files_are_units_of_their_own() -> None:
    with UnitRegistry() as registry:
        assert len(set(registry.assign([file(f"{i}.py", program(i)) for i in range(20)]))) == 20


def test_identities_do_not_depend_on_the_order_of_the_files() -> None:
    files = [file(f"{i}.py", program(i // 2) + f" tail{i}") for i in range(12)]
    with UnitRegistry() as forward, UnitRegistry() as backward:
        assert forward.assign(files) == backward.assign(files[::-1])[::-1]


def test_a_file_that_connects_two_units_makes_them_one_under_the_older_identity() -> None:
    one, two = file("one.py", program(1)), file("two.py", program(2))
    with UnitRegistry() as registry:
        (older,) = registry.assign([one])
        first, younger = registry.assign([one, two])
        assert first == older != younger
        # A rename of one onto the name of the other.
        bridge = file("two.py", program(1))
        assert registry.assign([bridge]) == [older]
        assert registry.assign([two]) == [older]
        assert registry.assign([file("new.py", slightly_edited(program(2)))]) == [older]


def test_units_and_the_name_of_the_dataset_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    with UnitRegistry(path) as registry:
        dataset = registry.dataset
        first = registry.assign([file("a.py", program(1)), file("b.py", program(2))])
    with UnitRegistry(path) as registry:
        assert registry.dataset == dataset
        moved = [file("moved/a.py", slightly_edited(program(1))), file("b.py", program(3))]
        assert registry.assign(moved) == first


def test_two_members_have_datasets_of_different_names() -> None:
    with UnitRegistry() as one, UnitRegistry() as two:
        assert one.dataset != two.dataset


def test_the_registry_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    with UnitRegistry(path) as registry:
        registry.assign([file("a.py", program(1))])
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_no_text_is_stored(tmp_path: Path) -> None:
    with UnitRegistry(tmp_path / "units.sqlite") as registry:
        registry.assign([file("a.py", program(1))])
    stored = b"".join(entry.read_bytes() for entry in tmp_path.iterdir())
    assert b"w1x1" not in stored
    assert b"repo/a.py" in stored


def test_sketches_of_another_version_are_not_compared_but_names_and_digests_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "units.sqlite"
    files = [file("a.py", program(1)), file("b.py", program(2))]
    with UnitRegistry(path) as registry:
        first = registry.assign(files)
    monkeypatch.setattr(registry_module, "SKETCH_VERSION", "another/1")
    with UnitRegistry(path) as registry:
        assert registry.assign([file("a.py", program(9)), file("moved.py", program(2))]) == first


def test_a_full_disk_is_one_line_and_leaves_the_registry_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    with UnitRegistry(path) as registry:
        first = registry.assign([file("a.py", program(1))])
        (pages,) = registry._connection.execute("PRAGMA page_count").fetchone()
        registry._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="full"):
            registry.assign([file(f"{i}.py", program(i)) for i in range(2, 200)])
        assert registry._connection.execute("SELECT name FROM name").fetchall() == [("repo/a.py",)]
        assert registry.assign([file("a.py", program(1))]) == first


def test_a_registry_in_use_by_another_process_is_refused_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    UnitRegistry(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with UnitRegistry(path, patience=0.05) as registry, pytest.raises(StorageError, match="locked"):
        registry.assign([file("a.py", program(1))])
    other.close()


def test_a_damaged_registry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    path.write_bytes(os.urandom(8192))
    with pytest.raises(StorageError, match="cannot be used") as caught:
        UnitRegistry(path)
    assert "do not delete" in caught.value.hint


def test_a_registry_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    UnitRegistry(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 7")
    newer.close()
    with pytest.raises(StorageError, match="format 7"):
        UnitRegistry(path)


def test_a_registry_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "elsewhere.sqlite")
    with pytest.raises(StorageError):
        UnitRegistry(tmp_path / "link.sqlite")


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file") as caught:
        UnitRegistry(tmp_path / "nowhere" / "units.sqlite")
    assert "\n" not in str(caught.value)
