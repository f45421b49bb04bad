"""The committed dashboards are what the code writes, and every panel asks for something that is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.ops.observed import DEPLOY, known_registries, load, panel_queries, read_rules, unknown_parts

GRAFANA = DEPLOY / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
RECORDED = {rule.name for rule in read_rules() if not rule.alert}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_committed_dashboards_are_what_the_code_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "build.py", tmp_path], check=True)
    assert {path.name: path.read_bytes() for path in DASHBOARDS} == {
        path.name: path.read_bytes() for path in tmp_path.iterdir()
    }, "run: python deploy/grafana/build.py"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_panel_asks_only_for_what_its_side_measures(path: Path) -> None:
    registries = known_registries()
    jobs = ["sordino-coordinator"] if path.stem == "federation" else ["sordino-member", "sordino-completion"]
    for title, expr in panel_queries(read(path)):
        assert not list(unknown_parts(expr, [registries[job] for job in jobs], RECORDED)), title


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_say_their_question_and_unit_and_do_not_overlap(path: Path) -> None:
    panels = [panel for panel in read(path)["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = sorted((p["gridPos"]["y"], p["gridPos"]["x"], p["gridPos"]["w"]) for p in panels)
    for (y, x, w), (next_y, next_x, _) in pairwise(places):
        assert x + w <= 24
        assert next_y > y or next_x >= x + w


def test_the_provisioning_names_the_folder_and_the_source() -> None:
    source = load(GRAFANA / "provisioning/datasources/sordino.yml")["datasources"][0]
    provider = load(GRAFANA / "provisioning/dashboards/sordino.yml")["providers"][0]
    assert source["type"] == "prometheus"
    assert provider["options"]["path"].endswith("/sordino")
