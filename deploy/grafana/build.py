"""Writes the dashboards: `python deploy/grafana/build.py [FOLDER]`; without a folder, those that are committed.

A test compares the committed files with what this writes, another runs every query against a real Prometheus.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from federation import FEDERATION
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from member import MEMBER

HERE = Path(__file__).parent


def main() -> None:
    """One file per dashboard, keys in the library's order, so that a change reads well in a diff."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "dashboards"
    for name, builder in {"federation": FEDERATION, "member": MEMBER}.items():
        text = json.dumps(builder.build(), cls=JSONEncoder, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
