"""docs/metrics.md says exactly what the code measures: names, types, labels, every label value, and a unit."""

from __future__ import annotations

import re

import pytest
from tests.ops.observed import ROOT, known_registries, read_rules

TEXT = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
SECTIONS = {
    "sordino-coordinator": "Coordinator",
    "sordino-member": "Member: agent",
    "sordino-completion": "Member: completion endpoint",
}
# Their values are versions, or the charter's names.
OPEN_LABELS = {"version", "flwr", "protocol", "client"}
BASE_UNITS = {
    "_seconds": "s",
    "_bytes_total": "bytes",
    "_ratio": "ratio",
    "_timestamp_seconds": "Unix time, s",
}


def rows(section: str) -> dict[str, list[str]]:
    """The table of one section: name to type, labels, unit, meaning."""
    body = TEXT.split(f"## {section}\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in body.splitlines()
        if line.startswith("| `")
    ]
    names = [row[0].strip("`") for row in cells]
    assert len(names) == len(set(names))
    return dict(zip(names, (row[1:] for row in cells), strict=True))


def labels(cell: str) -> dict[str, set[str]]:
    """`phase = a, b; reason = c` as a mapping; labels without a list of values map to nothing."""
    if cell == "–":
        return {}
    if "=" not in cell:
        return {name.strip(): set() for name in cell.split(",")}
    parts = [part.split("=") for part in cell.split(";")]
    return {name.strip(): {value.strip() for value in values.split(",")} for name, values in parts}


@pytest.mark.parametrize("job", SECTIONS)
def test_every_metric_is_documented_and_every_documented_metric_exists(job: str) -> None:
    families = known_registries()[job].families
    documented = rows(SECTIONS[job])
    assert set(documented) == set(families)
    for name, (kind, label_cell, unit, meaning) in documented.items():
        closed = {k: v for k, v in families[name].labels.items() if k not in OPEN_LABELS}
        open_ones = {k: set[str]() for k in families[name].labels if k in OPEN_LABELS}
        assert kind == families[name].kind, name
        assert labels(label_cell) == {**closed, **open_ones}, name
        assert unit, name
        assert len(meaning.split()) > 2, name


@pytest.mark.parametrize("job", SECTIONS)
def test_names_end_in_their_base_unit(job: str) -> None:
    for name, (kind, _, unit, _) in rows(SECTIONS[job]).items():
        assert (kind == "counter") == name.endswith("_total"), name
        for ending in sorted(BASE_UNITS, key=len, reverse=True):
            if name.endswith(ending):
                assert unit == BASE_UNITS[ending], name
                break
        assert not re.search(r"_(ms|millis|minutes|hours|days|kb|mb|percent)(_|$)", name), name


def test_the_recorded_series_are_documented() -> None:
    assert set(rows("Recorded by our Prometheus rules")) == {
        rule.name for rule in read_rules() if not rule.alert
    }


def test_the_sizes_that_the_page_states_are_near_the_truth() -> None:
    stated = re.search(
        r"about (\d+) series, an agent about (\d+) and a completion endpoint about (\d+)", TEXT
    )
    assert stated
    for job, number in zip(SECTIONS, stated.groups(), strict=True):
        lines = known_registries()[job].metrics.text().decode().splitlines()
        series = sum(1 for line in lines if not line.startswith("#"))
        assert series == pytest.approx(int(number), rel=0.2), f"{job}: {series}"
