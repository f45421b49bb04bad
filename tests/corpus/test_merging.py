"""What was trained on apart is never trained on as one: the ledger's bound against an accounting by brute force."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.test_registry import file, program, slightly_edited

from sordino_client.corpus import Corpus, units
from sordino_client.corpus.registry import UnitRegistry
from sordino_privacy.accounting import SampledGaussian, epsilon, group_epsilon
from sordino_privacy.errors import StorageError

EVENT = SampledGaussian(sampling_rate=0.02, noise_multiplier=0.8, steps=20)
DELTA = 1e-6


class Words:
    """A tokenizer without a vocabulary: one token, whatever the text."""

    def encode(self, text: str) -> list[int]:
        return [1]


def trainable(registry: UnitRegistry, files: dict[str, str]) -> dict[str, set[str]]:
    """The names in each unit that may be trained on, as a member prepares them."""
    by_text: dict[str, list[str]] = {}
    for name, text in sorted(files.items()):
        by_text.setdefault(text, []).append(name)
    taken = [
        file(names[0], text, tuple(f"repo/{name}" for name in names[1:])) for text, names in by_text.items()
    ]
    if not taken:
        return {}
    found = units(
        Corpus(files=tuple(taken), excluded={}), Words(), window=4, windows_per_unit=1, registry=registry
    )
    copies = {source.name: source.names for source in taken}
    return {
        unit.identity: {copy.removeprefix("repo/") for name in unit.names for copy in copies[name]}
        for unit in found
    }


class Joined:
    """Union and find over names and programs: what belongs together, by the definition and not by the register."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def of(self, node: str) -> str:
        self.parent.setdefault(node, node)
        while self.parent[node] != node:
            node = self.parent[node]
        return node

    def join(self, first: str, second: str) -> None:
        self.parent[self.of(first)] = self.of(second)


class History:
    """Files are written, edited, renamed, copied and deleted; rounds train on what is there."""

    def __init__(self) -> None:
        self.registry, self.files = UnitRegistry(), dict[str, str]()
        self.joined, self.rounds = Joined(), list[dict[str, set[str]]]()
        self.seeds: dict[str, str] = {}  # the program that a text is, or was edited from
        self.fresh = 0
        for slot in range(3):
            self.write(slot)
        self.train()

    def read(self) -> dict[str, set[str]]:
        for name, text in self.files.items():
            self.joined.join(f"name {name}", f"program {self.seeds[text]}")
        return trainable(self.registry, self.files)

    def text(self) -> str:
        self.fresh += 1
        made = program(self.fresh)
        for version in (made, slightly_edited(made)):
            self.seeds[version] = str(self.fresh)
        return made

    def write(self, slot: int) -> None:
        self.files[f"f{slot}.py"] = self.text()

    def edit(self, slot: int) -> None:
        if (name := f"f{slot}.py") in self.files:
            self.files[name] = slightly_edited(self.files[name])

    def rename(self, first: int, second: int, copy: bool) -> None:
        if (name := f"f{first}.py") in self.files:
            self.files[f"f{second}.py"] = self.files[name]
            if not copy and first != second:
                del self.files[name]

    def delete(self, slot: int) -> None:
        self.files.pop(f"f{slot}.py", None)

    def train(self) -> None:
        """A round. The law: all that a unit is now was at most one unit in every round so far, this one included."""
        found = self.read()
        if not found:
            return
        self.registry.train(self.registry.prepare(found))
        # What each unit is made of, names and programs, in the round's own time.
        self.rounds.append(
            {
                identity: {f"name {name}" for name in names}
                | {f"program {self.seeds[self.files[name]]}" for name in names}
                for identity, names in found.items()
            }
        )
        ledger = epsilon([EVENT] * len(self.rounds), DELTA).value
        for names in found.values():
            roots = {self.joined.of(f"name {name}") for name in names}
            times = [
                sum(bool(roots & {self.joined.of(node) for node in nodes}) for nodes in past.values())
                for past in self.rounds
            ]
            assert max(times) == 1, "trained on as one, and several units in an earlier round"
            assert epsilon([EVENT] * sum(times), DELTA).value <= ledger


Deed = tuple[str, int, int]
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["write", "edit", "rename", "copy", "delete", "look", "train", "train"]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    min_size=6,
    max_size=20,
)


@given(DEEDS)
@settings(max_examples=60, deadline=None)
def test_no_history_of_renames_copies_and_edits_trains_on_more_than_the_ledger_counts(
    deeds: list[Deed],
) -> None:
    history = History()
    for deed, first, second in deeds:
        match deed:
            case "write":
                history.write(first)
            case "edit":
                history.edit(first)
            case "rename" | "copy":
                history.rename(first, second, deed == "copy")
            case "delete":
                history.delete(first)
            case "look":
                history.read()
            case _:
                history.train()
    history.registry.close()


def test_eight_trained_units_that_a_rename_joins_are_trained_on_no_more_and_counted() -> None:
    """As it was found: the ledger said 7.34 after fifty rounds, and eight clusters together are bound by 93.4 only."""
    files = {f"f{number}.py": program(number) for number in range(8)}
    with UnitRegistry() as registry:
        found = trainable(registry, files)
        assert len(found) == 8
        registry.train(registry.prepare(found))
        joined = {f"f{number}.py": program(0) for number in range(8)} | {"new.py": program(99)}
        left = trainable(registry, joined)
        assert list(left.values()) == [{"new.py"}]
        assert registry.largest_merge() == 8
        # Nor later, whatever the files become.
        assert list(trainable(registry, files | {"new.py": program(99)}).values()) == [{"new.py"}]
    fifty = [EVENT] * 50
    assert epsilon(fifty, DELTA).value == pytest.approx(7.34, abs=0.01)
    assert group_epsilon(fifty, DELTA, 8).value > 90


def test_units_that_were_not_trained_on_apart_may_be_joined_and_trained_on() -> None:
    files = {"a.py": program(1), "b.py": program(2)}
    with UnitRegistry() as registry:
        found = trainable(registry, {"a.py": program(1)})
        registry.train(registry.prepare(found))
        trainable(registry, files)  # b is read, and never trained on
        (names,) = trainable(registry, {"a.py": program(1), "b.py": program(1)}).values()
        assert names == {"a.py", "b.py"}
        assert registry.overgrown() == frozenset()


def test_units_that_were_joined_since_they_were_read_are_not_trained_on_as_they_were_read() -> None:
    files = {"a.py": program(1), "b.py": program(2)}
    with UnitRegistry() as registry:
        token = registry.prepare(trainable(registry, files))
        assert registry.is_current(token)
        trainable(registry, {"b.py": program(1)})  # another program of this machine read in between
        assert not registry.is_current(token)
        with pytest.raises(StorageError, match="read anew"):
            registry.train(token)
        newer = registry.prepare(trainable(registry, files))
        with pytest.raises(StorageError):
            registry.train(token)
        registry.train(newer)


def test_a_register_of_version_1_is_taken_over_with_every_unit_as_trained(tmp_path: Path) -> None:
    """The file was made by the version before: five programs, of which 1.py then became a copy of 0.py."""
    path = tmp_path / "units.sqlite"
    shutil.copy(Path(__file__).with_name("version-1") / "units.sqlite", path)
    with UnitRegistry(path) as registry:
        assert registry.dataset == "901bbba84b79f3baecbe1e8db9c0cbc8"
        assert registry.largest_merge() == 2
        left = trainable(registry, {f"{number}.py": program(number) for number in range(5)})
        assert sorted(map(sorted, left.values())) == [["2.py"], ["3.py"], ["4.py"]]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()
