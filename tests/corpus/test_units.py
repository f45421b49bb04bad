"""Units and their token windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.corpus import UnitRegistry, cut, read_repositories, require_units, units
from sordino_privacy.errors import DataError, UsageError

Plant = Callable[[Mapping[str, str]], Path]
Source = Callable[[str], str]


class Bytes:
    """A tokenizer with one token per byte, above the specials."""

    def encode(self, text: str) -> list[int]:
        return [4 + byte for byte in text.encode()]


@given(st.lists(st.integers(4, 4095), max_size=300), st.integers(2, 64))
def test_windows_hold_the_document_in_order_and_close_it(ids: list[int], window: int) -> None:
    rows = cut(ids, window)
    assert rows.dtype == np.uint16
    assert rows.shape[1] == window
    flat = rows.ravel().tolist()
    body = flat[: len(ids)]
    assert body == ids[: len(body)]
    # What is missing is less than the shortest tail; what is too much is END.
    assert len(ids) + 1 - len(flat) < 16
    assert set(flat[len(ids) :]) <= {0}
    if len(flat) > len(ids):
        assert flat[len(ids)] == 0


def test_a_short_rest_is_left_out_and_a_short_document_is_not() -> None:
    assert cut([7] * 3, 256).shape == (1, 256)
    assert cut([7] * 260, 256).shape == (1, 256)
    assert cut([7] * 280, 256).shape == (2, 256)
    assert cut([], 8).tolist() == [[0] * 8]


def test_near_duplicate_files_are_one_unit_and_others_their_own(plant: Plant, source: Source) -> None:
    root = plant(
        {
            "a/one.py": source("one"),
            "b/one_again.py": source("one") + "    # and a remark\n",
            "c/two.py": source("two"),
        }
    )
    found = units(read_repositories([root]), Bytes(), window=64, windows_per_unit=100)
    assert sorted(unit.names for unit in found) == [
        ("repository/a/one.py", "repository/b/one_again.py"),
        ("repository/c/two.py",),
    ]
    assert [unit.identity for unit in found] == sorted(unit.identity for unit in found)


def test_no_unit_has_more_windows_than_it_may_and_all_its_files_give_some(
    plant: Plant, source: Source
) -> None:
    root = plant({f"{i}.py": source("one") + f"# {i}\n" for i in range(6)})
    (unit,) = units(read_repositories([root]), Bytes(), window=32, windows_per_unit=12)
    assert unit.windows.shape == (12, 32)
    (everything,) = units(read_repositories([root]), Bytes(), window=32, windows_per_unit=10_000)
    assert len(everything.windows) > 12
    rows = {row.tobytes() for row in everything.windows}
    assert {row.tobytes() for row in unit.windows} <= rows
    starts = [
        i
        for i, row in enumerate(everything.windows)
        if bytes(row[:3].tolist()) == bytes(b + 4 for b in b"def")
    ]
    assert len(starts) == 6


def test_a_unit_keeps_its_identity_when_its_file_is_edited_and_moved(
    plant: Plant, source: Source, tmp_path: Path
) -> None:
    root = plant({"billing/tax.py": source("tax"), "billing/rate.py": source("rate")})
    with UnitRegistry(tmp_path / "units.sqlite") as registry:
        corpus = read_repositories([root])
        before = units(corpus, Bytes(), window=64, windows_per_unit=8, registry=registry)
        (root / "billing/tax.py").write_text(source("tax").replace("tax_3", "tax_33"))
        (root / "billing/rate.py").rename(root / "rates.py")
        edited = read_repositories([root])
        after = units(edited, Bytes(), window=64, windows_per_unit=8, registry=registry)
    assert [unit.identity for unit in before] == [unit.identity for unit in after]
    assert corpus.fingerprint != edited.fingerprint


def test_tokens_do_not_count_the_filling(plant: Plant) -> None:
    text = "x = 1\n" * 20
    (unit,) = units(read_repositories([plant({"x.py": text})]), Bytes(), window=256, windows_per_unit=4)
    assert unit.tokens == len(text)


def test_a_unit_shows_no_tokens_when_it_is_printed(plant: Plant, source: Source) -> None:
    (unit,) = units(read_repositories([plant({"x.py": source("x")})]), Bytes(), window=64, windows_per_unit=4)
    assert "windows" not in repr(unit)


def test_too_few_units_are_refused_with_what_to_do(plant: Plant, source: Source) -> None:
    found = units(read_repositories([plant({"x.py": source("x")})]), Bytes(), window=64, windows_per_unit=4)
    require_units(found, 1)
    with pytest.raises(DataError, match=r"^1 units of code .* needs at least 200$") as caught:
        require_units(found, 200)
    assert "--repo" in caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("window", "count"), [(1, 4), (0, 4), (64, 0)])
def test_windows_that_hold_nothing_are_refused(plant: Plant, source: Source, window: int, count: int) -> None:
    corpus = read_repositories([plant({"x.py": source("x")})])
    with pytest.raises(UsageError):
        units(corpus, Bytes(), window=window, windows_per_unit=count)
