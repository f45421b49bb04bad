"""A real Prometheus with our rules on a configuration of ours, for tests."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml
from tests.ops.observed import DEPLOY, load, panel_queries, program
from tests.ports import free_port

PANELS = [
    (path.stem, title, expr)
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
    for title, expr in panel_queries(json.loads(path.read_text()))
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A running server, asked through its API."""

    address: str

    def get(self, path: str, **query: str | float) -> Any:
        """The `data` of an API answer."""
        with urlopen(f"{self.address}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expr: str) -> list[float]:
        """Every finite number that the expression gave over the last half minute."""
        now = time.time()
        found = self.get("query_range", query=expr, start=now - 30, end=now, step=1)["result"]
        numbers = (float(value) for series in found for _, value in series["values"])
        return [number for number in numbers if math.isfinite(number)]

    def firing(self, name: str) -> list[dict[str, str]]:
        """The labels of every alert of this name that fires."""
        alerts = self.get("alerts")["alerts"]
        return [a["labels"] for a in alerts if a["labels"]["alertname"] == name and a["state"] == "firing"]


def until(what: Callable[[], Any], *, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """Waits for a truthy answer and returns the last one. `meanwhile` runs once a second."""
    end = time.monotonic() + seconds
    while not (answer := what()) and time.monotonic() < end:
        meanwhile()
        time.sleep(1)
    return answer


@contextlib.contextmanager
def prometheus_on(folder: Path, ports: dict[str, int], *, token: Path | None = None) -> Iterator[Prometheus]:
    """Our two example configurations as one, scraping `ports[job]` every second, with all our rules."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(DEPLOY / "prometheus/rules", folder / "rules")
    content = load(DEPLOY / "prometheus/coordinator.yml")
    content["scrape_configs"] += load(DEPLOY / "prometheus/member.yml")["scrape_configs"]
    for scrape in content["scrape_configs"]:
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{ports[scrape['job_name']]}"]}]
        if token is not None and "authorization" in scrape:
            scrape["authorization"]["credentials_file"] = str(token)
        elif token is None:
            scrape.pop("authorization", None)
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    content["rule_files"] = ["rules/*.yml"]
    del content["alerting"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(content))
    port, log = free_port(), folder / "log"
    command = [
        program("prometheus", "apt-get install prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            assert until(lambda: b"Server is ready" in log.read_bytes(), seconds=60), log.read_text()
            yield Prometheus(address=f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(timeout=30)
